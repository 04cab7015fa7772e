import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmtl2r import ranking
from tfmtl2r._backend import tf


def brute_force(scores, k):
    """The mean discount of every item over all orders that sort the scores."""
    size = len(scores)
    total, orders = np.zeros(size), 0
    for order in itertools.permutations(range(size)):
        sorted_scores = [scores[i] for i in order]
        if sorted_scores == sorted(scores, reverse=True):
            orders += 1
            for place, item in enumerate(order):
                if k is None or place < k:
                    total[item] += 1 / np.log2(place + 2)
    return total / orders


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.integers(-2, 2), min_size=1, max_size=5),
    k=st.sampled_from([None, 1, 2, 9]),
    padding=st.integers(0, 3),
)
def test_expected_discount_is_the_mean_over_all_orders(scores, k, padding):
    padded = [*map(float, scores), *[99.0] * padding]
    found = ranking.expected_discount([padded], tf.sequence_mask([len(scores)], len(padded)), k)
    np.testing.assert_allclose(found[0, : len(scores)], brute_force(scores, k), atol=1e-6)
    assert not np.any(found[0, len(scores) :])


def test_expected_discount_of_long_lists_keeps_its_digits():
    scores = np.arange(5000, dtype=np.float32)[None]
    found = ranking.expected_discount(scores, np.ones_like(scores, bool))
    np.testing.assert_allclose(found, 1 / np.log2(1 + (5000 - scores)), rtol=1e-6)


def test_ranks_without_ties_are_the_sorted_places():
    scores = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    valid = np.arange(6) < np.array([6, 5, 4, 3, 2, 1, 0])[:, None]
    found = ranking.ranks(scores, valid).numpy()
    for row, there, got in zip(scores, valid, found, strict=True):
        expected = np.argsort(np.argsort(-row[there])) + 1
        assert got[there].tolist() == expected.tolist()
        assert sorted(got[~there].tolist()) == list(range(there.sum() + 1, 7))


def test_ties_fall_uniformly_and_as_the_seed_says():
    scores, valid = tf.zeros([3000, 3]), tf.ones([3000, 3], tf.bool)
    found = ranking.ranks(scores, valid, seed=(1, 2)).numpy()
    for place in (1, 2, 3):
        np.testing.assert_allclose((found == place).mean(axis=0), 1 / 3, atol=0.05)
    assert np.array_equal(found, ranking.ranks(scores, valid, seed=(1, 2)))
    assert not np.array_equal(found, ranking.ranks(scores, valid, seed=(1, 3)))


def test_padding_does_not_change_how_ties_fall():
    short = ranking.ranks(tf.zeros([50, 4]), tf.ones([50, 4], tf.bool), seed=(3, 4))
    long = ranking.ranks(tf.zeros([50, 11]), tf.sequence_mask([4] * 50, 11), seed=(3, 4))
    assert np.array_equal(short, long[:, :4])


@pytest.mark.parametrize("extreme", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_stay_before_padding(extreme):
    scores, valid = [[extreme, 1.0, 5.0]], [[True, True, False]]
    assert sorted(ranking.ranks(scores, valid)[0, :2].numpy()) == [1, 2]
    assert np.all(np.isfinite(ranking.expected_discount(scores, valid)))
    if not extreme > 0:
        assert ranking.ranks(scores, valid).numpy().tolist() == [[2, 1, 3]]


def test_shapes_may_be_unknown_while_tracing():
    signature = [tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)]

    @tf.function(input_signature=signature)
    def traced(scores, size):
        valid = tf.sequence_mask(size, tf.shape(scores)[1])
        return ranking.ranks(scores, valid), ranking.expected_discount(scores, valid, k=2)

    for shape in ((2, 3), (1, 1), (4, 9)):
        scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        valid = np.ones(shape, bool)
        ranks, discount = traced(scores, np.full(shape[0], shape[1]))
        assert np.array_equal(ranks, ranking.ranks(scores, valid))
        np.testing.assert_array_equal(discount, ranking.expected_discount(scores, valid, k=2))


def test_known_and_gains_refuse_names_they_do_not_have():
    with pytest.raises(ValueError, match="kind must be one of binary, graded, regression, not 'clicks'"):
        ranking.known([[1.0]], [[True]], "clicks")
    with pytest.raises(ValueError, match="gain must be one of exp2, linear, not 'log'"):
        ranking.gains([[1.0]], "log")


def test_counts_are_refused_where_grades_are_needed():
    ranking.check_grades(np.array([31.0, np.nan, -1.0]), "x")
    ranking.check_grades(np.array([]), "x")
    with pytest.raises(ValueError, match=r"a label is 32: above 31 .* Convert the labels to grades"):
        ranking.check_grades(np.array([[1.0, 32.0]]), "x")


def test_gumbel_noise_is_finite_and_reproducible():
    noise = ranking.gumbel(100, 1000, (5, 6), samples=3)
    assert noise.shape == (3, 100, 1000)
    assert np.all(np.isfinite(noise))
    np.testing.assert_allclose(np.mean(noise), 0.5772, atol=0.02)
    assert np.array_equal(noise, ranking.gumbel(100, 1000, (5, 6), samples=3))
    # The logarithm's vector and scalar code differ in the last bit.
    np.testing.assert_allclose(noise[:, :, :7], ranking.gumbel(100, 7, (5, 6), samples=3), rtol=1e-5, atol=1e-6)
