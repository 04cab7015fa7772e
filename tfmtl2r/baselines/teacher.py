"""Teachers: the standardised scores of baselines or runs on the training lists, and whether they are worth learning."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from tfmtl2r import __version__, baselines, losses
from tfmtl2r.baselines.base import Training, centred
from tfmtl2r.baselines.synthetic import with_copies
from tfmtl2r.data import Lists
from tfmtl2r.data.splits import by_fold
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.paired_tests import paired_differences
from tfmtl2r.evaluation.split_metrics import Score, of_metric
from tfmtl2r.losses.base import Loss
from tfmtl2r.metrics.base import Metric
from tfmtl2r.names import digest
from tfmtl2r.reading import stored_arrays
from tfmtl2r.schema import Schema
from tfmtl2r.settings import Teacher
from tfmtl2r.task import Task
from tfmtl2r.training.distillation import Distillation, column_of
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.readings import loss_of
from tfmtl2r.training.trackers import metrics_of
from tfmtl2r.writing import written

if TYPE_CHECKING:
    from tfmtl2r.training.model import MultiTaskRanker

FOLDER = ".teachers"
"""The folder of all runs keeps the teachers here. Without it, they are trained again."""
_READ = ("data", "features", "tasks", "start", "teacher.from", "teacher.folds", "teacher.synthetic")
BALANCED = 16
"""Number of batches from which the lengths of gradients are taken."""
log = logging.getLogger("tfmtl2r")

Scores = dict[str, np.ndarray]
Runs = Callable[[str], Any]
"""From the name of a run to its ranker; checks that the run was trained on the same training split."""


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a teacher teaches.

    Args:
        scores: task -> scores of all items of the lists to learn from, ``float32[N]``.
        vali: task -> scores of all items of the validation split, ``float64[N]``.
    """

    scores: Mapping[str, np.ndarray]
    vali: Mapping[str, np.ndarray]

    def beside(self, lists: Lists) -> Lists:
        """The lists to learn from, with the scores as columns."""
        for task, scores in self.scores.items():
            lists = lists.with_column(column_of(task), scores)
        return lists

    @classmethod
    def once(cls, runs: Path, on: Any, learn: Callable[[], Lesson]) -> Lesson:
        """The kept teacher, or the one that ``learn`` makes, see :func:`once`."""
        def arrays() -> dict[str, np.ndarray]:
            return {f"{part}/{task}": scores for part, found in dataclasses.asdict(learn()).items()
                    for task, scores in found.items()}

        kept = once(runs, on, arrays)
        return cls(*({name.partition("/")[2]: scores for name, scores in kept.items() if name.startswith(f"{part}/")}
                     for part in ("scores", "vali")))


def shares(settings: Teacher, tasks: Sequence[Task], known: Sequence[str]) -> dict[str, float]:
    """task -> share of the distillation loss, for tasks with a share above 0.

    Args:
        settings: the section [teacher].
        tasks: the tasks of the run.
        known: names of all tasks that may be named.

    Raises:
        ValueError: for the name of an unknown task, or a task whose value depends on the level of its scores.
    """
    given = 0.5 if settings.mix is None else settings.mix
    if isinstance(given, Mapping) and (unknown := sorted({*given} - {*known})):
        raise InputError(f"teacher.mix names {unknown[0]!r}, which is no task; the tasks are {', '.join(known)}")
    found = {task.name: given.get(task.name, 0.0) if isinstance(given, Mapping) else given for task in tasks}
    found = {task: share for task, share in found.items() if share > 0}
    for task in (task for task in tasks if task.name in found):
        loss = loss_of(task, True)
        if loss.value(np.zeros(1, np.float32)) is not None:
            others = ", ".join(f"{name} = {share}" for name, share in found.items() if name != task.name)
            leave = f"leave it to its labels (teacher.mix = {{{others}}})" if others else "leave the teacher out"
            raise InputError(f"task {task.name!r} has values in the label's unit, from its loss {type(loss).__name__}, "
                             "which the standardised scores of a teacher would shift: give it a loss for the order "
                             f"alone, such as loss = \"softmax\" (with calibration it has values again), or {leave}")
    return found


def loss_to(settings: Teacher) -> Loss:
    """The distillation loss.

    Raises:
        ValueError: for a temperature of a loss without one, or a loss whose labels are grades.
    """
    described = settings.loss or "centred_mse"
    described = {"name": described} if isinstance(described, str) else dict(described)
    if settings.temperature is not None:
        known = [option.name for option in losses.registry.options(described["name"])]
        if "temperature" not in known or "temperature" in described:
            raise InputError(f"teacher.temperature has no effect on the loss {described['name']!r}"
                             + (", which has one of its own" if "temperature" in described else "")
                             + ": leave it out, or choose soft_targets")
        described["temperature"] = settings.temperature
    loss = losses.get(described)
    if loss.relevance or not loss.listwise:
        raise InputError(f"teacher.loss must compare the scores of a list with any numbers, such as centred_mse or "
                         f"soft_targets, but {described['name']!r} does not")
    return loss


