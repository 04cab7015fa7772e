"""Trade-offs between tasks: Pareto fronts, indicators, choices and pictures."""

from __future__ import annotations

from tfmtl2r import _lazy

_PUBLIC = {
    "Reference": "tfmtl2r.pareto.front",
    "Curve": "tfmtl2r.pareto.conditioned",
    "curve": "tfmtl2r.pareto.conditioned",
    "bands": "tfmtl2r.pareto.front",
    "hypervolume": "tfmtl2r.pareto.front",
    "indicators": "tfmtl2r.pareto.front",
    "knee": "tfmtl2r.pareto.front",
    "max_weighted_loss": "tfmtl2r.pareto.front",
    "nearest": "tfmtl2r.pareto.front",
    "non_dominated": "tfmtl2r.pareto.front",
    "preference_error": "tfmtl2r.pareto.front",
    "r2": "tfmtl2r.pareto.front",
    "reference_point": "tfmtl2r.pareto.front",
    "by_angle": "tfmtl2r.preferences",
    "das_dennis": "tfmtl2r.preferences",
    "from_file": "tfmtl2r.preferences",
    "low_discrepancy": "tfmtl2r.preferences",
}
__all__ = [*_PUBLIC]  # noqa: PLE0604
__getattr__, __dir__ = _lazy.names(__name__, _PUBLIC)
