"""Importance weights mean one thing, in losses, metrics, training and evaluation.

They are relative within a list, a list counts with their mean, and a constant changes nothing. The references are
scikit-learn's ``sample_weight`` and repeated rows. Propensity weights are another thing and enter losses only.
"""

import itertools

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tfmtl2r import Dense, Schema, Task, losses, metrics
from tfmtl2r.batch import Batch
from tfmtl2r.data import Lists, batches
from tfmtl2r.evaluation import split_metrics
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.training.trackers import Trackers

RNG = np.random.default_rng(3)
N = 60
ROWS = {
    "x": RNG.normal(size=N).astype(np.float32), "click": (RNG.random(N) < 0.4).astype(float),
    "time": RNG.normal(size=N), "w": RNG.integers(0, 5, N).astype(float), "ten": np.full(N, 10.0),
}
OFFSETS = np.array([0, 7, 20, 33, 60])
SCHEMA = Schema([Dense("x")])
TASKS = (Task("click", kind="binary", loss="bce", metrics=("log_loss", "auc", "grouped_auc", "ndcg@5")),
         Task("time", kind="regression", loss="mse", metrics=("mse",)))


def trained_on(lists, **options):
    """The losses of one batch, and the logs of the running metrics, where the score is the feature."""
    batch = Batch.of(next(iter(batches(lists, TASKS, SCHEMA, batch_size=N, **options))), SCHEMA)
    scores = {task.name: batch.features["x"] for task in TASKS}
    values = TaskLosses(TASKS, not lists.is_rows)(batch, scores, Replicas())
    trackers = Trackers(TASKS, not lists.is_rows)
    trackers.update_metrics(batch, scores)
    logs = trackers.logs(np.full(2, 0.5, np.float32), Replicas())
    return values.total.numpy(), {name: float(value) for name, value in logs.items()}


def test_bce_with_a_constant_weight_of_10_is_bce():
    """Labels 1 and 0 at scores -1 and -.5, by list weight and by item weight."""
    lists = Lists({"x": np.float32([1, 0]), "click": np.array([0.0, 0.0]), "ten": np.full(2, 10.0),
                   "time": np.zeros(2), "per_list": np.full(2, 10.0)}, offsets=np.array([0, 2]), context=("per_list",))
    expected = np.mean(np.log1p(np.exp([1.0, 0.0])))
    for column in (None, "ten", "per_list"):
        total, _ = trained_on(lists, weights={"click": column} if column else None)
        assert total[0] == pytest.approx(expected, rel=1e-6), column


@pytest.mark.parametrize("is_rows", [True, False])
def test_losses_and_metrics_are_those_of_scikit_learn(is_rows):
    lists = Lists(ROWS, offsets=None if is_rows else OFFSETS)
    total, logs = trained_on(lists, weights={"click": "w", "time": "w"})
    y, s, w, time = (ROWS[key] for key in ("click", "x", "w", "time"))
    p = 1 / (1 + np.exp(-s.astype(float)))
    expected = {
        "click_log_loss": sklearn_metrics.log_loss(y, p, sample_weight=w),
        "time_mse": sklearn_metrics.mean_squared_error(time, s, sample_weight=w),
    }
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, rel=1e-5), name
    assert logs["click_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(y, s, sample_weight=w), abs=2e-3)
    if is_rows:
        np.testing.assert_allclose(total, list(expected.values()), rtol=1e-5)
    else:
        parts = [slice(*ends) for ends in itertools.pairwise(OFFSETS)]
        means = [w[part].mean() for part in parts]
        bce = [sklearn_metrics.log_loss(y[part], p[part], sample_weight=w[part]) for part in parts]
        mse = [sklearn_metrics.mean_squared_error(time[part], s[part], sample_weight=w[part]) for part in parts]
        np.testing.assert_allclose(total, [np.average(bce, weights=means), np.average(mse, weights=means)], rtol=1e-5)
        grouped = [sklearn_metrics.roc_auc_score(y[part], s[part], sample_weight=w[part]) for part in parts]
        assert logs["click_grouped_auc"] == pytest.approx(np.average(grouped, weights=means), rel=1e-5)
        plain, _ = metrics.get("ndcg@5").per_list(*padded(lists, "click"))
        assert logs["click_ndcg@5"] == pytest.approx(np.average(plain, weights=means), rel=1e-5)
    found = split_metrics.evaluate({"click": s, "time": s}, lists, TASKS, weights={"click": "w", "time": "w"})
    found = {f"{task}_{name}": score.value for task, row in found.items() for name, score in row.items()}
    for name, value in found.items():
        if np.isfinite(value):  # lists of one item have no order
            assert value == pytest.approx(logs[name], abs=2e-3), name


def padded(lists, label):
    place = np.arange(lists.sizes.max())
    valid = place < lists.sizes[:, None]
    index = np.where(valid, lists.offsets[:-1][:, None] + place, 0)
    return lists.columns[label][index], lists.columns["x"][index], valid


@pytest.mark.parametrize("name", ["bce", "mse", "pointwise_rmse", "ordinal"])
def test_a_weight_of_3_is_the_item_three_times(name):
    y, s, w = np.array([[1.0, 0.0, 2.0, 3.0]]), np.array([[0.3, -0.4, 1.0, -1.0]]), np.array([[3, 1, 0, 2]])
    loss = losses.get(name)
    value, weight = loss.per_list(y, s, np.ones_like(y, bool), w)
    repeated = [np.repeat(part, w[0], axis=1) for part in (y, s)]
    expected, _ = loss.per_list(*repeated, np.ones((1, 6), bool))
    assert float(value[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    assert float(weight[0]) == 1.5


def test_a_constant_changes_no_loss_and_no_metric_and_propensities_change_no_metric():
    lists = Lists(ROWS, offsets=OFFSETS)
    plain = trained_on(lists)
    tens = {"click": "ten", "time": "ten"}
    np.testing.assert_allclose(trained_on(lists, weights=tens)[0], plain[0], rtol=1e-5)
    assert trained_on(lists, weights=tens)[1] == pytest.approx(plain[1], rel=1e-5, nan_ok=True)
    total, logs = trained_on(lists, propensity_weights=tens)
    np.testing.assert_allclose(total, 10 * plain[0], rtol=1e-5)
    assert logs == pytest.approx(plain[1], rel=1e-5, nan_ok=True)
    both = trained_on(lists, weights=tens, propensity_weights={"time": "ten"})[0]
    np.testing.assert_allclose(both, plain[0] * [1, 10], rtol=1e-5)


def test_an_unknown_kind_of_weight_is_refused():
    with pytest.raises(ValueError, match="'importance' and 'propensity'; got 'importence'"):
        Batch.of(({"x": np.zeros(2)}, {"click": np.zeros(2)}, {"click": {"importence": np.ones(2)}}), SCHEMA)
