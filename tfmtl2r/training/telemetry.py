"""Task weights, the tasks' gradients and the rounds of solvers in the last sampled step, for callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.training.rows import lengths
from tfmtl2r.types import Tensor

if TYPE_CHECKING:
    from tfmtl2r.training.engine import Step


class Telemetry:
    """Task weights, the Gram matrix of task gradients and the rounds of the method's solvers, sampled every few steps.

    If the method computes the Gram matrix, every step stores it. For a scalarisation, the gradients at the cut are
    computed in the sampled steps only. Replicas cannot communicate inside a conditional: each of several samples its
    own share, and every step sums the shares, ``T x T`` numbers. The lengths of gradients in each shared variable are
    sampled where a method computes exact gradients.

    Args:
        num_tasks: T.
        every: steps between samples.
    """

    def __init__(self, num_tasks: int, every: int):
        if every < 1:
            raise InputError(f"telemetry is sampled every 1 or more steps, not every {every}")
        self.every = every
        nan = float("nan")
        options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self.weights = tf.Variable(tf.fill([num_tasks], nan), name="telemetry_weights", **options)
        self.gram = tf.Variable(tf.fill([num_tasks, num_tasks], nan), name="telemetry_gram", **options)
        self.lengths = tf.Variable(tf.fill([0, num_tasks], nan), shape=[None, num_tasks], name="telemetry_lengths",
                                   **options)
        self.rounds = tf.Variable(0, dtype=tf.int64, name="telemetry_rounds", **options)

    def record(self, step: Step, iterations: Tensor, replicas: Replicas, sample: Callable[[], Any]) -> None:
        """Stores a step's weights and rounds, and its Gram matrix.

        Args:
            step: the step.
            iterations: finished steps before it.
            replicas: the replicas.
            sample: computes this replica's share of the Gram matrix if the method has none.
        """
        self.weights.assign(step.weights)
        self.rounds.assign(step.rounds)
        # iterations counts finished steps. A step is sampled if it makes this count a multiple of `every`.
        due = tf.equal((iterations + 1) % self.every, 0)
        if step.rows:
            self.lengths.assign(tf.cond(due, lambda: lengths(step.rows), lambda: tf.convert_to_tensor(self.lengths)))
        if step.gram is not None:
            self.gram.assign(step.gram)
        else:
            whole = replicas.sum(tf.cond(due, sample, lambda: tf.zeros_like(self.gram)))
            self.gram.assign(tf.where(due, whole, tf.convert_to_tensor(self.gram)))
