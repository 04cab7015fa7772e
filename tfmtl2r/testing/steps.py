"""Steps of a method, computed as in training. All checks share one trace per method, shape and dtype."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Method, Signals, State
from tfmtl2r.methods.deciding import merge, standing_still, weigh

MOST_TRACES = 16
"""Traces that a function keeps. A trace takes tens of megabytes, and checks of one method come one after another."""


@functools.cache
def _made(name: str, constructor: Any) -> Any:
    return methods.get(name)


def built(method: Method) -> Any:
    """The method of a name, the same object in all calls, so that traces are shared. Returns a method unchanged."""
    return _made(method, methods.registry.constructor(method)) if isinstance(method, str) else methods.get(method)


def cached_per_object(function: Callable[..., Any]) -> Callable[..., Any]:
    """Caches the last ``MOST_TRACES`` results of a function by the identity of its first argument and the other values.

    Equality of methods is not sufficient: a subclass that is not a dataclass inherits an equality that ignores the
    attributes of its own constructor. Two different methods could then share a trace.
    """
    kept: dict[Any, tuple[Any, Any]] = {}

    @functools.wraps(function)
    def call(thing: Any, *others: Any) -> Any:
        key = (id(thing), *others)
        if key not in kept:
            kept[key] = thing, function(thing, *others)  # keeps the thing, so that no other object gets its id
            if len(kept) > MOST_TRACES:
                del kept[next(iter(kept))]
        kept[key] = kept.pop(key)  # the last used comes last
        return kept[key][1]

    return call


def decide(method: Method, rows: Any, cross: Any, signals: dict[str, Any], state: State) -> tuple[Any, Any, State]:
    """The update ``[P]``, the weights ``[T]`` (NaN for a method without weights) and the next state."""
    gram = tf.matmul(rows, rows, transpose_b=True)
    given = Signals(gram=gram, cross=gram if cross is None else cross, **signals)
    if "rows" in method.needs:
        update, state = merge(method, rows, given, state)
        return update, tf.fill(given.losses.shape, tf.constant(np.nan, rows.dtype)), state
    weights, state = weigh(method, given, state)
    return tf.linalg.matvec(rows, tf.cast(weights, rows.dtype), transpose_a=True), weights, state


@cached_per_object
def compiled(method: Method, tasks: int, width: int, dtype: Any) -> Any:
    """The traced :func:`decide` of a method for gradients ``[tasks, width]``."""
    return tf.function(functools.partial(decide, method), autograph=False)


class Run:
    """Runs several steps of a method on matrices of gradients.

    Args:
        method: a name or a method.
        tasks: number of gradients.
        width: length of each gradient.
        preference: importance of the tasks; uniform by default.
        dtype: dtype of gradients and losses.
        eager: True to run without a trace, which is faster for a few steps.

    Attributes:
        state: the state of the method, name -> tensor.
        steps: number of steps so far.
        weights: the weights ``[T]`` of the last step; NaN for a method without weights.
    """

    def __init__(
        self, method: Method, tasks: int, width: int, preference: Any = None, dtype: Any = np.float64,
        eager: bool = False,
    ):
        self.method = built(method)
        self.shape = (tasks, width)
        self.dtype = np.dtype(dtype)
        self.eager = eager
        self.preference = np.full(tasks, 1 / tasks) if preference is None else np.asarray(preference)
        self.state: State = {
            key: tf.constant(value) for key, value in self.method.initial_state(tasks, width).items()
        }
        self.steps = 0
        self.weights: Any = None

    def signals(self, losses: Any = None, present: Any = None, epoch: int = 0, seed: int = 0) -> dict[str, Any]:
        """The signals of the next step apart from the Gram matrices, as tensors."""
        tasks = self.shape[0]
        present = np.ones(tasks, bool) if present is None else np.asarray(present)
        losses = np.where(present, np.ones(tasks) if losses is None else losses, 0.0)
        return {
            "losses": tf.constant(losses, self.dtype), "preference": tf.constant(self.preference, self.dtype),
            "present": tf.constant(present), "step": tf.constant(self.steps, tf.int64),
            "epoch": tf.constant(epoch, tf.int64), "seed": tf.constant([seed, self.steps], tf.int32),
        }

    @property
    def traced(self) -> Any:
        """The traced function of a step, which runs of the same method, shape and dtype share."""
        return compiled(self.method, *self.shape, self.dtype)

    def step(
        self, rows: Any, losses: Any = None, present: Any = None, epoch: int = 0, seed: int = 0, cross: Any = None,
        after: Any = None,
    ) -> np.ndarray:
        """The update ``[P]`` of one step.

        Args:
            rows: gradients ``[T, P]``.
            losses: ``[T]``; ones by default.
            present: ``bool[T]``; all by default.
            epoch: number of completed epochs.
            seed: seed for methods that draw random numbers.
            cross: ``Signals.cross``; the Gram matrix by default.
            after: losses ``[T]`` after the update, for methods that learn from them; ``losses`` by default.
        """
        given = self.signals(losses, present, epoch, seed)
        rows = tf.constant(rows, self.dtype)
        eager = self.eager or cross is not None
        function = functools.partial(decide, self.method) if eager else self.traced
        cross = None if cross is None else tf.constant(cross, self.dtype)
        update, weights, self.state = function(rows, cross, given, self.state)
        if "losses_after" in self.method.needs:
            signals = Signals(**given)
            after = tf.constant(given["losses"] if after is None else after, self.dtype)
            learnt = self.method.learn(after, signals, self.state)
            self.state = standing_still(signals.present, self.state, learnt, "learn")
        self.steps += 1
        self.weights = weights.numpy()
        return update.numpy()

    def __getitem__(self, key: str) -> np.ndarray:
        """An array of the state."""
        return self.state[key].numpy()


def first_step(method: Method, rows: np.ndarray, preference: Any = None, dtype: Any = np.float64, **given: Any) -> Any:
    """The update of one step from a fresh state."""
    tasks, width = rows.shape
    return Run(method, tasks, width, preference, dtype).step(rows, **given)
