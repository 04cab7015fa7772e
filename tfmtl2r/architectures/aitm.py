"""AITM: adaptive information transfer between the steps of a funnel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Architecture, Group
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers import inspection
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.mlp import MLP, Scorers, widths
from tfmtl2r.names import safe_name
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema
from tfmtl2r.types import PerList, TaskScores, Tensor

__all__ = ["AITM"]

CARD = Card(
    title="AITM (adaptive information transfer multi-task)",
    paper="Xi et al. 2021, https://doi.org/10.1145/3447548.3467071",
    note="For events that follow one another, listed in this order, with loss='bce'. For three or more tasks use "
    "gradients='parameters'.",
)


class AITM(Architecture):
    """``z_1 = q_1``, ``z_t = sum_u w_u (u W3)`` over ``u in {p_{t-1}, q_t}``; the score of task t is ``z_t . v_t``.

    ``q_t = tower_t(x)`` is the task's own representation. ``p_t = activation(z_t P_t + b_t)`` is passed from task t to
    task t+1. ``w = softmax_u((u W1) . (u W2) / sqrt(k))`` are the weights of the two. W1, W2, W3 belong to one step of
    the funnel and are initialised with N(0, .01). List the tasks in the order of the events.

    The probability of a step cannot exceed the probability of the step before. The ``calibrator`` therefore adds the
    penalty ``calibrator mean_items sum_{t>1} max(y_t - y_{t-1}, 0)`` with ``y = sigmoid(score)``: see :meth:`penalty`.

    All later tasks depend on ``p_t``, so all towers except the last are below the cut. The cut consists of z_1 to
    z_{T-2}, each for its own task's scorer, of z_{T-1} for the last two tasks, and of the embeddings for the last
    tower. For three or more tasks, ``gradients="features"`` thus detects conflicts of the last two tasks at z_{T-1},
    but no conflicts of earlier tasks below the cut. ``gradients="parameters"`` detects all conflicts.

    Args:
        units: widths of each tower's layers; the last width is k.
        activation: name of a Keras activation.
        dropout: rate after each hidden layer, and on ``p_t``.
        calibrator: strength of the calibrator; 0 switches it off. With a calibrator, tasks must be binary with a
            calibrated loss, for example ``"bce"``. The default loss for lists is not calibrated.

    Raises:
        ValueError: without a tower layer, or for a calibrator below 0.

    Differs from the paper: there is no L2 penalty on the weights (1e-6 in the paper). An optimizer's ``weight_decay``
    has a similar effect.
    """

    def __init__(
        self,
        units: Sequence[int] = (128, 64, 32),
        activation: str = "relu",
        dropout: float = 0.0,
        calibrator: float = 0.6,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = widths(units, "units")
        if not self.units:
            raise InputError("AITM needs towers with at least one layer; got units=()")
        if not calibrator >= 0:
            raise InputError(f"AITM: calibrator must be 0 or more, not {calibrator}")
        self.hidden: dict[str, Any] = {"activation": activation, "dropout": dropout}
        self.calibrator = calibrator
        self.needs_probabilities = calibrator > 0

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """A funnel has at least two tasks."""
        if len(tasks) < 2:
            raise InputError(f"AITM is a funnel of at least two tasks, got {list(tasks)}; use single_task")

    def connect(self, tasks: Sequence[str], schema: Schema, **options: Any) -> None:
        """Creates towers, transfers and scorers."""
        super().connect(tasks, schema, **options)
        num, dtype = len(tasks), self.dtype_policy
        self.early = MLP(self.units, **self.hidden, stacked=num - 1, dtype=dtype, name="early_towers")
        self.last = MLP(self.units, **self.hidden, stacked=1, dtype=dtype, name="last_tower")
        self.transfers = [
            Transfer(self.units[-1], **self.hidden, dtype=dtype, name=f"transfer_to_{safe_name(task)}")
            for task in tasks[1:]
        ]
        self.scorers = Scorers(num, name="scorers")
        self.early.build((num - 1, None, self.encoder.width))
        self.last.build((1, None, self.encoder.width))
        self.scorers.build((num, None, self.units[-1]))
        self.make_small_heads(self.encoder.width, trains=bool(self.encoder.trainable_variables))

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """z_1 to z_{T-2} ``[T-2, n, k]``, z_{T-1} ``[n, k]``, and the encoded items."""
        x = self.encoder(batch=batch, training=training)[None]
        own = self.early(x, training=training)
        z = [own[0]]
        for task, transfer in enumerate(self.transfers[:-1], start=1):
            z.append(transfer(z[-1], own[task], training=training))
        return [*([tf.stack(z[:-1])] if z[:-1] else []), z[-1], x]

    def heads(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """The last task's tower and transfer, then one scorer per task. Small heads read the encoded items."""
        *early, before, items = cut
        last = len(self.tasks) - 1
        x, read = self.last_reads(items, training)
        own = self.last(x, training=training)[0]
        copies = before.copies()
        z_last = self.transfers[-1](copies[last], own, training=training)
        stacked = tf.concat([*(z.own(range(last - 1)) for z in early), copies[last - 1 : last], z_last[None]], 0)
        return self.with_small_heads(self.scores_of_items(self.scorers(stacked), batch), read, batch, training)

    def penalty(self, scores: TaskScores, batch: Batch) -> tuple[PerList, PerList] | None:
        """The calibrator: a list's mean over items of ``calibrator sum_{t>1} max(y_t - y_{t-1}, 0)``, and its items."""
        if not self.calibrator:
            return None
        y = tf.sigmoid(tf.stack([scores[task] for task in self.tasks]))
        excess = self.calibrator * tf.reduce_sum(tf.maximum(y[1:] - y[:-1], 0.0), axis=0)
        if batch.is_rows:
            return excess, tf.ones_like(excess)
        items = tf.cast(batch.valid, tf.float32)
        weight = tf.reduce_sum(items, axis=1)
        return tf.math.divide_no_nan(tf.reduce_sum(excess * items, axis=1), weight), weight

    def variable_groups(self) -> list[Group]:
        """A transfer belongs to its task and all later tasks, the last tower to the last task, a scorer to its task."""
        tasks = tuple(range(len(self.tasks)))
        groups = [Group(tasks, [*self.encoder.trainable_variables, *self.early.trainable_variables])]
        for task, transfer in enumerate(self.transfers, start=1):
            groups.append(Group(tasks[task:], transfer.trainable_variables))
        groups.append(Group(tasks[-1:], self.last.trainable_variables))
        return [*groups, Group(tasks, self.scorers.trainable_variables, stacked=True)]


