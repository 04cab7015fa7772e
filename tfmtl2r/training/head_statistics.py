"""Facts about each head that blends read: the deviation of its scores, and the constant of its labels.

The deviation is kept while training, inside the graph of the step. Batch b has n_b valid items with the mean m_b and
the sum of squared differences q_b. With the weight ``n = 0.99 n + n_b`` of all batches so far, mean and squares are
merged by the formulas of Chan, Golub and LeVeque (1979), so that old batches, in which the head was another one, fade.
:func:`tfmtl2r.evaluation.heads.measure_heads` replaces these by the exact ones of the training split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.types import TaskScores

DECAY = 0.99
"""The weight of all earlier items after a step."""
_NAMES = ("count", "mean", "squares", "constants")


class HeadStatistics(keras.layers.Layer):
    """The statistics of all heads, each ``float32[T]``; zeros until they are known.

    Args:
        tasks: names of the tasks.
    """

    count: Any
    mean: Any
    squares: Any
    constants: Any

    def __init__(self, tasks: Sequence[str], **kwargs: Any):
        super().__init__(dtype="float32", trainable=False, **kwargs)
        self.tasks = tuple(tasks)
        for name in _NAMES:
            setattr(self, name, self.add_weight(name=name, shape=(len(self.tasks),), initializer="zeros",
                                                trainable=False, aggregation="only_first_replica"))
        self.built = True

    def update(self, batch: Batch, scores: TaskScores, replicas: Replicas) -> None:
        """Adds the scores of a training step; padded places have no influence, however many there are.

        Args:
            batch: the batch of this replica.
            scores: task -> ``float32[..., B, L]`` (plain rows: ``[..., B]``).
            replicas: the replicas, which all keep the same statistics.
        """
        before, mean, squares = (tf.convert_to_tensor(each) for each in (self.count, self.mean, self.squares))
        sums = []
        for index, task in enumerate(self.tasks):
            # Distances from the running mean keep the digits of scores that are far from 0.
            away = tf.cast(scores[task], tf.float32) - mean[index]
            valid = tf.ones_like(away, tf.bool) if batch.valid is None else tf.broadcast_to(batch.valid, tf.shape(away))
            away = tf.where(valid, away, 0.0)
            sums.append(tf.stack([tf.reduce_sum(tf.cast(valid, tf.float32)), tf.reduce_sum(away),
                                  tf.reduce_sum(away**2)]))
        count, first, second = tf.unstack(replicas.sum(tf.stack(sums, axis=1)))
        shift = tf.math.divide_no_nan(first, count)
        before *= DECAY
        total = before + count
        share = tf.math.divide_no_nan(count, total)
        self.count.assign(total)
        self.mean.assign(mean + shift * share)
        self.squares.assign(DECAY * squares + tf.maximum(second - count * shift**2, 0.0) + shift**2 * before * share)

    def set(self, deviations: np.ndarray, constants: np.ndarray) -> None:
        """Sets exact values, each ``[T]``: the deviations of the heads, and the constants of the labels."""
        self.count.assign(np.ones(len(self.tasks)))
        self.squares.assign(np.square(deviations))
        self.constants.assign(constants)

    @property
    def deviations(self) -> np.ndarray | None:
        """The deviation of each head, ``float64[T]``; None if the ranker was not trained since it has statistics."""
        with tf.init_scope():
            count, squares = (np.array(each, np.float64) for each in (self.count, self.squares))
        return np.sqrt(squares / count) if (count > 0).all() else None

    @property
    def k(self) -> np.ndarray | None:
        """The constant of each task's labels, ``float64[T]``; None if they were not measured."""
        with tf.init_scope():
            constants = np.array(self.constants, np.float64)
        return constants if (constants > 0).all() else None

    def load_own_variables(self, store: Any) -> None:
        """Reads the statistics. Files of earlier versions contain none, and the ranker then has none."""
        if len(store.keys()):
            super().load_own_variables(store)
