"""Sluice networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Group
from tfmtl2r.architectures.tower import TowerArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers import inspection
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.mlp import MLP
from tfmtl2r.layers.stitch import Stitch
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

__all__ = ["Sluice"]

CARD = Card(
    title="Sluice networks",
    paper="Ruder et al. 2019, https://doi.org/10.1609/aaai.v33i01.33014822",
    note="Cross-stitch on halves of each layer, so that a task can keep one half private; towers read all layers.",
)
SUBSPACES = 2


class Sluice(TowerArchitecture):
    """One network per task, mixed in halves after each layer; ``score_t = head_t(sum_l beta_tl h_t^l)``.

    The output of each task's layer consists of two subspaces of width ``units / 2``. ``alpha^l [2T, 2T]`` mixes the
    subspaces of all tasks. The task's next layer reads ``h_t^l``, the concatenation of the task's two mixtures.
    ``beta_t [L]`` mixes the layers. ``penalty sum_t sum_l |G_1' G_2|_F^2`` is added to the training loss and makes
    the subspaces different; ``G_1`` and ``G_2`` are the two halves of the columns of a layer's kernel.

    ``beta`` starts at ``1 / L``. Each row of ``alpha`` starts with ``self_weight`` on the diagonal and equal values
    elsewhere, sum 1. If alpha is the identity and beta selects the last layer, the tasks are independent networks on
    the same embeddings. The cut is before the last mixture, whose rows belong to one task each. The cut also contains
    the earlier layers for beta.

    Args:
        units: width of every layer, an even number. All layers have the same width, since beta sums them.
        num_layers: number L of layers of each task.
        self_weight: initial weight of a subspace in its own mixture, in (0, 1].
        penalty: strength of the orthogonality penalty.

    Raises:
        ValueError: for an odd width, no layer, a self_weight outside (0, 1], or a penalty below 0.
    """

    def __init__(
        self,
        units: int = 128,
        num_layers: int = 2,
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        self_weight: float = 0.9,
        penalty: float = 1e-4,
        **kwargs: Any,
    ):
        super().__init__(head_units, activation, dropout, layer_norm, **kwargs)
        if units < SUBSPACES or units % SUBSPACES or num_layers < 1:
            raise InputError("Sluice needs at least one layer and an even width (for two equal subspaces); got "
                             f"units={units}, num_layers={num_layers}")
        if not 0.0 < self_weight <= 1.0:
            raise InputError(f"Sluice: self_weight must lie in (0, 1], not {self_weight}")
        if not penalty >= 0.0:
            raise InputError(f"Sluice: penalty must be 0 or more, not {penalty}")
        self.units = units
        self.num_layers = num_layers
        self.self_weight = self_weight
        self.orthogonality = penalty

    def make_lower(self) -> None:
        """Creates the tasks' layers, the mixtures between tasks, and the mixtures of layers."""
        num, width, dtype = len(self.tasks), self.encoder.width, self.dtype_policy
        self.blocks, self.stitches = [], []
        for number in range(1, self.num_layers + 1):
            layer = MLP((self.units,), **self.hidden, stacked=num, dtype=dtype, name=f"layer_{number}")
            layer.build((num, None, width))
            if self.orthogonality:
                layer.dense[0].kernel.regularizer = self._overlap
            self.blocks.append(layer)
            self.stitches.append(Stitch(num * SUBSPACES, self.self_weight, dtype=dtype, name=f"alpha_{number}"))
            width = self.units
        self.beta = self.add_weight(
            name="beta", shape=(num, self.num_layers), dtype="float32", autocast=False,
            initializer=keras.initializers.Constant(1.0 / self.num_layers),
        )

    @property
    def tower_width(self) -> int:
        """The layers' width."""
        return self.units

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """Mixed subspaces of all layers except the last, and unmixed subspaces of the last, each ``[2T, n, D / 2]``."""
        value, cut = self.encoder(batch=batch, training=training)[None], []
        for layer, stitch in zip(self.blocks[:-1], self.stitches[:-1], strict=True):
            cut.append(stitch(_apart(layer(value, training=training))))
            value = _together(cut[-1])
        return [*cut, _apart(self.blocks[-1](value, training=training))]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """The last mixture, and each task's mixture of its layers."""
        *earlier, last = cut
        alpha = self.stitches[-1].weights_for(tf.shape(last.tensor)[1])
        owners = [task for task in range(len(self.tasks)) for _ in range(SUBSPACES)]
        layers = [_together(branch.own(owners)) for branch in earlier]
        layers.append(_together(last.mix(alpha, each=SUBSPACES)))
        inspection.record("beta", self.beta, axes=("task", "layer"))
        beta = tf.cast(self.beta, self.compute_dtype)
        return tf.add_n([beta[:, number, None, None] * layer for number, layer in enumerate(layers)])

    def lower_groups(self) -> list[Group]:
        """Rows of the last alpha and of beta belong to one task, all other variables below the towers to all tasks."""
        tasks = tuple(range(len(self.tasks)))
        below = (self.encoder, *self.blocks, *self.stitches[:-1])
        return [
            Group(tasks, [v for layer in below for v in layer.trainable_variables]),
            Group(tasks, [*self.stitches[-1].trainable_variables, self.beta], stacked=True),
        ]

    def _overlap(self, kernel: Any) -> Tensor:
        """The penalty of one layer of all tasks, ``[T, in, units]``."""
        first, second = tf.split(tf.convert_to_tensor(kernel), SUBSPACES, axis=-1)
        return self.orthogonality * tf.reduce_sum(tf.matmul(first, second, transpose_a=True) ** 2)


def _apart(layers: Any) -> Tensor:
    """Turns ``[T, n, D]`` into ``[2T, n, D / 2]``. The two subspaces of a task are adjacent."""
    num, _, width = layers.shape
    return tf.reshape(tf.stack(tf.split(layers, SUBSPACES, axis=-1), axis=1), [num * SUBSPACES, -1, width // SUBSPACES])


def _together(subspaces: Any) -> Tensor:
    """The inverse of :func:`_apart`."""
    return tf.concat([subspaces[0::SUBSPACES], subspaces[1::SUBSPACES]], axis=-1)
