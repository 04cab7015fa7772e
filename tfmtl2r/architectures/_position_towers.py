"""Shallow towers that read features of the place at which an item was shown, beside any architecture."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError, InputKeyError
from tfmtl2r.layers import randomness
from tfmtl2r.layers.features import per_item
from tfmtl2r.layers.mlp import MLP, Scorers, widths
from tfmtl2r.layers.task_encoders import TaskEncoders
from tfmtl2r.schema import Schema
from tfmtl2r.types import Tensor


class PositionTowers:
    """``g_t(p)``, one number per item and biased task t, from the position features p.

    Users click items at the top more often. In training, a biased task's logit is ``f_t(x) + g_t(p)``: its own shallow
    tower ``g_t`` learns the effect of the place, and the architecture ``f_t``, which does not read p, learns the value
    of the item. In training, an item's p counts as missing with probability ``position_dropout``, or if one of its
    numbers is NaN. Outside training, p always counts as missing: ``g_t`` is then one constant per task, and evaluation,
    prediction and exports do not require p. The level of served scores is the level of a missing position, so that
    probabilities need a calibration.

    Args:
        features: names of the position features p, such as position or device. They are known when an item is shown,
            not when it is ranked.
        position_units: widths of each tower's hidden layers.
        position_dropout: probability that p of an item counts as missing in training, in [0, 1).
        biased: names of the biased tasks, for example clicks; all tasks by default. A ranker of a single task ignores
            the names of other tasks.
        activation: name of a Keras activation.

    Raises:
        ValueError: for no position feature, or a position_dropout outside [0, 1).

    Reference: Zhao et al. 2019, https://doi.org/10.1145/3298689.3346997
    """

    def __init__(
        self,
        features: Sequence[str],
        position_units: Sequence[int] = (16,),
        position_dropout: float = 0.1,
        biased: Sequence[str] = (),
        activation: str = "relu",
    ):
        if isinstance(features, str) or not features:
            raise InputError("bias_features must name one or more features, such as ('position',), not "
                             f"{features!r}")
        if not 0.0 <= position_dropout < 1.0:
            raise InputError(f"position_dropout must lie in [0, 1), not {position_dropout}")
        self.features = tuple(features)
        self.units = widths(position_units, "position_units")
        self.dropout = position_dropout
        self.biased_tasks = tuple(biased)
        self.activation = activation

    @classmethod
    def of(cls, described: Any) -> PositionTowers | None:
        """The towers of the option ``bias_features``: names of features, or a mapping with more options.

        Raises:
            ValueError: for an unknown option.
        """
        if described is None or (isinstance(described, Sequence) and not described):
            return None
        options = dict(described) if isinstance(described, Mapping) else {"features": described}
        known = list(inspect.signature(cls).parameters)
        if unknown := [name for name in options if name not in known]:
            raise InputError(f"bias_features has no option {unknown[0]!r}; its options are {', '.join(known)}")
        if "features" not in options:
            raise InputError("bias_features must name one or more features, such as {features = ['position']}; got "
                             f"{options!r}")
        return cls(**options)

    def divided(self, schema: Schema) -> tuple[Schema, Schema]:
        """The position features, in the order of the schema, and the others.

        Raises:
            ValueError: for an unknown feature, or if there is no other feature.
        """
        for name in self.features:
            if name not in schema.names:
                raise InputError(f"bias_features {self.features}: there is no feature {name!r} among "
                                 f"{', '.join(schema.names)}; a column of your own table is a feature if [[features]] "
                                 "names it (or has '*') and leave_out does not")
        rest = [f for f in schema.features if f.name not in self.features]
        if not rest:
            raise InputError(f"all features are position features, {self.features}; the architecture needs others")
        return Schema(f for f in schema.features if f.name in self.features), Schema(rest)

    def make(self, tasks: Sequence[str], schema: Schema, dtype: Any) -> dict[str, Any]:
        """Creates the layers.

        Args:
            tasks: names of the ranker's tasks.
            schema: the position features.
            dtype: dtype policy of the layers.

        Returns:
            Each layer by the name of the architecture's attribute that holds it, which Keras writes to files.

        Raises:
            ValueError: for a biased task that is not among several tasks.
        """
        for task in self.biased_tasks:
            if task not in tasks and len(tasks) > 1:
                raise InputError(f"bias_features: the biased task {task!r} is not among the tasks: {', '.join(tasks)}")
        self.tasks = tuple(tasks)
        self.schema = schema
        self.biased = tuple(i for i, task in enumerate(tasks) if task in (self.biased_tasks or tasks))
        if not self.biased:
            return {}
        with keras.name_scope("position"):  # keeps the paths of tables apart from the main encoder's
            self.encoders = TaskEncoders([tasks[i] for i in self.biased], schema, dtype=dtype, name="position_encoders")
        num = len(self.biased)
        # One more input is 1 if the position is missing.
        shape = (num, None, self.encoders.width + 1)
        self.hidden = MLP(self.units, self.activation, stacked=num, dtype=dtype, name="shallow")
        self.scorers = Scorers(num, name="shallow_scorers")
        self.hidden.build(shape)
        self.scorers.build(self.hidden.compute_output_shape(shape))
        return {"position_encoders": self.encoders, "shallow": self.hidden, "shallow_scorers": self.scorers}

    def terms(self, batch: Batch, training: bool, dtype: str) -> dict[str, Tensor]:
        """``g_t(p)`` of every biased task by its name, float32 ``[B, L]`` (plain rows: ``[B]``).

        Args:
            batch: the lists or rows. Only in training they must contain the position features.
            training: True in a training step.
            dtype: the dtype in which the towers compute.

        Raises:
            KeyError: if a position feature is missing in training.
        """
        if not self.biased:
            return {}
        if training:
            seen = self._seen(batch)
        else:
            seen = tf.concat([tf.zeros([1, 1, self.encoders.width]), tf.ones([1, 1, 1])], axis=-1)
        added = self.scorers(self.hidden(tf.cast(seen, dtype), training=training))
        added = tf.cast(added[..., 0], tf.float32)
        if training:
            added = batch.as_lists(added)
        elif not batch.is_rows:  # one number for all items: rounding could make numbers per item differ
            added = tf.where(batch.valid, added[..., None], 0.0)
        return dict(zip((self.tasks[i] for i in self.biased), tf.unstack(added, num=len(self.biased)), strict=True))

    def of_tasks(self) -> list[tuple[tuple[int, ...], list[Any], bool]]:
        """Tasks, variables and ``stacked`` of the groups of variables, see :class:`.base.Group`."""
        if not self.biased:
            return []
        own = [((task,), self.encoders.variables_of(i), False) for i, task in enumerate(self.biased)]
        return [*own, (self.biased, [*self.hidden.trainable_variables, *self.scorers.trainable_variables], True)]

    def _seen(self, batch: Batch) -> Tensor:
        """The encoded position and a number that is 1 if the position is missing, ``[1 or K, n, width + 1]``."""
        for name in self.schema.inputs:
            if name not in batch.features:
                raise InputKeyError(f"position feature {name!r} is missing; bias_features needs it in training; got "
                                    f"{sorted(batch.features)}")
        encoded = self.encoders(batch=batch, training=True)
        known = tf.random.stateless_uniform(tf.shape(encoded)[1:2], randomness.next_seed()) >= self.dropout
        for feature in self.schema.features:
            known &= per_item(feature, batch, feature.known)
        known = tf.cast(known, encoded.dtype)[None, :, None]
        missing = tf.repeat(1.0 - known, tf.shape(encoded)[0], axis=0)
        return tf.concat([encoded * known, missing], axis=-1)
