"""A regularised linear model of ratings: biases of users and items, and each user's taste in item attributes."""

from __future__ import annotations

import dataclasses

import numpy as np

ROUNDS = 1000
"""Maximum number of rounds of alternating least squares."""
CLOSE = 1e-6
"""Alternating least squares stops when no user's bias changes by more than this."""


@dataclasses.dataclass(frozen=True)
class Taste:
    """``mean + user_bias + item_bias + slopes . attributes``, fitted with L2 penalties.

    The biases minimise ``sum (r_ui - mean - b_u - b_i)^2 + prior (sum b_u^2 + sum b_i^2)``. Each bias is therefore the
    sum of its residuals divided by ``count + prior``. The remaining residuals ``e_ui`` are regressed on the attributes
    of the items, separately for each user: ``w_u = argmin sum_i (e_ui - w_u . x_i)^2 + penalty |w_u|^2``.

    Attributes:
        mean: mean rating.
        user_bias: ``[U]``.
        item_bias: ``[I]``.
        slopes: ``[U, A]``.

    Source: Koren, Bell and Volinsky, Matrix Factorization Techniques for Recommender Systems, IEEE Computer 42(8),
    2009, https://doi.org/10.1109/MC.2009.263, for the biases.
    """

    mean: float
    user_bias: np.ndarray
    item_bias: np.ndarray
    slopes: np.ndarray


def fit(
    user: np.ndarray, item: np.ndarray, rating: np.ndarray, attributes: np.ndarray, num_users: int, *,
    prior: float, penalty: float,
) -> Taste:
    """Fits :class:`Taste` to N ratings.

    Args:
        user: index of each rating's user ``[N]``, below ``num_users``.
        item: index of each rating's item ``[N]``.
        rating: ``[N]``.
        attributes: attributes of the items ``[I, A]``. They need comparable scales, because all have the same penalty.
        num_users: U; a user without ratings has bias and slopes 0.
        prior: number of imaginary ratings with residual 0 that are added to each user and item; above 0.
        penalty: L2 penalty of the slopes, above 0.

    >>> one = fit(np.array([0]), np.array([0]), np.array([4.0]), np.ones([2, 1]), 2, prior=1.0, penalty=1.0)
    >>> two = fit(np.array([0, 0]), np.array([0, 1]), np.array([4.0, 2.0]), np.eye(2), 1, prior=1.0, penalty=1.0)
    >>> one.mean, two.item_bias.tolist(), two.slopes.tolist()  # residuals +-1, halved by each penalty
    (4.0, [0.5, -0.5], [[0.25, -0.25]])
    """
    mean, num_items = float(rating.mean()), len(attributes)
    left = rating - mean
    user_size = np.bincount(user, minlength=num_users) + prior
    item_size = np.bincount(item, minlength=num_items) + prior
    user_bias, item_bias = np.zeros(num_users), np.zeros(num_items)
    for _ in range(ROUNDS):
        item_bias = np.bincount(item, left - user_bias[user], num_items) / item_size
        before, user_bias = user_bias, np.bincount(user, left - item_bias[item], num_users) / user_size
        if np.abs(user_bias - before).max() < CLOSE:
            break
    left = left - user_bias[user] - item_bias[item]

    order = np.argsort(user, kind="stable")
    bounds = np.searchsorted(user[order], np.arange(num_users + 1))
    slopes = np.zeros([num_users, attributes.shape[1]])
    ridge = penalty * np.eye(attributes.shape[1])
    for row in np.flatnonzero(np.diff(bounds)):
        rows = order[bounds[row]:bounds[row + 1]]
        x = attributes[item[rows]]
        slopes[row] = np.linalg.solve(x.T @ x + ridge, x.T @ left[rows])
    return Taste(mean, user_bias, item_bias, slopes)


def standardised(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Scales values to mean 0 and standard deviation 1 over the given rows. NaN becomes 0; so does a constant column.

    >>> standardised(np.array([1.0, 3.0, np.nan, 9.0]), np.array([0, 1, 2])).tolist()
    [-1.0, 1.0, 0.0, 7.0]
    """
    known = values[rows][~np.isnan(values[rows])]
    if not known.size or known.std() == 0:
        return np.zeros(len(values))
    return np.nan_to_num((values - known.mean()) / known.std())
