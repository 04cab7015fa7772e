"""A method over several steps, as the trainer computes them; one trace per method and shape, shared by all tests."""

import functools

import numpy as np

from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Signals
from tfmtl2r.methods.deciding import merge, standing_still, weigh

built = functools.cache(methods.get)


def decide(method, rows, cross, signals, state):
    """The update ``[P]``, the weights (NaN for methods without) and the next state."""
    gram = tf.matmul(rows, rows, transpose_b=True)
    given = Signals(gram=gram, cross=gram if cross is None else cross, **signals)
    if "rows" in method.needs:
        update, state = merge(method, rows, given, state)
        return update, tf.fill(given.losses.shape, tf.constant(np.nan, rows.dtype)), state
    weights, state = weigh(method, given, state)
    return tf.linalg.matvec(rows, tf.cast(weights, rows.dtype), transpose_a=True), weights, state


@functools.cache
def compiled(method, tasks, width, dtype, crossed):
    """The traced :func:`decide`; whatever is computed with a method at one shape shares it."""
    return tf.function(functools.partial(decide, method), autograph=False)


class Run:
    """A method on matrices of gradients, one step after the other.

    Args:
        method: a name or a method.
        tasks, width: shape of the matrices.
        preference: importance of the tasks; uniform by default.
        dtype: of gradients and losses.
        eager: run operation by operation; faster for a few steps of a method that is otherwise not used.
    """

    def __init__(self, method, tasks, width, preference=None, dtype=np.float64, eager=False):
        self.method = built(method)
        self.shape = (tasks, width)
        self.dtype = np.dtype(dtype)
        self.eager = eager
        self.preference = np.full(tasks, 1 / tasks) if preference is None else np.asarray(preference)
        self.state = {key: tf.constant(value) for key, value in self.method.initial_state(tasks, width).items()}
        self.steps = 0
        self.weights = None

    def signals(self, losses=None, present=None, epoch=0, seed=0):
        """What the method sees beside gradients, as tensors."""
        tasks = self.shape[0]
        present = np.ones(tasks, bool) if present is None else np.asarray(present)
        losses = np.where(present, np.ones(tasks) if losses is None else losses, 0.0)
        return {
            "losses": tf.constant(losses, self.dtype), "preference": tf.constant(self.preference, self.dtype),
            "present": tf.constant(present), "step": tf.constant(self.steps, tf.int64),
            "epoch": tf.constant(epoch, tf.int64), "seed": tf.constant([seed, self.steps], tf.int32),
        }

    @property
    def function(self):
        """What computes a step."""
        if self.eager:
            return functools.partial(decide, self.method)
        return compiled(self.method, *self.shape, self.dtype, False)

    def step(self, rows, losses=None, present=None, epoch=0, seed=0, cross=None, after=None):
        """The update of one step; ``after`` are the losses after it, for methods that learn from them."""
        given = self.signals(losses, present, epoch, seed)
        rows = tf.constant(rows, self.dtype)
        function = self.function if cross is None else functools.partial(decide, self.method)
        cross = None if cross is None else tf.constant(cross, self.dtype)
        update, weights, self.state = function(rows, cross, given, self.state)
        if "losses_after" in self.method.needs:
            signals = Signals(**given)
            learnt = self.method.learn(tf.constant(given["losses"] if after is None else after, self.dtype), signals,
                                       self.state)
            self.state = standing_still(signals.present, self.state, learnt)
        self.steps += 1
        self.weights = weights.numpy()
        return update.numpy()

    def __getitem__(self, key):
        return self.state[key].numpy()


def first_step(name, rows, preference=None, dtype=np.float64, **given):
    """The update of one step from a fresh state."""
    return Run(name, *rows.shape, preference=preference, dtype=dtype).step(rows, **given)
