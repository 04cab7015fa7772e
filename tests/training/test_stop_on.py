"""The number that early stopping looks at: gains in comparable units, or any logged number of the validation."""

import numpy as np
import pytest

from tfmtl2r import Task, metrics
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import Lists
from tfmtl2r.evaluation.split_metrics import of_metric
from tfmtl2r.evaluation.stopping import has_gain
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.training.stages import OneStage
from tfmtl2r.training.state import Training
from tfmtl2r.training.trackers import Trackers

LABELS = np.float32([[0, 1, 0, 2, 1, 0], [1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, np.nan]])
FLAT = Lists({"y": LABELS.ravel(), "w": np.ones(18)}, offsets=np.array([0, 6, 12, 18]))


def stop_on(task, scores, labels=LABELS, weights=None):
    trackers = Trackers([task], has_lists=True)
    batch = Batch({"x": tf.zeros(labels.shape)}, {"y": tf.constant(labels)}, weights or {}, tf.constant([6, 6, 6]),
                  tf.ones(labels.shape, tf.bool))
    trackers.update_metrics(batch, {"y": tf.constant(scores)})
    return float(trackers.logs(np.ones(1, np.float32), Replicas())["stop_on"])


LOGITS = ("log_loss", "normalised_entropy")
GAINLESS = ("calibration_ratio", "ece")
"""Metrics for which the base rate of all items is as good as the labels."""


def task_of(name):
    levels = (*LOGITS, *GAINLESS)
    kind = "binary" if name in ("auc", "grouped_auc", *levels) else "regression" if name == "mse" else "graded"
    return Task("y", kind=kind, metrics=(name,), loss="bce" if name in levels else None)


CUT = {"precision": "precision@2", "recall": "recall@2"}
"""Metrics that are the same for every ranking of a whole list."""


@pytest.mark.product
@pytest.mark.parametrize("name", [CUT.get(name, name) for name in metrics.names() if name not in GAINLESS])
def test_every_metric_has_a_gain_between_knowing_nothing_and_knowing_all(name):
    labels = np.minimum(LABELS, 1)
    perfect = stop_on(task_of(name), np.nan_to_num(labels) * (100.0 if name in LOGITS else 1)
                      - (50.0 if name in LOGITS else 0), labels)
    assert perfect == pytest.approx(1.0, abs=1e-5)
    mean = np.nanmean(labels)
    logit = np.log(mean / (1 - mean))
    constant = np.full_like(labels, {"mse": mean, **dict.fromkeys(LOGITS, logit)}.get(name, 0.3))
    assert stop_on(task_of(name), constant, labels) == pytest.approx(0.0, abs=1e-5)
    assert stop_on(task_of(name), -9 * np.nan_to_num(labels), labels) <= 0


@pytest.mark.parametrize("name", GAINLESS)
def test_a_metric_that_a_constant_fulfils_has_no_gain(name):
    labels = np.minimum(LABELS, 1)
    assert np.isnan(stop_on(task_of(name), 100 * np.nan_to_num(labels) - 50, labels))
    assert not has_gain(metrics.get(name), FLAT.with_column("y", labels.ravel()), task_of(name))


def test_gains_have_no_unit():
    scores = np.float32([[0, 1, 2, 0, 1, 1], [1, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0]])
    plain = stop_on(task_of("mse"), scores)
    assert plain == pytest.approx(1 - np.nanmean((scores - LABELS) ** 2) / np.nanvar(LABELS))
    seconds = np.float32(5_000) + 60 * LABELS
    assert stop_on(task_of("mse"), np.float32(5_000) + 60 * scores, seconds) == pytest.approx(plain, rel=1e-3)
    weights = np.float32(np.arange(18).reshape(3, 6) + 1)
    found = stop_on(task_of("mse"), scores, weights={"y": tf.constant(weights)})
    known = ~np.isnan(LABELS)
    mean = np.average(LABELS[known], weights=weights[known])
    spread = np.average((LABELS[known] - mean) ** 2, weights=weights[known])
    assert found == pytest.approx(1 - np.average((scores - LABELS)[known] ** 2, weights=weights[known]) / spread)


@pytest.mark.parametrize(("name", "labels"), [
    ("ndcg@5", np.ones(18)), ("mse", np.full(18, 5_000.1)), ("mse", np.full(18, np.nan)), ("auc", np.zeros(18)),
    ("log_loss", np.ones(18)), ("grouped_auc", np.zeros(18)),
])
def test_labels_that_leave_no_room_give_no_gain(name, labels):
    lists = FLAT.with_column("y", labels.astype(np.float32))
    task = task_of(name)
    metric = metrics.get(name)
    assert not has_gain(metric, lists, task)
    assert has_gain(metric, FLAT.with_column("y", np.minimum(LABELS.ravel(), 1)), task)
    assert np.isnan(stop_on(task, np.zeros((3, 6), np.float32), labels.reshape(3, 6).astype(np.float32)))


def test_trivial_values_of_a_split():
    assert of_metric(metrics.get("mse").trivial(), FLAT, task_of("mse")).value == pytest.approx(np.nanvar(LABELS))
    rate = np.nanmean(np.minimum(LABELS, 1))
    binary = FLAT.with_column("y", np.minimum(LABELS.ravel(), 1))
    expected = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
    assert of_metric(metrics.get("log_loss").trivial(), binary, task_of("log_loss")).value == pytest.approx(expected)


class Named:
    """As much of a ranker as the choice of a number reads."""

    tasks = (Task("click", kind="binary"), Task("dwell", kind="regression"))
    has_lists = True


@pytest.mark.parametrize(("chosen", "sign"), [("val_click_ndcg@5", 1), ("val_dwell_mse", -1), ("val_loss", -1)])
def test_a_chosen_number_takes_the_place_of_the_mean(chosen, sign):
    logs = {chosen: 7.0, "val_stop_on": 0.5}
    OneStage(Named(), stop_on=chosen).after_epoch(Training(), logs)
    assert logs["val_stop_on"] == sign * 7.0
