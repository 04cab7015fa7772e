"""Computes the outputs of the signatures from the scores of all tasks, in the served graph and for its checks.

A request has B lists with at most L items; a pointwise request has N items; there are T tasks. A padded place has the
score -1e9, the value and the probability 0, the index -1 and the id ``""``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from tfmtl2r._backend import tf
from tfmtl2r.batch import PREFERENCE
from tfmtl2r.names import BLEND, safe_name
from tfmtl2r.schema import Schema
from tfmtl2r.serving.blend import Blend, blended
from tfmtl2r.task import Task
from tfmtl2r.training.blending import Facts, facts_of
from tfmtl2r.training.members import uncertainty_of
from tfmtl2r.training.readings import Reading
from tfmtl2r.types import Mask, Scores

if TYPE_CHECKING:
    from tfmtl2r.training.merged import Merged
    from tfmtl2r.training.model import MultiTaskRanker

PADDED = -1e9
"""The score of a padded place. It is lower than any item's score, and finite because JSON has no infinity."""
BLENDED = ("score", "outputs", "scores")
"""The outputs with the blended score: of the predict signatures and ``rank``, of ``regress``, and of ``classify``."""
BLEND_WEIGHTS, ITEM_IDS, TOP = "blend_weights", "item_ids", "k"


def score_key(task: str) -> str:
    """The name of the output with a task's scores.

    >>> score_key("click"), score_key("add to cart")
    ('score_click', 'score_add_to_cart_31900a39')
    """
    return f"score_{safe_name(task)}"


def probability_key(task: str) -> str:
    """The name of the output with a task's probabilities."""
    return f"probability_{safe_name(task)}"


def value_key(task: str) -> str:
    """The name of the output with the values of a task's scores in the label's unit."""
    return f"value_{safe_name(task)}"


def uncertainty_key(task: str) -> str:
    """The name of the output with the deviation of the members' values, for merged rankers."""
    return f"uncertainty_{safe_name(task)}"


def own_names(tasks: Iterable[str]) -> dict[str, str]:
    """Output of a task -> its name with the task's own name.

    >>> own_names(["add to cart"])["value_add_to_cart_31900a39"]
    'value_add to cart'
    """
    kinds = (score_key, value_key, probability_key, uncertainty_key)
    return {key(task): f"{key('')}{task}" for task in tasks for key in kinds}


def request_key(name: str, schema: Schema) -> str:
    """The key of a further input in a request. It differs from the names of all features.

    >>> from tfmtl2r import Dense
    >>> request_key("k", Schema([Dense("price")])), request_key("k", Schema([Dense("k")]))
    ('k', '\\x00k')
    """
    return f"\0{name}" if name in schema.inputs else name


