"""Randomness of a training step as a function of (seed, step).

Keras' ``SeedGenerator`` keeps its state outside ``.keras`` files, so a resumed run would draw other numbers. Here every
draw is stateless: the ranker opens a :func:`scope` with its seed and step counter, and each layer or loss that needs
random numbers takes the :func:`next_seed` of that scope. The same step gives the same numbers, in any process.

Replicas draw apart what belongs to their own lists, such as dropout, and alike what belongs to the model, such as gates
that all items share: :func:`next_common_seed`.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.types import Seed, Tensor


class _Stream:
    """Hands out distinct seeds in the order of the calls, which tracing fixes."""

    def __init__(self, seed: Any, branch: int | None = None):
        self.seed = seed
        self.branch = branch
        self.taken = 0

    def take(self) -> Any:
        # Nothing is computed before a seed is asked for: a served graph has no random operations.
        fold = tf.random.experimental.stateless_fold_in
        self.taken += 1
        return fold(self.seed if self.branch is None else fold(self.seed, self.branch), self.taken)


_stream: contextvars.ContextVar[_Stream | None] = contextvars.ContextVar("tfmtl2r_random_stream", default=None)
_common: contextvars.ContextVar[_Stream | None] = contextvars.ContextVar("tfmtl2r_common_stream", default=None)
_COMMON = 2**31 - 1  # no stream takes so many seeds: with one replica, the two streams differ


def step_seed(seed: Any, step: Any) -> Tensor:
    """The seed ``int32[2]`` of one training step."""
    start = tf.stack([tf.cast(seed, tf.int32), 0])
    return tf.random.experimental.stateless_fold_in(start, tf.cast(step, tf.int32))


@contextlib.contextmanager
def scope(seed: Any, common: Seed | None = None) -> Iterator[None]:
    """Everything inside draws from ``seed`` (``int32[2]``); opening the same scope again repeats the numbers.

    Args:
        seed: of what a replica draws for its own lists.
        common: of what all replicas draw alike; ``seed`` by default, for one replica.
    """
    tokens = _stream.set(_Stream(seed)), _common.set(_Stream(seed if common is None else common, _COMMON))
    try:
        yield
    finally:
        _stream.reset(tokens[0])
        _common.reset(tokens[1])


def next_seed() -> Tensor:
    """The next seed of the open scope, ``int32[2]``.

    Outside any scope (a layer used in a model of one's own) it is drawn from TensorFlow's global generator, and then
    follows ``tf.random.set_seed``.
    """
    return _next(_stream)


def next_common_seed() -> Tensor:
    """The same, but equal on all replicas."""
    return _next(_common)


def next_seeds() -> tuple[Tensor, Tensor]:
    """Seeds for a :func:`scope` inside the open one: the replica's own, and the common one."""
    return next_seed(), next_common_seed()


def _next(current: contextvars.ContextVar[_Stream | None]) -> Tensor:
    stream = current.get()
    if stream is None:
        return tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    return stream.take()
