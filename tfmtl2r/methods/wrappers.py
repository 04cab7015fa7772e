"""Modifiers that compose with any method: log losses, smoothing, weighing every n steps, normalised gradients.

A wrapper is a method that holds another one in its field ``method`` (a name, a mapping ``{"name": ..., **options}`` or
an instance). What the inner method declares, it declares too; the state of the inner method is kept under the prefix
``inner_``. A named method made of wrappers fixes that field::

    @dataclasses.dataclass(frozen=True)
    class LogMGDA(Log):
        method: Any = dataclasses.field(default="mgda", init=False)
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import settling
from tfmtl2r.methods._positive import positive
from tfmtl2r.methods.base import JacobianMethod, Method, Signals, State

__all__ = ["Every", "Log", "Normalised", "Smooth", "SmoothGram"]

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

    def learn(self, losses_after: Any, signals: Signals, state: State) -> State:
        """What the inner method learns from the losses after the update."""
        return self._store(state, self.method.learn(losses_after, signals, self._inner(state)))

    def weigh(self, signals: Signals, state: State) -> tuple[Any, State]:
        """The weights of the inner method, in the precision of the losses."""
        weights, inner = self.method.weigh(signals, self._inner(state))
        return tf.cast(weights, signals.losses.dtype), self._store(state, inner)

    def _inner(self, state: State) -> State:
        return {key.removeprefix(_INNER): value for key, value in state.items() if key.startswith(_INNER)}

    def _store(self, state: State, inner: State) -> State:
        return {**state, **{_INNER + key: value for key, value in inner.items()}}

    def _require_weights(self) -> None:
        if "rows" in self.needs:
            raise InputError(f"{type(self).__name__} works on task weights; {type(self.method).__name__} has none, it "
                             "combines the gradients themselves")


@dataclasses.dataclass(frozen=True)
class RescaledGradients(Wrapper, JacobianMethod):
    """The inner method sees every gradient divided by a number of its own, whichever way it looks at gradients.

    A subclass gives :meth:`divisors`. Weights ``w`` of the inner method are weights ``w / divisor`` of the original
    gradients; an inner method without weights combines the divided gradients.
    """

    def divisors(self, signals: Signals) -> Any:
        """``[T]``, above 0; 1 where a task is absent."""
        raise NotImplementedError

    def seen(self, signals: Signals, divisors: Any) -> Signals:
        """The signals of the inner method."""
        outer = divisors[:, None] * divisors[None, :]
        divided = {
            key: tf.cast(tf.cast(value, outer.dtype) / outer, value.dtype)
            for key, value in (("gram", signals.gram), ("cross", signals.cross)) if value is not None
        }
        return dataclasses.replace(signals, **divided)

    def weigh(self, signals: Signals, state: State) -> tuple[Any, State]:
        """The weights of the inner method, carried back to the original gradients."""
        divisors = tf.cast(self.divisors(signals), tf.float64)
        weights, state = super().weigh(self.seen(signals, divisors), state)
        return tf.cast(tf.cast(weights, tf.float64) / divisors, weights.dtype), state

    def combine(self, rows: Any, signals: Signals, state: State) -> tuple[Any, State]:
        """The update of the inner method from the divided gradients."""
        if "rows" not in self.needs:
            weights, state = self.weigh(signals, state)
            weights = tf.where(signals.present, tf.cast(weights, rows.dtype), 0.0)
            return tf.linalg.matvec(rows, weights, transpose_a=True), state
        divisors = tf.cast(self.divisors(signals), tf.float64)
        divided = rows / tf.cast(divisors, rows.dtype)[:, None]
        update, inner = self.method.combine(divided, self.seen(signals, divisors), self._inner(state))
        return update, self._store(state, inner)


@dataclasses.dataclass(frozen=True)
class Log(RescaledGradients):
    """Runs a method on the logarithms of the losses: on gradients ``g_t / loss_t``.

    The Gram matrix is ``D^-1 G D^-1`` with ``D = diag(loss)``, and the weights of the inner method are divided by the
    losses, so that multiplying a loss by a constant changes nothing (but for ``keep_sum``).

    Args:
        method: the inner method; not one that needs positive losses, since logarithms are not.
        keep_sum: rescale the weights to the sum they had before they were divided by the losses.

    >>> from tfmtl2r import methods
    >>> log = Log("linear_scalarization")
    >>> methods.combine(log, [[1., 0.], [0., 1.]], losses=[.5, 4.]).tolist()
    [2.0, 0.25]
    >>> methods.combine(Log("linear_scalarization", keep_sum=True), [[9., 0.], [0., 9.]], losses=[.5, 4.]).tolist()
    [16.0, 2.0]
    """

    keep_sum: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.positive_losses:
            raise InputError(f"Log: {type(self.method).__name__} needs positive losses, and logarithms are not")
        if self.keep_sum:
            self._require_weights()
        object.__setattr__(self, "positive_losses", True)

    def divisors(self, signals: Signals) -> Any:
        """The losses."""
        return positive(signals.losses, signals)

    def seen(self, signals: Signals, divisors: Any) -> Signals:
        """The signals of the inner method: its losses are the logarithms."""
        logs = tf.math.log(positive(signals.losses, signals))
        return dataclasses.replace(super().seen(signals, divisors), losses=logs)

    def weigh(self, signals: Signals, state: State) -> tuple[Any, State]:
        """The weights of the inner method divided by the losses."""
        weights, state = super().weigh(signals, state)
        if self.keep_sum:
            present = tf.cast(signals.present, weights.dtype)
            before = tf.reduce_sum(present * weights * positive(signals.losses, signals))
            weights = tf.math.divide_no_nan(weights * before, tf.reduce_sum(present * weights))
        return weights, state

    def learn(self, losses_after: Any, signals: Signals, state: State) -> State:
        """What the inner method learns from the logarithms after the update."""
        after = tf.math.log(positive(losses_after, signals))
        divisors = tf.cast(self.divisors(signals), tf.float64)
        return super().learn(after, self.seen(signals, divisors), state)


@dataclasses.dataclass(frozen=True)
class Normalised(RescaledGradients):
    """Runs a method on normalised gradients ``g_t c / c_t``, so that no task dominates by its scale.

    ``c_t`` is ``||g_t||`` (``by="l2"``), ``loss_t`` (``"loss"``) or their product (``"loss+"``), and c is the harmonic
    mean of all ``c_t``: equal weights of the inner method still sum to T. A zero gradient stays zero.

    Differs from the code of Sener and Koltun 2018 (https://arxiv.org/abs/1810.04650): the inner method's weights belong
    to the normalised gradients that it saw, so that its guarantees hold; theirs weigh the original gradients.

    Args:
        method: the inner method.
        by: ``"l2"``, ``"loss"`` or ``"loss+"``.

    >>> from tfmtl2r import methods
    >>> methods.combine(Normalised("mgda"), [[3., 0.], [0., 1.]]).round(9).tolist()
    [1.5, 1.5]
    """

    by: str = "l2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in ("l2", "loss", "loss+"):
            raise InputError(f"Normalised: by must be 'l2', 'loss' or 'loss+', not {self.by!r}")
        if self.by != "loss" and "rows" not in self.needs:
            object.__setattr__(self, "needs", self.needs | {"gram"})
        if self.by != "l2":
            object.__setattr__(self, "positive_losses", True)

    def divisors(self, signals: Signals) -> Any:
        """The normalisers over their harmonic mean; 1 for absent tasks and zero gradients."""
        scale = tf.ones_like(signals.losses, tf.float64)
        if self.by != "loss":
            scale *= tf.sqrt(tf.maximum(tf.cast(tf.linalg.diag_part(signals.gram), tf.float64), 0.0))
        if self.by != "l2":
            scale *= tf.cast(positive(signals.losses, signals), tf.float64)
        usable = signals.present & (scale > 0)
        inverse = tf.where(usable, 1.0 / tf.where(usable, scale, 1.0), 0.0)
        mean = tf.math.divide_no_nan(tf.reduce_sum(inverse), tf.reduce_sum(tf.cast(usable, tf.float64)))
        return tf.where(usable, scale * mean, 1.0)


@dataclasses.dataclass(frozen=True)
class Smooth(Wrapper):
    """Averages the task weights over the steps: ``w_k = alpha w_{k-1} + (1 - alpha) inner_k``; at first the inner's.

    While tasks are absent, the averages of the others are scaled to the sum of the inner method's weights, so that a
    lone task trains as if alone.

    Args:
        method: the inner method.
        alpha: how much of the past is kept, in [0, 1]; 0 is the inner method itself, 1 stays at the first weights.
    """

    alpha: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_weights()
        _check_share(self, self.alpha)

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The averages, and whether a task has one."""
        own = {"weights": np.ones(num_tasks, np.float32), "seen": np.zeros(num_tasks, np.float32)}
        return {**super().initial_state(num_tasks, num_parameters), **own}

    def weigh(self, signals: Signals, state: State) -> tuple[Any, State]:
        """The averaged weights."""
        fresh, state = super().weigh(signals, state)
        mean = self.alpha * tf.cast(state["weights"], fresh.dtype) + (1.0 - self.alpha) * fresh
        mean = tf.where(state["seen"] > 0, mean, fresh)
        state = {**state, "weights": mean, "seen": tf.ones_like(state["seen"])}
        among = tf.cast(signals.present, fresh.dtype)
        before, after = tf.reduce_sum(among * mean), tf.reduce_sum(among * fresh)
        scale = tf.where(~tf.reduce_all(signals.present) & (before > 0) & (after > 0), after, before)
        return mean * tf.where(before > 0, scale / tf.where(before > 0, before, 1.0), 1.0), state


@dataclasses.dataclass(frozen=True)
class SmoothGram(Wrapper):
    """Hands the inner method a Gram matrix averaged over the steps: ``G_k <- alpha G_{k-1} + (1 - alpha) G_k``.

    Entries of tasks that were absent stand still. The first matrix is taken as it is.

    Args:
        method: the inner method; it must look at the Gram matrix.
        alpha: how much of the past is kept, in [0, 1).
    """

    alpha: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if "gram" not in self.needs:
            raise InputError(f"SmoothGram averages the Gram matrix, which {type(self.method).__name__} does not use")
        _check_share(self, self.alpha)

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The average, and which of its entries were ever seen."""
        own = {"gram": np.zeros([num_tasks] * 2, np.float32), "seen": np.zeros([num_tasks] * 2, np.float32)}
        return {**super().initial_state(num_tasks, num_parameters), **own}

    def weigh(self, signals: Signals, state: State) -> tuple[Any, State]:
        """The inner method's weights for the averaged matrix."""
        mean = self.alpha * tf.cast(state["gram"], signals.gram.dtype) + (1.0 - self.alpha) * signals.gram
        mean = tf.where(state["seen"] > 0, mean, signals.gram)
        state = {**state, "gram": mean, "seen": tf.ones_like(state["seen"])}
        return super().weigh(dataclasses.replace(signals, gram=mean), state)


@dataclasses.dataclass(frozen=True)
class Every(Wrapper):
    """Asks the inner method only every n steps and keeps its weights in between.

    When other tasks are present than the last time, the inner method is asked at once: its weights would not suit them.

    Args:
        method: the inner method.
        steps: n, at least 1.
    """

    steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_weights()
        if self.steps < 1:
            raise InputError(f"Every: steps must be at least 1, not {self.steps}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """The kept weights, their age in steps, and whom they are for: ``[1, T]``, so that it never stands still."""
        own = {
            "weights": np.ones(num_tasks, np.float32),
            "age": np.asarray(0, np.int64),
            "among": np.zeros([1, num_tasks], np.float32),
        }
        return {**super().initial_state(num_tasks, num_parameters), **own}

    def weigh(self, signals: Signals, state: State) -> tuple[Any, State]:
        """New weights, or the kept ones."""
        weigh, before = super().weigh, self._inner(state)

        def ask() -> tuple[Any, State, Any]:
            with settling.watched() as solvers:  # tensors of this branch cannot be counted outside
                weights, after = weigh(signals, state)
                inner = {key: tf.cast(value, before[key].dtype) for key, value in self._inner(after).items()}
                return weights, inner, solvers.unsettled() == 0

        def keep() -> tuple[Any, State, Any]:
            return tf.cast(state["weights"], signals.losses.dtype), before, tf.constant(True)

        among = tf.cast(signals.present, tf.float32)[None, :]
        due = (state["age"] % self.steps == 0) | tf.reduce_any(among != state["among"])
        weights, inner, settled = tf.cond(due, ask, keep)
        settling.report(settled)
        age = tf.where(due, tf.ones_like(state["age"]), state["age"] + 1)
        return weights, {**self._store(state, inner), "weights": weights, "age": age, "among": among}


def _check_share(wrapper: Any, alpha: float) -> None:
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"{type(wrapper).__name__}: alpha must lie in [0, 1], not {alpha}")
