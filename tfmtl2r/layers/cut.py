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

    A head reads it through :meth:`copies`. What was read becomes the ``tap`` that the engine differentiates; the other
    methods turn the tap's gradient into what a balancing method needs.

    Args:
        tensor: a tensor of the cut.
        num_tasks: T.
        watch: called with what is read before anything uses it (a gradient tape's ``watch``).
    """

    def __init__(self, tensor: Any, num_tasks: int, watch: Callable[[Any], Any] | None = None):
        self.tensor = tensor
        self.num_tasks = num_tasks
        self._watch = watch
        self.tap: Any = None

    def copies(self) -> Any:
        """The tensor once per task, ``[T, ...]``."""
        if self.tap is None:
            self.tap = tf.repeat(self.tensor[None], self.num_tasks, axis=0)
            if self._watch is not None:
                self._watch(self.tap)
        return self.tap

    def rows(self, cotangents: Any) -> Any:
        """The tap's gradient as one float32 row per task, ``[T, n]``."""
        return tf.reshape(tf.cast(cotangents, tf.float32), [self.num_tasks, -1])

    def gram(self, cotangents: Any) -> Any:
        """Inner products of the tasks' gradients at this tensor, ``float32[T, T]``."""
        rows = self.rows(cotangents)
        return tf.matmul(rows, rows, transpose_b=True)

    def of_task(self, cotangents: Any, task: int) -> Any:
        """The gradient of one task's loss, shaped like the tensor."""
        return cotangents[task]

    def weighted(self, cotangents: Any, weights: Any) -> Any:
        """``sum_t weights_t gradient_t``, shaped like the tensor; summed in float32."""
        total = tf.linalg.matvec(self.rows(cotangents), weights, transpose_a=True)
        return tf.cast(tf.reshape(total, tf.shape(self.tensor)), self.tensor.dtype)
