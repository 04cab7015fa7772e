"""Several finished rankers that score as one: an ensemble whose members may be of different kinds.

A task whose losses determine the level of the scores in all members has values in the unit of its label. Its value is
the mean of the members' values, and its score is what gives this value: the logit of a probability, and otherwise the
value itself. In any other task, only the order within a list is known, so that the scores of each member are
standardised within the list, ``(s - mean) / sd`` over the real items, and averaged. A list whose scores are equal
gives zeros.

Source of averaging: Lakshminarayanan, Pritzel and Blundell, Simple and scalable predictive uncertainty estimation using
deep ensembles, NeurIPS 2017, https://arxiv.org/abs/1612.01474
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import LIST_SIZE, PREFERENCE, Batch
from tfmtl2r.blends.base import Blend
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.pipeline import batches
from tfmtl2r.errors import InputError
from tfmtl2r.layers.features import Lookup
from tfmtl2r.layers.numbers import standardised
from tfmtl2r.losses.base import reads_logits
from tfmtl2r.preferences import normalised
from tfmtl2r.schema import Schema
from tfmtl2r.training.blending import SCORE, blend_scores, default_of, facts_of
from tfmtl2r.training.head_statistics import HeadStatistics
from tfmtl2r.training.members import deviation, logit_of, uncertainty_of
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.readings import Reading
from tfmtl2r.types import Features, Mask, TaskScores, Tensor


def merged(rankers: Sequence[Any]) -> Any:
    """The rankers as one; a single ranker stays as it is."""
    return rankers[0] if len(rankers) == 1 else Merged(rankers)


class MergedReading(Reading):
    """The meaning of a merged score.

    Args:
        members: the members' readings of the task.
    """

    def __init__(self, members: Sequence[Reading]):
        first = members[0]
        super().__init__(first.task, first.loss)
        self.members = tuple(members)
        self._has_value = all(member.has_value for member in members)
        self._has_chance = all(member.has_chance for member in members)
        # The value of a calibrated softmax may exceed 1, and then has no logit.
        self.has_logits = self._has_chance and all(
            member.calibration is not None or reads_logits(member.loss) for member in members)

    @property
    def has_value(self) -> bool:
        """Whether all members' scores have values."""
        return self._has_value

    @property
    def has_chance(self) -> bool:
        """Whether the values of all members are probabilities."""
        return self._has_chance

    def value(self, scores: Any, beside: Any = None) -> Tensor | None:
        """The value of merged scores; None if they have no level. The members have read their columns already."""
        if not self.has_value:
            return None
        return tf.sigmoid(scores) if self.has_logits else tf.convert_to_tensor(scores)

    def best_guess(self, scores: Any, beside: Any = None) -> Tensor:
        """The value of merged scores, or the scores in its place."""
        value = self.value(scores)
        return tf.convert_to_tensor(scores) if value is None else value

    def merge(self, found: Sequence[TaskScores], valid: Mask | None) -> dict[str, Tensor]:
        """The merged scores, and the standard deviation of the members' values (divisor: their number).

        Args:
            found: the scores of each member by task, ``float32[B, L]``, and its columns beside them.
            valid: ``bool[B, L]``; None for plain rows.
        """
        name = self.task.name
        scores = [tf.cast(one[name], tf.float32) for one in found]
        if not self.has_value:
            assert valid is not None  # Merged refuses plain rows
            return {name: tf.add_n([standardised(one, valid) for one in scores]) / len(scores)}
        values: Any = tf.stack([member.value(own, one)
                                for member, own, one in zip(self.members, scores, found, strict=True)])
        mean = tf.reduce_mean(values, axis=0)
        if self.has_logits:
            against = tf.maximum(tf.reduce_mean(1.0 - values, axis=0), 1e-7)
            return {name: logit_of(mean, against), uncertainty_of(name): deviation(values)}
        return {name: mean, uncertainty_of(name): deviation(values)}


