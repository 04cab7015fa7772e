"""The Plackett-Luce model: items are picked one after another, with probabilities proportional to exp(score)."""

from __future__ import annotations

from tfmtl2r._backend import tf
from tfmtl2r.types import Mask, Scores, Tensor

# Low enough to be negligible next to any score, but finite, so that the difference of two is not NaN.
_ABSENT = -1e30


def negative_log_likelihood(scores: Scores, place: Tensor, known: Mask) -> Tensor:
    """The negative log probability of each pick of a given order.

    Args:
        scores: ``float32[B, L]``.
        place: ``int32[B, L]``, the 1-based place of each item in the order, a permutation with absent items last.
        known: ``bool[B, L]``, False for absent items.

    Returns:
        ``float32[B, L]`` by place: ``log(sum_{j >= i} exp(s_j)) - s_i``, 0 after the last known item.

    >>> terms = negative_log_likelihood([[0.0, 0.0, 0.0]], [[1, 2, 3]], [[True, True, False]])
    >>> terms.numpy().astype(float).round(4).tolist()
    [[0.6931, 0.0, 0.0]]
    """
    order = tf.argsort(place)
    known = tf.gather(tf.convert_to_tensor(known), order, batch_dims=1)
    picked = tf.where(known, tf.gather(tf.convert_to_tensor(scores), order, batch_dims=1), _ABSENT)
    left = tf.math.cumulative_logsumexp(picked, axis=1, reverse=True)
    return tf.where(known, left - picked, 0.0)
