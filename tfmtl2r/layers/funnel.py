"""A funnel of stages: stage t is reached only after all stages before it."""

from __future__ import annotations

from tfmtl2r._backend import tf
from tfmtl2r.types import Tensor

NEVER = -1e30
"""Replaces log 0 in sums and comparisons, since an infinity would turn gradients into NaN."""


def logits_of_products(logits: Tensor) -> Tensor:
    """The logit of ``P_t = prod_{s<=t} sigmoid(a_ts)``, for each t, from the logits of the stages.

    A funnel that fails has a first stage that fails, so ``1 - P_t = sum_{s<=t} (1 - p_s) prod_{r<s} p_r``. With
    ``log p = -softplus(-a)`` and ``log(1 - p) = -softplus(a)``, both logarithms are computed without cancellation, so
    that the difference ``log P_t - log(1 - P_t)`` is accurate for any logits.

    Args:
        logits: ``[T, T, ...]``; row t contains the logits of the t-th product, and entries after t are ignored.

    Returns:
        ``[T, ...]`` in float32.

    >>> a = tf.math.log([0.2 / 0.8, 0.1 / 0.9])
    >>> [round(float(p), 4) for p in tf.sigmoid(logits_of_products(tf.stack([a, a])))]
    [0.2, 0.02]
    """
    logits = tf.cast(logits, tf.float32)
    num = logits.shape[0]
    used = tf.reshape(tf.linalg.band_part(tf.ones([num, num]), -1, 0) > 0, [num, num] + [1] * (len(logits.shape) - 2))
    passed = tf.where(used, -tf.math.softplus(-logits), 0.0)
    failed = tf.where(used, tf.cumsum(passed, axis=1, exclusive=True) - tf.math.softplus(logits), NEVER)
    return tf.reduce_sum(passed, axis=1) - tf.reduce_logsumexp(failed, axis=1)
