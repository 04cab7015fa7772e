"""FAMO: fast adaptive multi-task optimisation."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, State, count_present
from tfmtl2r.methods.positive import positive
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["FAMO"]

CARD = Card(
    title="FAMO (fast adaptive multi-task optimisation)",
    paper="Liu et al. 2023, https://arxiv.org/abs/2306.03792",
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="Needs no gradients per task, but one more forward pass per step. Needs losses above 0.",
)


@dataclasses.dataclass(frozen=True)
class FAMO(Scalarisation):
    """Minimises ``T c sum_t z_t log loss_t`` with ``z = softmax(logits)`` and ``c = 1 / sum_t (z_t / loss_t)``.

    The task weights ``T c z_t / loss_t`` sum to T. After the update, the losses of the same batch are computed again. A
    task whose log loss decreased more gets a smaller logit: with ``delta = log loss - log loss_after``,
    ``logits <- logits - lr (z (delta - <z, delta>) + gamma logits)``.

    Differs from the authors' code: plain gradient steps with gamma as in the paper, not Adam, and a factor of T.
    Differs from DeepMTL2R's code: the logits are learned. DeepMTL2R's logits stay at 0.

    Args:
        lr: learning rate of the logits; 0 keeps them constant.
        gamma: decay of the logits.

    >>> from tfmtl2r import methods
    >>> methods.combine("famo", [[1., 0.], [0., 1.]], losses=[.5, 2.]).round(4).tolist()
    [1.6, 0.4]
    """

    lr: float = 0.025
    gamma: float = 1e-3
    needs: ClassVar[frozenset[str]] = frozenset({"losses_after"})
    positive_losses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.lr >= 0 and self.gamma >= 0):
            raise InputError(f"famo: lr and gamma must be >= 0, not {self.lr} and {self.gamma}")

    def initial_state(self, num_tasks: int, num_parameters: int | None = None) -> State:
        """Logits of 0, which give equal shares."""
        return {"logits": np.zeros(num_tasks, np.float32)}

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """The weighted sum of the log losses."""
        losses = positive(losses, signals)
        share = _share(state, signals, losses.dtype)
        scale = tf.math.divide_no_nan(count_present(signals, losses.dtype), tf.reduce_sum(share / losses))
        return tf.stop_gradient(scale) * tf.reduce_sum(share * tf.math.log(losses)), state

    def learn(self, losses_after: Losses, signals: Signals, state: State) -> State:
        """Takes a gradient step on the logits of the present tasks."""
        share = _share(state, signals, losses_after.dtype)
        before, after = positive(signals.losses, signals), positive(losses_after, signals)
        gained = tf.math.log(before) - tf.math.log(after)
        logits = tf.cast(state["logits"], gained.dtype)
        slope = share * (gained - tf.reduce_sum(share * gained)) + self.gamma * logits
        return {"logits": tf.where(signals.present, logits - self.lr * slope, logits)}


def _share(state: State, signals: Signals, dtype: Any) -> Tensor:
    """The softmax of the logits over the present tasks; 0 for the others."""
    logits = tf.cast(state["logits"], dtype)
    present = tf.cast(signals.present, dtype)
    return present * tf.nn.softmax(tf.where(signals.present, logits, logits.dtype.min))
