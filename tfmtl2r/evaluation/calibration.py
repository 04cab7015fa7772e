"""Fits the calibrators of a trained ranker on a split, and finds how far its probabilities are from labels."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from tfmtl2r.calibrators.base import NotCalibratedError
from tfmtl2r.data import Lists
from tfmtl2r.data.columns import item_weights, label_values
from tfmtl2r.evaluation.scoring import predicted, prepared
from tfmtl2r.metrics.ece import ECE
from tfmtl2r.training.beside import stacked
from tfmtl2r.training.merged import Merged
from tfmtl2r.training.model import MultiTaskRanker

log = logging.getLogger("tfmtl2r")


def fit_calibrators(model: MultiTaskRanker, lists: Lists, batch_size: int = 256) -> None:
    """Fits the calibrators of all tasks, after which ``value_<task>`` is calibrated.

    Nothing is done for a ranker whose tasks have no calibrator. A task whose labels or scores give no usable
    calibration keeps the values of its loss, and a warning says why. A conditioned ranker is calibrated at the
    preference given to ``compile``.

    Args:
        model: a trained ranker.
        lists: the validation split. The ranker must not be trained on these lists.
        batch_size: lists per batch.
    """
    if model.calibrations is None or model.schema is None:
        return
    scores = {}
    if lists.num_items:
        scores = model.predict(lists, batch_size)
    readings = model.readings()
    for name, calibration in model.calibrations.by_task.items():
        task = readings[name].task
        calibration.reset()
        try:
            columns = stacked(readings[name].columns, scores) if scores else None
            calibration.fit(scores.get(name, np.zeros(0)), label_values(lists, task),
                            item_weights(lists, name, task.weight_column), columns)
        except NotCalibratedError as reason:
            left = "its values are those of its loss" if readings[name].has_own_level else "it has no values"
            log.warning("task %s is not calibrated, and %s: on the validation split, %s", name, left, reason)


def reliability(model: MultiTaskRanker | Merged, lists: Lists, batch_size: int = 256, bins: int = 10) -> dict[str, Any]:
    """The mean probability and the mean label of bins of equal mass, for :func:`tfmtl2r.report.plots.reliability`.

    Args:
        model: a trained ranker, or several as one.
        lists: the split.
        batch_size: lists per batch.
        bins: number of bins.

    Returns:
        task -> ``{"probability", "label", "sd"}``, each ``float64[K]``, and ``"ece"`` and ``"if_calibrated"``, for the
        binary tasks whose values are probabilities. ``sd`` is the standard deviation that the mean label of the bin has
        if the probabilities are right.
    """
    scores = predicted(model, lists, prepared(model, lists, batch_size))
    found = {}
    for name, reading in model.readings().items():
        probability = reading.probability(scores[name], scores)
        if probability is None:
            continue
        labels = label_values(lists, reading.task)
        weights = item_weights(lists, name, reading.task.weight_column)
        metric = ECE(bins=bins)
        sums = metric.of_bins(labels, np.asarray(probability), weights)
        weight, label, mean, variance = sums[sums[:, 0] > 0].T
        found[name] = {"probability": mean / weight, "label": label / weight, "sd": np.sqrt(variance) / weight,
                       "ece": metric.exact(labels, np.asarray(probability), weights),
                       "if_calibrated": metric.expected.exact(labels, np.asarray(probability), weights)}
    return found
