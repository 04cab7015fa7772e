"""The weight columns of tasks: importance in losses and metrics, inverse propensities in losses only; both checked."""

import dataclasses
import logging

import numpy as np
import pytest

from tfmtl2r import Dense, Schema, Task, datasets
from tfmtl2r._backend import tf
from tfmtl2r.batch import IMPORTANCE, PROPENSITY, Batch
from tfmtl2r.commands._options import parse
from tfmtl2r.commands.train import COMMAND
from tfmtl2r.data import Lists, batches, fit_schema
from tfmtl2r.evaluation.split_metrics import evaluate, of_metric
from tfmtl2r.metrics import get
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.replicas import Replicas

SEEN = Task("y", kind="regression", metrics=("mse",))


def lists(**columns):
    return Lists({"x": np.arange(4.0), "y": np.array([0.0, 1, 0, 3]), "w": np.array([1.0, 1, 1, 3]),
                  "p": np.array([1.0, 2, 1, 4]), **columns}, offsets=np.array([0, 2, 4]))


def loss(task):
    """The loss and the metric of scores of 0."""
    data = next(iter(batches(lists(), [task], fit_schema(lists(), [task], ["x"]))))
    batch = Batch.of(data, fit_schema(lists(), [task], ["x"]))
    found = TaskLosses([task], True)(batch, {"y": tf.zeros([2, 2])}, Replicas())
    return float(found.total[0]), of_metric(get("mse"), lists(), task).value


def test_importance_is_in_losses_and_metrics_and_propensities_in_losses_only():
    plain = loss(SEEN)
    assert plain == pytest.approx(((0.5 + 4.5) / 2, 10 / 4))
    importance = loss(Task("y", kind="regression", weight_column="w"))
    assert importance == pytest.approx(((1 * 0.5 + 2 * 27 / 4) / 3, 28 / 6))
    propensity = loss(Task("y", kind="regression", propensity_column="p"))
    assert propensity == pytest.approx(((2 / 2 + 36 / 2) / 2, plain[1]))


def test_batches_take_the_columns_of_tasks_unless_others_are_named():
    task = Task("y", weight_column="w", propensity_column="p")
    schema = Schema(fit_schema(lists(), [task]).features)
    assert schema.names == ("x",)
    *_, weights = next(iter(batches(lists(), [task], schema)))
    np.testing.assert_array_equal(weights["y"][IMPORTANCE], [[1, 1], [1, 3]])
    np.testing.assert_array_equal(weights["y"][PROPENSITY], [[1, 2], [1, 4]])
    *_, weights = next(iter(batches(lists(), [task], schema, weights={"y": "p"})))
    np.testing.assert_array_equal(weights["y"][IMPORTANCE], [[1, 2], [1, 4]])


def test_tau_bounds_propensities_in_losses_and_in_estimates_alone():
    task = Task("y", kind="binary", metrics=("mrr",), weight_column="w", propensity_column="p", tau=0.5)
    data = lists(y=np.array([0.0, 1, 0, 1]))
    *_, weights = next(iter(batches(data, [task], fit_schema(data, [task], ["x"]))))
    np.testing.assert_array_equal(weights["y"][IMPORTANCE], [[1, 1], [1, 3]])
    np.testing.assert_array_equal(weights["y"][PROPENSITY], [[1, 2], [1, 2]])
    found = evaluate({"y": np.arange(4.0)}, data, [task])["y"]
    assert (found["ips_mrr"].value, found["ips_mrr"].conventions["tau"]) == (2, 0.5)
    assert evaluate({"y": np.arange(4.0)}, data, [task], tau=0.25)["y"]["ips_mrr"].value == 3
    assert parse(COMMAND, ["--set", "tasks.click.tau=0.2"])[0]["tasks"] == [{"name": "click", "tau": "0.2"}]
    for tau in (0, 1.5, -1, float("nan")):
        with pytest.raises(ValueError, match=r"task 'y': tau must lie in \(0, 1\]"):
            dataclasses.replace(task, tau=tau)
    with pytest.raises(ValueError, match="task 'y': tau bounds the inverse propensities of propensity_column"):
        batches(data, [dataclasses.replace(task, propensity_column=None)], Schema([Dense("x")]))


class Own(datasets.DataSet):
    """Three splits, of which the last may differ."""

    def __init__(self, **test):
        self.test = test

    def tasks(self):
        return (Task("y", weight_column="w", propensity_column="p"),)

    def read(self, split):
        return lists(**(self.test if split == "test" else {}))


@pytest.mark.parametrize(("columns", "message"), [
    ({"w": np.array([1.0, -2, 1, 1])}, r"test split: task 'y': weight column 'w': -2.0 in row 1.*list 0"),
    ({"w": np.array([1.0, np.nan, 1, 1])}, r"test split: task 'y': weight column 'w': nan in row 1"),
    ({"p": np.array([1.0, 2, np.inf, 1])}, r"test split: task 'y': weight column 'p': inf in row 2.*list 1"),
])
def test_weights_of_every_split_are_checked_before_training(columns, message):
    data = Own(**columns)
    with pytest.raises(ValueError, match=message):
        data.check(data.tasks(), data.schema())


def test_propensities_in_place_of_their_inverse_are_said(caplog):
    data = Own(p=np.array([1.0, 0.5, 1, 0.25]))
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        data.check(data.tasks(), data.schema())
    assert [record.getMessage() for record in caplog.records if "inverse" in record.getMessage()] == [
        "task 'y': no number of propensity_column 'p' in the test split is above 1: the column takes inverse "
        "propensities, 1 / p, as tfmtl2r.data.with_click_weights computes them"]
