"""From tables to batches: groups rows into lists, fits a schema on the training split, and makes ``tf.data`` batches.

The usual order is :func:`read_table`, :func:`from_frame`, :func:`fit_schema` (training split only), :func:`batches`.
Names are imported on first use, so that listing data sets loads neither pandas nor TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.data.click_models import (
        Cascade,
        DynamicBayes,
        PositionBased,
        TrustBiased,
        fit_cascade,
        fit_position_based,
        simulate_clicks,
    )
    from tfmtl2r.data.columns import feature_values, label_values
    from tfmtl2r.data.dual_propensities import dual_learning
    from tfmtl2r.data.elwc import read_elwc, write_elwc
    from tfmtl2r.data.fit import fit_schema
    from tfmtl2r.data.frame import from_frame, read_lists, read_table
    from tfmtl2r.data.labels import labels_from_features
    from tfmtl2r.data.letor import prepare_letor, read_letor
    from tfmtl2r.data.lists import Lists
    from tfmtl2r.data.normalise import normalised
    from tfmtl2r.data.pipeline import batches
    from tfmtl2r.data.propensity import (
        Propensities,
        click_ratios,
        posteriors,
        power_law,
        regression_em,
        swap_ratios,
        with_click_weights,
    )
    from tfmtl2r.data.quality import data_report
    from tfmtl2r.data.rates import out_of_fold_rates
    from tfmtl2r.data.sampling import sample_lists
    from tfmtl2r.data.targets import fit_tasks
    from tfmtl2r.data.truncate import cut_report
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = [
    "Cascade", "DynamicBayes", "Lists", "PositionBased", "Propensities", "TrustBiased", "batches", "click_ratios",
    "cut_report", "data_report", "dual_learning", "feature_values", "fit_cascade", "fit_position_based", "fit_schema",
    "fit_tasks", "from_frame", "label_values", "labels_from_features", "normalised", "out_of_fold_rates", "posteriors",
    "power_law", "prepare_letor", "read_elwc", "read_letor", "read_lists", "read_table", "regression_em",
    "sample_lists", "simulate_clicks", "swap_ratios", "with_click_weights", "write_elwc",
]
