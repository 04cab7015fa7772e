"""What all wrappers are: methods that hold another method in their field ``method`` and change what it sees or returns.

The field contains a name, a mapping ``{"name": ..., **options}`` or an instance. A wrapper declares what the inner
method declares. The state of the inner method is kept under the prefix ``inner_``. A named method that consists of a
wrapper fixes the field::

    @dataclasses.dataclass(frozen=True)
    class LogMGDA(Log):
        method: Any = dataclasses.field(default="mgda", init=False)
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import JacobianMethod, Method, Signals, State
from tfmtl2r.types import Losses, Rows, Tensor, Vector

_INNER = "inner_"


@dataclasses.dataclass(frozen=True)
class Wrapper(Method):
    """Passes everything on to the inner method.

    Args:
        method: the inner method.
    """

    method: Any

    def __post_init__(self) -> None:
        from tfmtl2r import methods  # the registry imports the files of methods, and those import this one

        inner = methods.get(self.method)
        object.__setattr__(self, "method", inner)
        for declared in Method.__annotations__:  # its class attributes: what a method declares
            object.__setattr__(self, declared, getattr(inner, declared))

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The state of the inner method."""
        inner = self.method.initial_state(num_tasks, num_parameters)
        return {_INNER + key: value for key, value in inner.items()}

    def epochs_needed(self, num_tasks: int) -> int:
        """Those of the inner method."""
        return self.method.epochs_needed(num_tasks)

    def multipliers(self, state: State) -> Tensor | None:
        """Those of the inner method."""
        return self.method.multipliers(self.inner(state))

    def learn(self, losses_after: Losses, signals: Signals, state: State) -> State:
        """What the inner method learns from the losses after the update."""
        return self.store(state, self.method.learn(losses_after, signals, self.inner(state)))

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The weights of the inner method, in the precision of the losses."""
        weights, inner = self.method.weigh(signals, self.inner(state))
        return tf.cast(weights, signals.losses.dtype), self.store(state, inner)

    def inner(self, state: State) -> State:
        """The inner method's part of a state."""
        return {key.removeprefix(_INNER): value for key, value in state.items() if key.startswith(_INNER)}

    def store(self, state: State, inner: State) -> State:
        """The state with this new part of the inner method."""
        return {**state, **{_INNER + key: value for key, value in inner.items()}}

    def require_weights(self) -> None:
        """Refuses an inner method that has no task weights."""
        if "rows" in self.needs:
            raise InputError(f"{type(self).__name__} works on task weights; {type(self.method).__name__} has none, it "
                             "combines the gradients themselves")


@dataclasses.dataclass(frozen=True)
class RescaledGradients(Wrapper, JacobianMethod):
    """The inner method sees every gradient divided by a number of its own, whichever way it looks at gradients.

    A subclass gives :meth:`divisors`. Weights ``w`` of the inner method are weights ``w / divisor`` of the original
    gradients; an inner method without weights combines the divided gradients.
    """

    def divisors(self, signals: Signals) -> Vector:
        """``[T]``, above 0; 1 where a task is absent."""
        raise NotImplementedError

    def seen(self, signals: Signals, divisors: Tensor) -> Signals:
        """The signals of the inner method."""
        outer = divisors[:, None] * divisors[None, :]
        divided = {
            key: tf.cast(tf.cast(value, outer.dtype) / outer, value.dtype)
            for key, value in (("gram", signals.gram), ("cross", signals.cross)) if value is not None
        }
        return dataclasses.replace(signals, **divided)

    def weigh(self, signals: Signals, state: State) -> tuple[Vector, State]:
        """The weights of the inner method, carried back to the original gradients."""
        divisors = tf.cast(self.divisors(signals), tf.float64)
        weights, state = super().weigh(self.seen(signals, divisors), state)
        return tf.cast(tf.cast(weights, tf.float64) / divisors, weights.dtype), state

    def combine(self, rows: Rows, signals: Signals, state: State) -> tuple[Vector, State]:
        """The update of the inner method from the divided gradients."""
        if "rows" not in self.needs:
            weights, state = self.weigh(signals, state)
            weights = tf.where(signals.present, tf.cast(weights, rows.dtype), 0.0)
            return tf.linalg.matvec(rows, weights, transpose_a=True), state
        divisors = tf.cast(self.divisors(signals), tf.float64)
        divided = rows / tf.cast(divisors, rows.dtype)[:, None]
        update, inner = self.method.combine(divided, self.seen(signals, divisors), self.inner(state))
        return update, self.store(state, inner)


def check_share(wrapper: Wrapper, alpha: float) -> None:
    """Refuses a share outside [0, 1]."""
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"{type(wrapper).__name__}: alpha must lie in [0, 1], not {alpha}")
