"""Scores with leading axes as copies of a batch, and plain rows as lists of one item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.types import Tensor


def as_lists(batch: Batch, values: Any) -> Tensor:
    """Plain rows ``[..., B]`` as lists of one item each, ``[..., B, 1]``; returns lists unchanged."""
    return values[..., None] if batch.is_rows else values


def flat_lists(batch: Batch, scores: Any) -> tuple[Any, Any]:
    """Flattens leading axes of scores: the result has the shape of M copies of the batch, one after another.

    Args:
        batch: the batch that was scored.
        scores: ``[..., B, L]`` (plain rows ``[..., B]``).

    Returns:
        ``[M B, L]``, and M, the product of the leading axes, or None without leading axes.
    """
    scores = as_lists(batch, scores)
    if scores.shape.rank == 2:
        return scores, None
    shape = tf.shape(scores)
    return tf.reshape(scores, [-1, shape[-1]]), tf.reduce_prod(shape[:-2])


def tiled(values: Any, copies: Tensor | None) -> Tensor:
    """Repeats values of items, ``[B, L]``, for M copies of the batch, ``[M B, L]``; unchanged if M is None."""
    return values if copies is None else tf.tile(values, [copies, 1])


def item_weights(batch: Batch, given: Mapping[str, Any], task: str, like: Any, copies: Tensor | None) -> Any:
    """A task's weights as weights of items, ``float32[M B, L]`` like its flat scores; None without weights.

    Args:
        batch: the batch.
        given: weights by task, per list ``[B]`` or per item ``[B, L]``.
        task: name of the task.
        like: the flat scores, see :func:`flat_lists`.
        copies: M, or None.
    """
    weights = given.get(task)
    if weights is None:
        return None
    weights = tf.cast(weights, tf.float32)
    weights = weights[:, None] if weights.shape.rank == 1 else weights
    return tiled(weights, copies) * tf.ones_like(like, tf.float32)
