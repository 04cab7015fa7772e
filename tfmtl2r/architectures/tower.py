"""Architectures that end in one tower per task. They differ in the vectors that the towers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r import returned
from tfmtl2r.architectures.base import Architecture, Group
from tfmtl2r.batch import Batch
from tfmtl2r.errors import not_defined
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.mlp import MLP, Scorers, widths
from tfmtl2r.schema import Schema
from tfmtl2r.types import TaskScores, Tensor


class TowerArchitecture(Architecture):
    """``score_t = scorer_t(tower_t(x_t))``: a lower network computes ``x_1 .. x_T``, the inputs of T equal towers.

    A subclass creates the lower network in :meth:`make_lower` and defines :meth:`shared`, :meth:`tower_inputs` and
    :meth:`lower_groups`. The towers of all tasks are computed as one batched product per layer.

    Args:
        head_units: widths of each tower's hidden layers.
        activation: name of a Keras activation, for every hidden layer.
        dropout: rate after each hidden layer.
        layer_norm: normalise each hidden layer before its activation.
    """

    def __init__(
        self,
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.head_units = widths(head_units, "head_units")
        self.hidden: dict[str, Any] = {"activation": activation, "dropout": dropout, "layer_norm": layer_norm}

    def connect(
        self, tasks: Sequence[str], schema: Schema, *, conditioned: bool = False, dtype: Any = None, towers: bool = True
    ) -> None:
        """Creates encoder, lower network and towers.

        Args:
            tasks: names of the tasks, in order.
            schema: the features of a batch.
            conditioned: whether the preference of the batch modulates features and scores.
            dtype: dtype policy of the layers; the architecture's policy if None.
            towers: False if another architecture uses this one as its lower network and has its own towers.
        """
        super().connect(tasks, schema, conditioned=conditioned, dtype=dtype)
        self.make_lower()
        if towers:
            self._make_towers()

    def _make_towers(self) -> None:
        num = len(self.tasks)
        self.towers = self.make_towers()
        self.scorers = Scorers(num, name="scorers")
        shape = (num, None, self.tower_width)
        self.towers.build(shape)
        self.scorers.build(self.towers.compute_output_shape(shape))
        self.make_beside()
        self.make_small_heads(self.tower_width)

    def make_towers(self) -> Any:
        """The towers, which are not built yet: input ``[T, n, tower_width]``."""
        return MLP(self.head_units, **self.hidden, stacked=len(self.tasks), dtype=self.dtype_policy, name="towers")

    def make_lower(self) -> None:
        """Creates all layers between encoder and towers. The encoder already exists."""
        raise not_defined(self, "make_lower")

    def make_beside(self) -> None:
        """Creates parts beside the towers, which already exist; none by default."""

    @property
    def tower_width(self) -> int:
        """Width of a tower's input."""
        raise not_defined(self, "tower_width")

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """The towers' inputs, ``[T, n, tower_width]`` for n items, from the branches of the cut.

        Slice t may depend only on task t's copy or part of the cut and on variables of task t.
        """
        raise not_defined(self, "tower_inputs")

    def lower_groups(self) -> list[Group]:
        """The groups of all trainable variables below the towers."""
        raise not_defined(self, "lower_groups")

    def heads(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """The towers' scores. Small heads have the same inputs as the towers."""
        inputs = returned.tensor(
            self.tower_inputs(cut, batch, training), (len(self.tasks), None, self.tower_width),
            f"{type(self).__name__}.tower_inputs", "one input for each task and item, [T, n, tower_width]")
        scores = self.scores_of_items(self.tower_scores(inputs, training), batch)
        return self.with_small_heads(scores, inputs, batch, training)

    def tower_scores(self, inputs: Tensor, training: bool) -> Tensor:
        """The towers' outputs, ``[T, n, 1]``."""
        return self.scorers(self.towers(inputs, training=training))

    def variable_groups(self) -> list[Group]:
        """The groups of the lower network, and one for towers and scorers, whose slices belong to one task each."""
        towers = [*self.towers.trainable_variables, *self.scorers.trainable_variables]
        return [*self.lower_groups(), Group(tuple(range(len(self.tasks))), towers, stacked=True)]
