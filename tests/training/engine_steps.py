"""Methods and batches with which tests take single steps of the engine."""

from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.methods.base import GramMethod
from tfmtl2r.training.method_state import Clock

CLOCK = Clock(0, 0, tf.constant([0, 0], tf.int32), tf.fill([3], 1.0 / 3))


class Ones(GramMethod):
    """Weights of ones, the plain sum, through the machinery of a Gram method."""

    def weigh(self, signals, state):
        return tf.ones_like(signals.losses), state


class Halves(GramMethod):
    """The plain sum from the two halves of the batch; remembers their cross products."""

    needs: ClassVar[frozenset] = frozenset({"gram", "second_batch"})
    seen: ClassVar[list] = []

    def weigh(self, signals, state):
        self.seen.append(signals.cross)
        return tf.ones_like(signals.losses), state


def one_batch(problem, rows=slice(0, 8)):
    x, y = ({name: tf.constant(value[rows]) for name, value in part.items()} for part in (problem.x, problem.y))
    return Batch.of((x, y), problem.schema)
