"""Suggestions are trained before they are made: the claim of a card says little about the data at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tfmtl2r.advice.comparing import Results, compared
from tfmtl2r.advice.facts import Facts, Suggestion, Trial
from tfmtl2r.advice.files import changed
from tfmtl2r.data import Lists
from tfmtl2r.errors import UserError
from tfmtl2r.experiment import Experiment
from tfmtl2r.task import Task

MOST = 4
"""Suggestions that are tried, the most promising first."""


def tried(
    plain: Experiment, facts: Facts, suggestions: Sequence[Suggestion], equal: Results, tasks: Sequence[Task],
    vali: Lists, train: Callable[[Experiment, int], Results], tell: Callable[[str], None],
) -> list[Trial]:
    """Trains suggestions as long as equal weights were, and compares them on vali.

    Args:
        plain: the experiment with equal weights.
        facts: what was measured before.
        suggestions: what follows from it, the most promising first. Those without changes are left out.
        equal: results of equal weights, for each seed.
        tasks: the tasks of the ranker.
        vali: the lists of the results.
        train: trains an experiment for a number of steps with each seed, and returns its results.
        tell: receives lines about what is done.

    Returns:
        A trial for each, also for those that cannot be trained, so that they are not suggested.
    """
    chosen = [one for one in suggestions if one.changes][:MOST]
    if not chosen:
        return []
    steps = facts.steps * len(tasks)
    tell(f"pilot: {', '.join(one.name for one in chosen)}, {steps} steps each")
    found = []
    for one in chosen:
        try:
            experiment = Experiment.of(changed(plain.config(), [task.name for task in tasks], one))
            found.append(_trial(one.name, tasks, vali, equal, train(experiment, steps)))
        except UserError as error:  # it does not fit to this ranker, or its loss is not finite
            tell(f"pilot: {one.name} cannot be trained here: {error}")
            found.append(Trial(one.name, {}, math.nan, math.nan))
    return found


def _trial(name: str, tasks: Sequence[Task], vali: Lists, equal: Results, ours: Results) -> Trial:
    """The gains of all tasks, each as a share of what equal weights gain over a constant score."""
    gains: dict[str, float] = {}
    errors: list[float] = []
    for task in tasks:
        one = compared(task, vali, ours, {task.name: equal})
        if one is not None and one.gain > 0:
            gains[task.name] = -one.lost / one.gain
            errors.append(one.error / one.gain)
    if not gains:
        return Trial(name, {}, math.nan, math.nan)
    return Trial(name, gains, float(np.mean([*gains.values()])), float(np.sqrt(np.sum(np.square(errors)))) / len(gains))
