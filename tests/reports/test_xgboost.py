"""Reports about XGBoost's ranker."""

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Batch, Task, losses, metrics
from tfmtl2r._backend import tf
from tfmtl2r.data import Lists, from_frame
from tfmtl2r.evaluation.split_metrics import evaluate
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.training.trackers import Trackers

TRUE = [[True, True]]


def test_another_column_name_is_taken_silently(shop):
    """Columns with other names are scored by position (https://github.com/dmlc/xgboost/issues/8357)."""
    with pytest.raises(ValueError, match="no column 'price'; did you mean 'prize'"):
        shop.ranker.predict(shop.frame.rename(columns={"price": "prize"}), list_id="search")


def test_ndcg_depends_on_the_order_of_the_rows():
    """NDCG@1 of two tied documents is 1/3 or 1, as they stand in the file
    (https://github.com/dmlc/xgboost/issues/3050)."""
    ndcg = metrics.get("ndcg@1")
    values = [float(ndcg.per_list([labels], [[0.5, 0.5]], TRUE)[0][0]) for labels in ([1.0, 2.0], [2.0, 1.0])]
    assert values == pytest.approx([2 / 3, 2 / 3])  # the mean of 1/3 and 1


def test_lists_without_a_positive_raise_ndcg():
    """Lists without any positive count as 1, so that NDCG looks high (https://github.com/dmlc/xgboost/issues/2208)."""
    lists = from_frame(pd.DataFrame({"q": [1, 1, 2, 2], "y": [0, 1, 0, 0]}), "q")
    score = evaluate({"y": np.array([1.0, 0.0, 1.0, 0.0])}, lists, [Task("y", metrics=("ndcg",))])["y"]["ndcg"]
    assert score.value == pytest.approx(1 / np.log2(3))
    assert (score.num_lists, score.conventions["empty"]) == (1, "skip")


def test_weights_of_groups_are_read_and_change_nothing():
    """Validation NDCG with and without weights is the same (https://github.com/dmlc/xgboost/issues/11633)."""
    frame = pd.DataFrame({"q": [1, 1, 2, 2], "y": [0, 1, 1, 0], "w": [3.0, 3.0, 1.0, 1.0]})
    lists, task = from_frame(frame, "q", context=["w"]), Task("y", metrics=("mrr",))
    scores = {"y": np.array([1.0, 0.0, 1.0, 0.0])}
    assert evaluate(scores, lists, [task])["y"]["mrr"].value == pytest.approx((0.5 + 1) / 2)
    assert evaluate(scores, lists, [task], {"y": "w"})["y"]["mrr"].value == pytest.approx((3 * 0.5 + 1) / 4)


def test_folds_of_groups_lose_their_weights():
    """Cross-validation by groups drops their weights (https://github.com/dmlc/xgboost/issues/5550)."""
    frame = pd.DataFrame({"q": [1, 2, 2, 3], "w": [1.0, 2.0, 2.0, 3.0], "y": [0, 1, 0, 1]})
    lists = from_frame(frame, "q", context=["w"])
    assert [lists.select([fold]).first_of_lists("w").tolist() for fold in (2, 0, 1)] == [[3.0], [1.0], [2.0]]


def test_queries_that_are_not_sorted_are_refused():
    """Rows must be sorted by query (https://github.com/dmlc/xgboost/issues/10463)."""
    frame = pd.DataFrame({"q": [2, 1, 2, 1], "y": [0, 1, 2, 3]})
    lists = from_frame(frame, "q")
    assert lists.ids.tolist() == [2, 1]
    assert lists.in_order_of_rows(lists.columns["y"]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("metric", "sign"), [("auc", 1), ("mse", -1)])
def test_early_stopping_minimises_auc(metric, sign):
    """Training stops while AUC still grows (https://github.com/dmlc/xgboost/issues/1439)."""
    trackers = Trackers([Task("y", kind="regression" if sign < 0 else "binary", metrics=(metric,))], has_lists=False)
    labels = tf.constant([0.0, 1.0, 1.0, 0.0])
    good, bad = tf.constant([0.0, 1.0, 1.0, 0.0]), tf.constant([1.0, 0.0, 1.0, 0.0])
    found = []
    for scores in (good, bad):
        for stream in trackers.all():
            stream.reset_state()
        trackers.update_metrics(Batch({"x": labels}, {"y": labels}), {"y": scores})
        found.append(float(trackers.logs(np.ones(1, np.float32), Replicas())["stop_on"]))
    assert found[0] > found[1]


@pytest.mark.parametrize("name", [name for name in losses.names() if not name.startswith("neural_ndcg")])  # slow
def test_a_ranking_loss_learns_nothing_from_equal_scores(name):
    """rank:ndcg returns constant scores, since its first gradient is 0
    (https://github.com/dmlc/xgboost/issues/6352)."""
    loss = losses.get(name)
    scores = tf.zeros([1, 3])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = loss.per_list([[2.0, 0.0, 1.0]], scores, [[True] * 3], seed=(1, 2))
    best, worst, middle = tape.gradient(value, scores).numpy()[0]
    assert best < 0
    assert best <= middle
    assert best < worst


def test_missing_labels_are_zeros():
    """Labels that are NaN must leave the metric (https://github.com/dmlc/xgboost/issues/2334 asks for them)."""
    lists = Lists({"y": np.array([1.0, np.nan, 0.0])})
    score = evaluate({"y": np.array([1.0, 9.0, 2.0])}, lists, [Task("y", kind="binary", metrics=("auc",))])
    assert score["y"]["auc"].value == 0.0