@dataclasses.dataclass(frozen=True)
class Answers:
    """The outputs of every signature of one ranker.

    Args:
        tasks: tasks of the ranker.
        blend: a blend with a weight for every task (:func:`tfmtl2r.serving.blend.resolved`).
        lists: whether requests contain lists.
        readings: task -> the meaning of its scores.
        merged: whether the scores are those of several members, with their uncertainties beside them.
        deviations, constants: what the kind of blend may need, see :class:`tfmtl2r.training.blending.Facts`.
    """

    tasks: tuple[Task, ...]
    blend: Blend
    lists: bool
    readings: Mapping[str, Reading]
    merged: bool = False
    deviations: Any = None
    constants: Any = None

    @classmethod
    def of(cls, model: MultiTaskRanker | Merged, blend: Blend, lists: bool) -> Self:
        """The outputs of a trained ranker; blend and lists are those of the class."""
        facts = facts_of(model, lists)
        return cls(tuple(model.tasks), blend, lists, facts.readings, model.has_members, facts.deviations,
                   facts.constants)

    def scores(self, scores: Mapping[str, Any], valid: Mask | None, extras: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of the predict signatures: all scores, values and probabilities of every item.

        Args:
            scores: task -> ``float32[B, L]`` (plain rows: ``[B]``).
            valid: ``bool[B, L]``; None for plain rows.
            extras: further inputs of the request: ``blend_weights`` and ``preference``, each ``float32[B, T]``, or
                nothing.
        """
        served = {score_key(task.name): scores[task.name] for task in self.tasks}
        served["score"] = self._blended(scores, valid, extras)
        read = {value_key(task): self.readings[task].value(scores[task], scores) for task in self.with_value}
        read |= {probability_key(task): self.readings[task].probability(scores[task], scores)
                 for task in self.with_probability}
        read |= {uncertainty_key(task): scores[uncertainty_of(task)] for task in self.with_uncertainty}
        if valid is None:
            return {**served, **read}
        return {**{name: tf.where(valid, score, PADDED) for name, score in served.items()},
                **{name: tf.where(valid, value, 0.0) for name, value in read.items()}, "valid": valid}

    def score_specs(self) -> dict[str, Any]:
        """Types and shapes of :meth:`scores`."""
        names = [*(score_key(task.name) for task in self.tasks), "score",
                 *map(value_key, self.with_value), *map(probability_key, self.with_probability),
                 *map(uncertainty_key, self.with_uncertainty)]
        shape = [None, None] if self.lists else [None]
        specs = {name: tf.TensorSpec(shape, tf.float32) for name in names}
        return {**specs, "valid": tf.TensorSpec(shape, tf.bool)} if self.lists else specs

    def best(self, scores: Mapping[str, Any], valid: Mask | None, extras: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of ``rank``: the k items of each list with the highest blended scores, best first.

        If scores are equal, the earlier item comes first.

        Args:
            scores, valid: see :meth:`scores`.
            extras: ``k``, ``int32[B]``; ``item_ids``, ``string[B, L]``; and ``blend_weights``. The second axis of the
                outputs is the largest k, at most L.
        """
        blend = self._blended(scores, valid, extras)
        size = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)
        wanted = tf.clip_by_value(extras[TOP], 0, size)
        # The width depends on k, not on L, so that a merged request gets the same outputs as its parts alone.
        width = tf.reduce_max(tf.concat([[0], tf.minimum(extras[TOP], tf.shape(valid)[1])], axis=0))
        order = tf.math.top_k(tf.where(valid, blend, -float("inf")), k=width).indices
        there = tf.range(width) < wanted[:, None]
        served = {"score": blend, **{score_key(task.name): scores[task.name] for task in self.tasks}}
        served = {name: tf.where(there, tf.gather(value, order, batch_dims=1), PADDED)
                  for name, value in served.items()}
        ids = tf.where(there, tf.gather(extras[ITEM_IDS], order, batch_dims=1), "")
        return {"indices": tf.where(there, order, -1), "ids": ids, **served, "valid": there}

    def best_specs(self) -> dict[str, Any]:
        """Types and shapes of :meth:`best`."""
        types = {"indices": tf.int32, "ids": tf.string, "score": tf.float32}
        types |= {score_key(task.name): tf.float32 for task in self.tasks} | {"valid": tf.bool}
        return {name: tf.TensorSpec([None, None], dtype) for name, dtype in types.items()}

    def regressed(self, scores: Mapping[str, Any], valid: Mask | None, extras: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of ``regress``: the blended score of every item, ``[N]``.

        Args:
            scores, valid, extras: see :meth:`scores`; every list has one item (or the request has plain rows).
        """
        return {"outputs": tf.reshape(self._blended(scores, valid, extras), [-1])}

    def regressed_specs(self) -> dict[str, Any]:
        """Types and shapes of :meth:`regressed`."""
        return {"outputs": tf.TensorSpec([None], tf.float32)}

    def classified(self, scores: Mapping[str, Any], valid: Mask | None, extras: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of ``classify``: names and scores of all tasks and of the blend for every item, ``[N, T + 1]``.

        Args:
            scores, valid, extras: see :meth:`scores`; every list has one item (or the request has plain rows).
        """
        columns = [*(scores[task.name] for task in self.tasks), self._blended(scores, valid, extras)]
        stacked = tf.stack([tf.reshape(column, [-1]) for column in columns], axis=1)
        classes = tf.constant([[*(task.name for task in self.tasks), BLEND]])
        return {"classes": tf.repeat(classes, tf.shape(stacked)[0], axis=0), "scores": stacked}

    def classified_specs(self) -> dict[str, Any]:
        """Types and shapes of :meth:`classified`."""
        shape = [None, len(self.tasks) + 1]
        return {"classes": tf.TensorSpec(shape, tf.string), "scores": tf.TensorSpec(shape, tf.float32)}

    def _blended(self, scores: Mapping[str, Any], valid: Mask | None, extras: Mapping[str, Any]) -> Scores:
        asked = extras.get(BLEND_WEIGHTS), extras.get(PREFERENCE)
        facts = Facts(self.readings, self.deviations, self.constants)
        return blended(self.blend, self.tasks, scores, valid, *asked, facts)

    @functools.cached_property
    def with_value(self) -> list[str]:
        """The tasks whose scores have values: their loss determines the level, or they are calibrated."""
        return [task.name for task in self.tasks if self.readings[task.name].has_value]

    @property
    def with_uncertainty(self) -> list[str]:
        """The tasks with values whose members may disagree."""
        return self.with_value if self.merged else []

    @functools.cached_property
    def with_probability(self) -> list[str]:
        """The binary tasks whose values are probabilities.

        >>> from tfmtl2r.training.readings import readings_of
        >>> tasks = (Task("like", kind="binary", loss="bce"), Task("buy", kind="binary"))
        >>> answers = Answers(tasks, Blend({"like": 1.0}), True, readings_of(tasks, has_lists=True))
        >>> answers.with_probability  # softmax leaves the level free
        ['like']
        """
        return [task.name for task in self.tasks if self.readings[task.name].has_chance]
