"""Plans the experiments of a sweep: methods x preferences x seeds x architectures."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r import architectures as architecture_registry
from tfmtl2r import methods as method_registry
from tfmtl2r.errors import InputError
from tfmtl2r.experiment import Experiment
from tfmtl2r.methods.base import check_mode
from tfmtl2r.names import digest
from tfmtl2r.preferences import checked_preference, suited
from tfmtl2r.runs.finished import Run
from tfmtl2r.settings.outcome import keys_where, outcome
from tfmtl2r.task import Task
from tfmtl2r.training.objectives import TaskLosses

LOPSIDED = 0.99
"""Share of the important task in a run of :func:`ends`. The rest trains the other task's tower, but hardly the trunk.
"""


def plan(
    base: Experiment, methods: Iterable[Any], preferences: Any, seeds: Sequence[int] = (0,),
    architectures: Iterable[Any] = (),
) -> list[Experiment]:
    """Returns one experiment for every combination of method, preference, seed and architecture.

    A method without a preference runs once per seed and architecture, with the weights of the tasks. A conditioned
    ranker also runs once, because it learns for all preferences at once. For a method that divides by the preference,
    zeros are replaced by small values (:func:`tfmtl2r.preferences.above_zero`).

    Args:
        base: all other settings; its name, method, preference, seed and architecture are replaced.
        methods: names, ``{"name": ..., option: value}``, or methods.
        preferences: ``[N, T]``.
        seeds: seeds of the runs.
        architectures: names or ``{"name": ..., option: value}``; the architecture of ``base`` if empty.

    Raises:
        ValueError: when preferences have another number of tasks, a combination appears twice, a ranker is conditioned
            although its method has no preference, a method needs more epochs than the runs have or other gradients, or
            an architecture does not suit the losses of the tasks.
    """
    preferences, architectures = np.asarray(preferences, np.float64), [*architectures]
    dataset = base.dataset()
    tasks = base.select(dataset)
    for architecture in architectures or [base.architecture]:
        architecture_registry.get(architecture).check_tasks([task.name for task in tasks])
        _check_losses(architecture, tasks, dataset)
    if preferences.ndim != 2 or preferences.shape[1] != len(tasks):
        raise InputError(f"preferences must be [N, {len(tasks)}], one number for each of "
                         f"{', '.join(task.name for task in tasks)}; got shape {preferences.shape}")
    experiments = []
    for architecture, method in itertools.product(architectures or [base.architecture], methods):
        balancing = method_registry.get(method).for_tasks(tasks)
        check_mode(balancing, base.gradients)
        base.check_epochs(balancing, len(tasks))
        if base.conditioned:
            checked_preference([task.weight for task in tasks], tasks, balancing, conditioned=True)
        rows = [()] if base.conditioned else _preferences_for(balancing, preferences)
        for row, seed in itertools.product(rows, seeds):
            preference = dict(zip((task.name for task in tasks), row, strict=True)) if len(row) else None
            experiments.append(named((without_weights(base) if preference else base).but(
                architecture=architecture, method=method, preference=preference, training={"seed": seed}
            )))
    names = [str(experiment.name) for experiment in experiments]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two runs of this sweep are the same: {twice[0]}; list every method, preference, seed and "
                         "architecture only once")
    return experiments


def _check_losses(architecture: Any, tasks: Sequence[Task], dataset: Any) -> None:
    """Raises for an unknown architecture or option, and for losses that do not suit the architecture."""
    if architecture_registry.get(architecture).needs_probabilities:
        by_default = any(task.loss is None and task.kind == "binary" for task in tasks)  # depends on the data
        TaskLosses(tasks, not (by_default and dataset.lists("train").is_rows), probabilities=True)


def single_tasks(base: Experiment, seeds: Sequence[int] = (0,), architectures: Iterable[Any] = ()) -> list[Experiment]:
    """Returns experiments that train every task alone.

    These runs are the reference for delta-m, negative transfer and the lines of single-task training in plots.

    Args:
        base: all other settings; stages, constraints and conditioning are dropped, because they need several tasks.
        seeds: seeds of the runs.
        architectures: as in :func:`plan`.

    Raises:
        ValueError: for an architecture that needs several tasks.
    """
    tasks = base.task_names or base.dataset().default_tasks
    for architecture, task in itertools.product([*architectures] or [base.architecture], tasks):
        try:
            architecture_registry.get(architecture).check_tasks([task])
        except InputError as error:
            raise InputError(f"no task can be trained alone: {error}; leave out the single-task runs "
                             "(--no-single-task)") from error
    base = _plain(base)
    return [
        named(base.but(architecture=architecture, data={"tasks": [task]}, preference=None, training={"seed": seed}))
        for architecture in [*architectures] or [base.architecture] for task in tasks for seed in seeds
    ]


def equal_weights(
    base: Experiment, seeds: Sequence[int] = (0,), architectures: Iterable[Any] = ()
) -> list[Experiment]:
    """Returns one experiment with equal weights per seed and architecture, whose heads are blended when it is served.

    Its served ranking is the row ``one ranker, blended`` of every front, and the null of all. There is none for plain
    rows, which have no order, and for a single task.
    """
    dataset = base.dataset()
    tasks = len(base.select(dataset))
    if tasks < 2 or dataset.lists("train").is_rows:
        return []
    base = _plain(base)
    return plan(base, [base.method], np.full((1, tasks), 1 / tasks), seeds, architectures)


def ends(base: Experiment, seeds: Sequence[int] = (0,)) -> list[Experiment]:
    """Returns experiments for the two ends of a front of two tasks: weighted sums with 99 % of the weight on one task.

    Single-task runs cannot be the ends: such a run does not train the tower of the other task, so that the loss of the
    other task would be meaningless.
    """
    base = _plain(base)
    return plan(base, [base.method], [[LOPSIDED, 1 - LOPSIDED], [1 - LOPSIDED, LOPSIDED]], seeds)


def end_losses(runs: Sequence[Run], source: str = "train_loss") -> np.ndarray:
    """Losses ``[2, 2]`` at both ends, as means over seeds; the input of :func:`tfmtl2r.pareto.by_angle`.

    Args:
        runs: finished runs of :func:`ends`.
        source: ``"train_loss"`` or ``"vali_loss"``.

    Raises:
        ValueError: when the runs of an end are missing.
    """
    losses = []
    for end in range(2):
        of_end = [run for run in runs if len(run.preference) == 2 and run.preference[end] > 0.5]
        if not of_end:
            raise InputError(f"no run is trained for {runs[0].tasks[end] if runs else 'either task'} alone")
        losses.append(np.mean([[run.objective(task, source)[0] for task in run.tasks] for run in of_end], axis=0))
    return np.array(losses)


def named(experiment: Experiment) -> Experiment:
    """Names an experiment after its method, architecture, preference, seed and :func:`fingerprint`."""
    parts = [_slug(experiment.method), _slug(experiment.architecture)]
    if len(experiment.task_names) == 1:
        parts[0] = f"single-{experiment.task_names[0]}"
    if experiment.conditioned:
        parts.append("conditioned")
    if experiment.preference:
        total = sum(experiment.preference.values())
        parts.append("_".join(f"{p / total:.3g}" for p in experiment.preference.values()))
    name = "-".join([*parts, f"s{experiment.training.seed}", fingerprint(experiment)])
    return experiment.but(name=re.sub(r"[^\w.\-]", "", name))


def fingerprint(experiment: Experiment) -> str:
    """Eight hex digits of a hash of the settings that decide a run's numbers."""
    return digest(json.dumps(outcome(experiment.config()), sort_keys=True))


