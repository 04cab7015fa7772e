"""Measures what blends read about the heads of a trained ranker, on the training split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.data.columns import label_values
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.scoring import predicted, prepared
from tfmtl2r.ranking import MAX_GRADE
from tfmtl2r.task import Task
from tfmtl2r.training.merged import Merged
from tfmtl2r.training.model import MultiTaskRanker

MOST_ITEMS = 200_000
_CUTOFF = 10


def measure_heads(model: MultiTaskRanker | Merged, lists: Lists, batch_size: int = 256) -> None:
    """Measures the deviation of each head's scores, and the constant of each task's labels.

    The deviations take the place of those that the ranker kept while training. They are over the items of lists that
    are spread evenly over the split, about 200,000 at most. A conditioned ranker is scored at the preference given to
    ``compile``.

    Args:
        model: a trained ranker.
        lists: the training split.
        batch_size: lists (or rows) per batch.
    """
    if model.schema is None:
        raise InputError("train the ranker first: it does not know its features yet")
    spread = lists.select(np.arange(0, lists.num_lists, max(1, lists.num_items // MOST_ITEMS)))
    scores = predicted(model, spread, prepared(model, spread, batch_size))
    deviations = [float(np.std(scores[task.name], dtype=np.float64)) for task in model.tasks]
    model.head_statistics.set(np.array(deviations), constants_of(lists, model.tasks))


def constants_of(lists: Lists, tasks: Sequence[Task]) -> np.ndarray:
    """The constant of each task, ``float64[T]``: the mean of ``sum_i gain_i / IDCG@10`` over lists.

    Lists without a relevant item are left out. The gain is ``2^y - 1`` of a grade, ``y`` of a binary label, and
    ``max(y, 0)`` of any other number. The constant is 0 for a task without a relevant item, and for plain rows.

    Args:
        lists: the training split.
        tasks: the tasks.

    >>> lists = Lists({"stars": np.float32([2, 1, 0, 0])}, np.array([0, 2, 4]))
    >>> constants_of(lists, [Task("stars")]).round(4).tolist()  # (3 + 1) / (3 + 1 / log2(3))
    [1.1016]
    """
    if lists.is_rows:
        return np.zeros(len(tasks))
    ratios = [np.concatenate(parts) for parts in zip(*(_ratios(part, tasks) for part in lists.parts()), strict=True)]
    return np.array([float(np.mean(mine)) if len(mine) else 0.0 for mine in ratios])


def _ratios(lists: Lists, tasks: Sequence[Task]) -> list[np.ndarray]:
    """``sum_i gain_i / IDCG@10`` of each list with a relevant item, for each task."""
    number = np.repeat(np.arange(lists.num_lists), lists.sizes)
    places = np.arange(lists.num_items) - np.repeat(np.cumsum(lists.sizes) - lists.sizes, lists.sizes)
    discounts = np.where(places < _CUTOFF, 1 / np.log2(2.0 + places), 0.0)
    found = []
    for task in tasks:
        gains = _gains(np.asarray(label_values(lists, task), np.float64), task.kind)
        total = np.bincount(number, gains, lists.num_lists)
        best = gains[np.lexsort([-gains, number])]
        ideal = np.bincount(number, best * discounts, lists.num_lists)
        found.append(total[ideal > 0] / ideal[ideal > 0])
    return found


def _gains(labels: np.ndarray, kind: str) -> np.ndarray:
    labels = np.maximum(np.nan_to_num(labels), 0.0)
    return np.exp2(labels) - 1 if kind == "graded" and labels.max(initial=0.0) <= MAX_GRADE else labels