class MergedLookup(keras.layers.Layer):
    """Looks up the raw inputs of all members. The key of a feature is the member's number and the feature's name."""

    def __init__(self, schemas: Sequence[Schema]):
        super().__init__(dtype="float32")
        self.members = [Lookup(schema) for schema in schemas]

    def call(self, raw: dict[str, Any]) -> Features:
        """Looks up every input for every member."""
        found: Features = {}
        for number, lookup in enumerate(self.members):
            found |= {_key(number, name): value for name, value in lookup(raw).items()}
        return found


@dataclasses.dataclass(frozen=True)
class _Network:
    """What others read of an architecture."""

    schema: Schema
    variables: list[Any]


class Merged:
    """Several rankers of the same tasks, which are scored, evaluated and exported as one.

    See :mod:`tfmtl2r.training.merged` for what a merged score is.

    Args:
        rankers: two or more trained rankers with the same tasks. Their architectures, losses and features may differ;
            a feature that several of them read has the same form in all. Each keeps its statistics and vocabularies.

    Raises:
        ValueError: for fewer than two rankers, other tasks, lists beside plain rows, conditioned beside other rankers,
            features of the same name with different inputs, or plain rows whose scores have no level.
    """

    def __init__(self, rankers: Sequence[MultiTaskRanker]):
        self.rankers = tuple(rankers)
        first = self.rankers[0]
        if len(self.rankers) < 2:
            raise InputError("a merged ranker needs at least two rankers")
        for number, other in enumerate(self.rankers, start=1):
            _check_alike(first, other, number)
        self.tasks, self.conditioned = first.tasks, first.conditioned
        # A merged score has another scale than those of the members: it has no deviation until it is measured.
        self.blend: Blend | None = None
        self.head_statistics = HeadStatistics([task.name for task in self.tasks])
        self.has_lists = next((one.has_lists for one in self.rankers if one.has_lists is not None), None)
        self.schema = _united([one.architecture.schema for one in self.rankers])
        self.dtype_policy = max((one.dtype_policy for one in self.rankers),
                                key=lambda policy: tf.as_dtype(policy.compute_dtype).size == 2)
        rows = self.has_lists is False
        if rows and (free := [name for name, one in self.readings(False).items() if not one.has_value]):
            raise InputError(f"task {free[0]}: its loss leaves the level of the scores free, and without lists there "
                             "is nothing to standardise them within: such rankers cannot be merged")
        self.architecture = _Network(
            self.schema, [variable for one in self.rankers for variable in one.architecture.variables])
        self.list_context = (any(one.list_context or one.architecture.schema.list_context for one in self.rankers)
                             or not all(one.has_value for one in self.readings(not rows).values()))
        self.num_members = len(self.rankers)

    has_members = True

    @property
    def preference(self) -> Tensor:
        """The mean of the members' preferences, ``float32[T]``."""
        return tf.add_n([tf.convert_to_tensor(one.preference) for one in self.rankers]) / len(self.rankers)

    def readings(self, lists: bool | None = None) -> dict[str, MergedReading]:
        """What the merged scores of each task mean."""
        lists = self.has_lists is not False if lists is None else lists
        members = [one.readings(lists) for one in self.rankers]
        return {task.name: MergedReading([one[task.name] for one in members]) for task in self.tasks}

    def lookup(self) -> MergedLookup:
        """A layer from raw inputs to what this ranker reads."""
        return MergedLookup([one.architecture.schema for one in self.rankers])

    def batch(self, features: Features) -> Batch:
        """The batch of the first member."""
        return self.rankers[0].batch(self._of(0, features))

    def __call__(self, features: Features, training: bool = False) -> TaskScores:
        """Merged scores by task, and uncertainties (:func:`uncertainty_of`).

        Args:
            features: what :meth:`lookup` returns; and ``preference``.
            training: must be False.
        """
        found = [one(self._of(number, features), training=training) for number, one in enumerate(self.rankers)]
        return self._merged(found, self.batch(features).valid)

    def predict(self, x: Lists | Mapping[str, Any], batch_size: int = 64, preference: Any = None) -> dict[str, Any]:
        """Merged scores and uncertainties.

        Args:
            x: lists, for an array over all items by task; or what :meth:`lookup` returns, for arrays ``[B, L]`` with
                NaN after the last item.
            batch_size: lists (or rows) per batch.
            preference: importance of each task; the result then contains the blended ``score``, too.
        """
        if isinstance(x, Lists):
            given: list[Any] = [batches(x, (), one.architecture.schema, batch_size=batch_size) for one in self.rankers]
            found = [one.predict(data, preference=preference) for one, data in zip(self.rankers, given, strict=True)]
            sizes = None if x.is_rows else x.sizes
        else:
            found = [one.predict(self._of(number, dict(x)), batch_size) for number, one in enumerate(self.rankers)]
            sizes = x.get(_key(0, LIST_SIZE))
        length = found[0][self.tasks[0].name].shape[-1]
        valid = None if sizes is None else tf.sequence_mask(sizes, length)
        tensors = [{task: tf.constant(scores) for task, scores in one.items()} for one in found]
        found_here = self._merged(tensors, valid)
        if preference is not None:
            weights = tf.constant([normalised(preference, self.tasks)], tf.float32)
            found_here[SCORE] = blend_scores(default_of(self), self.tasks, found_here, valid, weights, facts_of(self))
        merged = {name: values.numpy() for name, values in found_here.items()}
        if valid is None:
            return merged
        if isinstance(x, Lists):
            return {name: values[valid.numpy()] for name, values in merged.items()}
        return {name: np.where(valid.numpy(), values, np.nan) for name, values in merged.items()}

    def _merged(self, found: Sequence[TaskScores], valid: Mask | None) -> TaskScores:
        merged: TaskScores = {}
        for reading in self.readings(valid is not None).values():
            merged |= reading.merge(found, valid)
        return merged

    def _of(self, number: int, features: Features) -> Features:
        start = _key(number, "")
        own = {name.removeprefix(start): value for name, value in features.items() if name.startswith(start)}
        return own | ({PREFERENCE: features[PREFERENCE]} if PREFERENCE in features else {})


