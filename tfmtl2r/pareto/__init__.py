"""Trade-offs between tasks: sweeps over preferences, Pareto fronts, indicators, choices and comparisons."""

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
    "compare": "tfmtl2r.pareto.significance",
    "delta_m": "tfmtl2r.pareto.significance",
    "holm": "tfmtl2r.pareto.significance",
    "negative_transfer": "tfmtl2r.pareto.significance",
    "permutation_test": "tfmtl2r.pareto.significance",
    "plan": "tfmtl2r.pareto.planning",
    "single_tasks": "tfmtl2r.pareto.planning",
    "Sweep": "tfmtl2r.pareto.sweep",
    "over_seeds": "tfmtl2r.pareto.sweep",
}
__all__ = [*_PUBLIC]  # noqa: PLE0604
__getattr__, __dir__ = _lazy.names(__name__, _PUBLIC)