def learnt(settings: Teacher, training: Training, lists: Lists, runs: Runs) -> Lesson:
    """Trains the baselines, scores the lists with all teachers, and averages their standardised scores.

    The scores of a teacher are centred in each list and divided by one standard deviation per task, which is that of
    the lists to learn from.

    Args:
        settings: the section [teacher].
        training: the data, with the tasks to learn.
        lists: the lists to learn from: the training lists, and perhaps copies of all of them after them.
        runs: reads a run.

    Raises:
        ValueError: for a teacher without one of the tasks, or folds of a run.
    """
    train: dict[str, list[np.ndarray]] = {task.name: [] for task in training.tasks}
    vali: dict[str, list[np.ndarray]] = {task.name: [] for task in training.tasks}
    for source in _sources(settings):
        found = _of_baseline(source, settings.folds, training, lists) if _is_baseline(source) else \
            _of_run(source, settings.folds, training, lists, runs)
        for task in train:
            if task not in found[0]:
                raise InputError(f"the teacher {source!r} has no scores of the task {task!r}; leave this task to its "
                                 f"labels (teacher.mix.{task} = 0)")
            own, beside = centred(found[0][task], lists), centred(found[1][task], training.vali)
            spread = float(np.sqrt(np.mean(own**2)))
            train[task].append(own / spread if spread > 0 else own)
            vali[task].append(beside / spread if spread > 0 else beside)
    scores = {task: np.mean(parts, axis=0) for task, parts in train.items()}
    spreads = {task: float(np.sqrt(np.mean(one**2))) or 1.0 for task, one in scores.items()}
    return Lesson({task: (one / spreads[task]).astype(np.float32) for task, one in scores.items()},
                  {task: np.mean(parts, axis=0) / spreads[task] for task, parts in vali.items()})


def lists_of(settings: Teacher, train: Lists, schema: Schema, tasks: Sequence[Task]) -> Lists:
    """The lists to learn from: the training lists, and the synthetic ones after them.

    Args:
        settings: the section [teacher].
        train: the training lists.
        schema: the features.
        tasks: all tasks whose labels the data have.
    """
    return with_copies(train, schema, tasks, settings.synthetic, seed=0) if settings.synthetic else train


def check(settings: Teacher, train: Lists) -> None:
    """Checks the loss and the teachers that are baselines, before any training: names, options and libraries.

    Raises:
        ValueError: for one that cannot be used, or plain rows.
    """
    if train.is_rows:
        raise InputError("a teacher is not built yet for plain rows, since its scores are compared within lists: leave "
                         "teacher.from out, or set data.list_id")
    loss_to(settings)
    for source in _sources(settings):
        if _is_baseline(source):
            baselines.get(source).check()
        elif not isinstance(source, str):
            raise InputError(f"teacher.from must name a baseline ({', '.join(baselines.names())}) or a run, not "
                             f"{source!r}")


