"""Evaluates a trained ranker on a split, for one preference or several, and stores the results in a run card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.data import Lists, batches
from tfmtl2r.data.columns import item_weights, label_values
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.slices import Slicing, sliced
from tfmtl2r.evaluation.split_metrics import ORDER, Score, evaluate, per_list_arrays
from tfmtl2r.reading import stored_arrays
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.identity import KEY, PER_LIST
from tfmtl2r.training.merged import Merged
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.readings import residual_quantiles
from tfmtl2r.training.trackers import metrics_of
from tfmtl2r.types import Batches
from tfmtl2r.writing import written

MOST_RESIDUALS = 200_000


def score(
    model: MultiTaskRanker | Merged, lists: Lists, batch_size: int = 256, preference: Sequence[float] | None = None,
    weights: Mapping[str, str] | None = None, propensity_weights: Mapping[str, str] | None = None,
    tau: float | None = None, jackknife: bool = False,
) -> dict[str, dict[str, Score]]:
    """Evaluates a ranker on a split.

    Args:
        model: a trained ranker, or several as one (:class:`tfmtl2r.Merged`).
        lists: the split.
        batch_size: lists per batch.
        preference: the preference for a conditioned ranker; None uses the preference given to ``compile``.
        weights: task -> column of importance weights, as in :func:`tfmtl2r.data.batches`.
        propensity_weights: task -> column of inverse propensities, for estimates from weighted clicks beside the
            metrics, see :func:`tfmtl2r.evaluation.evaluate`.
        tau: bound of the inverse propensities, see there.
        jackknife: see there.
    """
    return next(score_along(model, lists, [preference], batch_size, weights, propensity_weights, tau, jackknife))


def score_along(
    model: MultiTaskRanker | Merged, lists: Lists, preferences: Iterable[Sequence[float] | np.ndarray | None],
    batch_size: int = 256, weights: Mapping[str, str] | None = None,
    propensity_weights: Mapping[str, str] | None = None, tau: float | None = None, jackknife: bool = False,
) -> Iterator[dict[str, dict[str, Score]]]:
    """Evaluates a conditioned ranker for several preferences.

    The results are those of :func:`score` for each preference; the batches are prepared once. Residuals of transformed
    regressions are those of the preference given to ``compile``, as in ``predict`` and in exports.

    Args:
        model: a trained ranker.
        lists: the split.
        preferences: the preferences to evaluate, in order.
        batch_size: lists per batch.
        weights: as for :func:`score`.
        propensity_weights: as for :func:`score`.
        tau: as for :func:`score`.
        jackknife: as for :func:`score`.
    """
    if model.schema is None:
        raise InputError("train the ranker first: it does not know its features yet")
    data = prepared(model, lists, batch_size)
    for preference in preferences:
        scores, values, levels = _read(model, lists, data, preference)
        yield evaluate(scores, lists, model.tasks, weights, propensity_weights, tau, values, levels, jackknife)


def prepared(model: MultiTaskRanker | Merged, lists: Lists, batch_size: int) -> Batches | None:
    """Batches of the split for several passes. Members of a merged ranker look up values in their own ways."""
    return None if isinstance(model, Merged) else batches(lists, (), model.architecture.schema, batch_size=batch_size)


def curve(model: MultiTaskRanker, splits: Mapping[str, Lists], asked: np.ndarray) -> list[dict[str, Any]]:
    """The results of a conditioned ranker at each preference, for its card."""
    points: list[dict[str, Any]] = [{"preference": preference.tolist()} for preference in asked]
    for split, lists in splits.items():
        for point, results in zip(points, score_along(model, lists, asked), strict=True):
            point[split] = {task: {metric: found.value for metric, found in row.items()}
                            for task, row in results.items()}
    return points


def predicted(
    model: MultiTaskRanker | Merged, lists: Lists, data: Batches | None, preference: Any = None
) -> dict[str, Any]:
    """The scores of all items; ``data`` are the batches of :func:`prepared`."""
    if isinstance(model, Merged):
        return model.predict(lists, preference=preference)
    found: dict[str, Any] = model.predict(data, layout="items", preference=preference)
    return found


def read(
    model: MultiTaskRanker | Merged, lists: Lists, batch_size: int = 256
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The scores of all items, and what metrics of values and of levels read, as
    :func:`tfmtl2r.evaluation.evaluate` receives them."""
    return _read(model, lists, prepared(model, lists, batch_size))


