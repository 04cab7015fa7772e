"""Advice: a short pilot measures which goals fight, and rules say what is worth a try."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.advice.facts import Advice, Facts, Goal, Pair, Sharing, Suggestion, Trial
    from tfmtl2r.advice.files import write_experiments
    from tfmtl2r.advice.judging import advise
    from tfmtl2r.advice.measuring import pilot
    from tfmtl2r.advice.opposition import Opposition, oppositions
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = [
    "Advice", "Facts", "Goal", "Opposition", "Pair", "Sharing", "Suggestion", "Trial", "advise", "oppositions",
    "pilot", "write_experiments",
]
