"""What a forward pass decides inside: gates, attention between tasks, routing, for whoever asks.

A layer calls :func:`record` with what it computed; nothing happens unless someone opened a :func:`scope` around the
pass, so a training step pays nothing.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.types import Tensor

_seen: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("tfmtl2r_inspection", default=None)


@contextlib.contextmanager
def scope() -> Iterator[dict[str, Any]]:
    """Collects what layers record inside: name -> tensor.

    >>> with scope() as seen:
    ...     record("gates", tf.constant([[[0.2, 0.8], [0.4, 0.6]]]), average=(1,))
    >>> [round(float(gate), 2) for gate in seen["gates"][0]]
    [0.3, 0.7]
    """
    seen: dict[str, Any] = {}
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def record(name: str, value: Tensor | keras.Variable, average: tuple[int, ...] = ()) -> None:
    """Keeps a value in float32 under a name, if anyone is looking.

    Args:
        name: distinct within an architecture, as a rule the layer's name.
        value: a tensor.
        average: axes to average over, such as that of the items; the mean of no items is 0.

    Raises:
        ValueError: when the name is taken.
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
    seen[name] = value