def _read(
    model: MultiTaskRanker | Merged, lists: Lists, data: Batches | None, preference: Any = None
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The scores of all items, and what metrics of values and of levels read, for the tasks with such metrics."""
    scores = predicted(model, lists, data, preference)
    readings = model.readings()
    reads = {task.name: {metric.reads for metric in metrics_of(task, not lists.is_rows)} for task in model.tasks}
    values = {name: np.asarray(readings[name].best_guess(scores[name], scores)) for name, kinds in reads.items()
              if "value" in kinds}
    levels = {name: readings[name].value(scores[name], scores) for name, kinds in reads.items()
              if "level" in kinds or ("probability" in kinds and readings[name].has_chance)}
    return scores, values, {name: np.asarray(level) for name, level in levels.items() if level is not None}


def fit_residuals(model: MultiTaskRanker, lists: Lists, batch_size: int = 256) -> None:
    """Fits the residuals with which ``value_<task>`` of a transformed regression has the right mean.

    Nothing is done for a ranker whose values need no residuals (:mod:`tfmtl2r.training.readings`). At most about
    200,000 items are scored, in lists that are spread evenly over the split. A conditioned ranker is scored at the
    preference given to ``compile``: the mean of its values is right there, and nearly so at similar preferences.

    Args:
        model: a trained ranker.
        lists: the training split.
        batch_size: lists per batch.
    """
    if model.smearing is None or model.schema is None:
        return
    every = max(1, lists.num_items // MOST_RESIDUALS)
    lists = lists.select(np.arange(0, lists.num_lists, every))
    scores = model.predict(lists, batch_size)
    readings = model.readings()
    for name, residuals in model.smearing.residuals.items():
        task = readings[name].task
        quantiles = residual_quantiles(readings[name], label_values(lists, task), scores[name],
                                       item_weights(lists, name, task.weight_column))
        if quantiles is not None:
            residuals.assign(quantiles)


def score_slices(
    model: MultiTaskRanker | Merged, lists: Lists, slicings: Sequence[Slicing], batch_size: int = 256
) -> dict[str, dict[str, Any]]:
    """Evaluates a ranker on slices of a split; see :func:`tfmtl2r.evaluation.slices.sliced`."""
    if not slicings:
        return {}
    scores, values, levels = read(model, lists, batch_size)
    return sliced(scores, lists, model.tasks, slicings, values=values, levels=levels)


def described(results: dict[str, dict[str, Score]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns results in the form of a run card."""
    return {
        task: {
            metric: {"value": s.value, "num_lists": s.num_lists, "direction": s.direction,
                     "conventions": s.conventions, **s.beside}
            for metric, s in row.items()
        }
        for task, row in results.items()
    }


def record(card: RunCard, split: str, results: dict[str, dict[str, Score]], lists: Lists, folder: Path) -> None:
    """Adds results to a run card, and writes the values per list to ``per_list.npz`` for paired comparisons.

    The file also contains a digest of the order of the lists, and the identity of the run card.

    Args:
        card: the run card, changed in place but not written to disk.
        split: name of the split.
        results: the return value of :func:`tfmtl2r.evaluation.split_metrics.evaluate`.
        lists: the data of the split.
        folder: folder of the run.
    """
    card.results[split] = described(results)
    arrays = {**per_list_arrays(split, results), ORDER + split: np.array(lists.order())}
    path = folder / PER_LIST
    before: dict[str, Any] = {}
    if path.is_file():
        with stored_arrays(path, f"train run {card.name!r} again with --overwrite") as stored:
            before = dict(stored)
    if card.identity:
        arrays[KEY] = np.array(card.identity)
    with written(path) as temporary:
        np.savez_compressed(temporary, **{**before, **arrays})
