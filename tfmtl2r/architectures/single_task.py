"""Single-task: T independent networks in one model."""

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
from tfmtl2r.layers.task_encoders import TaskEncoders
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

__all__ = ["SingleTask"]

CARD = Card(
    title="Single-task networks",
    note="T networks that share nothing, in one model: the baseline of delta-m. All methods use plain gradients here.",
)


class SingleTask(TowerArchitecture):
    """``score_t = head_t(trunk_t(x_t))``; tasks share nothing, not even embeddings.

    Each network equals a shared-bottom of one task with the same options. All networks are computed as batched
    products.

    Args:
        units: widths of each trunk's layers.

    Raises:
        ValueError: if ``encoder`` is given, since an encoder is shared by all tasks.
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
        if self.transformer is not None:
            raise InputError("single_task shares nothing, but an encoder is shared by all tasks; train one "
                             "shared_bottom with encoder='transformer' per task instead")
        self.units = widths(units, "units")

    def make_encoder(self) -> Any:
        """Separate embeddings for each task."""
        if self.conditioned:
            raise InputError("single_task learns each task alone, so no preference can change it: condition another "
                             "architecture")
        return TaskEncoders(self.tasks, self.schema, self.interaction, dtype=self.dtype_policy)

    def make_lower(self) -> None:
        """Makes the trunks."""
        num = len(self.tasks)
        self.trunks = MLP(self.units, **self.hidden, stacked=num, dtype=self.dtype_policy, name="trunks")
        self.trunks.build((num, None, self.encoder.width))

    @property
    def tower_width(self) -> int:
        """The trunks' last width."""
        return self.units[-1] if self.units else self.encoder.width

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """An empty cut: no variable is shared, and the towers read the batch itself."""
        return []

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """Each task's trunk on its own embeddings."""
        inputs = self.trunks(self.encoder(batch=batch, training=training), training=training)
        # Without layers the inputs of all tasks are still one tensor.
        return inputs if inputs.shape[0] == len(self.tasks) else tf.repeat(inputs, len(self.tasks), axis=0)

    def lower_groups(self) -> list[Group]:
        """All variables belong to one task each."""
        tasks = range(len(self.tasks))
        groups = [Group((task,), self.encoder.variables_of(task)) for task in tasks]
        groups.append(Group(tuple(tasks), self.trunks.trainable_variables, stacked=True))
        return [group for group in groups if group.variables]
