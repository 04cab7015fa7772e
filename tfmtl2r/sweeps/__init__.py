"""Sweeps: plans many trainings, runs them in processes and collects the results in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.sweeps.cross_validation import CrossValidation, cross_validate
    from tfmtl2r.sweeps.planning import LOPSIDED, end_losses, ends, plan, single_tasks
    from tfmtl2r.sweeps.sweep import Sweep, over_seeds
    from tfmtl2r.sweeps.table import markdown
    from tfmtl2r.sweeps.tuning import Search
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = [
    "LOPSIDED", "CrossValidation", "Search", "Sweep", "cross_validate", "end_losses", "ends", "markdown", "over_seeds",
    "plan", "single_tasks",
]