class Transfer(keras.layers.Layer):
    """One step of the funnel: computes a task's ``z`` from its ``q`` and the ``z`` of the task before, all ``[n, k]``.

    Args:
        width: k.
        activation: activation of ``p``.
        dropout: rate on ``p``.
    """

    def __init__(self, width: int, activation: str, dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.hand_on = MLP((width,), activation, dropout, dtype=self.dtype_policy, name="hand_on")
        self.hand_on.build((None, width))
        self.kernels = self.add_weight(name="attention", shape=(3, width, width),
                                       initializer=keras.initializers.RandomNormal(stddev=0.01))
        self.built = True

    def call(self, before: Any, own: Tensor, training: bool = False) -> Any:
        """Attention over ``p`` of the task before and ``q`` of the task itself."""
        tokens = tf.stack([self.hand_on(before, training=training), own])  # [2, n, k]
        projected = tf.matmul(tokens[None], self.kernels[:, None])  # [3, 2, n, k]
        keys, queries, values = tf.unstack(projected)
        logits = tf.reduce_sum(tf.cast(keys * queries, tf.float32), -1) / keys.shape[-1] ** 0.5
        weights = tf.nn.softmax(logits, axis=0)  # [2, n]
        inspection.record(self.name, weights, average=(1,), axes=("input",))
        return tf.reduce_sum(tf.cast(weights, values.dtype)[..., None] * values, axis=0)
