"""ESMM: entire space multi-task model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.architectures.base import Architecture, Group
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.funnel import logits_of_products
from tfmtl2r.layers.mlp import MLP, Scorers, widths
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema
from tfmtl2r.types import TaskScores, Tensor

__all__ = ["ESMM"]

CARD = Card(
    title="ESMM (entire space multi-task model)",
    paper="Ma et al. 2018, https://doi.org/10.1145/3209978.3210104",
    note="For events that follow one another, listed in this order (click, buy), with loss='bce'. A later label must "
    "imply the earlier labels.",
)


class ESMM(Architecture):
    """``P_t(x) = prod_{s<=t} p_s(x)`` with ``p_s = sigmoid(tower_s(x))``; the score of task t is the logit of ``P_t``.

    For the tasks click and conversion, the probabilities are pCTR and pCTCVR = pCTR pCVR. pCVR has no loss of its own,
    so it is learnt on all impressions. List the tasks in the order of the events. The label of a task is the event
    itself (bought, not bought-if-clicked), so a later label implies the earlier labels. All towers read the same
    embeddings. All towers except the last one serve several tasks. The cut consists of their logits, and of the
    embeddings for the last tower.

    Args:
        units: widths of each tower's hidden layers.
        activation: name of a Keras activation.
        dropout: rate after each hidden layer.
        layer_norm: normalise each hidden layer before its activation.

    Tasks must be binary with a calibrated loss, for example ``"bce"``. The default loss for lists is not calibrated.
    """

    needs_probabilities = True

    def __init__(
        self,
        units: Sequence[int] = (360, 200, 80),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = widths(units, "units")
        self.hidden: dict[str, Any] = {"activation": activation, "dropout": dropout, "layer_norm": layer_norm}

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """A funnel has at least two tasks."""
        if len(tasks) < 2:
            raise InputError(f"ESMM is a funnel of at least two tasks, got {list(tasks)}; use single_task")

    def connect(self, tasks: Sequence[str], schema: Schema, **options: Any) -> None:
        """Creates the towers."""
        super().connect(tasks, schema, **options)
        self.early = self._towers(len(tasks) - 1, "early")
        self.last = self._towers(1, "last")
        self.make_small_heads(self.encoder.width, trains=bool(self.encoder.trainable_variables))

    def start_at(self, levels: Sequence[float]) -> None:
        """Each tower starts at the rate of its step: the task's base rate divided by the base rate of the task before.
        """
        rates = 1 / (1 + np.exp(-np.asarray(levels, np.float64)))
        steps = np.clip(np.concatenate([rates[:1], rates[1:] / rates[:-1]]), 1e-4, 0.99)
        starts = np.log(steps / (1 - steps)).tolist()
        self.early[1].start_at(starts[:-1])
        self.last[1].start_at(starts[-1:])

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """Logits of all towers except the last, ``[T-1, n]``, and the last tower's inputs, ``[1, n, F]``."""
        x = self.encoder(batch=batch, training=training)[None]
        return [_logits(self.early, x, training), x]

    def heads(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """The logits of the products. Small heads read the encoded items."""
        num = len(self.tasks)
        x, read = self.last_reads(cut[1], training)
        last = _logits(self.last, x, training)
        others = tf.zeros([num - 1, 1, tf.shape(last)[1]])
        stages = tf.concat([cut[0].copies(), tf.concat([others, last[None]], 0)], axis=1)
        scores = self.scores_of_items(logits_of_products(stages)[..., None], batch)
        return self.with_small_heads(scores, read, batch, training)

    def variable_groups(self) -> list[Group]:
        """The last tower belongs to the last task, all other variables to all tasks."""
        tasks = tuple(range(len(self.tasks)))
        shared = [v for layer in (self.encoder, *self.early) for v in layer.trainable_variables]
        return [Group(tasks, shared), Group(tasks[-1:], [v for layer in self.last for v in layer.trainable_variables])]

    def _towers(self, num: int, name: str) -> list[Any]:
        """A number of stacked towers: hidden layers and scorers."""
        hidden = MLP(self.units, **self.hidden, stacked=num, dtype=self.dtype_policy, name=f"{name}_towers")
        scorers = Scorers(num, name=f"{name}_scorers")
        shape = (num, None, self.encoder.width)
        hidden.build(shape)
        scorers.build(hidden.compute_output_shape(shape))
        return [hidden, scorers]


def _logits(towers: Sequence[Any], inputs: Tensor, training: bool) -> Tensor:
    """The towers' logits, ``float32[num, n]``: float32, since their logarithms are summed later."""
    hidden, scorers = towers
    return scorers(hidden(inputs, training=training))[..., 0]
