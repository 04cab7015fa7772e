"""Evaluation: metrics of a split, trivial rankings, summaries over seeds and tests of differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.evaluation.blend_choice import choose_blend, kinds_of, served_orders, utilities
    from tfmtl2r.evaluation.exchanging import feature_importance
    from tfmtl2r.evaluation.file_scores import item_scores, score_files
    from tfmtl2r.evaluation.heads import constants_of, measure_heads
    from tfmtl2r.evaluation.paired_tests import bootstrap, holm, permutation_test
    from tfmtl2r.evaluation.scoring import record, score, score_along, score_slices
    from tfmtl2r.evaluation.seeds import by_seed, deviation, paired, seeds_table, write_csv
    from tfmtl2r.evaluation.served import Utility, metrics_along, score_served, served_utility, utility_of
    from tfmtl2r.evaluation.served_points import served_results
    from tfmtl2r.evaluation.significance import Comparison, compare, delta_m, negative_transfer
    from tfmtl2r.evaluation.slices import Slicing, sliced, slicing
    from tfmtl2r.evaluation.split_metrics import Score, evaluate
    from tfmtl2r.evaluation.trivial import trivial_results
    from tfmtl2r.evaluation.tuned_weights import Tuned, reached, tune_weights
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = [
    "Comparison", "Score", "Slicing", "Tuned", "Utility", "bootstrap", "by_seed", "choose_blend", "compare",
    "constants_of", "delta_m", "deviation", "evaluate", "feature_importance", "holm", "item_scores", "kinds_of",
    "measure_heads", "metrics_along", "negative_transfer", "paired", "permutation_test", "reached", "record",
    "score", "score_along", "score_files", "score_served", "score_slices", "seeds_table", "served_orders",
    "served_results", "served_utility", "sliced", "slicing", "trivial_results", "tune_weights", "utilities",
    "utility_of", "write_csv",
]