def divided(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings on which the scores of a teacher depend, and those on which the ranker without a teacher depends.

    Args:
        settings: the result of :func:`tfmtl2r.settings.outcome.outcome`.

    >>> divided({"data.name": "mslr", "method": {"name": "mgda"}, "teacher.from": "lightgbm", "teacher.mix": 0.5})
    ({'data.name': 'mslr', 'teacher.from': 'lightgbm'}, {'data.name': 'mslr', 'method': {'name': 'mgda'}})
    """
    own = {name: value for name, value in settings.items() if name.partition(".")[0] in _READ or name in _READ}
    return own, {name: value for name, value in settings.items() if not name.startswith("teacher.")}


def runs_of(settings: Teacher) -> list[str]:
    """The teachers that are runs."""
    return [source for source in _sources(settings) if not _is_baseline(source)]


def _sources(settings: Teacher) -> Sequence[Any]:
    return settings.from_ if isinstance(settings.from_, (list, tuple)) else [settings.from_]


def _is_baseline(source: Any) -> bool:
    name = source.get("name") if isinstance(source, Mapping) else source
    return name in {*baselines.names(), *baselines.registry.aliases()}


def _of_baseline(source: Any, folds: int | None, training: Training, lists: Lists) -> tuple[Scores, Scores]:
    """The scores of the lists and of vali. With folds, a list has those of models that have not seen it or its copy."""
    described = baselines.registry.describe(baselines.get(source))
    whole = training.fit(baselines.get(source), described)
    vali = whole.scores(training.vali)
    if folds is None:
        return whole.scores(lists), vali
    found = {task.name: np.full(lists.num_items, np.nan) for task in training.tasks}
    starts = np.asarray(lists.offsets)
    for number in range(folds):
        held = by_fold(training.train, number, folds, training.seed) == "test"
        if not held.any():
            continue
        if held.all():
            raise InputError(f"teacher.folds: the hash of the ids puts all {len(held)} training lists into one of "
                             f"{folds} folds; leave folds out")
        others = dataclasses.replace(training, train=training.train.select(~held), fitted={})
        held = np.tile(held, lists.num_lists // len(held))
        items = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in np.flatnonzero(held)])
        for task, scores in others.fit(baselines.get(source), described).scores(lists.select(held)).items():
            found[task][items] = scores
    return found, vali


def _of_run(
    source: str, folds: int | None, training: Training, lists: Lists, runs: Runs
) -> tuple[Scores, Scores]:
    if folds is not None:
        raise InputError(f"teacher.folds trains the teacher once more for each fold, but {source!r} is a finished run: "
                         "leave folds out, or choose a baseline")
    ranker = runs(source)
    both = [{task: np.asarray(one, np.float64) for task, one in ranker.predict(split).items()}
            for split in (lists, training.vali)]
    return both[0], both[1]


def worth(lesson: Lesson, student: Mapping[str, np.ndarray], vali: Lists, tasks: Sequence[Task]) -> dict[str, Any]:
    """Compares a teacher with a ranker that was trained without it, by each task's first metric of scores on vali.

    A teacher is not used if it is worse by more than the standard error of the difference over lists. A validation
    split cannot tell a smaller difference from chance.

    Args:
        lesson: the teacher.
        student: task -> scores of the ranker on the validation split, ``[N]``.
        vali: the validation split.
        tasks: the tasks to learn.

    Returns:
        task -> ``{"metric", "teacher", "student", "error", "used"}``. A task without a metric of scores uses
            the teacher.
    """
    found: dict[str, dict[str, Any]] = {}
    for task in tasks:
        metric: Metric | None = next((one for one in metrics_of(task, True) if one.reads == "score"), None)
        if metric is None:
            found[task.name] = {**dict.fromkeys(("metric", "teacher", "student", "error")), "used": True}
            continue
        ours, theirs = (of_metric(metric, vali, task, np.asarray(scores, np.float32))
                        for scores in (lesson.vali[task.name], student[task.name]))
        gain, error = _gain(ours, theirs)
        used = not gain < -error * (1 + 1e-6)  # equal if one list alone differs
        found[task.name] = {"metric": metric.label, "teacher": ours.value, "student": theirs.value,
                            "error": error, "used": used}
        if not used:
            log.warning("the teacher of task %r is not used: on the validation split, its %s is %.4f, and that of the "
                        "ranker without a teacher %.4f (standard error of the difference %.4f)", task.name,
                        metric.label, ours.value, theirs.value, error)
    return found


def distillation(settings: Teacher, used: Mapping[str, float], model: MultiTaskRanker, data: Any) -> Distillation:
    """The distillation of a training, balanced on the first lists.

    Args:
        settings: the section [teacher].
        used: task -> share of the distillation loss, for the tasks whose teacher is used.
        model: the ranker.
        data: the batches of the training, with the scores of the teacher.
    """
    anneal = 1.0 if settings.anneal is None else settings.anneal
    found = Distillation(loss_to(settings), used, [task.name for task in model.tasks], anneal)
    found.balance(TaskLosses(model.tasks, has_lists=True).per_list, map(model.batch, data.take(BALANCED)))
    return found


def _gain(ours: Score, theirs: Score) -> tuple[float, float]:
    """How much better the first one is, and the standard error over lists; 0 for a metric over all items."""
    sign = 1.0 if ours.direction == "max" else -1.0
    if ours.per_list is None or theirs.per_list is None:
        return sign * (ours.value - theirs.value), 0.0
    if np.isnan(ours.per_list - theirs.per_list).all():
        return 0.0, 0.0
    gains, weights = paired_differences(ours.per_list, theirs.per_list, ours.counts)
    mean = float(np.average(gains, weights=weights))
    squares, lists = float(np.sum((weights * (gains - mean)) ** 2)), len(gains)
    return sign * mean, math.sqrt(squares * lists / max(1, lists - 1)) / float(np.sum(weights))


def once(runs: Path, on: Any, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays as they were kept in the folder of all runs; the first process makes them.

    Args:
        runs: the folder of all runs.
        on: all on which the arrays depend, as plain data.
        make: makes the arrays. It runs in one process at a time; the others wait.
    """
    path = runs / FOLDER / f"{digest(json.dumps([__version__, on], sort_keys=True))}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            found: dict[str, Any] = {**make()}
            with written(path) as temporary:
                np.savez_compressed(temporary, **found)
    with stored_arrays(path, "remove it; the teacher is then trained again") as stored:
        return {**stored}
