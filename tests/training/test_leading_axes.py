"""Scores with leading axes, such as the members of an ensemble: the loss and the metrics average over the copies."""

import dataclasses

import numpy as np
import pytest
from engine_steps import CLOCK, Halves, Ones, one_batch

from tfmtl2r import methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Architecture, Group
from tfmtl2r.layers.dense import StackedDense
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.training.trackers import Trackers


class Members(Architecture):
    """Several scorers per task on one trunk: scores with a leading axis, ``[M, B, L]``."""

    def connect(self, tasks, schema, members=3, **options):
        super().connect(tasks, schema, **options)
        self.members = members
        self.trunk = keras.layers.Dense(5, activation="tanh", name="trunk")
        self.scorers = StackedDense(len(tasks) * members, 1)
        self.trunk.build((None, self.encoder.width))
        self.scorers.build((len(tasks) * members, None, 5))

    def shared(self, batch, training):
        return [self.trunk(self.encoder(batch=batch))]

    def heads(self, cut, batch, training):
        inputs = tf.repeat(cut[0].copies(), self.members, axis=0)
        scores = tf.reshape(self.scorers(inputs), [len(self.tasks), self.members, -1, 1])
        return self.scores_of_items(scores, batch)

    def variable_groups(self):
        tasks = tuple(range(len(self.tasks)))
        owners = [task for task in tasks for _ in range(self.members)]
        shared = [*self.encoder.trainable_variables, *self.trunk.trainable_variables]
        return [Group(tasks, shared), Group(owners, self.scorers.trainable_variables, stacked=True)]


@pytest.mark.parametrize(("method", "mode"), [
    (methods.get("ls"), "parameters"), (Ones(), "features"), (Halves(), "parameters"),
])  # fmt: skip
def test_leading_axes_of_scores_are_averaged_in_the_loss(problem, method, mode):
    """The loss is the mean of the members' losses, which is not the loss of their mean score."""
    architecture = Members()
    architecture.connect([task.name for task in problem.tasks], problem.schema)
    batch = one_batch(problem, slice(0, 7))
    weights = {"dwell": tf.random.stateless_uniform([7, 7], (1, 2)), "click": tf.range(1.0, 8.0)}
    batch = dataclasses.replace(batch, weights=weights)
    losses = TaskLosses(problem.tasks, has_lists=True)
    with tf.GradientTape() as tape:
        scores = architecture(batch=batch, training=True)
        assert all(score.shape == (3, 7, 7) for score in scores.values())
        each = [losses(batch, {task: score[m] for task, score in scores.items()}, Replicas()).total for m in range(3)]
        total = tf.reduce_sum(tf.reduce_mean(each, axis=0))
    expected = tape.gradient(total, [v.value for v in architecture.trainable_variables])
    engine = Engine(architecture, losses, method, mode)
    step = engine.step(batch, CLOCK, [{}])
    np.testing.assert_allclose(step.losses.total, np.mean(each, axis=0), rtol=1e-5)
    mean = losses(batch, {task: tf.reduce_mean(score, 0) for task, score in scores.items()}, Replicas()).total
    assert np.abs(step.losses.total - mean).max() > 1e-3
    ours = {id(v): tf.convert_to_tensor(g) for g, v in step.gradients}
    for gradient, variable in zip(expected, architecture.trainable_variables, strict=True):
        np.testing.assert_allclose(ours[id(variable)], tf.convert_to_tensor(gradient), atol=2e-6, err_msg=variable.path)
    for task, score in step.scores.items():
        np.testing.assert_allclose(score, scores[task], atol=1e-6, err_msg=task)


def test_metrics_of_scores_with_leading_axes_are_those_of_all_copies(problem):
    architecture = Members()
    architecture.connect([task.name for task in problem.tasks], problem.schema)
    batch = one_batch(problem)
    scores = architecture(batch=batch)
    logs = []
    for members in ([slice(None)], [0, 1, 2]):
        trackers = Trackers(problem.tasks, has_lists=True)
        for member in members:
            trackers.update_metrics(batch, {task: score[member] for task, score in scores.items()})
        logs.append(trackers.logs(tf.fill([3], 1 / 3), Replicas()))
    for name, value in logs[0].items():
        np.testing.assert_allclose(value, logs[1][name], rtol=1e-5, err_msg=name)
