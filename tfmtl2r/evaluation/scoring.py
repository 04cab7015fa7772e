"""Evaluates a trained ranker on a split, for one preference or several, and stores the results in a run card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.data import Lists, batches
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.slices import Slicing, sliced
from tfmtl2r.evaluation.split_metrics import ORDER, Score, evaluate, per_list_arrays
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.identity import KEY, PER_LIST
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.writing import written


def score(
    model: MultiTaskRanker, lists: Lists, batch_size: int = 256, preference: Sequence[float] | None = None,
    weights: Mapping[str, str] | None = None, propensity_weights: Mapping[str, str] | None = None,
    tau: float | None = None,
) -> dict[str, dict[str, Score]]:
    """Evaluates a ranker on a split.

    Args:
        model: a trained ranker.
        lists: the split.
        batch_size: lists per batch.
        preference: the preference for a conditioned ranker; None uses the preference given to ``compile``.
        weights: task -> column of importance weights, as in :func:`tfmtl2r.data.batches`.
        propensity_weights: task -> column of inverse propensities, for estimates from weighted clicks beside the
            metrics, see :func:`tfmtl2r.evaluation.evaluate`.
        tau: bound of the inverse propensities, see there.
    """
    return next(score_along(model, lists, [preference], batch_size, weights, propensity_weights, tau))


def score_along(
    model: MultiTaskRanker, lists: Lists, preferences: Iterable[Sequence[float] | np.ndarray | None],
    batch_size: int = 256, weights: Mapping[str, str] | None = None,
    propensity_weights: Mapping[str, str] | None = None, tau: float | None = None,
) -> Iterator[dict[str, dict[str, Score]]]:
    """Evaluates a conditioned ranker for several preferences.

    The results are those of :func:`score` for each preference; the batches are prepared once.

    Args:
        model: a trained ranker.
        lists: the split.
        preferences: the preferences to evaluate, in order.
        batch_size: lists per batch.
        weights: as for :func:`score`.
        propensity_weights: as for :func:`score`.
        tau: as for :func:`score`.
    """
    if model.schema is None:
        raise InputError("train the ranker first: it does not know its features yet")
    data = batches(lists, (), model.architecture.schema, batch_size=batch_size)
    for preference in preferences:
        scores = model.predict(data, layout="items", preference=preference)
        yield evaluate(scores, lists, model.tasks, weights, propensity_weights, tau)


def score_slices(
    model: MultiTaskRanker, lists: Lists, slicings: Sequence[Slicing], batch_size: int = 256
) -> dict[str, dict[str, Any]]:
    """Evaluates a ranker on slices of a split; see :func:`tfmtl2r.evaluation.slices.sliced`."""
    data = batches(lists, (), model.architecture.schema, batch_size=batch_size)
    return sliced(model.predict(data, layout="items"), lists, model.tasks, slicings) if slicings else {}


def described(results: dict[str, dict[str, Score]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns results in the form of a run card."""
    return {
        task: {
            metric: {"value": s.value, "num_lists": s.num_lists, "direction": s.direction, "conventions": s.conventions}
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
        with np.load(path) as stored:
            before = dict(stored)
    if card.identity:
        arrays[KEY] = np.array(card.identity)
    with written(path) as temporary:
        np.savez_compressed(temporary, **{**before, **arrays})
