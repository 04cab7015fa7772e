"""Lengths and cosines of gradients, and the rank of their Gram matrix."""

import numpy as np

from tfmtl2r.linalg import correlation, spectrum


def test_lengths_and_cosines_multiply_to_the_gram_matrix():
    rows = np.random.default_rng(0).normal(size=(4, 6)) * np.array([1e-12, 1.0, 10.0, 1e12])[:, None]
    cosines, lengths, usable = (x.numpy() for x in correlation(rows @ rows.T))
    np.testing.assert_allclose(cosines * lengths[:, None] * lengths, rows @ rows.T, rtol=1e-9)
    assert usable.all()


def test_zero_and_absent_gradients_become_strangers():
    cosines, lengths, usable = correlation([[4.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]], [True, False, True])
    np.testing.assert_array_equal(cosines, np.eye(3))
    np.testing.assert_array_equal(lengths, [2.0, 1.0, 1.0])
    np.testing.assert_array_equal(usable, [True, False, False])


def test_rank_is_judged_as_for_float32():
    rows = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    rows = np.r_[rows, rows[:1] + rows[1:]]
    assert spectrum(rows @ rows.T).kept.numpy().tolist() == [False, True, True]
    assert not spectrum(np.zeros((2, 2))).kept.numpy().any()
