"""Trade-offs between tasks: Pareto fronts, quality indicators, choice of a point, and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.pareto import plots
    from tfmtl2r.pareto.conditioned import Curve, curve, served_curve
    from tfmtl2r.pareto.front import (
        Reference,
        bands,
        hypervolume,
        indicators,
        knee,
        max_weighted_loss,
        nearest,
        non_dominated,
        preference_error,
        r2,
        reference_point,
    )
    from tfmtl2r.pareto.summary import Summary, summarise
    from tfmtl2r.pareto.sweep_fronts import ServedFronts, front_verdict, served_fronts
    from tfmtl2r.preferences import by_angle, das_dennis, from_file, low_discrepancy
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = [
    "Curve", "Reference", "ServedFronts", "Summary", "bands", "by_angle", "curve", "das_dennis", "from_file",
    "front_verdict", "hypervolume", "indicators", "knee", "low_discrepancy", "max_weighted_loss", "nearest",
    "non_dominated", "plots", "preference_error", "r2", "reference_point", "served_curve", "served_fronts", "summarise",
]
