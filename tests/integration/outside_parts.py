"""What an outside project writes: a loss, a metric, a method, a tower and a data set, from public names only."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

import tfmtl2r
from tfmtl2r import architectures, datasets, losses, methods, metrics


@losses.register("half_square", card=tfmtl2r.Card("Half of the squared error", aliases=("half_squared",)))
@dataclasses.dataclass(frozen=True)
class HalfSquare(losses.Loss):
    """``factor (s - y)^2``, the mean over the items of a list."""

    factor: float = 0.5
    listwise = False
    relevance = False

    def counts(self, labels, known):
        return tf.reduce_any(known, axis=1)

    def compute(self, labels, scores, known, weights, seed):
        return losses.mean_over_items(self.factor * tf.square(scores - labels), known, weights)


@metrics.register("top_hit")
@dataclasses.dataclass(frozen=True)
class TopHit(metrics.Metric):
    """Whether the item with the highest score has the highest label."""

    slack: float = 0.0

    def compute(self, labels, scores, known, weights):
        low = scores.dtype.min
        first = tf.argmax(tf.where(known, scores, low), axis=1)
        best = tf.reduce_max(tf.where(known, labels, low), axis=1)
        counts = tf.cast(tf.reduce_any(known, axis=1), tf.float32)
        hit = tf.gather(labels, first, batch_dims=1) >= best - self.slack
        return tf.cast(hit, tf.float32) * counts, counts


@methods.register("quiet_first")
@dataclasses.dataclass(frozen=True)
class QuietFirst(methods.GramMethod):
    """Weights that fall with the length of a gradient."""

    power: float = 1.0

    def weigh(self, signals, state):
        weights = tf.where(signals.present, (tf.linalg.diag_part(signals.gram) + 1e-3) ** (-self.power / 2), 0.0)
        return weights * methods.count_present(signals, weights.dtype) / tf.reduce_sum(weights), state


class Sized(architectures.TowerArchitecture):
    """A base class of the project's own, whose option its towers inherit."""

    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.width = width


@architectures.register("thin_trunk")
class ThinTrunk(Sized):
    """One dense layer below the towers."""

    def __init__(self, squash="tanh", **kwargs):
        super().__init__(**kwargs)
        self.squash = squash

    def make_lower(self):
        self.trunk = keras.layers.Dense(self.width, activation=self.squash, name="trunk")
        self.trunk.build((None, self.encoder.width))

    @property
    def tower_width(self):
        return self.width

    def shared(self, batch, training):
        return [self.trunk(self.encoder(batch=batch, training=training))]

    def tower_inputs(self, cut, batch, training):
        return cut[0].copies()

    def lower_groups(self):
        variables = [*self.encoder.trainable_variables, *self.trunk.trainable_variables]
        return [architectures.Group(tuple(range(len(self.tasks))), variables)]


@datasets.register("tiny_shop")
@dataclasses.dataclass(frozen=True)
class TinyShop(datasets.DataSet):
    """Shelves of four things with a price, a click and the seconds that somebody looked."""

    shelves: int = 24

    def tasks(self):
        return (
            tfmtl2r.Task("click", kind="binary", metrics=("top_hit", "ndcg@2")),
            tfmtl2r.Task("look", kind="regression", loss={"name": "half_squared", "factor": 0.25}, metrics=("mse",)),
        )

    def read(self, split):
        rng = np.random.default_rng(self.splits.index(split))
        price, light = rng.normal(size=(2, 4 * self.shelves)).astype(np.float32)
        columns = {"price": price, "light": light, "click": (price > 0.3).astype(np.float32), "look": 2 * light - price}
        return datasets.Lists(columns, offsets=np.arange(0, 4 * self.shelves + 1, 4))
