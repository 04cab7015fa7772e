"""Gradients of the tasks' losses, batch by batch, for a look at a ranker before or during a training."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers.features import Encoder
from tfmtl2r.training import rows
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.optimizers import is_table
from tfmtl2r.training.replicas import Replicas

MOST = 2_000_000
"""The largest number of shared parameters whose gradients are compared; larger variables are left out."""


class TaskGradients:
    """Gradients of each task's mean loss over a batch.

    Args:
        model: a compiled ranker that knows its features and has lists or plain rows.

    >>> import tfmtl2r
    >>> from tfmtl2r import Dense, Schema
    >>> ranker = tfmtl2r.MultiTaskRanker("shared_bottom", ["click", "like"], Schema([Dense("price")]), has_lists=False)
    >>> ranker.compile()
    >>> batch = {"price": tf.constant([0.0, 1.0])}, {"click": tf.constant([0.0, 1.0]), "like": tf.constant([1.0, 0.0])}
    >>> TaskGradients(ranker).of_order(batch).round(3).tolist()
    [[-0.5], [0.5]]
    """

    def __init__(self, model: MultiTaskRanker):
        self.model = model
        engine = model._set_up_for(bool(model.has_lists)).engine
        self.losses = engine.losses
        self.encoder = Encoder(model.architecture.schema, dtype="float32")
        shared, room = [], MOST
        for variable in sorted(engine.shared_variables, key=lambda one: int(np.prod(one.shape))):
            room -= int(np.prod(variable.shape))
            if room >= 0 and not is_table(variable):
                shared.append(variable)
        self.variables = shared
        self._order = tf.function(self._of_order, autograph=False, reduce_retracing=True)
        self._shared = tf.function(self._of_shared, autograph=False, reduce_retracing=True)

    def of_order(self, data: Any) -> np.ndarray:
        """How each task would change one order of the items that all tasks share, ``[T, F]``.

        One linear score of the encoded features serves all tasks, and starts at 0. Of each task's gradient of this
        score, the mean over the items of a list (over all plain rows) is removed: it changes a level, and no order.

        Args:
            data: an element of a data set.
        """
        return np.asarray(self._order(data))

    def of_shared(self, data: Any) -> np.ndarray:
        """Gradients of the shared parameters, without tables of embeddings, ``[T, P]``.

        Args:
            data: an element of a data set.
        """
        return np.asarray(self._shared(data))

    def _of_order(self, data: Any) -> Any:
        batch: Batch = self.model.batch(data)
        labels = {task.name: tf.cast(batch.labels[task.name], tf.float32) for task in self.model.tasks}
        scores = {name: tf.zeros_like(label) for name, label in labels.items()}
        with tf.GradientTape() as tape:
            tape.watch(scores)
            total = self.losses(batch, scores, Replicas()).total
        found = tape.gradient(total, scores, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        encoded = tf.cast(self.encoder(batch=batch), tf.float32)
        return tf.stack([
            tf.linalg.matvec(encoded, batch.packed(_centred(found[name], label, batch)), transpose_a=True)
            for name, label in labels.items()])

    def _of_shared(self, data: Any) -> Any:
        batch: Batch = self.model.batch(data)
        values = [variable.value for variable in self.variables]
        with tf.GradientTape(persistent=True) as tape:
            total = self.losses(batch, self.model.architecture(batch=batch, training=False), Replicas()).total
            each = tf.unstack(total, num=len(self.model.tasks))
        zero = tf.UnconnectedGradients.ZERO
        found = [tape.gradient(one, values, unconnected_gradients=zero) for one in each]
        return rows.jacobian(rows.stack(found, values, Replicas()))


def _centred(gradient: Any, labels: Any, batch: Batch) -> Any:
    """The gradient of a score without its mean over the labelled items of each list, or over all labelled rows."""
    labelled = ~tf.math.is_nan(labels) if batch.is_rows else ~tf.math.is_nan(labels) & batch.valid
    known = tf.cast(labelled, tf.float32)
    axis = None if batch.is_rows else -1
    count = tf.reduce_sum(known, axis, keepdims=not batch.is_rows)
    mean = tf.math.divide_no_nan(tf.reduce_sum(gradient, axis, keepdims=not batch.is_rows), count)
    return known * (gradient - mean)
