"""A step that changes nothing where its losses or gradients are not finite."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.training.engine import Engine, Step
from tfmtl2r.training.finite import UNCHECKED, failed
from tfmtl2r.types import Mask, Tensor

_REMEDY = ("; correct the data or take a smaller learning rate, or go on without such batches (on_nan='skip_batch') or "
           "tasks (on_nan='drop_task')")
_LARGE = 1e15


@dataclasses.dataclass(frozen=True)
class Guard:
    """Makes an update only if all numbers of its step are finite.

    The logs count what is left out as ``<task>_skipped``.

    Args:
        policy: ``"error"`` ends the training with an error. ``"skip_batch"`` leaves the batch out. ``"drop_task"``
            makes the step again without the labels of the tasks whose losses are not finite, and leaves the batch out
            if this does not help.
        engine: the engine of the step.
        skipped: adds to the counts of what was left out: ``bool[T]`` for tasks, True for all tasks of a batch.
    """

    policy: str
    engine: Engine
    skipped: Callable[[Mask], None]

    def run(self, batch: Batch, number: Tensor, step: Callable[[Batch], Step], update: Callable[..., None]) -> None:
        """Makes one step and its update.

        Args:
            batch: the batch.
            number: number of the step, for the message.
            step: computes the step of a batch.
            update: changes the weights; it receives the batch and its step.
        """
        made = step(batch)
        if self.policy == UNCHECKED:
            update(batch, made)
            return
        finite, tasks = _finite(made)
        if self.policy == "error":
            refused = tf.cond(finite, tf.no_op, functools.partial(self._refuse, batch, made, tasks, number))
            with tf.control_dependencies([] if refused is None else [refused]):
                update(batch, made)
            return
        repair = self._without_tasks if self.policy == "drop_task" else self._without_batch
        tf.cond(finite, lambda: update(batch, made), lambda: repair(batch, tasks, step, update))

    def _without_batch(self, batch: Batch, tasks: Mask, *rest: Any) -> None:
        self.skipped(tf.ones_like(tasks))

    def _without_tasks(
        self, batch: Batch, tasks: Mask, step: Callable[[Batch], Step], update: Callable[..., None]
    ) -> None:
        names = self.engine.architecture.tasks
        missing = {task: tf.where(tasks[t], 1.0, float("nan")) for t, task in enumerate(names)}
        labels = {task: tf.cast(batch.labels[task], tf.float32) * missing[task] for task in names}
        rest = dataclasses.replace(batch, labels=labels)
        made = step(rest)
        finite, _ = _finite(made)

        def again() -> None:
            self.skipped(~tasks)
            update(rest, made)

        tf.cond(finite & tf.reduce_any(tasks), again, lambda: self._without_batch(batch, tasks))

    def _refuse(self, batch: Batch, made: Step, tasks: Mask, number: Tensor) -> Any:
        """Fails with a message about task, step, list and feature."""
        task = tf.argmin(tasks)
        wrong = ~tf.math.is_finite(made.losses.lists[task])  # on another replica, perhaps no list here
        place = tf.argmax(wrong)
        lost = tf.gather(tf.constant([*self.engine.architecture.tasks]), task)
        loss = tf.strings.join(["the loss of task ", lost, " is ", tf.strings.as_string(made.losses.total[task]),
                                tf.where(tf.reduce_any(wrong), tf.strings.join([
                                    f", first in {'row' if batch.is_rows else 'list'} ", tf.strings.as_string(place),
                                    " of the batch", _extreme(batch, place, lost)]), "")])
        what = tf.where(tf.reduce_all(tasks), "a gradient is not finite, although all losses are", loss)
        text = tf.strings.join(["step ", tf.strings.as_string(number), ": ", what, _REMEDY])
        return failed(True, text)


def _finite(step: Step) -> tuple[Tensor, Mask]:
    """Whether all losses and gradients of a step are finite, and the loss of each task, ``bool[T]``.

    A sum has a finite value only if all its terms are finite.
    """
    tasks = tf.math.is_finite(step.losses.total)
    gradients = [g.values if isinstance(g, tf.IndexedSlices) else g for g, _ in step.gradients if g is not None]
    sums = tf.stack([tf.cast(tf.reduce_sum(g), tf.float32) for g in gradients]) if gradients else tf.zeros([1])
    return tf.reduce_all(tasks) & tf.reduce_all(tf.math.is_finite(sums)), tasks


def _extreme(batch: Batch, place: Tensor, task: Tensor) -> Tensor:
    """The first feature, or the label, of a list with an infinite or enormous value, as the end of a sentence."""
    inputs = {f"feature {name}": values for name, values in batch.features.items()
              if tf.as_dtype(values.dtype).is_floating}
    inputs |= {f"label of task {name}": values for name, values in batch.labels.items()}
    rows = [tf.reshape(tf.cast(tf.gather(values, place), tf.float32), [-1]) for values in inputs.values()]
    sizes = tf.stack([tf.size(row) for row in rows])
    values = tf.RaggedTensor.from_row_lengths(tf.concat(rows, 0), sizes, validate=False).to_tensor()
    largest = tf.reduce_max(tf.where(tf.math.is_nan(values), 0.0, tf.abs(values)), axis=1)  # NaN is a missing value
    found = tf.argmax(largest > _LARGE)
    text = tf.strings.join([", where the ", tf.gather(tf.constant([*inputs]), found), " is as large as ",
                            tf.strings.as_string(largest[found], scientific=True, precision=3)])
    return tf.where(tf.reduce_any(largest > _LARGE), text, "")
