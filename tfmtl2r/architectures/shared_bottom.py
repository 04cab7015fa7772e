"""Shared-bottom: one trunk for all tasks, one small head for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.architectures._base import Architecture, Group
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.mlp import MLP, StackedDense
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema

__all__ = ["SharedBottom"]

CARD = Card(
    title="Shared-bottom (hard parameter sharing)",
    paper="Caruana 1997, https://doi.org/10.1023/A:1007379606734",
    note="The strongest simple start; its cut is the trunk's output.",
)


class SharedBottom(Architecture):
    """``h = trunk(x)``, ``score_t = head_t(h)``, with heads of equal shape computed as one batched product.

    Args:
        units: widths of the trunk's layers.
        head_units: widths of each head's hidden layers.
        activation: name of a Keras activation.
        dropout: rate after each hidden layer.
        layer_norm: normalise each hidden layer before its activation.
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
        super().__init__(**kwargs)
        self.hidden: dict[str, Any] = {"activation": activation, "dropout": dropout, "layer_norm": layer_norm}
        self.units = tuple(units)
        self.head_units = tuple(head_units)

    def connect(self, tasks: Sequence[str], schema: Schema) -> None:
        """Makes the trunk and the heads."""
        super().connect(tasks, schema)
        num = len(self.tasks)
        self.trunk = MLP(self.units, **self.hidden, dtype=self.dtype_policy, name="trunk")
        self.towers = MLP(self.head_units, **self.hidden, stacked=num, dtype=self.dtype_policy, name="towers")
        self.scorers = StackedDense(num, 1, dtype=self.dtype_policy, name="scorers")
        shape: tuple[int | None, ...] = (None, self.encoder.width)
        self.trunk.build(shape)
        shape = (num, *self.trunk.compute_output_shape(shape))
        self.towers.build(shape)
        self.scorers.build(self.towers.compute_output_shape(shape))

    def shared(self, features: dict[str, Any], valid: Any, training: bool) -> list[Any]:
        """The trunk's output for the real items, ``[n, units[-1]]``."""
        return [self.trunk(self.encode_items(features, valid), training=training)]

    def heads(self, cut: Sequence[Branch], valid: Any, training: bool) -> dict[str, Any]:
        """One tower per task on its own copy of the trunk's output."""
        return self.scores_of_items(self.scorers(self.towers(cut[0].copies(), training=training)), valid)

    def variable_groups(self) -> list[Group]:
        """Encoder and trunk belong to all tasks, each slice of towers and scorers to one."""
        tasks = tuple(range(len(self.tasks)))
        return [
            Group(tasks, [*self.encoder.trainable_variables, *self.trunk.trainable_variables]),
            Group(tasks, [*self.towers.trainable_variables, *self.scorers.trainable_variables], stacked=True),
        ]
