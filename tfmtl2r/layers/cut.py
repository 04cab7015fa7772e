"""Where an architecture divides into the half that tasks share and the half that each has for itself.

The *cut* is a list of tensors such that every path from a shared variable to a task loss crosses it. The training
engine gives each task its own copy of every tensor of the cut; one backward pass through the heads then yields all
per-task gradients at the cut at once, since each copy sees only its own task's loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfmtl2r._backend import tf


class Branch:
    """One tensor of the cut, as T tasks see it.

    A head reads it in one way, through :meth:`copies` or :meth:`mix`. What was read becomes the ``tap`` that the
    engine differentiates; the other methods turn the tap's gradient into what a balancing method needs.

    Args:
        tensor: a tensor of the cut.
        num_tasks: T.
        watch: called with what is read before anything uses it (a gradient tape's ``watch``).
    """

    def __init__(self, tensor: Any, num_tasks: int, watch: Callable[[Any], Any] | None = None):
        self.tensor = tensor
        self.num_tasks = num_tasks
        self._watch = watch
        self._reading: _Copies | _Mixture | None = None

    @property
    def tap(self) -> Any:
        """What the heads read, ``[T, ...]``; None if they read nothing."""
        return None if self._reading is None else self._reading.tap

    def copies(self) -> Any:
        """The tensor once per task, ``[T, ...]``."""
        if self._reading is None:
            self._read(_Copies(self.tensor, self.num_tasks))
        elif not isinstance(self._reading, _Copies):
            raise ValueError("a tensor of the cut is read either by copies() or by mix(), not by both; put it into the "
                             "cut twice")
        return self.tap

    def mix(self, gates: Any) -> Any:
        """The tensor's E slices mixed for each task, ``[T, n, D]``: ``sum_e gates[t, n, e] tensor[e, n]``.

        A task's gradient at the tensor is an outer product of its gate and its gradient at the mixture, so the
        ``[T, E, n, D]`` gradients are never built.

        Args:
            gates: ``[T, n, E]``; the tensor is ``[E, n, D]``.
        """
        if self._reading is not None:
            raise ValueError("a tensor of the cut can be mixed once only; put it into the cut twice")
        self._read(_Mixture(self.tensor, gates))
        return self.tap

    def constant(self) -> Any:
        """The tensor itself, for what no trainable variable leads to: nothing is differentiated."""
        return self.tensor

    def gram(self, cotangents: Any) -> Any:
        """Inner products of the tasks' gradients at this tensor, ``float32[T, T]``."""
        assert self._reading is not None
        return self._reading.gram(tf.cast(cotangents, tf.float32))

    def of_task(self, cotangents: Any, task: int) -> Any:
        """The gradient of one task's loss, shaped like the tensor."""
        assert self._reading is not None
        return self._reading.of_task(cotangents, task)

    def weighted(self, cotangents: Any, weights: Any) -> Any:
        """``sum_t weights_t gradient_t``, shaped like the tensor; summed in float32."""
        assert self._reading is not None
        total = self._reading.weighted(tf.cast(cotangents, tf.float32), weights)
        return tf.cast(total, self.tensor.dtype)

    def _read(self, reading: _Copies | _Mixture) -> None:
        self._reading = reading
        if self._watch is not None:
            self._watch(reading.tap)


class _Copies:
    """A tensor read as one copy per task; its gradients are the copies' gradients."""

    def __init__(self, tensor: Any, num_tasks: int):
        self.tensor = tensor
        self.num_tasks = num_tasks
        self.tap = tf.repeat(tensor[None], num_tasks, axis=0)

    def gram(self, cotangents: Any) -> Any:
        rows = tf.reshape(cotangents, [self.num_tasks, -1])
        return tf.matmul(rows, rows, transpose_b=True)

    def of_task(self, cotangents: Any, task: int) -> Any:
        return cotangents[task]

    def weighted(self, cotangents: Any, weights: Any) -> Any:
        rows = tf.reshape(cotangents, [self.num_tasks, -1])
        return tf.reshape(tf.linalg.matvec(rows, weights, transpose_a=True), tf.shape(self.tensor))


class _Mixture:
    """E slices read as one mixture per task; a gradient is ``gates[t, n, e] cotangent[t, n, d]``, kept in factors."""

    def __init__(self, tensor: Any, gates: Any):
        self.gates = gates
        # [n, T, E] x [n, E, D]: one small product per item.
        mixed = tf.matmul(tf.transpose(gates, [1, 0, 2]), tf.transpose(tensor, [1, 0, 2]))
        self.tap = tf.transpose(mixed, [1, 0, 2])

    def gram(self, cotangents: Any) -> Any:
        gates = tf.transpose(tf.cast(self.gates, tf.float32), [1, 0, 2])
        rows = tf.transpose(cotangents, [1, 0, 2])
        return tf.reduce_sum(tf.matmul(gates, gates, transpose_b=True) * tf.matmul(rows, rows, transpose_b=True), 0)

    def of_task(self, cotangents: Any, task: int) -> Any:
        return tf.transpose(self.gates[task])[:, :, None] * cotangents[task][None]

    def weighted(self, cotangents: Any, weights: Any) -> Any:
        gates = tf.transpose(tf.cast(self.gates, tf.float32), [1, 2, 0]) * weights  # [n, E, T]
        return tf.transpose(tf.matmul(gates, tf.transpose(cotangents, [1, 0, 2])), [1, 0, 2])
