"""Chooses the kind of blend of a trained ranker on the validation split, by the served utility."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r import blends, constructors
from tfmtl2r._backend import tf
from tfmtl2r.blends.base import Blend
from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.scoring import predicted, prepared
from tfmtl2r.evaluation.served import Utility, as_numbers, metrics_along, places, ranking_metric, utility_of
from tfmtl2r.preferences import corners
from tfmtl2r.training.blending import Facts, blend_scores, check_usable, default_of, described, facts_of
from tfmtl2r.training.merged import Merged
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.types import Array

MOST_LISTS = 2_000
"""The largest number of lists of vali that the choice looks at; they are spread evenly over the split."""


def kinds_of(model: MultiTaskRanker | Merged, has_lists: bool = True) -> list[Blend]:
    """All kinds that a trained ranker can serve, in the order in which ties are decided."""
    facts = facts_of(model, has_lists)
    found = [kind for name in blends.names() if not constructors.required(blends.registry.constructor(name), {})
             for kind in type(blends.get(name)).variants()]
    return sorted((kind for kind in found if _is_usable(kind, facts, has_lists)),
                  key=lambda kind: (kind.precedence, str(described(kind))))


def _is_usable(kind: Blend, facts: Facts, has_lists: bool) -> bool:
    try:
        check_usable(kind, facts, has_lists)
    except InputError:
        return False
    return True


def served_orders(
    model: MultiTaskRanker | Merged, kinds: Sequence[Blend], lists: Lists, preferences: Array, batch_size: int = 256
) -> np.ndarray:
    """The scores that each kind of blend serves at each preference, ``float32[K, G, N]``.

    Args:
        model: a trained ranker; a conditioned ranker also has each preference as its input.
        kinds: kinds of blend that the ranker can serve.
        lists: the split, in lists.
        preferences: ``[G, T]``, each row of sum 1.
        batch_size: lists per batch.
    """
    return Scored(model, lists, batch_size).orders(kinds, preferences)


class Scored:
    """The scores of a ranker on a split, from which its orders at any preferences follow.

    Args:
        model, lists, batch_size: see :func:`served_orders`.
    """

    def __init__(self, model: MultiTaskRanker | Merged, lists: Lists, batch_size: int = 256):
        self.model, self.lists = model, lists
        self.facts = facts_of(model, True)
        self._data = prepared(model, lists, batch_size)
        self._scores = None if model.conditioned is not None else self._at(None)

    def _at(self, preference: Any) -> dict[str, np.ndarray]:
        found = predicted(self.model, self.lists, self._data, preference)
        return {task.name: found[task.name] for task in self.model.tasks}

    def orders(self, kinds: Sequence[Blend], preferences: Array) -> np.ndarray:
        """The scores that each kind of blend serves at each preference; see :func:`served_orders`."""
        preferences = np.asarray(preferences, np.float32)
        each = [self._scores] if self._scores is not None else [self._at(preference) for preference in preferences]
        tasks, many = self.model.tasks, len(preferences)
        stacked = {task.name: np.stack([one[task.name] for one in each]) for task in tasks}
        found = np.zeros((len(kinds), many, self.lists.num_items), np.float32)
        for index, valid in places(self.lists, many):
            scores = {task: tf.constant(np.broadcast_to(values[:, index], (many, *index.shape)).reshape(
                -1, index.shape[1])) for task, values in stacked.items()}
            mask, weights = tf.constant(np.tile(valid, (many, 1))), np.repeat(preferences, len(index), axis=0)
            for number, kind in enumerate(kinds):
                blended = blend_scores(kind, tasks, scores, mask, tf.constant(weights), self.facts).numpy()
                found[number][:, index[valid]] = blended.reshape(many, *index.shape)[:, valid]
        return found


def utilities(
    model: MultiTaskRanker | Merged, kinds: Sequence[Blend], lists: Lists, preferences: Array | None = None,
    batch_size: int = 256,
) -> list[Utility]:
    """The served utility of each kind of blend of one ranker, on the same lists. See :func:`served_orders`.

    Args:
        model, kinds, lists, batch_size: see there.
        preferences: ``[G, T]``; by default :func:`tfmtl2r.preferences.corners`.
    """
    grid = corners(len(model.tasks)) if preferences is None else np.asarray(preferences)
    equal = np.full((1, grid.shape[1]), 1 / grid.shape[1])
    orders = served_orders(model, kinds, lists, np.concatenate([grid, equal]), batch_size)
    values, counts = metrics_along(orders.reshape(-1, orders.shape[-1]), lists, model.tasks)
    values = values.reshape(*orders.shape[:2], *values.shape[1:])
    return [utility_of(each[:-1], each[-1:], counts, grid) for each in values]


def choose_blend(model: MultiTaskRanker | Merged, vali: Lists, batch_size: int = 256) -> dict[str, Any]:
    """Gives a ranker the kind of blend with the largest served utility on vali, and returns how it was chosen.

    Kinds whose utility is within one paired standard error of the largest are ties; the first of them is chosen, in the
    order deviation, value, mixture, mixture with constants, rank, and then any other by its name.

    Args:
        model: a trained ranker whose heads are measured.
        vali: the validation split.
        batch_size: lists per batch.

    Returns:
        ``{"by": "vali", "kind", "table", "lists", "grid", "metrics"}`` for the run card and for metadata, with a row
        of the table per kind: ``utility``, ``null``, ``gain``, its ``error``, and how far it is ``behind`` the largest
        (``behind_error``: the paired standard error). ``{"by": "default", "kind", "reason"}`` without a choice.
    """
    reason = no_choice(model, vali)
    if reason is None:
        vali = spread(vali)
        kinds = kinds_of(model)
        found = utilities(model, kinds, vali, batch_size=batch_size)
        best = found[int(np.argmax([each.value for each in found]))]
        behind = [best.over(each) for each in found]
        if all(math.isfinite(error) for _, error in behind):
            model.blend = next(kind for kind, (gap, error) in zip(kinds, behind, strict=True) if gap <= error)
            rows = [{"kind": described(kind), **as_numbers(each), "behind": gap, "behind_error": error}
                    for kind, each, (gap, error) in zip(kinds, found, behind, strict=True)]
            return {"by": "vali", "kind": described(model.blend), "table": rows, "lists": vali.num_lists,
                    "grid": corners(len(model.tasks)).tolist(),
                    "metrics": {task.name: ranking_metric(task).label for task in model.tasks}}
        reason = "the validation split has fewer than two lists with labels to compare kinds on"
    model.blend = default_of(model)
    return {"by": "default", "kind": described(model.blend), "reason": reason}


def spread(lists: Lists) -> Lists:
    """At most ``MOST_LISTS`` lists, spread evenly over a split."""
    count = min(lists.num_lists, MOST_LISTS)
    return lists.select(np.unique(np.linspace(0, lists.num_lists - 1, count).astype(int)))


def no_choice(model: MultiTaskRanker | Merged, vali: Lists) -> str | None:
    """Why nothing about the served score can be chosen on vali; None if it can."""
    if vali.is_rows:
        return "plain rows have no lists, whose orders could be compared"
    if vali.num_lists < 2 or not vali.num_items:
        return "the validation split has fewer than two lists"
    if len(model.tasks) < 2:
        return "a single task has nothing to blend"
    return None
