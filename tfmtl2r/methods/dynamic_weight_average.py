"""DWA: weights from how fast each loss fell in the last epoch."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, State, count_present
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["DynamicWeightAverage"]

CARD = Card(
    title="DWA (dynamic weight average)",
    paper="Liu, Johns and Davison 2019, https://arxiv.org/abs/1803.10704",
    aliases=("dwa",),
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="Weights change once per epoch, from the third epoch on; a run of two epochs has equal weights.",
)


@dataclasses.dataclass(frozen=True)
class DynamicWeightAverage(Scalarisation):
    """Minimises ``sum_t w_t loss_t`` with ``w = T softmax(r / temperature)``, ``r_t = mean_t(e-1) / mean_t(e-2)``.

    ``mean_t(e)`` is the task's mean loss over the steps of epoch e in which the task is present. A task whose loss
    decreases slowly gets a larger weight. A task with fewer than two finished epochs has ``r_t = 1``, so in the first
    two epochs all weights are 1.

    Differs from DeepMTL2R's code: weights change per epoch as in the paper, not per 25 steps. The objective is a sum,
    not a mean.

    Args:
        temperature: large values make the weights equal.

    >>> from tfmtl2r import methods
    >>> methods.combine("dwa", [[1., 0.], [0., 1.]]).tolist()
    [1.0, 1.0]
    """

    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"dynamic_weight_average: temperature must be above 0, not {self.temperature}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Per task: its epoch, the mean loss and the steps in this epoch, and the means of the last two epochs."""
        zeros = np.zeros(num_tasks, np.float32)
        return {"epoch": np.zeros(num_tasks, np.int64), "mean": zeros, "steps": zeros, "last": zeros, "before": zeros}

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The weighted losses, and the means so far."""
        mean, steps, last, before = (tf.cast(state[k], losses.dtype) for k in ("mean", "steps", "last", "before"))
        epoch = tf.maximum(state["epoch"], tf.cast(signals.epoch, tf.int64))
        done = (epoch > state["epoch"]) & (steps > 0)
        before, last = tf.where(done, last, before), tf.where(done, mean, last)
        steps = tf.where(done, tf.zeros_like(steps), steps) + 1.0
        mean = tf.where(steps > 1.0, mean, 0.0)
        mean += (tf.stop_gradient(losses) - mean) / steps

        known = (last > 0) & (before > 0)
        ratio = tf.where(known, last / tf.where(known, before, 1.0), 1.0)
        share = tf.nn.softmax(tf.where(signals.present, ratio / self.temperature, ratio.dtype.min))
        value = count_present(signals, losses.dtype) * tf.reduce_sum(share * losses)
        return value, {"epoch": epoch, "mean": mean, "steps": steps, "last": last, "before": before}
