"""AdapMTL on whole units: learnable thresholds for the trunk and for every tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Group
from tfmtl2r.architectures.tower import TowerArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers import inspection
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.mlp import widths
from tfmtl2r.layers.pruning import ThresholdedMLP, dense_of, padded
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

__all__ = ["AdapMTL"]

CARD = Card(
    title="AdapMTL (learnt thresholds on whole units)",
    paper="Xiang et al. 2024, https://arxiv.org/abs/2408.03913",
    note="A shared-bottom that switches off units of trunk and towers; exports contain the units that are left.",
)


class AdapMTL(TowerArchitecture):
    """``h = trunk(x)``, ``score_t = tower_t(h)``; units of trunk and towers fade out below learnt thresholds.

    :class:`tfmtl2r.layers.pruning.ThresholdedMLP` has the formula. The trunk has one threshold ``sigmoid(s)``, each
    tower another. ``decay s^2 / 2`` of every s is added to the training loss with every method, and moves s from below
    towards 0, a threshold of 1/2. Once the share of units that are 0 reaches ``sparsity``, the thresholds have neither
    decay nor gradient. An export contains the units that are left, and no others.

    Args:
        units: widths of the trunk's layers.
        sparsity: share of all units to switch off, in [0, 1).
        decay: strength of the decay of every s.
        start: initial s; the threshold starts at sigmoid(s), and has to be below the weights. By default it is a
            quarter of the smallest layer's initial weights. With Adam, s moves by at most the rate in a step: at a rate
            of .001, units go off after about 1,400 steps.

    Raises:
        ValueError: for a sparsity outside [0, 1), a decay that is not above 0, a start that is not below 0, or an
            activation that does not map 0 to 0: a unit of weights 0 would then still reach the next layer.

    Differs from the authors' code: a threshold acts on whole units, by the root mean square of their weights, in place
    of single weights, since zeros inside of a matrix do not make serving faster. Task weights are the method's.
    """

    prunes = True
    trunk: Any
    scorers: Any

    def __init__(
        self,
        units: Sequence[int] = (256, 128),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        sparsity: float = 0.5,
        decay: float = 0.01,
        start: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(head_units, activation, dropout, **kwargs)
        self.units = widths(units, "units")
        if not 0 <= sparsity < 1:
            raise InputError(f"AdapMTL: sparsity is a share of units, from 0 to below 1, not {sparsity}")
        if not (decay > 0 and (start is None or start < 0)):
            raise InputError(f"AdapMTL: decay must be above 0 and start below 0, not {decay} and {start}")
        if float(keras.activations.get(activation)(tf.zeros([1]))[0]) != 0.0:
            raise InputError(f"AdapMTL: the activation {activation!r} does not map 0 to 0, so that a unit that is "
                             "switched off would still have an effect: use relu, tanh, gelu or silu")
        self.sparsity, self.decay, self.start = sparsity, decay, start
        self._left: int | None = None

    def make_lower(self) -> None:
        """Makes the trunk."""
        self.trunk = self._network(self.units, None, "trunk")
        self.trunk.build((None, self.encoder.width))

    def make_towers(self) -> Any:
        """Towers with thresholds."""
        return self._network(self.head_units, len(self.tasks), "towers")

    def _network(self, units: Sequence[int], stacked: int | None, name: str) -> ThresholdedMLP:
        hidden = {key: self.hidden[key] for key in ("activation", "dropout")}
        return ThresholdedMLP(units, **hidden, stacked=stacked, start=self.start, regularizer=self._decayed,
                              dtype=self.dtype_policy, name=name)

    def _decayed(self, threshold: Any) -> Tensor:
        logits = tf.convert_to_tensor(threshold)
        return tf.where(self.reached(), 0.0, self.decay / 2 * tf.reduce_sum(logits**2))

    def reached(self) -> Tensor:
        """Whether enough units are switched off, ``bool[]``."""
        factors = [tf.reshape(each, [-1]) for part in (self.trunk, self.towers) for each in part.factors()]
        if not factors:
            return tf.constant(True)
        off = tf.reduce_mean(tf.cast(tf.concat(factors, 0) == 0.0, tf.float32))
        inspection.record("units_off", off)
        return off >= self.sparsity

    @property
    def tower_width(self) -> int:
        """The trunk's last width; after :meth:`prune`, of the units that are left."""
        if self._left is not None:
            return self._left
        return self.units[-1] if self.units else self.encoder.width

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The trunk's output for the real items, ``[n, units[-1]]``."""
        items = self.encoder(batch=batch, training=training)
        return [self.trunk(items, training=training, **self._held(training))]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """A copy of the trunk's output per task."""
        return cut[0].copies()

    def tower_scores(self, inputs: Tensor, training: bool) -> Tensor:
        """The towers' outputs, ``[T, n, 1]``."""
        return self.scorers(self.towers(inputs, training=training, **self._held(training)))

    def _held(self, training: bool) -> dict[str, Any]:
        return {"held": self.reached()} if training else {}

    def lower_groups(self) -> list[Group]:
        """Encoder and trunk belong to all tasks."""
        shared = [*self.encoder.trainable_variables, *self.trunk.trainable_variables]
        return [Group(tuple(range(len(self.tasks))), shared)]

    def prune(self) -> dict[str, tuple[int, int]]:
        """Leaves out the units that are 0."""
        self.trunk, [left], kept = self.trunk.pruned([np.arange(self.encoder.width)])
        self._left = len(left)
        self.towers, outputs, others = self.towers.pruned([left] * len(self.tasks))
        kernels, biases = np.asarray(self.scorers.kernel), np.asarray(self.scorers.bias)
        parts = [(kernel[units], bias[0]) for kernel, bias, units in zip(kernels, biases, outputs, strict=True)]
        self.scorers = dense_of(*padded(parts), None, "float32")
        return {"trunk": (kept, sum(self.units)), "towers": (others, len(self.tasks) * sum(self.head_units))}
