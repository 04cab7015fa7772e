"""The cut, which divides an architecture into a half that tasks share and a half that is private to each task.

The *cut* is a list of tensors such that every path from a shared variable to a task loss crosses it. The training
engine gives each task its own copy of every tensor of the cut. One backward pass through the heads then returns all
per-task gradients at the cut, since each copy affects only its own task's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.types import Tensor


class Branch:
    """One tensor of the cut, and the way in which T tasks read it.

    Heads read the tensor through one of :meth:`copies`, :meth:`own`, :meth:`mix` and :meth:`compare`. The result is the
    ``tap``, which the engine differentiates. The other methods turn the tap's gradient into the gradients that a
    balancing method needs. A tensor must be in the cut only once, since inner products of gradients at two entries
    would be lost.

    Args:
        tensor: a tensor of the cut.
        num_tasks: T.
        watch: a function that receives the tap before its first use (a gradient tape's ``watch``).
    """

    def __init__(self, tensor: Tensor, num_tasks: int, watch: Callable[[Any], Any] | None = None):
        self.tensor = tensor
        self.num_tasks = num_tasks
        self._watch = watch
        self._reading: _Copies | _Slices | _Outer | None = None

    @property
    def tap(self) -> Any:
        """The tensor that the heads read; None if they read nothing."""
        return None if self._reading is None else self._reading.tap

    def copies(self) -> Tensor:
        """A copy of the tensor per task, ``[T, ...]``."""
        if not isinstance(self._reading, _Copies):
            self._read(_Copies(self.tensor, self.num_tasks))
        return self.tap

    def own(self, tasks: Sequence[int] | None = None) -> Tensor:
        """The tensor itself, if each of its slices ``[S, ...]`` is read by one task only.

        Args:
            tasks: the task of each slice; by default task t reads slice t. A task may have several slices.

        Raises:
            ValueError: if the number of tasks differs from the number of slices.
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
            each: number K of mixtures per task. Gates are then ``[T K, n, E]`` and mixtures ``[T K, n, D]``. The
                entries of a task are adjacent.
        """
        self._read(_Mixture(self.tensor, self.num_tasks, gates, each))
        return self.tap

    def compare(self, queries: Tensor) -> Tensor:
        """The tensor's E slices compared with a query of each task: ``sum_d queries[t, n, d] tensor[e, n, d]``.

        The result is ``[T, n, E]``. As in :meth:`mix`, a task's gradient at the tensor is an outer product, which is
        never built.

        Args:
            queries: ``[T, n, D]``; the tensor is ``[E, n, D]``.
        """
        self._read(_Comparison(self.tensor, self.num_tasks, queries))
        return self.tap

    def constant(self) -> Tensor:
        """The tensor itself, if it depends on no trainable variable: it is not differentiated."""
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
            raise InputError("a tensor of the cut must be read in one way and, except by copies(), only once; read it"
                             " by copies() for all purposes, or pass all gates to one call of mix(). Twice in the cut, "
                             "it would lose inner products of gradients between the two entries")
        self._reading = reading
        if self._watch is not None:
            self._watch(reading.tap)


def branches(cut: Any, num_tasks: int, source: str, watch: Callable[[Any], Any] | None = None) -> list[Branch]:
    """The branches of a cut.

    Args:
        cut: what ``Architecture.shared`` returned.
        num_tasks: T.
        source: the architecture, for error messages.
        watch: as in :class:`Branch`.

    Raises:
        TypeError: for anything but a list of tensors.
    """
    if not isinstance(cut, (list, tuple)) or not all(tf.is_tensor(entry) for entry in cut):
        came = "one tensor" if tf.is_tensor(cut) else f"a {type(cut).__name__}"
        raise InputTypeError(f"{source}.shared returned {came}, expected the cut, a list of tensors; a cut of one "
                             "tensor is a list of one")
    return [Branch(tensor, num_tasks, watch) for tensor in cut]


class _Copies:
    """A tensor that is read as one copy per task. Its gradients are the copies' gradients."""

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
    """A tensor whose slices belong to one task each. The gradients of other tasks at a slice are zero."""

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
    """E slices at which a task's gradient is a sum of K outer products ``per_slice[t k, n, e] per_item[t k, n, d]``.

    One factor is the gates or queries of a task, the other the gradient at the result. K is the number of results.
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
    """E slices that are read as one or more mixtures per task."""

    def __init__(self, tensor: Tensor, num_tasks: int, gates: Tensor, each: int):
        super().__init__(num_tasks, each)
        self.gates = gates
        # [n, T, E] x [n, E, D]: one small product per item.
        mixed = tf.matmul(tf.transpose(gates, [1, 0, 2]), tf.transpose(tensor, [1, 0, 2]))
        self.tap = tf.transpose(mixed, [1, 0, 2])

    def factors(self, cotangents: Tensor) -> tuple[Tensor, Tensor]:
        return self.gates, cotangents


class _Comparison(_Outer):
    """E slices that are read as inner products with one query per task."""

    def __init__(self, tensor: Tensor, num_tasks: int, queries: Tensor):
        super().__init__(num_tasks)
        self.queries = queries
        # [n, T, D] x [n, D, E]
        products = tf.matmul(tf.transpose(queries, [1, 0, 2]), tf.transpose(tensor, [1, 2, 0]))
        self.tap = tf.transpose(products, [1, 0, 2])

    def factors(self, cotangents: Tensor) -> tuple[Tensor, Tensor]:
        return cotangents, self.queries
