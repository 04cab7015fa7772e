"""Which experiments a sweep is made of: methods x preferences x seeds x architectures."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r import methods as method_registry
from tfmtl2r.errors import InputError
from tfmtl2r.experiment import Experiment
from tfmtl2r.preferences import suited
from tfmtl2r.runs.finished import Run
from tfmtl2r.settings.outcome import keys_where, outcome
from tfmtl2r.training.preference import checked_preference

LOPSIDED = 0.99
"""Importance of the task that an end is trained for: the other one's tower learns too, the trunk hardly for it."""


def plan(
    base: Experiment, methods: Iterable[Any], preferences: Any, seeds: Sequence[int] = (0,),
    architectures: Iterable[Any] = (),
) -> list[Experiment]:
    """One experiment for every combination.

    A method without a preference runs once per seed and architecture, with the tasks' own weights; so does a ranker
    that reads the preference (``conditioned``), which learns for all of them at once. For a method that divides by the
    preference, zeros are raised (:func:`tfmtl2r.preferences.above_zero`).

    Args:
        base: everything else; its name, method, preference, seed and architecture are replaced.
        methods: names, ``{"name": ..., option: value}``, or methods.
        preferences: ``[N, T]``.
        seeds: of the runs.
        architectures: names or ``{"name": ..., option: value}``; that of ``base`` if empty.

    Raises:
        ValueError: for preferences of another number of tasks, a combination that is named twice, or a conditioned
            ranker with a method that has no preference.
    """
    preferences = np.asarray(preferences, np.float64)
    tasks = base.select(base.dataset())
    if preferences.ndim != 2 or preferences.shape[1] != len(tasks):
        raise InputError(f"preferences must be [N, {len(tasks)}], one number for each of "
                         f"{', '.join(task.name for task in tasks)}; got shape {preferences.shape}")
    experiments = []
    for architecture, method in itertools.product([*architectures] or [base.architecture], methods):
        balancing = method_registry.get(method)
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
        raise InputError(f"two runs of this sweep are the same: {twice[0]}; name methods, preferences, seeds and "
                         "architectures once")
    return experiments


def single_tasks(base: Experiment, seeds: Sequence[int] = (0,), architectures: Iterable[Any] = ()) -> list[Experiment]:
    """Every task trained alone: what delta-m, negative transfer and the lines in pictures refer to.

    Args:
        base: everything else, but stages, constraints and conditioning, which need several tasks.
        seeds: of the runs.
        architectures: as in :func:`plan`.
    """
    tasks = base.task_names or base.dataset().default_tasks
    base = _plain(base)
    return [
        named(base.but(architecture=architecture, data={"tasks": [task]}, preference=None, training={"seed": seed}))
        for architecture in [*architectures] or [base.architecture] for task in tasks for seed in seeds
    ]


def ends(base: Experiment, seeds: Sequence[int] = (0,)) -> list[Experiment]:
    """The two ends of a front of two tasks: weighted sums with 99 % of the importance on one task.

    A run of one task alone says nothing about the other one's loss, since nothing trains that one's tower.
    """
    base = _plain(base)
    return plan(base, [base.method], [[LOPSIDED, 1 - LOPSIDED], [1 - LOPSIDED, LOPSIDED]], seeds)


def end_losses(runs: Sequence[Run], source: str = "train_loss") -> np.ndarray:
    """Losses ``[2, 2]`` at both ends, the mean over seeds: what :func:`tfmtl2r.pareto.by_angle` takes.

    Args:
        runs: of :func:`ends`.
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
    """The experiment under a name that tells what it is, with a fingerprint of all settings that decide its numbers."""
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
    """Eight hex digits of the settings that decide a run's numbers."""
    settings = json.dumps(outcome(experiment.config()), sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:8]


def parsed(text: str) -> Any:
    """A method or architecture with options as a command line writes it.

    Raises:
        ValueError: for what is no ``NAME:option=value,option=value``.

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
        raise InputError(f"{text!r}: expected NAME or NAME:option=value,option=value, such as cagrad:c=0.5") from None


def _preferences_for(method: Any, preferences: np.ndarray) -> list[tuple[float, ...]]:
    if not method.takes_preference:
        return [()]
    return [tuple(map(float, row)) for row in suited(preferences, method)]


def _slug(thing: Any) -> str:
    if isinstance(thing, Mapping):
        return str(thing["name"])
    return thing if isinstance(thing, str) else type(thing).__name__.lower()


def _plain(base: Experiment) -> Experiment:
    """Trained in one go with fixed weights: every setting that needs several tasks at its default, but gradients."""
    off = dict.fromkeys(keys_where(several=True, axis=True))
    return base.but(**off, evaluation={"preferences": None})


def without_weights(base: Experiment) -> Experiment:
    """A preference takes the place of the tasks' weights."""
    return base.but(tasks=[dataclasses.replace(goal, weight=None) for goal in base.tasks])
