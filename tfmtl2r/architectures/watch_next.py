"""YouTube's "watch next" ranker: MMoE, and a shallow tower that takes the blame for where items were shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures._experts import MultiGateArchitecture
from tfmtl2r.architectures.base import Group, small_head_of
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError, InputKeyError
from tfmtl2r.layers import randomness
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.features import per_item
from tfmtl2r.layers.mlp import MLP, Scorers, widths
from tfmtl2r.layers.task_encoders import TaskEncoders
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema
from tfmtl2r.types import TaskScores, Tensor

__all__ = ["WatchNext"]

CARD = Card(
    title='YouTube "watch next" (MMoE with a position-bias tower)',
    paper="Zhao et al. 2019, https://doi.org/10.1145/3298689.3346997",
    note="For clicks logged with their position: it explains them in training and is not asked for in serving.",
)


class WatchNext(MultiGateArchitecture):
    """``score_t = mmoe_t(x) + shallow_t(p)``: p is where, and on what device, an item was shown; x is all else.

    People click what stands on top. The shallow tower of each biased task learns that from the position features p,
    which the experts never see, so that MMoE is left with what the item itself is worth. In training an item's p is
    missing with probability ``position_dropout``, or where a number of it is NaN. Outside training it always is: the
    shallow term is then one constant per task, and evaluation, prediction and exports do not ask for p.

    Experts, gates and heads are as in ``mmoe``; everything that reads p belongs to one task.

    Args:
        position: names of the features that make p. They must be known when an item is shown, not when it is ranked.
        position_units: widths of each shallow tower's hidden layers.
        position_dropout: chance that training takes p for missing, per item, in [0, 1).
        biased: names of the tasks with a shallow tower, such as clicks; all by default.

    Raises:
        ValueError: for an option of MMoE out of bounds, no position feature, or a position_dropout outside [0, 1); on
            connecting, for an unknown position feature or task, or if no other feature is left.
    """

    def __init__(
        self,
        num_experts: int = 8,
        expert_units: Sequence[int] = (256, 128),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        gate_dropout: float = 0.0,
        temperature: float = 1.0,
        position: Sequence[str] = ("position",),
        position_units: Sequence[int] = (16,),
        position_dropout: float = 0.1,
        biased: Sequence[str] = (),
        **kwargs: Any,
    ):
        mmoe = (num_experts, expert_units, head_units, activation, dropout, gate_dropout, temperature)
        super().__init__(*mmoe, **kwargs)
        if isinstance(position, str) or not position:
            raise InputError("watch_next: position must name one or more features, such as ('position',), not "
                             f"{position!r}")
        if not 0.0 <= position_dropout < 1.0:
            raise InputError(f"watch_next: position_dropout must lie in [0, 1), not {position_dropout}")
        self.position = tuple(position)
        self.position_units = widths(position_units, "position_units")
        self.position_dropout = position_dropout
        self.biased_tasks = tuple(biased)

    def connect(self, tasks: Sequence[str], schema: Schema, **options: Any) -> None:
        """Makes MMoE on all features but the position, and the shallow towers on the position."""
        position, rest = self._divided(schema)
        for task in self.biased_tasks:
            if task not in tasks:
                raise InputError(f"watch_next: the biased task {task!r} is none of {', '.join(tasks)}")
        self.position_schema = position
        self.biased = tuple(i for i, task in enumerate(tasks) if task in (self.biased_tasks or tasks))
        super().connect(tasks, rest, **options)

    def make_beside(self) -> None:
        """Makes the shallow towers."""
        num, dtype = len(self.biased), self.dtype_policy
        names = [self.tasks[i] for i in self.biased]
        with keras.name_scope("position"):  # else a table would have the path of the main encoder's
            self.position_encoders = TaskEncoders(names, self.position_schema, dtype=dtype, name="position_encoders")
        # One more input says that the position is missing.
        shape = (num, None, self.position_encoders.width + 1)
        self.shallow = MLP(self.position_units, self.hidden["activation"], stacked=num, dtype=dtype, name="shallow")
        self.shallow_scorers = Scorers(num, name="shallow_scorers")
        self.shallow.build(shape)
        self.shallow_scorers.build(self.shallow.compute_output_shape(shape))

    def heads(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """MMoE's scores; those of the biased tasks with the shallow towers' on top.

        The position features are read here: no variable is shared below them.
        """
        scores = super().heads(cut, batch, training)
        items = tf.shape(cut[1].tensor)[0]
        if training:
            seen = self._seen(batch, items)
        else:
            width = self.position_encoders.width
            seen = tf.concat([tf.zeros([1, 1, width]), tf.ones([1, 1, 1])], axis=-1)
        shallow = self.shallow_scorers(self.shallow(tf.cast(seen, self.compute_dtype), training=training))
        # One number for all items, not as many that rounding might tell apart.
        added = (shallow if training else tf.repeat(shallow, items, axis=1))[..., 0]
        added = tf.unstack(batch.as_lists(added), num=len(self.biased))
        for i, term in zip(self.biased, added, strict=True):
            # A small head shapes the experts as well, which are not to learn the position.
            for score in (self.tasks[i], small_head_of(self.tasks[i])):
                if score in scores:
                    scores[score] += term
        return scores

    def variable_groups(self) -> list[Group]:
        """MMoE's; position encoders and shallow towers belong to one task each."""
        own = [Group((task,), self.position_encoders.variables_of(i)) for i, task in enumerate(self.biased)]
        shallow = [*self.shallow.trainable_variables, *self.shallow_scorers.trainable_variables]
        groups = [*super().variable_groups(), *own, Group(self.biased, shallow, stacked=True)]
        return [group for group in groups if group.variables]

    def _divided(self, schema: Schema) -> tuple[Schema, Schema]:
        """The position features, in the order of the schema, and the others."""
        for name in self.position:
            if name not in schema.names:
                raise InputError(f"watch_next reads where an item was shown from position={self.position}, but no "
                                 f"feature is called {name!r}: {', '.join(schema.names)}; name yours, or use mmoe")
        rest = [f for f in schema.features if f.name not in self.position]
        if not rest:
            raise InputError(f"watch_next: all features are position features, {self.position}; the experts need "
                             "others")
        return Schema(f for f in schema.features if f.name in self.position), Schema(rest)

    def _seen(self, batch: Batch, items: Tensor) -> Tensor:
        """The encoded position and whether it is missing, ``[1 or K, n, width + 1]``."""
        for name in self.position_schema.inputs:
            if name not in batch.features:
                raise InputKeyError(f"position feature {name!r} is missing; watch_next needs it in training; got "
                                    f"{sorted(batch.features)}")
        known = tf.random.stateless_uniform([items], randomness.next_seed()) >= self.position_dropout
        for feature in self.position_schema.features:
            known &= per_item(feature, batch, feature.known)
        encoded = self.position_encoders(batch=batch)
        known = tf.cast(known, encoded.dtype)[None, :, None]
        missing = tf.repeat(1.0 - known, tf.shape(encoded)[0], axis=0)
        return tf.concat([encoded * known, missing], axis=-1)
