"""Randomness of a training step as a function of (seed, step).

Keras' ``SeedGenerator`` keeps its state outside ``.keras`` files, so a resumed run would draw other numbers. Here every
draw is stateless: the ranker opens a :func:`scope` with its seed and step counter, and each layer or loss that needs
random numbers takes the :func:`next_seed` of that scope. The same step gives the same numbers, in any process.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

from tfmtl2r._backend import tf


class _Stream:
    """Hands out distinct seeds in the order of the calls, which tracing fixes."""

    def __init__(self, seed: Any):
        self.seed = seed
        self.taken = 0

    def take(self) -> Any:
        self.taken += 1
        return tf.random.experimental.stateless_fold_in(self.seed, self.taken)


_stream: contextvars.ContextVar[_Stream | None] = contextvars.ContextVar("tfmtl2r_random_stream", default=None)


def step_seed(seed: int, step: Any) -> Any:
    """The seed ``int32[2]`` of one training step."""
    return tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int32), tf.cast(step, tf.int32))


@contextlib.contextmanager
def scope(seed: Any) -> Iterator[None]:
    """Everything inside draws from ``seed`` (``int32[2]``); opening the same scope again repeats the numbers."""
    token = _stream.set(_Stream(seed))
    try:
        yield
    finally:
        _stream.reset(token)


def next_seed() -> Any:
    """The next seed of the open scope, ``int32[2]``.

    Outside any scope (a layer used in a model of one's own) it is drawn from TensorFlow's global generator, and then
    follows ``tf.random.set_seed``.
    """
    stream = _stream.get()
    if stream is None:
        return tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    return stream.take()
