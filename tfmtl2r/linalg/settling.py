"""Counts the rounds of solvers, and the solvers that stopped at their iteration cap, so that telemetry shows both."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from tfmtl2r._backend import tf
from tfmtl2r.types import Tensor

Solved = list[tuple[Tensor, Tensor]]
_watched: contextvars.ContextVar[Solved | None] = contextvars.ContextVar("tfmtl2r_settling", default=None)


class Count:
    """Counts what the solvers inside the block did.

    Attributes:
        solved: for each run of a solver, whether it converged, ``bool``, and its number of rounds, ``int64``.
    """

    def __init__(self) -> None:
        self.solved: Solved = []

    def unsettled(self) -> Tensor:
        """The number of solvers that did not converge, ``int64``."""
        if not self.solved:
            return tf.constant(0, tf.int64)
        return tf.math.count_nonzero(~tf.stack([settled for settled, _ in self.solved]))

    def rounds(self) -> Tensor:
        """The sum of the rounds of all solvers, ``int64``."""
        return tf.add_n([tf.constant(0, tf.int64), *(rounds for _, rounds in self.solved)])


@contextlib.contextmanager
def watched() -> Iterator[Count]:
    """Collects what the solvers inside the block report."""
    count = Count()
    token = _watched.set(count.solved)
    try:
        yield count
    finally:
        _watched.reset(token)


def report(settled: Tensor, rounds: Tensor) -> None:
    """Records whether a solver converged, ``bool``, and its rounds; does nothing outside of :func:`watched`."""
    solved = _watched.get()
    if solved is None:
        return
    if not tf.executing_eagerly() and getattr(settled, "graph", None) is not tf.compat.v1.get_default_graph():
        return  # created inside a conditional or a loop, where the counting step cannot read it
    solved.append((settled, tf.cast(rounds, tf.int64)))
