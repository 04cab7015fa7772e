"""DeepMTL2R's ranker: a transformer over the items of a list, then one linear scorer per task or one for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.architectures.base import Architecture, Group
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.mlp import Scorers
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema
from tfmtl2r.types import TaskScores, Tensor

__all__ = ["DeepMTL2R"]

CARD = Card(
    title="DeepMTL2R (list transformer)",
    paper="Dong et al. 2026, https://arxiv.org/abs/2602.14519; Pobrotyn et al. 2020, https://arxiv.org/abs/2005.10084",
    note="Items attend to their list, so a score depends on the other items; expensive for long lists.",
)
HEADS = ("per_task", "shared")


class DeepMTL2R(Architecture):
    """``score_t(i) = w_t . transformer(x_1 .. x_L)_i + b_t``: items of a list attend to each other.

    The defaults are DeepMTL2R's published configuration: width 128, 4 pre-norm layers of 4 heads, hidden width 512,
    dropout .3, no positions.

    Args:
        heads: ``"per_task"`` for one linear scorer per task; ``"shared"`` for one scorer and one ranking, trained on
            all labels, as in the authors' code.
        units: width D of the transformer.
        num_layers: number of transformer layers.
        num_heads: number of heads of each attention.
        feedforward: hidden width after each attention.
        dropout: rate in the transformer.
        positions: ``"none"``, or an encoding of an item's position in the input list: ``"fixed"`` or ``"learned"``.
        max_positions: number of positions in a learned table.
        latent_cross: multiply the item's input vector by the transformer's output for it.
        interaction: multiplies features with each other before the first layer, see :class:`Architecture`.
        small_heads: weight of an auxiliary loss of one linear scorer per task, see :class:`Architecture`. With
            ``heads="shared"`` it trains the transformer for each label separately. With ``"per_task"`` it adds a
            second linear scorer of the same kind.

    Raises:
        ValueError: for an unknown kind of heads, or invalid options of the transformer.

    Differs from the authors' code: layer normalisation is Keras' (biased variance, epsilon inside the root), and one
    forward pass serves all tasks. Items beyond the ``max_positions`` of a learned table share its last position.
    """

    def __init__(
        self,
        heads: str = "per_task",
        units: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        feedforward: int = 512,
        dropout: float = 0.3,
        positions: str = "none",
        max_positions: int = 240,
        latent_cross: bool = False,
        interaction: str | dict[str, Any] | None = None,
        small_heads: float = 0.0,
        bias_features: Any = None,
    ):
        transformer = {
            "name": "transformer", "units": units, "num_layers": num_layers, "num_heads": num_heads,
            "feedforward": feedforward, "dropout": dropout, "positions": positions, "max_positions": max_positions,
            "latent_cross": latent_cross,
        }  # fmt: skip
        super().__init__(
            encoder=transformer, interaction=interaction, small_heads=small_heads, bias_features=bias_features
        )
        if heads not in HEADS:
            raise InputError(f"heads must be one of {', '.join(HEADS)}, not {heads!r}")
        self.per_task = heads == "per_task"

    def connect(self, tasks: Sequence[str], schema: Schema, **options: Any) -> None:
        """Creates the transformer and the scorers."""
        super().connect(tasks, schema, **options)
        num = len(self.tasks) if self.per_task else 1
        self.scorers = Scorers(num, name="scorers")
        self.scorers.build((num, None, self.encoder.width))
        self.make_small_heads(self.encoder.width)

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The transformer's outputs, ``[n, D]``.

        With one scorer for all tasks, the cut is its scores ``[n, 1]``, plus the outputs if small heads read them.
        """
        items = self.encoder(batch=batch, training=training)
        if self.per_task:
            return [items]
        return [self.scorers(items[None])[0], *([items] if training and self.small_heads else [])]

    def heads(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """The scores of one linear scorer per task, or the same score for all tasks."""
        read = cut[0].copies()
        scores = self.scores_of_items(self.scorers(read) if self.per_task else read, batch)
        return self.with_small_heads(scores, cut[-1].copies(), batch, training)

    def variable_groups(self) -> list[Group]:
        """The transformer belongs to all tasks; a single scorer does, too."""
        tasks = tuple(range(len(self.tasks)))
        shared, scorers = self.encoder.trainable_variables, self.scorers.trainable_variables
        if not self.per_task:
            return [Group(tasks, [*shared, *scorers])]
        return [Group(tasks, shared), Group(tasks, scorers, stacked=True)]
