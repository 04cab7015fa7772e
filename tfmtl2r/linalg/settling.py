"""Counts solvers that stopped at their iteration cap, so that telemetry shows a numerical fallback."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from tfmtl2r._backend import tf
from tfmtl2r.types import Tensor

_watched: contextvars.ContextVar[list[Tensor] | None] = contextvars.ContextVar("tfmtl2r_settling", default=None)


class Count:
    """Counts the solvers inside the block that did not converge."""

    def __init__(self) -> None:
        self.flags: list[Tensor] = []

    def unsettled(self) -> Tensor:
        """The count, ``int64``."""
        if not self.flags:
            return tf.constant(0, tf.int64)
        return tf.math.count_nonzero(~tf.stack(self.flags))


@contextlib.contextmanager
def watched() -> Iterator[Count]:
    """Collects what the solvers inside the block report."""
    count = Count()
    token = _watched.set(count.flags)
    try:
        yield count
    finally:
        _watched.reset(token)


def report(settled: Tensor) -> None:
    """Records whether a solver converged, ``bool``; does nothing outside of :func:`watched`."""
    flags = _watched.get()
    if flags is None:
        return
    if not tf.executing_eagerly() and getattr(settled, "graph", None) is not tf.compat.v1.get_default_graph():
        return  # created inside a conditional or a loop, where the counting step cannot read it
    flags.append(settled)
