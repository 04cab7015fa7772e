"""YouTube's "watch next" ranker: MMoE with a shallow tower that models position bias."""

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
    note="For clicks with logged positions. The position is an input in training, and not needed in serving.",
)


class WatchNext(MultiGateArchitecture):
    """``score_t = mmoe_t(x) + shallow_t(p)``: p are position features (place, device), x are all other features.

    Users click items at the top more often. The shallow tower of each biased task learns this effect from the position
    features p. The experts do not read p, so MMoE learns the value of the item itself. In training, an item's p counts
    as missing with probability ``position_dropout``, or if one of its numbers is NaN. Outside training, p always counts
    as missing. The shallow term is then one constant per task, and evaluation, prediction and exports do not require p.

    Experts, gates and heads are as in ``mmoe``. All variables that read p belong to one task each.

    Args:
        position: names of the position features p. They must be known when an item is shown, not when it is ranked.
        position_units: widths of each shallow tower's hidden layers.
        position_dropout: probability that p of an item counts as missing in training, in [0, 1).
        biased: names of the tasks with a shallow tower, for example clicks; all tasks by default.

    Raises:
        ValueError: for an invalid option of MMoE, no position feature, or a position_dropout outside [0, 1). Connecting
            raises it for an unknown position feature or task, or if there is no other feature.
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
        """Creates MMoE on all features except the position features, and shallow towers on the position features."""
        position, rest = self._divided(schema)
        for task in self.biased_tasks:
            if task not in tasks:
                raise InputError(f"watch_next: the biased task {task!r} is not among the tasks: {', '.join(tasks)}")
        self.position_schema = position
        self.biased = tuple(i for i, task in enumerate(tasks) if task in (self.biased_tasks or tasks))
        super().connect(tasks, rest, **options)

    def make_beside(self) -> None:
        """Creates the shallow towers."""
        num, dtype = len(self.biased), self.dtype_policy
        names = [self.tasks[i] for i in self.biased]
        with keras.name_scope("position"):  # keeps the paths of tables apart from the main encoder's
            self.position_encoders = TaskEncoders(names, self.position_schema, dtype=dtype, name="position_encoders")
        # One more input is 1 if the position is missing.
        shape = (num, None, self.position_encoders.width + 1)
        self.shallow = MLP(self.position_units, self.hidden["activation"], stacked=num, dtype=dtype, name="shallow")
        self.shallow_scorers = Scorers(num, name="shallow_scorers")
        self.shallow.build(shape)
        self.shallow_scorers.build(self.shallow.compute_output_shape(shape))

    def heads(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """MMoE's scores, plus the shallow towers' scores for the biased tasks.

        Only the heads read the position features, since no variable that reads them is shared.
        """
        scores = super().heads(cut, batch, training)
        items = tf.shape(cut[1].tensor)[0]
        if training:
            seen = self._seen(batch, items)
        else:
            width = self.position_encoders.width
            seen = tf.concat([tf.zeros([1, 1, width]), tf.ones([1, 1, 1])], axis=-1)
        shallow = self.shallow_scorers(self.shallow(tf.cast(seen, self.compute_dtype), training=training))
        # One number for all items: with one number per item, rounding could create differences.
        added = (shallow if training else tf.repeat(shallow, items, axis=1))[..., 0]
        added = tf.unstack(batch.as_lists(added), num=len(self.biased))
        for i, term in zip(self.biased, added, strict=True):
            # Small heads train the experts, too, and the experts must not learn the position.
            for score in (self.tasks[i], small_head_of(self.tasks[i])):
                if score in scores:
                    scores[score] += term
        return scores

    def variable_groups(self) -> list[Group]:
        """MMoE's groups. Position encoders and shallow towers belong to one task each."""
        own = [Group((task,), self.position_encoders.variables_of(i)) for i, task in enumerate(self.biased)]
        shallow = [*self.shallow.trainable_variables, *self.shallow_scorers.trainable_variables]
        groups = [*super().variable_groups(), *own, Group(self.biased, shallow, stacked=True)]
        return [group for group in groups if group.variables]

    def _divided(self, schema: Schema) -> tuple[Schema, Schema]:
        """The position features, in the order of the schema, and the others."""
        for name in self.position:
            if name not in schema.names:
                raise InputError(f"watch_next reads the position features {self.position}, but there is no feature "
                                 f"{name!r} among {', '.join(schema.names)}; set position to your position features, "
                                 "or use mmoe")
        rest = [f for f in schema.features if f.name not in self.position]
        if not rest:
            raise InputError(f"watch_next: all features are position features, {self.position}; the experts need "
                             "others")
        return Schema(f for f in schema.features if f.name in self.position), Schema(rest)

    def _seen(self, batch: Batch, items: Tensor) -> Tensor:
        """The encoded position and a number that is 1 if the position is missing, ``[1 or K, n, width + 1]``."""
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
