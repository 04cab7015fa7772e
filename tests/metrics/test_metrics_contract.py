"""What every registered metric promises, whoever wrote it."""

import json

import numpy as np
import pytest

from tfmtl2r import metrics
from tfmtl2r._backend import tf
from tfmtl2r.metrics.base import default_names, evaluate

NAMES = metrics.names()
LABELS = np.array([[2, 0, 1, 0, 7], [0, 3, 7, 7, 7], [1, 1, 0, 0, 0], [0, 0, 0, 0, 7]], np.float32)
SCORES = np.array([[0.3, -1.2, 0.8, 0.1, 9], [-0.4, 1.5, 9, 9, 9], [2, 0.9, -7, 0.5, 3], [1, 2, 3, 4, 9]], np.float32)
VALID = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], bool)


def streamed(metric, *batches):
    stream = metric.streaming()
    for batch in batches:
        stream.update_state(*batch)
    return float(stream.result())


@pytest.fixture(params=NAMES)
def metric(request):
    return metrics.get(request.param)


@pytest.fixture(params=[name for name in NAMES if metrics.get(name).per_list_mean])
def list_metric(request):
    return metrics.get(request.param)


def test_values_are_finite_and_the_same_twice(metric):
    first = streamed(metric, (LABELS, SCORES, VALID))
    assert np.isfinite(first)
    assert first == streamed(metric, (LABELS, SCORES, VALID))


def test_per_list_and_streaming_agree(list_metric):
    value, counts = (x.numpy().astype(float) for x in list_metric.per_list(LABELS, SCORES, VALID))
    assert np.all(np.isfinite(value))
    assert np.all(value[counts == 0] == 0)
    expected = (value * counts).sum() / counts.sum()
    assert streamed(list_metric, (LABELS, SCORES, VALID)) == pytest.approx(expected, rel=1e-6)


def test_batches_add_up(metric):
    halves = [(LABELS[rows], SCORES[rows], VALID[rows]) for rows in (slice(0, 2), slice(2, 4))]
    assert streamed(metric, *halves) == pytest.approx(streamed(metric, (LABELS, SCORES, VALID)), rel=1e-6)


def test_padding_has_no_influence(metric):
    expected = streamed(metric, (LABELS, SCORES, VALID))
    for label, score in ((np.nan, np.nan), (0, -1e9), (1e9, 1e9), (-5, np.inf)):
        labels, scores = np.where(VALID, LABELS, label), np.where(VALID, SCORES, score)
        assert streamed(metric, (labels, scores, VALID)) == expected
    more = ((0, 0), (0, 30))
    longer = np.pad(LABELS, more), np.pad(SCORES, more), np.pad(VALID, more)
    assert streamed(metric, longer) == pytest.approx(expected, rel=1e-6)


def test_an_item_without_a_label_drops_out_as_if_it_were_padding(metric):
    expected = streamed(metric, (LABELS, SCORES, VALID))
    for missing in (np.nan, -1.0) if metric.relevance else (np.nan,):
        everywhere = np.where(VALID, LABELS, missing), SCORES, np.ones_like(VALID)
        assert streamed(metric, everywhere) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("missing", ["label", "item"])
def test_a_list_without_a_labelled_item_never_counts(list_metric, missing):
    options = {o.name for o in metrics.registry.options(list_metric.name)}
    if "empty" in options:
        list_metric = metrics.get(list_metric.name, empty="one")
    labels = np.full_like(LABELS, np.nan) if missing == "label" else LABELS
    valid = VALID if missing == "label" else np.zeros_like(VALID)
    value, counts = list_metric.per_list(labels, SCORES, valid)
    assert not np.any(value)
    assert not np.any(counts)


def test_nothing_seen_is_no_number(metric):
    assert np.isnan(streamed(metric))
    stream = metric.streaming()
    stream.update_state(LABELS, SCORES, np.zeros_like(VALID))
    assert np.isnan(float(stream.result()))
    stream.update_state(LABELS, SCORES, VALID)
    stream.reset_state()
    assert np.isnan(float(stream.result()))


def test_better_scores_have_the_better_value(metric):
    labels, valid = np.array([[2.0, 1.0, 1.0, 0.0, 0.0]]), np.ones((1, 5), bool)
    metric = metrics.get(metric.name, k=2) if hasattr(metric, "k") else metric
    good, bad = (streamed(metric, (labels, scores, valid)) for scores in (labels, labels[:, ::-1]))
    assert metric.direction in ("max", "min")
    assert good > bad if metric.direction == "max" else good < bad


