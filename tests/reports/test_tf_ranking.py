"""Reports about TF-Ranking and TensorFlow Recommenders."""

import logging

import numpy as np
import pytest

from tfmtl2r import Task, losses, metrics
from tfmtl2r._backend import tf
from tfmtl2r.data import Lists
from tfmtl2r.data.columns import label_values, warn_of_negative
from tfmtl2r.evaluation.split_metrics import evaluate


def test_negative_labels_are_masked_silently(caplog):
    """Items with negative labels leave loss and metric without a word
    (https://github.com/tensorflow/ranking/issues/353)."""
    lists = Lists({"y": np.array([-2.0, 0.0, 1.0, -1.0])})
    for kind, said in (("graded", 1), ("regression", 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "tfmtl2r"):
            warn_of_negative(label_values(lists, Task("y", kind=kind)), Task("y", kind=kind), "the train split")
        assert [r.getMessage() for r in caplog.records] == [
            "task 'y': 2 of 4 labels of the train split are negative, which means missing"] * said


def test_negative_labels_of_a_regression_are_masked():
    """A mean squared error ignores negative targets (https://github.com/tensorflow/ranking/issues/40)."""
    value, _ = losses.get("mse").per_list([[-2.0, 1.0]], [[0.0, 0.0]], [[True, True]])
    assert float(value[0]) == pytest.approx((4 + 1) / 2)


@pytest.mark.parametrize("name", ["ndcg@1", "mrr", "map", "precision@1", "recall@1", "grouped_auc", "arp"])
def test_padding_outranks_items_with_negative_scores(name):
    """Padded places have score 0 and push negative scores down (https://github.com/tensorflow/ranking/issues/305)."""
    metric, labels, scores = metrics.get(name), [[1.0, 0.0]], [[-1.0, -2.0]]
    alone, _ = metric.per_list(labels, scores, [[True, True]])
    padded, _ = metric.per_list([[*labels[0], 0, 0]], [[*scores[0], 0, 0]], [[True, True, False, False]])
    assert float(padded[0]) == pytest.approx(float(alone[0])) == 1.0


@pytest.mark.parametrize("size", [3, 64])
def test_a_metric_is_a_mean_over_batches(shop, size):
    """It is unclear how NDCG of a whole data set is computed from batches
    (https://github.com/tensorflow/ranking/issues/195)."""
    scores = shop.ranker.predict(shop.batches(size), layout="items")
    expected = evaluate(scores, shop.lists, shop.ranker.tasks)["click"]["ndcg@5"].value
    found = shop.ranker.evaluate(shop.batches(size), return_dict=True, verbose=0)["click_ndcg@5"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_loss_and_metric_of_ndcg_disagree():
    """The approximate NDCG falls while the metric falls, too (https://github.com/tensorflow/ranking/issues/166)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (5, 6)).astype(np.float32)
    scores = rng.permuted(np.tile(np.arange(6.0), (5, 1)), axis=1)
    valid = np.ones((5, 6), bool)
    loss, _ = losses.get("approx_ndcg", temperature=0.01).per_list(labels, scores, valid)
    metric, _ = metrics.get("ndcg").per_list(labels, scores, valid)
    np.testing.assert_allclose(1 - loss, metric, atol=1e-4)


def test_a_list_without_a_relevant_item_breaks_softmax():
    """A smoothed sum of labels counts items that are no items (https://github.com/tensorflow/ranking/issues/278)."""
    scores = tf.constant([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, _ = losses.get("softmax").per_list([[0.0, 0.0, 0.0], [0.0, 1.0, 9.0]], scores,
                                                  [[True] * 3, [True, True, False]])
        total = tf.reduce_sum(value)
    assert value.numpy().tolist() == pytest.approx([0.0, np.log(2)])
    np.testing.assert_allclose(tape.gradient(total, scores), [[0, 0, 0], [0.5, -0.5, 0]], atol=1e-6)


def test_list_mle_depends_on_the_order_of_the_items():
    """Lists need to be sorted by rating (https://github.com/tensorflow/recommenders/issues/481)."""
    labels, scores = np.array([[3.0, 1.0, 0.0, 2.0]]), np.array([[0.1, 0.4, -1.0, 2.0]])
    order = [2, 0, 3, 1]
    valid = np.ones((1, 4), bool)
    loss = losses.get("list_mle")
    first, other = (float(loss.per_list(y, s, valid, seed=(1, 2))[0][0]) for y, s in (
        (labels, scores), (labels[:, order], scores[:, order])))
    assert other == pytest.approx(first, rel=1e-6)


def test_an_id_outside_of_the_vocabulary_fails(shop):
    """"indices[7505] = 672 is not in [0, 672)" where the table has no row for unknown ids
    (https://github.com/tensorflow/recommenders/issues/202)."""
    table = next(v for v in shop.ranker.weights if "embedding" in v.path)
    assert table.shape[0] == len(shop.ranker.schema.features[2].vocabulary) + 1
    assert np.isfinite(shop.ranker.predict(shop.frame.assign(brand="unheard of"), list_id="search")).all(axis=None)