def parsed(text: str) -> Any:
    """Parses a method or architecture with options, as written on the command line.

    Raises:
        ValueError: when the text is not ``NAME`` or ``NAME:option=value,option=value``.

    >>> parsed("mgda"), parsed("cagrad:c=0.5"), parsed("shared_bottom:units=[8,4],dropout=0.1")
    ('mgda', {'name': 'cagrad', 'c': 0.5}, {'name': 'shared_bottom', 'units': [8, 4], 'dropout': 0.1})
    """
    name, colon, options = text.partition(":")
    if not colon:
        return name
    try:
        call = ast.parse(f"f({options})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not call.keywords or not all(k.arg for k in call.keywords):
            raise InputError(options)
        return {"name": name, **{str(k.arg): ast.literal_eval(k.value) for k in call.keywords}}
    except (SyntaxError, ValueError):
        raise InputError(f"{text!r}: expected NAME or NAME:option=value,option=value, for example "
                         "cagrad:c=0.5") from None


def _preferences_for(method: Any, preferences: np.ndarray) -> list[tuple[float, ...]]:
    if not method.takes_preference:
        return [()]
    return [tuple(map(float, row)) for row in suited(preferences, method)]


def _slug(thing: Any) -> str:
    if isinstance(thing, Mapping):
        return str(thing["name"])
    return thing if isinstance(thing, str) else type(thing).__name__.lower()


def _plain(base: Experiment) -> Experiment:
    """Resets every setting that needs several tasks to its default, except ``gradients``."""
    off = dict.fromkeys(keys_where(several=True, axis=True))
    blend = base.export.blend and dataclasses.replace(base.export.blend, weights=None, utility=None)
    return base.but(**off, evaluation={"preferences": None}, export={"blend": blend})


def without_weights(base: Experiment) -> Experiment:
    """Removes the weights of the tasks, which a preference replaces."""
    return base.but(tasks=[dataclasses.replace(goal, weight=None) for goal in base.tasks])
