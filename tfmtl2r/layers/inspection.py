"""Records internal values of a forward pass: gates, attention between tasks, routing.

A layer calls :func:`record` with a value. The call has no effect outside a :func:`scope`, so training steps have no
cost.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.types import Tensor


class Seen(dict[str, Any]):
    """Recorded values: name -> tensor.

    Args:
        axes: name -> what the places of each axis are, such as ``("task", "expert")``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.axes: dict[str, tuple[str, ...]] = {}

    def labels(self, name: str, shape: Sequence[int], tasks: Sequence[str]) -> list[list[str]]:
        """The label of every place on every axis of a value. An axis of tasks has their names.

        >>> seen = Seen()
        >>> seen.axes["gates"] = ("task", "expert")
        >>> seen.labels("gates", (2, 3), ["click", "like"])
        [['click', 'like'], ['expert 0', 'expert 1', 'expert 2']]
        """
        axes = self.axes.get(name) or ("",) * len(shape)
        return [list(tasks) if kind == "task" and size == len(tasks) else
                [f"{'row' if kind == 'task' else kind} {place}".strip() for place in range(size)]
                for kind, size in zip(axes, shape, strict=True)]


_seen: contextvars.ContextVar[Seen | None] = contextvars.ContextVar("tfmtl2r_inspection", default=None)


@contextlib.contextmanager
def scope() -> Iterator[Seen]:
    """Collects the values that layers record inside this context: name -> tensor.

    >>> with scope() as seen:
    ...     record("gates", tf.constant([[[0.2, 0.8], [0.4, 0.6]]]), average=(1,))
    >>> [round(float(gate), 2) for gate in seen["gates"][0]]
    [0.3, 0.7]
    """
    seen = Seen()
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def record(
    name: str, value: Tensor | keras.Variable, average: tuple[int, ...] = (), axes: tuple[str, ...] = ()
) -> None:
    """Stores a value in float32 under a name, if a scope is open.

    Args:
        name: a name that is unique in the architecture, usually the layer's name.
        value: a tensor.
        average: axes to average over, for example the axis of items; the mean of no items is 0.
        axes: what the places of the remaining axes are, such as ``("task", "expert")``.

    Raises:
        ValueError: if the name is already used.
    """
    seen = _seen.get()
    if seen is None:
        return
    if name in seen:
        raise InputError(f"two values are recorded as {name!r}; give the layers different names")
    value = tf.cast(value, tf.float32)
    if average:
        count = tf.reduce_prod(tf.gather(tf.shape(value), average))
        value = tf.math.divide_no_nan(tf.reduce_sum(value, axis=average), tf.cast(count, tf.float32))
    seen[name], seen.axes[name] = value, axes
