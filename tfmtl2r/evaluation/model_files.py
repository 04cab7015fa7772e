"""Evaluates a ``.keras`` file or an export, which know no data set, on the data and the tasks of a run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.exchanging import Reads
from tfmtl2r.evaluation.file_scores import _open, _Opened
from tfmtl2r.evaluation.slices import Slicing, sliced
from tfmtl2r.evaluation.split_metrics import Score, evaluate
from tfmtl2r.task import Task


def score_model(
    path: str | Path, lists: Lists, tasks: Sequence[Task], slicings: Sequence[Slicing] = (), batch_size: int = 256
) -> tuple[dict[str, dict[str, Score]], dict[str, dict[str, Any]]]:
    """Evaluates what a ``.keras`` file or an export answers, as its server would.

    Metrics read ``score_<task>``, or ``value_<task>`` if they read values. A metric of values is NaN for a task without
    such an answer.

    Args:
        path: a ``.keras`` file, the folder of an export (its newest version), or the folder of a version.
        lists: the split, with the model's features.
        tasks: tasks of the run whose data these are, with their metrics and fitted transforms.
        slicings: divisions of the split.
        batch_size: lists per batch.

    Returns:
        What :func:`tfmtl2r.evaluation.evaluate` and :func:`tfmtl2r.evaluation.slices.sliced` return.

    Raises:
        ValueError: for a model without one of the tasks, or data without one of its inputs.
    """
    with answers_of(path, tasks, batch_size) as reads:
        scores, values, levels = reads(lists)
    results = evaluate(scores, lists, tasks, values=values, levels=levels)
    return results, sliced(scores, lists, tasks, slicings, values=values, levels=levels)


@contextlib.contextmanager
def answers_of(path: str | Path, tasks: Sequence[Task], batch_size: int = 256) -> Iterator[Reads]:
    """Opens a ``.keras`` file or an export, and gives a function from lists to scores, values and levels of all items.

    The arguments and errors are those of :func:`score_model`.
    """
    with contextlib.closing(_open(Path(path), batch_size)) as opened:
        yield lambda lists: _answers(opened, path, lists, tasks)


def _answers(
    opened: _Opened, path: str | Path, lists: Lists, tasks: Sequence[Task]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    # A server answers in the order of rows: here, of the items of the split.
    given = dataclasses.replace(lists, source_rows=np.arange(lists.num_items))
    if not lists.is_rows and lists.list_id is None:
        given = dataclasses.replace(given, list_id="list")
    found = opened.scores(given)
    names = [name.removeprefix("score_") for name in found if name.startswith("score_")]
    if lacking := [task.name for task in tasks if task.name not in names]:
        raise InputError(f"{path} has no task {lacking[0]!r}; its tasks are {', '.join(names)}: name a run with these "
                         "tasks")
    scores, values = ({task.name: found[f"{kind}_{task.name}"] for task in tasks if f"{kind}_{task.name}" in found}
                      for kind in ("score", "value"))
    return scores, values, values
