"""From tables to batches: rows become lists, a schema is fitted on the training split, ``tf.data`` does the rest.

The usual order is :func:`read_table`, :func:`from_frame`, :func:`fit_schema` (training split only), :func:`batches`.
Names are imported on first use, so that listing data sets loads neither pandas nor TensorFlow.
"""

from __future__ import annotations

from tfmtl2r import _lazy

_PUBLIC = {
    "Lists": "tfmtl2r.data.lists",
    "from_frame": "tfmtl2r.data.frame",
    "read_table": "tfmtl2r.data.frame",
    "fit_schema": "tfmtl2r.data.fit",
    "batches": "tfmtl2r.data.pipeline",
    "cut_report": "tfmtl2r.data.truncate",
    "power_law": "tfmtl2r.data.propensity",
    "click_ratios": "tfmtl2r.data.propensity",
    "with_click_weights": "tfmtl2r.data.propensity",
    "sample_lists": "tfmtl2r.data.sampling",
    "read_letor": "tfmtl2r.data.letor",
    "read_elwc": "tfmtl2r.data.elwc",
    "write_elwc": "tfmtl2r.data.elwc",
    "data_report": "tfmtl2r.data.quality",
    "labels_from_features": "tfmtl2r.data.labels",
    "normalised": "tfmtl2r.data.normalise",
    "out_of_fold_rates": "tfmtl2r.data.rates",
}
__all__ = [*_PUBLIC]  # noqa: PLE0604
__getattr__, __dir__ = _lazy.names(__name__, _PUBLIC)