def test_list_weights(metric):
    metric = metrics.get(metric.name, k=2) if hasattr(metric, "k") else metric
    args = LABELS, SCORES, VALID
    ones = streamed(metric, (*args, np.ones(4)))
    assert ones == pytest.approx(streamed(metric, args), rel=1e-6)
    only = streamed(metric, (*args, np.array([1.0, 0, 0, 0])))
    assert only == pytest.approx(streamed(metric, tuple(x[:1] for x in args)), rel=1e-6)
    uneven = np.array([1.0, 2.0, 5.0, 0.5])
    assert streamed(metric, (*args, uneven)) != pytest.approx(ones, rel=1e-4)
    per_item = np.where(VALID, uneven[:, None], np.nan)
    assert streamed(metric, (*args, per_item)) == pytest.approx(streamed(metric, (*args, uneven)), rel=1e-6)


def test_streaming_inside_a_graph_with_unknown_shapes(metric):
    stream = metric.streaming("some_name")
    assert stream.name == "some_name"
    floats, flags = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None, None], tf.bool)
    traced = tf.function(stream.update_state, input_signature=[floats, floats, flags])
    traced(LABELS[:3], SCORES[:3], VALID[:3])
    traced(LABELS[3:, :4], SCORES[3:, :4], VALID[3:, :4])
    assert float(stream.result()) == pytest.approx(streamed(metric, (LABELS, SCORES, VALID)), rel=1e-6)


def test_scores_may_be_bfloat16(metric):
    assert np.isfinite(streamed(metric, (LABELS, tf.cast(SCORES, tf.bfloat16), VALID)))


def test_rows_as_lists_of_one(metric):
    rows = [[1.0], [0.0], [np.nan]], [[0.3], [-0.2], [1.0]], np.ones((3, 1), bool)
    if metric.name == "grouped_auc":
        assert np.isnan(streamed(metric, rows))
    else:
        assert np.isfinite(streamed(metric, rows))


def test_a_description_rebuilds_the_metric(metric):
    described = metrics.registry.describe(metric)
    assert metrics.get(json.loads(json.dumps(described))) == metric
    assert metrics.get(metrics.registry.describe(type(metric)())) == type(metric)()
    assert json.dumps(metric.conventions())
    assert metrics.card(metric.name).title


def test_evaluate_has_no_number_for_lists_that_do_not_count(list_metric):
    found = evaluate(list_metric, LABELS, SCORES, VALID)
    _, counts = list_metric.per_list(LABELS, SCORES, VALID)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(np.isnan(found), counts.numpy() == 0)


def test_a_wrong_shape_is_an_error(list_metric):
    with pytest.raises(ValueError, match=r"labels must be \[B, L\] like scores \(4, 5\), not \(4,\)"):
        list_metric.per_list(LABELS[:, 0], SCORES, VALID)


def test_cutoffs_in_names():
    assert metrics.get("ndcg@5") == metrics.get("ndcg", k=5) == metrics.get({"name": "ndcg@5"})
    assert metrics.get("ndcg@5").label == "ndcg@5"
    assert metrics.get("mrr").label == "mrr"
    assert metrics.registry.describe(metrics.get("ndcg@5", gain="linear")) == {"name": "ndcg", "k": 5, "gain": "linear"}
    assert metrics.get("ndcg@5").streaming().name == "ndcg@5"
    ready = metrics.get("map@3")
    assert metrics.get(ready) is ready
    with pytest.raises(ValueError, match="must be a whole number, not 'five'"):
        metrics.get("ndcg@five")
    with pytest.raises(TypeError, match="given twice"):
        metrics.get("ndcg@5", k=3)
    with pytest.raises(TypeError, match="has no option k"):
        metrics.get("auc@5")
    with pytest.raises(ValueError, match="did you mean 'ndcg'"):
        metrics.get("ndgc@5")


def test_default_metrics_exist():
    for kind in ("binary", "graded", "regression"):
        for lists in (True, False):
            for name in default_names(kind, lists):
                assert metrics.get(name).label == name
    with pytest.raises(ValueError, match="kind must be one of"):
        default_names("click", lists=True)