def _key(number: int, name: str) -> str:
    return f"{number}\0{name}"


def _check_alike(first: MultiTaskRanker, other: MultiTaskRanker, number: int) -> None:
    """Refuses a ranker that cannot be merged with the first one."""
    if other.schema is None:
        raise InputError(f"ranker {number} does not know its features yet: fit it first")
    if [task.name for task in other.tasks] != [task.name for task in first.tasks]:
        raise InputError(f"merged rankers have the same tasks in the same order: ranker {number} has "
                         f"{', '.join(task.name for task in other.tasks)}, the first one has "
                         f"{', '.join(task.name for task in first.tasks)}")
    if None not in (first.has_lists, other.has_lists) and first.has_lists != other.has_lists:
        raise InputError(f"ranker {number} and the first one cannot be merged: one ranks lists, the other plain rows")
    if (first.conditioned is None) != (other.conditioned is None):
        raise InputError(f"ranker {number} and the first one cannot be merged: only one of them reads a preference")


def _united(schemas: Sequence[Schema]) -> Schema:
    """The inputs of all schemas; the first schema with a feature describes it."""
    features: dict[str, Any] = {}
    for number, schema in enumerate(schemas, start=1):
        for feature in schema.features:
            known = features.setdefault(feature.name, feature)
            if (known.raw, known.context) != (feature.raw, feature.context):
                raise InputError(f"feature {feature.name!r} of ranker {number} has other inputs than in an earlier one "
                                 f"({feature.raw} instead of {known.raw}): merged rankers read the same requests")
    return Schema(features.values())
