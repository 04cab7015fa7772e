"""Shared-bottom: one trunk for all tasks, one small head for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.architectures.base import Group
from tfmtl2r.architectures.tower import TowerArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.mlp import MLP, widths
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

__all__ = ["SharedBottom"]

CARD = Card(
    title="Shared-bottom (hard parameter sharing)",
    paper="Caruana 1997, https://doi.org/10.1023/A:1007379606734",
    note="A strong simple baseline; its cut is the trunk's output.",
)


class SharedBottom(TowerArchitecture):
    """``h = trunk(x)``, ``score_t = head_t(h)``. The heads have equal shape and are computed as one batched product.

    Args:
        units: widths of the trunk's layers.
    """

    def __init__(
        self,
        units: Sequence[int] = (256, 128),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        **kwargs: Any,
    ):
        super().__init__(head_units, activation, dropout, layer_norm, **kwargs)
        self.units = widths(units, "units")

    def make_lower(self) -> None:
        """Makes the trunk."""
        self.trunk = MLP(self.units, **self.hidden, dtype=self.dtype_policy, name="trunk")
        self.trunk.build((None, self.encoder.width))

    @property
    def tower_width(self) -> int:
        """The trunk's last width."""
        return self.units[-1] if self.units else self.encoder.width

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The trunk's output for the real items, ``[n, units[-1]]``."""
        return [self.trunk(self.encoder(batch=batch, training=training), training=training)]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """A copy of the trunk's output per task."""
        return cut[0].copies()

    def lower_groups(self) -> list[Group]:
        """Encoder and trunk belong to all tasks."""
        shared = [*self.encoder.trainable_variables, *self.trunk.trainable_variables]
        return [Group(tuple(range(len(self.tasks))), shared)]
