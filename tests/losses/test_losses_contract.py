"""What every registered loss promises, whoever wrote it."""

import contextlib
import json

import numpy as np
import pytest

from tfmtl2r import losses
from tfmtl2r._backend import tf

NAMES = losses.names()
SEED = (3, 4)

LABELS = np.array([[2, 0, 1, 0, 7], [0, 3, 7, 7, 7], [2, 2, 0, 0, 0]], np.float32)
SCORES = np.array([[0.3, -1.2, 0.8, 0.1, 9], [-0.4, 0.3, 9, 9, 9], [0.2, 0.9, -0.7, 0.5, 1.1]], np.float32)
VALID = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], bool)


def with_gradient(loss, labels, scores, valid, weights=None, seed=SEED):
    scores = tf.constant(scores, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, weight = loss.per_list(labels, scores, valid, weights, seed=seed)
        total = tf.reduce_sum(value)
    gradient = tape.gradient(total, scores)
    return value.numpy(), weight.numpy(), np.zeros_like(scores) if gradient is None else gradient.numpy()


# Sinkhorn's loop takes seconds to trace; the other form of the loss shares its code.
SLOW = {"neural_ndcg_transposed"}


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NAMES])
def loss(request):
    return losses.get(request.param)


def test_value_and_gradient_are_finite_and_the_value_is_not_negative(loss):
    value, weight, gradient = with_gradient(loss, LABELS, SCORES, VALID)
    assert value.shape == weight.shape == (3,)
    assert np.all(np.isfinite(value))
    assert np.all(value >= 0)
    assert weight.tolist() == [1, 1, 1]
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0, axis=1).all()


def test_what_stands_in_padding_has_no_influence(loss):
    expected = with_gradient(loss, LABELS, SCORES, VALID)
    assert not np.any(expected[2][~VALID])
    for label, score in ((np.nan, np.nan), (0, -1e9), (1e9, 1e9), (-5, np.inf)):
        labels, scores = np.where(VALID, LABELS, label), np.where(VALID, SCORES, score)
        for found, wanted in zip(with_gradient(loss, labels, scores, VALID), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_the_length_of_padding_has_no_influence(loss):
    more = ((0, 0), (0, 40))
    expected = with_gradient(loss, LABELS, SCORES, VALID)
    found = with_gradient(loss, np.pad(LABELS, more), np.pad(SCORES, more), np.pad(VALID, more))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[2][:, :5], expected[2], rtol=1e-4, atol=1e-5)


def test_an_item_without_a_label_drops_out_as_if_it_were_padding(loss):
    expected = with_gradient(loss, LABELS, SCORES, VALID)
    for missing in (np.nan, -1.0) if loss.relevance else (np.nan,):
        found = with_gradient(loss, np.where(VALID, LABELS, missing), SCORES, np.ones_like(VALID))
        for got, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_any_number_is_a_label_where_labels_are_not_relevance(loss):
    if not loss.relevance:
        value, weight, _ = with_gradient(loss, LABELS - 5, SCORES, VALID)
        assert weight.tolist() == [1, 1, 1]
        assert np.all(np.isfinite(value))


def test_a_list_that_does_not_count_has_weight_zero_and_no_gradient(loss):
    """The first list has no relevant item, the next no label, no item, and no item but NaN for scores."""
    scores = np.vstack([SCORES[:1]] * 3 + [np.full((1, 5), np.nan), SCORES])
    labels = np.vstack([np.zeros((1, 5)), np.full((1, 5), np.nan), LABELS[:1], LABELS[:1], LABELS])
    valid = np.vstack([VALID[:1], VALID[:1], np.zeros((2, 5), bool), VALID])
    value, weight, gradient = with_gradient(loss, labels, scores, valid)
    absent = slice(0, 4) if loss.listwise else slice(1, 4)
    assert not np.any(weight[absent])
    assert not np.any(value[absent])
    assert not np.any(gradient[absent])
    assert np.all(weight[4:] == 1)
    assert np.all(value[4:] > 0)
    assert np.all(np.isfinite(gradient))
    if not loss.needs_seed:
        alone = with_gradient(loss, LABELS, SCORES, VALID)
        np.testing.assert_allclose(value[4:], alone[0], rtol=1e-5)
        np.testing.assert_allclose(gradient[4:], alone[2], rtol=1e-4, atol=1e-6)


def test_hard_cases_are_finite(loss):
    labels = np.array([[1, 0, 0, 2], [1, 1, 1, 1], [0, 0, 0, 0], [31, 0, 30, 1]] * 2, float)
    scores = np.repeat([[0.0], [1e4]], 4, axis=0) * np.array([[1.0, -1, 0.5, -0.3]])
    for length in (1, 4, 200):
        padding = ((0, 0), (0, max(0, length - 4)))
        y, s = np.pad(labels, padding)[:, :length], np.pad(scores, padding)[:, :length]
        value, _, gradient = with_gradient(loss, y, s, np.arange(length)[None] < np.full((8, 1), 4))
        assert np.all(np.isfinite(value)), value
        assert np.all(value >= 0)
        assert np.all(np.isfinite(gradient))


