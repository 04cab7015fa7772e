"""Operations of a training step over the replicas of a distribution strategy."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.types import Tensor


class Replicas:
    """Sums over replicas; with one replica, or outside a strategy, every operation is the identity."""

    def __init__(self) -> None:
        self.count = tf.distribute.get_strategy().num_replicas_in_sync

    def sum(self, tensors: Any) -> Any:
        """Sums a tensor over replicas, or each tensor of a list."""
        if self.count == 1:
            return tensors
        return self._context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)

    def gather(self, tensor: Tensor) -> Any:
        """Concatenates the replicas' tensors along the first axis."""
        return tensor if self.count == 1 else self._context().all_gather(tensor, axis=0)

    def first_index(self, size: Any) -> Any:
        """The position of this replica's first list in the global batch, ``int32``.

        Args:
            size: number of lists on this replica.
        """
        if self.count == 1:
            return tf.constant(0)
        sizes = self.gather(tf.cast(tf.reshape(size, [1]), tf.float32))
        return tf.cast(tf.reduce_sum(sizes[: self._context().replica_id_in_sync_group]), tf.int32)

    def own_seed(self, seed: Any) -> Any:
        """A seed that differs between replicas, for random numbers that belong to lists (dropout)."""
        if self.count == 1:
            return seed
        return tf.random.experimental.stateless_fold_in(seed, self._context().replica_id_in_sync_group)

    def _context(self) -> Any:
        context = tf.distribute.get_replica_context()
        if context is None:
            raise RuntimeError("a training step must run inside strategy.run(...)")
        return context
