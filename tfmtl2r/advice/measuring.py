"""The pilot: a few short trainings of an experiment, and the gradients on the way."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r import losses as loss_registry
from tfmtl2r.advice.comparing import Results, compared
from tfmtl2r.advice.facts import Facts, Goal, Pair
from tfmtl2r.advice.judging import suggested
from tfmtl2r.advice.opposition import lengths, noise_ratio, oppositions
from tfmtl2r.advice.trying import tried
from tfmtl2r.data import Lists, batches
from tfmtl2r.data.columns import label_values
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.scoring import score
from tfmtl2r.evaluation.split_metrics import Score
from tfmtl2r.experiment import Experiment
from tfmtl2r.report.worries import of_gates
from tfmtl2r.task import Task
from tfmtl2r.training.fitting import batches_of
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.readings import loss_of
from tfmtl2r.training.task_gradients import TaskGradients

SECONDS = 120.0
_BATCHES = 32
"""Batches of which gradients are compared."""
_LEAST, _MOST = 40, 2000
"""Steps of a training of the pilot."""
_SEEDS = 2
_LISTS = 4000
"""The largest number of lists (or rows) of vali on which the trainings are compared."""
_LEFT_OUT = ("method", "gradients", "preference", "conditioned", "staged", "constraints", "teacher", "start",
             "penalties", "sweep", "tune")
"""Keys of which the pilot takes the defaults: equal weights, in one stage."""


def pilot(experiment: Experiment, seconds: float = SECONDS, tell: Callable[[str], None] = lambda line: None) -> Facts:
    """Measures what :func:`tfmtl2r.advice.advise` needs, in about the given time.

    Each goal alone, and equal weights in the same network, are trained from the same weights, with two seeds. Equal
    weights take as many steps as all goals alone together: in the same number of steps, each goal has only a share of
    every update and is behind without any conflict. Then what the facts speak for is tried: trained as long as equal
    weights, with the same seeds, and compared with them on vali. Nothing is written.

    Args:
        experiment: the experiment with its data, goals and architecture. Method, preference and stages are left out.
        seconds: the time to aim at, beside the time that reading, compilation and trials take. A trial takes a quarter
            of it for two goals, and less for more.
        tell: receives lines about what is done.

    Raises:
        ValueError: for a single task, or a split without labels.
    """
    plain = _plain(experiment)
    dataset = plain.dataset()
    train, vali = dataset.lists("train"), _part(dataset.lists("vali"), _LISTS)
    started = time.perf_counter()
    model = plain.model(dataset)
    if len(model.tasks) < 2:
        raise InputError(f"the experiment has one task, {model.tasks[0].name}, and nothing can fight: give at least "
                         "two tasks")
    tasks = model.tasks
    size = _batch_size(train, plain)
    tell(f"pilot: {len(tasks)} goals, {train.num_lists} {'rows' if train.is_rows else 'lists'} of training")
    gradients = TaskGradients(model)
    order = np.stack([gradients.of_order(data) for data in _batches(model, train, size, plain)])
    steps = _steps(plain, model, train, seconds, started)
    tell(f"pilot: {_SEEDS} seeds of each goal alone, {steps} steps, and of equal weights, {len(tasks) * steps} steps")
    together, alone, layers = _trainings(plain, dataset, model, train, vali, steps, gradients, size)
    # The same batches at each moment: their mean keeps one gradient for each batch, whose noise is its own.
    shared = np.mean(layers, axis=0) if layers else None
    sharing = [found for task in tasks if (found := compared(task, vali, together, alone)) is not None]
    every = plain.training.batch_size
    facts = Facts(
        _goals(tasks, train, shared, size, every), _pairs(tasks, order, shared), sharing, not train.is_rows,
        _width(model, train, size, plain), _worries(model, vali, plain), every, train.num_lists, steps, _SEEDS)

    def trained(experiment: Experiment, length: int) -> Results:
        return [_trained(experiment, dataset, train, vali, length, seed) for seed in range(_SEEDS)]

    trials = tried(plain, facts, suggested(facts), together, tasks, vali, trained, tell)
    return dataclasses.replace(facts, trials=trials)


def _trained(
    experiment: Experiment, dataset: Any, train: Lists, vali: Lists, steps: int, seed: int
) -> dict[str, dict[str, Score]]:
    """Results on vali after a training of this many steps."""
    experiment = experiment.but(training={"seed": experiment.training.seed + seed})
    model = experiment.model(dataset)
    model.fit(_some(experiment, model, train, steps, 0), epochs=1, verbose=0)
    return score(model, vali, jackknife=True)


def _plain(experiment: Experiment) -> Experiment:
    """The experiment with equal weights and a single stage, without a name and what only a whole training needs."""
    if experiment.data.kind == "store":
        raise InputError("a store gives no parts of a split: set data.files to the files of which it was made")
    tree = experiment.config()
    for key in _LEFT_OUT:
        tree.pop(key, None)
    tree["tasks"] = [{key: value for key, value in goal.items() if key != "weight"} if isinstance(goal, Mapping)
                     else goal for goal in tree.get("tasks") or []] or None
    training = {key: value for key, value in (tree.get("training") or {}).items() if key not in ("workers", "patience")}
    tree = {**tree, "training": {**training, "patience": 0, "telemetry_every": 0}}
    return Experiment.of({key: value for key, value in tree.items() if value is not None})


def _part(lists: Lists, most: int) -> Lists:
    """At most this many lists, spread evenly."""
    return lists.select(np.linspace(0, lists.num_lists - 1, min(most, lists.num_lists)).astype(np.int64))


def _batch_size(train: Lists, experiment: Experiment) -> int:
    """Lists per batch of compared gradients: those of the training, or fewer so that there are enough batches."""
    return max(1, min(experiment.training.batch_size, train.num_lists // _BATCHES))


def _batches(model: MultiTaskRanker, train: Lists, size: int, experiment: Experiment) -> Iterator[Any]:
    """Batches of different lists, all of one size."""
    rng = np.random.default_rng(experiment.training.seed)
    count = min(_BATCHES, train.num_lists // size)
    chosen = train.select(rng.permutation(train.num_lists)[: count * size])
    limit = experiment.data.max_list_size
    cut: dict[str, Any] = {"list_limit": limit, "truncate": experiment.data.truncate} if limit else {}
    yield from batches(chosen, model.tasks, model.architecture.schema, batch_size=size, **cut)


def _steps(
    experiment: Experiment, model: MultiTaskRanker, train: Lists, seconds: float, started: float
) -> int:
    """The number of steps for which each training of the pilot has time."""
    few = _part(train, experiment.training.batch_size * 8)
    data, _ = batches_of(experiment, model, few, few)
    model.fit(data, epochs=1, verbose=0)  # compiles
    before = time.perf_counter()
    model.fit(data, epochs=1, verbose=0)
    step = (time.perf_counter() - before) / max(1, math.ceil(few.num_lists / experiment.training.batch_size))
    left = max(0.2 * seconds, seconds - (time.perf_counter() - started))
    whole = experiment.training.epochs * math.ceil(train.num_lists / experiment.training.batch_size)
    fitting = int(0.7 * left / step / (_SEEDS * 2 * len(model.tasks)))
    return max(min(_LEAST, whole), min(fitting, whole, _MOST))


def _trainings(
    plain: Experiment, dataset: Any, model: MultiTaskRanker, train: Lists, vali: Lists, steps: int,
    gradients: TaskGradients, size: int,
) -> tuple[Results, dict[str, Results], list[np.ndarray]]:
    """Results on vali of equal weights and of each task alone, by seed, and gradients during the first training."""
    together: Results = []
    alone: dict[str, Results] = {task.name: [] for task in model.tasks}
    layers: list[np.ndarray] = []
    for seed in range(_SEEDS):
        for task in (*model.tasks, None):  # equal weights last, so that the ranker keeps them
            weights = {one.name: float(task is None or one is task) for one in model.tasks}
            experiment = plain.but(preference=weights, training={"seed": plain.training.seed + seed})
            fresh = experiment.model(dataset, model)
            if fresh is not model:
                raise InputError("the pilot resets one ranker for all its trainings, but this one cannot be reset")
            thirds = 3 if task is None and seed == 0 and gradients.variables else 1
            length = steps if task is not None else steps * len(model.tasks)
            for third in range(thirds):
                data = _some(experiment, model, train, math.ceil(length / thirds), third)
                model.fit(data, epochs=1, verbose=0)
                if thirds > 1:
                    layers.append(np.stack([gradients.of_shared(one)
                                            for one in _batches(model, train, size, experiment)]))
            (together if task is None else alone[task.name]).append(score(model, vali, jackknife=True))
    return together, alone, layers


def _some(experiment: Experiment, model: MultiTaskRanker, train: Lists, steps: int, part: int) -> Any:
    """Batches of this many steps, in the same order for all trainings of a seed."""
    data, _ = batches_of(experiment, model, train, _part(train, 1))
    return data.repeat().skip(part * steps).take(steps)


def _pairs(tasks: Sequence[Task], order: np.ndarray, shared: np.ndarray | None) -> list[Pair]:
    at_order = oppositions(order)
    in_layers = {} if shared is None else oppositions(shared)
    return [Pair(tasks[s].name, tasks[t].name, found, in_layers.get((s, t))) for (s, t), found in at_order.items()]


def _goals(
    tasks: Sequence[Task], train: Lists, shared: np.ndarray | None, size: int, batch_size: int
) -> list[Goal]:
    known = np.ones(len(tasks)) if shared is None else lengths(shared)
    noise = np.ones(len(tasks)) if shared is None else noise_ratio(shared) * size / batch_size
    goals = []
    for place, task in enumerate(tasks):
        labels = label_values(train, task)
        there = ~np.isnan(labels) if task.kind == "regression" else labels >= 0
        positive = there if task.kind == "regression" else labels > 0
        useful = positive
        if train.offsets is not None:
            useful = np.maximum.reduceat(positive, train.offsets[:-1])
        name = loss_registry.registry.find(type(loss_of(task, not train.is_rows))) or ""
        goals.append(Goal(
            task.name, task.kind, float(there.mean()),
            math.nan if task.kind == "regression" or not there.any() else float(positive.sum() / there.sum()),
            float(useful.mean()) * min(batch_size, train.num_lists), float(known[place]), float(noise[place]), name))
    return goals


def _width(model: MultiTaskRanker, train: Lists, size: int, experiment: Experiment) -> int | None:
    """The numbers per item at the cut of the architecture, if all heads read one tensor."""
    data = next(_batches(model, train, size, experiment))
    cut = model.architecture.shared(model.batch(data), False)
    return int(cut[0].shape[-1]) if len(cut) == 1 and cut[0].shape[-1] else None


def _worries(model: MultiTaskRanker, vali: Lists, experiment: Experiment) -> list[str]:
    """Lines about gates after the training with equal weights."""
    part = _part(vali, experiment.training.batch_size)
    data = next(iter(batches(part, model.tasks, model.architecture.schema, batch_size=part.num_lists)))
    seen, names = model.architecture.inspect(model.batch(data)), [task.name for task in model.tasks]
    return [line for name, values in seen.items() if seen.axes.get(name) == ("task", "expert")
            for line in of_gates(name, values.numpy(), seen.labels(name, values.shape, names))]