def test_rows_as_lists_of_one(loss):
    value, weight, gradient = with_gradient(loss, [[1.0], [0.0], [np.nan]], [[0.3], [-0.2], [1]], np.ones((3, 1), bool))
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(gradient))
    if not loss.listwise:
        assert weight.tolist() == [1, 1, 0]
        assert np.all(gradient[:2] != 0)


def test_scores_of_any_float_type_are_taken_as_float32(loss):
    for dtype in ("bfloat16", "float64"):
        scores = tf.cast(SCORES, dtype)
        value, weight = loss.per_list(LABELS, scores, VALID, seed=SEED)
        assert value.dtype == weight.dtype == tf.float32
        expected, _ = loss.per_list(LABELS, tf.cast(scores, tf.float32), VALID, seed=SEED)
        np.testing.assert_array_equal(value, expected)


def test_a_graph_with_unknown_shapes_agrees_with_eager_code(loss):
    floats, flags = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None, None], tf.bool)
    traced = tf.function(loss.per_list, input_signature=[floats, floats, flags, floats])
    weights = np.linspace(0.5, 2, LABELS.size).reshape(LABELS.shape).astype(np.float32)
    for rows in (3, 2):
        args = LABELS[:rows], SCORES[:rows], VALID[:rows], weights[:rows]
        for found, wanted in zip(traced(*args), loss.per_list(*args), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_seed_settles_all_randomness(loss):
    labels, scores = np.where(LABELS > 1, 1.0, LABELS), np.round(SCORES)
    first, second = (with_gradient(loss, labels, scores, VALID, seed=SEED) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[2], second[2])
    other = with_gradient(loss, labels, scores, VALID, seed=(9, 9))
    assert np.array_equal(first[0], other[0]) != loss.needs_seed


def test_item_weights_multiply_terms(loss):
    value, weight, gradient = with_gradient(loss, LABELS, SCORES, VALID)
    ones = with_gradient(loss, LABELS, SCORES, VALID, np.where(VALID, 1.0, np.nan))
    np.testing.assert_allclose(ones[0], value, rtol=1e-5)
    twice = with_gradient(loss, LABELS, SCORES, VALID, np.full_like(SCORES, 2.0))
    np.testing.assert_allclose(twice[0], 2 * value, rtol=1e-5)
    np.testing.assert_allclose(twice[2], 2 * gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(twice[1], weight)
    uneven = with_gradient(loss, LABELS, SCORES, VALID, np.where(LABELS > 1, 3.0, 1.0))
    assert not np.allclose(uneven[0][:2], value[:2])
    none = with_gradient(loss, LABELS, SCORES, VALID, np.zeros_like(SCORES))
    np.testing.assert_array_equal(none[0], 0)
    np.testing.assert_array_equal(none[2], 0)


def test_better_scores_cost_less(loss):
    labels = np.array([[3.0, 2.0, 1.0, 0.0]])
    valid = np.ones((1, 4), bool)
    good, _ = loss.per_list(labels, labels, valid, seed=SEED)
    bad, _ = loss.per_list(labels, labels[:, ::-1], valid, seed=SEED)
    assert float(good[0]) < float(bad[0])


def test_a_description_rebuilds_the_loss(loss):
    described = losses.registry.describe(loss)
    assert losses.registry.describe(losses.get(json.loads(json.dumps(described)))) == described
    direct = losses.registry.describe(type(loss)())
    assert losses.get(direct) == loss


@pytest.mark.parametrize("wrong", ["labels", "valid", "weights"])
def test_a_wrong_shape_is_an_error_with_both_shapes(wrong):
    parts = {"labels": LABELS, "scores": SCORES, "valid": VALID, "weights": np.ones_like(SCORES)}
    parts[wrong] = parts[wrong][:, 0]
    with pytest.raises(ValueError, match=rf"{wrong} must be \[B, L\] like scores \(3, 5\), not \(3,\)"):
        losses.get("softmax").per_list(**parts)


def test_labels_are_checked_before_training(loss):
    loss.validate(np.array([[0.0, 2.0, np.nan, -1.0]]))
    with pytest.raises(ValueError, match="a label is infinite"):
        loss.validate(np.array([np.inf]))
    refuses = loss.highest_label()[0] < 250
    with pytest.raises(ValueError, match="a label of 250") if refuses else contextlib.nullcontext():
        loss.validate(np.array([1.0, 250.0]))
