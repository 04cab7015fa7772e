"""Blends the scores of all tasks into one served score. An export chooses the kind of blend and its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.preferences import scaled
from tfmtl2r.task import Task
from tfmtl2r.training.merged import Merged
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.types import Mask, Scores, Tensor, Weights

KINDS = {
    "sum": "sum over tasks of weight * score_<task>, on raw scores",
    "product": "log of the product over tasks of value ** weight; the value is sigmoid(score_<task>) of a "
    "binary task and softplus(score_<task>) of any other",
    "rank": "sum over tasks of weight / (60 + rank of the item in its list by score_<task>)",
}
"""Kind of blend -> definition of the output ``score``."""
MOST = 1e20
"""The largest magnitude of a weight. A larger weight times a score could exceed float32, which ends at 3e38."""
RANK_OFFSET = 60.0
"""The constant of reciprocal rank fusion, as in the paper. It limits the influence of the first places."""


@dataclasses.dataclass(frozen=True)
class Blend:
    """Kind and weights of the blend that computes the served score from the scores of the tasks.

    - ``"sum"`` adds raw scores, so their scales matter.
    - ``"product"`` converts every task to a positive number. The logarithm of the product is served, because it has the
      same order and neither underflows nor overflows.
    - ``"rank"`` uses only the order of each list, so scales do not matter. Items with equal scores share the best of
      their ranks. It requires lists.

    Args:
        weights: task -> weight; a task that is left out has weight 0. None uses the ranker's preference.
            :func:`resolved` fills in all tasks, in the order of the ranker.
        kind: one of ``KINDS``.

    Raises:
        ValueError: for an unknown kind, a weight that is not finite or beyond 1e20, or no weight other than 0.

    Source of ``"rank"``: Cormack, Clarke and Buettcher, Reciprocal rank fusion outperforms Condorcet and individual
    rank learning methods, SIGIR 2009, https://doi.org/10.1145/1571941.1572114
    """

    weights: Mapping[str, float] | None = None
    kind: str = "sum"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"the kind of a blend must be one of {', '.join(map(repr, KINDS))}, not {self.kind!r}")
        if self.weights is None:
            return
        weights = {name: float(weight) for name, weight in self.weights.items()}
        if not all(abs(weight) <= MOST for weight in weights.values()) or not any(weights.values()):
            raise InputError(f"blend needs finite weights from {-MOST:g} to {MOST:g}, at least one of them not 0, got "
                             f"{dict(self.weights)}")
        object.__setattr__(self, "weights", weights)

    @property
    def values(self) -> np.ndarray:
        """The weights as ``float32[T]``."""
        return np.array(list((self.weights or {}).values()), np.float32)


def resolved(model: MultiTaskRanker | Merged, blend: Mapping[str, float] | Blend | None = None) -> Blend:
    """Returns a blend with a weight for every task of a ranker.

    Args:
        model: a ranker.
        blend: a blend, or task -> weight for a weighted sum. Items with a high score in a task with negative weight
            move down. None is a sum weighted by the model's preference.

    Raises:
        ValueError: for an unknown task or invalid weights (see :class:`Blend`).

    >>> from tfmtl2r import Dense, Schema
    >>> ranker = MultiTaskRanker("shared_bottom", [Task("click"), Task("buy", weight=3)], Schema([Dense("price")]))
    >>> resolved(ranker).weights, resolved(ranker, {"click": 2}).weights
    ({'click': 0.25, 'buy': 0.75}, {'click': 2.0, 'buy': 0.0})
    """
    blend = blend if isinstance(blend, Blend) else Blend(blend)
    names = [task.name for task in model.tasks]
    if blend.weights is None:
        weights = dict(zip(names, scaled(np.asarray(model.preference)).tolist(), strict=True))
    else:
        unknown = sorted(set(blend.weights) - set(names))
        if unknown:
            raise InputError(f"blend has a weight for {unknown[0]!r}, which is not a task of this ranker; its tasks "
                             f"are {', '.join(names)}")
        weights = {name: blend.weights.get(name, 0.0) for name in names}
    return Blend(weights, blend.kind)


def of_config(config: Mapping[str, Any]) -> Blend:
    """The blend that an experiment chooses for what it serves (``export.blend``), in the config of its run card."""
    own = config.get("export", {}).get("blend", {})
    return Blend(own.get("weights"), own.get("kind", "sum"))


def blended(
    blend: Blend, tasks: tuple[Task, ...], scores: Mapping[str, Scores], valid: Mask | None,
    weights: Weights | None = None,
) -> Scores:
    """The blended score of every item.

    Args:
        blend: the kind of blend, and the weights for requests without weights.
        tasks: tasks of the ranker.
        scores: task -> ``float32[B, L]`` (plain rows: ``[B]``).
        valid: ``bool[B, L]``; None for plain rows.
        weights: weights in the request, ``float32[B, T]``; see :func:`chosen`.

    Returns:
        ``float32``, in the shape of the scores.

    >>> tasks = (Task("click", kind="binary"), Task("buy"))
    >>> scores = {"click": tf.constant([[0.0, 2.0, 9.0]]), "buy": tf.constant([[3.0, 1.0, 9.0]])}
    >>> valid = tf.constant([[True, True, False]])
    >>> blended(Blend({"click": 2.0, "buy": 1.0}), tasks, scores, valid)[:, :2].numpy().tolist()
    [[3.0, 5.0]]
    >>> fused = blended(Blend({"click": 2.0, "buy": 1.0}, "rank"), tasks, scores, valid)
    >>> bool(abs(fused[0, 0] - (2 / 62 + 1 / 61)) < 1e-6)
    True
    """
    if blend.kind == "product":
        values = [_log_value(task, scores[task.name]) for task in tasks]
    elif blend.kind == "rank":
        values = [1.0 / (RANK_OFFSET + _rank(scores[task.name], valid)) for task in tasks]
    else:
        values = [scores[task.name] for task in tasks]
    if weights is None:
        return tf.add_n([weight * value for weight, value in zip(blend.values.tolist(), values, strict=True)])
    weights = chosen(weights, blend)
    return tf.reduce_sum(tf.stack(values, axis=-1) * (weights if valid is None else weights[:, None, :]), axis=-1)


def chosen(weights: Weights, blend: Blend) -> Tensor:
    """The weights of each request, ``float32[B, T]``: its own, or the blend's where a row of them is no preference.

    A row with a number that is negative, above 1e20 or NaN, or of zeros only, counts as the blend's own weights: an
    error would fail the other requests that the server merged with this one. So zeros ask for the default.

    >>> chosen(tf.constant([[1.0, 2.0], [0.0, 0.0], [-1.0, 1.0]]), Blend({"click": 5.0, "buy": 6.0})).numpy().tolist()
    [[1.0, 2.0], [5.0, 6.0], [5.0, 6.0]]
    """
    usable = tf.reduce_all((weights >= 0) & (weights <= MOST), axis=1) & tf.reduce_any(weights > 0, axis=1)
    return tf.where(usable[:, None], weights, blend.values)


def _log_value(task: Task, score: Tensor) -> Tensor:
    if task.kind == "binary":
        return tf.math.log_sigmoid(score)
    # Far below 0, softplus(x) underflows; its logarithm is x there.
    return tf.where(score < -15.0, score, tf.math.log(tf.nn.softplus(tf.maximum(score, -15.0))))


def _rank(scores: Scores, valid: Mask | None) -> Tensor:
    """1 + the number of items of the list with a higher score, as float32; O(L log L)."""
    keys = tf.where(valid, -scores, np.inf)
    return 1.0 + tf.cast(tf.searchsorted(tf.sort(keys, axis=-1), keys, side="left"), tf.float32)
