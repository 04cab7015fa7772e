"""Operations of a training step over the replicas of a distribution strategy."""

from __future__ import annotations

from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.data.order import Seat
from tfmtl2r.types import Tensor


def seat_of(strategy: Any) -> Seat:
    """The seat of this process under a strategy: seat 0 of 1, unless the strategy has several workers."""
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return Seat()
    jobs = resolver.cluster_spec().as_dict()
    chiefs, workers = len(jobs.get("chief", ())), len(jobs.get("worker", ()))
    if not chiefs + workers:
        return Seat()
    return Seat(resolver.task_id + (chiefs if resolver.task_type == "worker" else 0), chiefs + workers)


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
        if self.count == 1:
            return tensor
        whole = self._context().all_gather(tensor, axis=0)
        return tf.ensure_shape(whole, [None, *tensor.shape[1:]])  # several workers lose what is known of the shape

    def gather_rows(self, numbers: Tensor, values: Tensor) -> tuple[Any, Any]:
        """Concatenates the replicas' rows of a table, of which a replica, and even all of them, may have none.

        TensorFlow's gathering crashes if no worker has a row. Each replica therefore sends one row more, which is left
        out afterwards.

        Args:
            numbers: ``[n]``, the numbers of the rows, >= 0.
            values: ``[n, ...]``.
        """
        if self.count == 1:
            return numbers, values
        numbers = self.gather(tf.concat([numbers, -tf.ones([1], numbers.dtype)], 0))
        values = self.gather(tf.concat([values, tf.zeros([1, *values.shape[1:]], values.dtype)], 0))
        real = numbers >= 0
        return tf.boolean_mask(numbers, real), tf.boolean_mask(values, real)

    def places(self, numbers: Any, size: Any) -> Any:
        """The positions of some of this replica's lists in the global batch, ``int32[n]``.

        Args:
            numbers: ``int32[n]``, their positions on this replica.
            size: number of lists on this replica.
        """
        if self.count == 1:
            return numbers
        context = self._context()
        if isinstance(context.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return seat_of(context.strategy).place(numbers)
        sizes = self.gather(tf.cast(tf.reshape(size, [1]), tf.float32))
        return numbers + tf.cast(tf.reduce_sum(sizes[: context.replica_id_in_sync_group]), tf.int32)

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
