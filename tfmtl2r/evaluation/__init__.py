"""Evaluation: metrics of a split, trivial rankings, summaries over seeds and tests of differences."""

from __future__ import annotations

from tfmtl2r import _lazy

_PUBLIC = {
    "bootstrap": "tfmtl2r.evaluation.split_metrics",
    "evaluate": "tfmtl2r.evaluation.split_metrics",
    "trivial_results": "tfmtl2r.evaluation.trivial",
    "compare": "tfmtl2r.evaluation.significance",
    "delta_m": "tfmtl2r.evaluation.significance",
    "holm": "tfmtl2r.evaluation.significance",
    "negative_transfer": "tfmtl2r.evaluation.significance",
    "permutation_test": "tfmtl2r.evaluation.significance",
}
__all__ = [*_PUBLIC]  # noqa: PLE0604
__getattr__, __dir__ = _lazy.names(__name__, _PUBLIC)
