"""The blend of an export: the kind of blend of the output ``score``, and its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmtl2r import blends
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.preferences import per_list, scaled
from tfmtl2r.task import Task
from tfmtl2r.training.blending import Facts, blend_scores, check_suits, default_of, described
from tfmtl2r.training.merged import Merged
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.types import Described, Mask, Scores, Tensor, Weights

MOST = 1e20
"""The largest magnitude of a weight. A larger weight times a score could exceed float32, which ends at 3e38."""
GIVEN = {"by": "given"}
UNCHOSEN = {"by": "default", "reason": "no choice on a validation split was made for this ranker"}


@dataclasses.dataclass(frozen=True)
class Blend:
    """Kind and weights of the blend that computes the served score from the scores of the tasks.

    Args:
        weights: task -> weight; a task that is left out has weight 0. None uses the ranker's preference.
            :func:`resolved` fills in all tasks, in the order of the ranker.
        kind: a kind of :mod:`tfmtl2r.blends`: its name, ``{"name": ..., option: value}`` or an object. None uses the
            ranker's own kind.
        choice: how the kind was chosen, for the metadata of an export.

    Raises:
        ValueError: for an unknown kind, a weight that is not finite or beyond 1e20, no weight other than 0, or a
            negative weight for a kind that has none.
    """

    weights: Mapping[str, float] | None = None
    kind: Described | blends.Blend | None = "sum"
    choice: Mapping[str, Any] = dataclasses.field(default_factory=lambda: GIVEN)

    def __post_init__(self) -> None:
        if self.kind is not None:
            object.__setattr__(self, "kind", described(blends.get(self.kind)))
        if self.weights is None:
            return
        weights = {name: float(weight) for name, weight in self.weights.items()}
        if not all(abs(weight) <= MOST for weight in weights.values()) or not any(weights.values()):
            raise InputError(f"blend needs finite weights from {-MOST:g} to {MOST:g}, at least one of them not 0, got "
                             f"{dict(self.weights)}")
        if self.kind is not None and self.made.positive and min(weights.values()) < 0:
            raise InputError(f"a blend of the kind {self.kind!r} has no weights below 0, got {dict(self.weights)}: "
                             "choose another kind, such as 'deviation'")
        object.__setattr__(self, "weights", weights)

    @property
    def made(self) -> blends.Blend:
        """The kind as an object."""
        assert self.kind is not None  # resolved() has filled it in
        return blends.get(self.kind)

    @property
    def values(self) -> np.ndarray:
        """The weights as ``float32[T]``."""
        return np.array(list((self.weights or {}).values()), np.float32)


def resolved(model: MultiTaskRanker | Merged, blend: Mapping[str, float] | Blend | None = None) -> Blend:
    """Returns a blend with a weight for every task of a ranker.

    Args:
        model: a ranker.
        blend: a blend, or task -> weight for a weighted sum. Items with a high score in a task with negative weight
            move down. None is the model's own kind, weighted by its preference.

    Raises:
        ValueError: for an unknown task or invalid weights (see :class:`Blend`).

    >>> from tfmtl2r import Dense, Schema
    >>> ranker = MultiTaskRanker("shared_bottom", [Task("click"), Task("buy", weight=3)], Schema([Dense("price")]))
    >>> resolved(ranker).weights, resolved(ranker, {"click": 2}).weights
    ({'click': 0.25, 'buy': 0.75}, {'click': 2.0, 'buy': 0.0})
    """
    if not isinstance(blend, Blend):
        blend = Blend(None, None) if blend is None else Blend(blend)
    names = [task.name for task in model.tasks]
    if blend.weights is None:
        weights = dict(zip(names, scaled(np.asarray(model.preference)).tolist(), strict=True))
    else:
        unknown = sorted(set(blend.weights) - set(names))
        if unknown:
            raise InputError(f"blend has a weight for {unknown[0]!r}, which is not a task of this ranker; its tasks "
                             f"are {', '.join(names)}")
        weights = {name: blend.weights.get(name, 0.0) for name in names}
    if blend.kind is not None:
        return Blend(weights, blend.kind, blend.choice)
    own = UNCHOSEN if model.blend is None else {"by": "ranker"}
    return Blend(weights, default_of(model), own if blend.choice is GIVEN else blend.choice)


def of_config(config: Mapping[str, Any], choice: Mapping[str, Any] = GIVEN) -> Blend:
    """The blend that an experiment chooses for what it serves (``export.blend``), in the config of its run card.

    Args:
        config: the experiment.
        choice: how kind and weights were chosen, as in the run card. If the experiment leaves the kind to the ranker
            (``"auto"``), the kind is None. Weights that the experiment wants ``"tuned"`` are in ``choice["tuned"]``,
            and None without a choice.
    """
    own = config.get("export", {}).get("blend", {})
    weights, tuned = own.get("weights"), own.get("weights") == "tuned"
    if tuned:
        weights = choice.get("tuned", {}).get("weights")
    kind, temperature = own.get("kind", "sum" if own.get("weights") and not tuned else None), own.get("temperature")
    if temperature is not None:
        kind = {**(kind if isinstance(kind, Mapping) else {"name": kind}), "temperature": temperature}
    return Blend(weights, kind, GIVEN if not choice or (kind is not None and not tuned) else choice)


def prepare(model: MultiTaskRanker, config: Mapping[str, Any], has_lists: bool) -> None:
    """Refuses a blend of an experiment that cannot be served, before training, and gives its kind to the ranker.

    Args:
        model: the ranker, before its training.
        config: the experiment, as in its run card.
        has_lists: whether the data have lists.

    Raises:
        ValueError: for weights of unknown tasks, or a kind that the data or the losses rule out.
    """
    blend = of_config(config)
    resolved(model, blend)
    if blend.kind is not None:
        check_suits(blend.made, model.readings(has_lists), has_lists)
        model.blend = blend.made


def blended(
    blend: Blend, tasks: tuple[Task, ...], scores: Mapping[str, Scores], valid: Mask | None,
    weights: Weights | None = None, preference: Weights | None = None, facts: Facts | None = None,
) -> Scores:
    """The blended score of every item.

    Args:
        blend: the kind of blend, and the weights for requests without weights.
        tasks: tasks of the ranker.
        scores: task -> ``float32[B, L]`` (plain rows: ``[B]``).
        valid: ``bool[B, L]``; None for plain rows.
        weights: what each list requests, ``float32[B, T]``; see :func:`chosen`.
        preference: the preference of each list, ``float32[B, T]``, which is scaled to sum 1; an invalid row stands for
            the weights of the blend. Weights take precedence.
        facts: what the kind reads beside scores, if anything.

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
    used: Any = blend.values[None]
    if preference is not None:
        used = per_list(preference, blend.values, tf.shape(preference)[0])
    if weights is not None:
        used = chosen(weights, used)
    return blend_scores(blend.made, tasks, dict(scores), valid, used, facts or Facts({}))


def chosen(weights: Weights, otherwise: Any) -> Tensor:
    """The weights of each list, ``float32[B, T]``: its own, or others where a row of them is no preference.

    A row with a number that is negative, above 1e20 or NaN, or of zeros only, is none: an error would fail the other
    requests that the server merged with this one. So zeros ask for the default.

    Args:
        weights: what each list requests, ``float32[B, T]``.
        otherwise: a blend, whose weights apply; or other weights, ``float32[B, T]`` or ``[1, T]``.

    >>> chosen(tf.constant([[1.0, 2.0], [0.0, 0.0], [-1.0, 1.0]]), Blend({"click": 5.0, "buy": 6.0})).numpy().tolist()
    [[1.0, 2.0], [5.0, 6.0], [5.0, 6.0]]
    """
    usable = tf.reduce_all((weights >= 0) & (weights <= MOST), axis=1) & tf.reduce_any(weights > 0, axis=1)
    return tf.where(usable[:, None], weights, otherwise.values if isinstance(otherwise, Blend) else otherwise)
