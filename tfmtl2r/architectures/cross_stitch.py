"""Cross-stitch networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.architectures.base import Group
from tfmtl2r.architectures.tower import TowerArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.mlp import MLP, widths
from tfmtl2r.layers.stitch import Stitch
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

__all__ = ["CrossStitch"]

CARD = Card(
    title="Cross-stitch networks",
    paper="Misra et al. 2016, https://doi.org/10.1109/CVPR.2016.433",
    note="One network per task; each layer is followed by learnt linear mixtures of all tasks' activations.",
)


class CrossStitch(TowerArchitecture):
    """``h_t^l = sum_s alpha_ts^l layer_s^l(h_s^{l-1})`` with ``h_t^0 = x``, and ``score_t = head_t(h_t^L)``.

    Each row of ``alpha^l [T, T]`` starts with ``self_weight`` on the diagonal and equal values elsewhere, sum 1. If
    alpha is the identity, the tasks are independent networks on the same embeddings. The cut is before the last
    stitch, whose rows belong to one task each.

    Args:
        units: widths of each task's layers. Each layer is followed by a stitch.
        self_weight: initial weight of a task's own activation, in (0, 1].

    Raises:
        ValueError: without a layer, or for a self_weight outside (0, 1].

    Differs from the paper: alpha has the learning rate of all other weights. The authors use a learning rate for alpha
    that is 100 to 1000 times as high.
    """

    def __init__(
        self,
        units: Sequence[int] = (256, 128),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        self_weight: float = 0.9,
        **kwargs: Any,
    ):
        super().__init__(head_units, activation, dropout, layer_norm, **kwargs)
        self.units = widths(units, "units")
        if not self.units:
            raise InputError("CrossStitch needs at least one layer to stitch; got units=()")
        if not 0.0 < self_weight <= 1.0:
            raise InputError(f"CrossStitch: self_weight must lie in (0, 1], not {self_weight}")
        self.self_weight = self_weight

    def make_lower(self) -> None:
        """Creates the tasks' layers and the stitches between them."""
        num, width = len(self.tasks), self.encoder.width
        self.blocks, self.stitches = [], []
        for number, units in enumerate(self.units, start=1):
            layer = MLP((units,), **self.hidden, stacked=num, dtype=self.dtype_policy, name=f"layer_{number}")
            layer.build((num, None, width))
            self.blocks.append(layer)
            self.stitches.append(Stitch(num, self.self_weight, dtype=self.dtype_policy, name=f"alpha_{number}"))
            width = units

    @property
    def tower_width(self) -> int:
        """The layers' last width."""
        return self.units[-1]

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """All tasks' activations before the last stitch, ``[T, n, units[-1]]``."""
        value = self.blocks[0](self.encoder(batch=batch, training=training)[None], training=training)
        for stitch, layer in zip(self.stitches[:-1], self.blocks[1:], strict=True):
            value = layer(stitch(value), training=training)
        return [value]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """The last stitch: each task's mixture of all tasks' activations."""
        alpha = self.stitches[-1].weights_for(tf.shape(cut[0].tensor)[1])
        return cut[0].mix(alpha)

    def lower_groups(self) -> list[Group]:
        """Each row of the last stitch belongs to one task, all variables below it to all tasks."""
        tasks = tuple(range(len(self.tasks)))
        below = (self.encoder, *self.blocks, *self.stitches[:-1])
        return [
            Group(tasks, [v for layer in below for v in layer.trainable_variables]),
            Group(tasks, self.stitches[-1].trainable_variables, stacked=True),
        ]
