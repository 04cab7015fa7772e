"""Randomness of a training step as a function of (seed, step).

Keras' ``SeedGenerator`` does not save its state in ``.keras`` files, so a resumed run would draw other numbers. All
draws are therefore stateless: the ranker opens a :func:`scope` with its seed and step counter, and each layer or loss
that needs random numbers calls :func:`next_seed`. The same step has the same random numbers in any process.

Random numbers for lists, for example dropout, differ between replicas. Random numbers of the model, for example gates
that all items share, are equal on all replicas: :func:`next_common_seed`.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.types import Seed, Tensor


class _Stream:
    """Returns distinct seeds in the order of the calls, which is fixed in a traced step."""

    def __init__(self, seed: Any, branch: int | None = None):
        self.seed = seed
        self.branch = branch
        self.taken = 0

    def take(self) -> Any:
        # Nothing is computed before the first call, so that a served graph has no random operations.
        fold = tf.random.experimental.stateless_fold_in
        self.taken += 1
        return fold(self.seed if self.branch is None else fold(self.seed, self.branch), self.taken)


_stream: contextvars.ContextVar[_Stream | None] = contextvars.ContextVar("tfmtl2r_random_stream", default=None)
_common: contextvars.ContextVar[_Stream | None] = contextvars.ContextVar("tfmtl2r_common_stream", default=None)
_COMMON = 2**31 - 1  # larger than any number of seeds in a step, so that the two streams differ with one replica, too


def step_seed(seed: Any, step: Any) -> Tensor:
    """The seed ``int32[2]`` of one training step."""
    start = tf.stack([tf.cast(seed, tf.int32), 0])
    return tf.random.experimental.stateless_fold_in(start, tf.cast(step, tf.int32))


@contextlib.contextmanager
def scope(seed: Any, common: Seed | None = None) -> Iterator[None]:
    """All draws in this context depend on ``seed`` (``int32[2]``); the same scope repeats the same numbers.

    Args:
        seed: seed of random numbers for the replica's lists.
        common: seed of random numbers that are equal on all replicas; ``seed`` by default, for one replica.
    """
    tokens = _stream.set(_Stream(seed)), _common.set(_Stream(seed if common is None else common, _COMMON))
    try:
        yield
    finally:
        _stream.reset(tokens[0])
        _common.reset(tokens[1])


def next_seed() -> Tensor:
    """The next seed of the open scope, ``int32[2]``.

    Outside any scope (a layer in a custom model), the seed is drawn from TensorFlow's global generator, which
    ``tf.random.set_seed`` controls.
    """
    return _next(_stream)


def next_common_seed() -> Tensor:
    """Like :func:`next_seed`, but equal on all replicas."""
    return _next(_common)


def next_seeds() -> tuple[Tensor, Tensor]:
    """Seeds for a :func:`scope` inside the open scope: the replica's seed and the common seed."""
    return next_seed(), next_common_seed()


def _next(current: contextvars.ContextVar[_Stream | None]) -> Tensor:
    stream = current.get()
    if stream is None:
        return tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    return stream.take()
