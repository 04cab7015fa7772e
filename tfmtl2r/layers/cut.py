"""Where an architecture divides into the half that tasks share and the half that each has for itself.

The *cut* is a list of tensors such that every path from a shared variable to a task loss crosses it. The training
engine gives each task its own copy of every tensor of the cut; one backward pass through the heads then yields all
per-task gradients at the cut at once, since each copy sees only its own task's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.types import Tensor


class Branch:
    """One tensor of the cut, as T tasks see it.

    A head reads it in one way, through :meth:`copies`, :meth:`own`, :meth:`mix` or :meth:`compare`. What was read
    becomes the ``tap`` that the engine differentiates; the other methods turn the tap's gradient into what a balancing
    method needs. A tensor stands in the cut once: inner products of gradients at two entries of it would be lost.

    Args:
        tensor: a tensor of the cut.
        num_tasks: T.
        watch: called with what is read before anything uses it (a gradient tape's ``watch``).
    """

    def __init__(self, tensor: Tensor, num_tasks: int, watch: Callable[[Any], Any] | None = None):
        self.tensor = tensor
        self.num_tasks = num_tasks
        self._watch = watch
        self._reading: _Copies | _Slices | _Outer | None = None

    @property
    def tap(self) -> Any:
        """What the heads read; None if they read nothing."""
        return None if self._reading is None else self._reading.tap

    def copies(self) -> Tensor:
        """The tensor once per task, ``[T, ...]``."""
        if not isinstance(self._reading, _Copies):
            self._read(_Copies(self.tensor, self.num_tasks))
        return self.tap

    def own(self, tasks: Sequence[int] | None = None) -> Tensor:
        """The tensor itself, of whose slices ``[S, ...]`` each is read by one task alone.

        Args:
            tasks: the task that reads each slice; slice t is task t's by default. A task may have several slices.

        Raises:
            ValueError: when there is not one task for every slice.
        """
        owners = tuple(range(self.num_tasks) if tasks is None else tasks)
        if len(owners) != self.tensor.shape[0]:
            raise InputError(f"this tensor of the cut has {self.tensor.shape[0]} slices, but {len(owners)} tasks own "
                             "one")
        self._read(_Slices(self.tensor, self.num_tasks, owners))
        return self.tap

    def mix(self, gates: Tensor, each: int = 1) -> Tensor:
        """The tensor's E slices mixed for each task, ``[T, n, D]``: ``sum_e gates[t, n, e] tensor[e, n]``.

        A task's gradient at the tensor is an outer product of its gate and its gradient at the mixture, so the
        ``[T, E, n, D]`` gradients are never built.

        Args:
            gates: ``[T, n, E]``; the tensor is ``[E, n, D]``.
            each: K mixtures of each task: gates ``[T K, n, E]`` and mixtures ``[T K, n, D]``, those of a task next to
                each other.
        """
        self._read(_Mixture(self.tensor, self.num_tasks, gates, each))
        return self.tap

    def compare(self, queries: Tensor) -> Tensor:
        """The tensor's E slices compared with a query of each task: ``sum_d queries[t, n, d] tensor[e, n, d]``.

        ``[T, n, E]``. As with :meth:`mix`, a task's gradient at the tensor is an outer product that is never built.

        Args:
            queries: ``[T, n, D]``; the tensor is ``[E, n, D]``.
        """
        self._read(_Comparison(self.tensor, self.num_tasks, queries))
        return self.tap

    def constant(self) -> Tensor:
        """The tensor itself, for what no trainable variable leads to: nothing is differentiated."""
        return self.tensor

    def gram(self, cotangents: Tensor) -> Tensor:
        """Inner products of the tasks' gradients at this tensor, ``float32[T, T]``."""
        assert self._reading is not None
        return self._reading.gram(tf.cast(cotangents, tf.float32))

    def of_task(self, cotangents: Tensor, task: int) -> Tensor:
        """The gradient of one task's loss, shaped like the tensor."""
        assert self._reading is not None
        return self._reading.of_task(cotangents, task)

    def weighted(self, cotangents: Tensor, weights: Tensor) -> Tensor:
        """``sum_t weights_t gradient_t``, shaped like the tensor; summed in float32."""
        assert self._reading is not None
        total = self._reading.weighted(tf.cast(cotangents, tf.float32), weights)
        return tf.cast(total, self.tensor.dtype)

    def _read(self, reading: _Copies | _Slices | _Outer) -> None:
        if self._reading is not None:
            raise InputError("a tensor of the cut is read in one way and, unless by copies(), once; read it by copies()"
                             " for all purposes, or give mix() all gates at once: twice in the cut, the products "
                             "of gradients between its two entries would be lost")
        self._reading = reading
        if self._watch is not None:
            self._watch(reading.tap)


class _Copies:
    """A tensor read as one copy per task; its gradients are the copies' gradients."""

    def __init__(self, tensor: Tensor, num_tasks: int):
        self.tensor = tensor
        self.num_tasks = num_tasks
        self.tap = tf.repeat(tensor[None], num_tasks, axis=0)

    def gram(self, cotangents: Tensor) -> Tensor:
        rows = tf.reshape(cotangents, [self.num_tasks, -1])
        return tf.matmul(rows, rows, transpose_b=True)

    def of_task(self, cotangents: Tensor, task: int) -> Tensor:
        return cotangents[task]

    def weighted(self, cotangents: Tensor, weights: Tensor) -> Tensor:
        rows = tf.reshape(cotangents, [self.num_tasks, -1])
        return tf.reshape(tf.linalg.matvec(rows, weights, transpose_a=True), tf.shape(self.tensor))


class _Slices:
    """A tensor of whose slices each belongs to one task: other tasks' gradients there are zero."""

    def __init__(self, tensor: Tensor, num_tasks: int, owners: tuple[int, ...]):
        self.tap = tf.identity(tensor)
        self.owners = owners
        self.num_tasks = num_tasks

    def gram(self, cotangents: Tensor) -> Tensor:
        squares = tf.reduce_sum(tf.reshape(cotangents, [len(self.owners), -1]) ** 2, axis=1)
        return tf.linalg.diag(tf.math.unsorted_segment_sum(squares, tf.constant(self.owners), self.num_tasks))

    def of_task(self, cotangents: Tensor, task: int) -> Tensor:
        return self._times(cotangents, tf.constant([float(owner == task) for owner in self.owners], cotangents.dtype))

    def weighted(self, cotangents: Tensor, weights: Tensor) -> Tensor:
        return self._times(cotangents, tf.gather(weights, self.owners))

    def _times(self, cotangents: Tensor, factors: Tensor) -> Tensor:
        return cotangents * tf.reshape(factors, [-1] + [1] * (len(cotangents.shape) - 1))


class _Outer:
    """E slices of which a task's gradient is a sum of K outer products ``per_slice[t k, n, e] per_item[t k, n, d]``.

    One factor is what the task read the slices with, the other the gradient at what it read; K is how often it did.
    """

    tap: Any

    def __init__(self, num_tasks: int, each: int = 1):
        self.num_tasks = num_tasks
        self.each = each

    def factors(self, cotangents: Tensor) -> tuple[Tensor, Tensor]:
        """``per_slice`` ``[T K, n, E]`` and ``per_item`` ``[T K, n, D]``."""
        raise NotImplementedError

    def gram(self, cotangents: Tensor) -> Tensor:
        slices, rows = (tf.transpose(tf.cast(factor, tf.float32), [1, 0, 2]) for factor in self.factors(cotangents))
        products = tf.matmul(slices, slices, transpose_b=True) * tf.matmul(rows, rows, transpose_b=True)
        by_reading = tf.reshape(tf.reduce_sum(products, 0), [self.num_tasks, self.each] * 2)
        return tf.reduce_sum(by_reading, axis=[1, 3])

    def of_task(self, cotangents: Tensor, task: int) -> Tensor:
        slices, rows = self.factors(cotangents)
        readings = range(task * self.each, (task + 1) * self.each)
        return tf.add_n([tf.transpose(slices[i])[:, :, None] * rows[i][None] for i in readings])

    def weighted(self, cotangents: Tensor, weights: Tensor) -> Tensor:
        slices, rows = (tf.cast(factor, tf.float32) for factor in self.factors(cotangents))
        slices = tf.transpose(slices, [1, 2, 0]) * tf.repeat(weights, self.each)  # [n, E, T K]
        return tf.transpose(tf.matmul(slices, tf.transpose(rows, [1, 0, 2])), [1, 0, 2])


class _Mixture(_Outer):
    """E slices read as one or more mixtures per task."""

    def __init__(self, tensor: Tensor, num_tasks: int, gates: Tensor, each: int):
        super().__init__(num_tasks, each)
        self.gates = gates
        # [n, T, E] x [n, E, D]: one small product per item.
        mixed = tf.matmul(tf.transpose(gates, [1, 0, 2]), tf.transpose(tensor, [1, 0, 2]))
        self.tap = tf.transpose(mixed, [1, 0, 2])

    def factors(self, cotangents: Tensor) -> tuple[Tensor, Tensor]:
        return self.gates, cotangents


class _Comparison(_Outer):
    """E slices read as their inner products with one query per task."""

    def __init__(self, tensor: Tensor, num_tasks: int, queries: Tensor):
        super().__init__(num_tasks)
        self.queries = queries
        # [n, T, D] x [n, D, E]
        products = tf.matmul(tf.transpose(queries, [1, 0, 2]), tf.transpose(tensor, [1, 2, 0]))
        self.tap = tf.transpose(products, [1, 0, 2])

    def factors(self, cotangents: Tensor) -> tuple[Tensor, Tensor]:
        return cotangents, self.queries
