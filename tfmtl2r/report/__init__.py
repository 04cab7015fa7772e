"""Reports about trainings: TensorBoard logs, tables in the terminal and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.report.plots import bars
    from tfmtl2r.report.progress import Progress
    from tfmtl2r.report.tables import results_table, show
    from tfmtl2r.report.tensorboard import TensorBoard
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = ["Progress", "TensorBoard", "bars", "results_table", "show"]
