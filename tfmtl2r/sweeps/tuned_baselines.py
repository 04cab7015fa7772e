"""The search of a baseline's settings, beside that of an experiment: as many trials, on the same lists and numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfmtl2r import baselines
from tfmtl2r.baselines import Training
from tfmtl2r.data import fit_tasks
from tfmtl2r.errors import InputError, UserError
from tfmtl2r.evaluation.split_metrics import evaluate
from tfmtl2r.evaluation.stopping import gain
from tfmtl2r.experiment import Experiment
from tfmtl2r.figures import figure
from tfmtl2r.names import STOP_ON, LogName
from tfmtl2r.preferences import normalised
from tfmtl2r.sweeps.space import Range
from tfmtl2r.training.trackers import metrics_of
from tfmtl2r.writing import one_line

_SETTINGS, _ERROR = "settings", "error"


class BaselineSearch:
    """The trials of one baseline. A trial is trained with one choice of settings, and nothing chooses among more.

    Args:
        described: the baseline, a name or ``{"name": ..., option: value}``.
        experiment: the experiment, for data and tasks.
        training: what baselines are trained on (:func:`training_of`).
        signs: objective -> 1 for large, -1 for small values.

    Raises:
        ValueError: for an unknown baseline, one without settings to choose, a missing library, or objectives that no
            baseline has, such as losses.
    """

    def __init__(self, described: Any, experiment: Experiment, training: Training, signs: Mapping[str, int]):
        self.baseline = baselines.get(described)
        found = baselines.registry.describe(self.baseline)
        self.name = " ".join([found.pop("name"), *(f"{name}={value}" for name, value in found.items())])
        if not self.baseline.space:
            raise InputError(f"tune.baselines has {self.name}, which has no settings to choose: leave it out")
        self.baseline.check()
        self.training, self.signs = training, signs
        weights = experiment.importance(training.tasks) or [task.weight for task in training.tasks]
        self.preference = normalised(weights, training.tasks)
        known = [str(LogName(metric.label, task.name, validation=True)) for task in training.tasks
                 for metric in metrics_of(task, not training.vali.is_rows)]
        known.append(str(LogName(STOP_ON, validation=True)))
        if lacking := [objective for objective in signs if objective not in known]:
            raise InputError(f"tune.objectives has {lacking[0]!r}, which baselines do not have; these are "
                             f"{', '.join(known)}: choose others, or leave tune.baselines out")
        self.study: Any = None

    def open(self, optuna: Any, name: str, storage: Any, seed: int) -> None:
        """Opens the study of the baseline in the storage of the experiment's search."""
        self.optuna = optuna
        self.study = optuna.create_study(
            study_name=f"{name} {self.name}", storage=storage, load_if_exists=True,
            directions=["maximize" if sign > 0 else "minimize" for sign in self.signs.values()])
        for trial in self.study.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # nobody else holds the lock
            self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        self.study.sampler = optuna.samplers.TPESampler(seed=seed + len(self.study.trials))

    @property
    def finished(self) -> list[Any]:
        """The trials that have ended: complete or failed, but not killed."""
        complete = self.optuna.trial.TrialState.COMPLETE
        return [trial for trial in self.study.trials if trial.state == complete or _ERROR in trial.user_attrs]

    @property
    def best(self) -> Any:
        """The complete trial with the best first objective; None without one."""
        complete = self.study.get_trials(states=[self.optuna.trial.TrialState.COMPLETE])
        sign = next(iter(self.signs.values()))
        return max(complete, key=lambda trial: (sign * trial.values[0], -trial.number), default=None)

    def run(self, trials: int, may_start: Callable[[], bool], report: Callable[[str], None]) -> None:
        """Trains until there are as many trials as asked, or no further one may start."""
        while len(self.finished) < trials and may_start():
            trial = self.study.ask()
            chosen = {name: _range(given).suggest(trial, name) for name, given in self.baseline.space.items()}
            trial.set_user_attr(_SETTINGS, json.dumps(chosen))
            try:
                values = self.values(chosen)
            except UserError as error:
                trial.set_user_attr(_ERROR, one_line(error))
                self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
                report(f"FAILED  {self.name} {trial.number}: {one_line(error)}")
            else:
                self.study.tell(trial, values)
                report(f"done    {self.name} {trial.number}: {' '.join(map(figure, values))}")

    def values(self, chosen: Mapping[str, Any]) -> list[float]:
        """The objectives of one choice of settings, on the validation split."""
        fitted, vali, tasks = self.baseline.with_settings(chosen).fit(self.training), self.training.vali, \
            self.training.tasks
        scores = fitted.scores(vali)
        levels = {task: found for task, found in scores.items() if task in fitted.valued}
        results = evaluate(scores, vali, tasks, levels=levels)
        logs = {str(LogName(metric, task, validation=True)): one.value
                for task, row in results.items() for metric, one in row.items()}
        gains = []
        for task in tasks:
            first = metrics_of(task, not vali.is_rows)[0]
            gains.append(gain(first, vali, task, results[task.name][first.label].value))
        logs[str(LogName(STOP_ON, validation=True))] = _mean(gains, self.preference)
        found = [float(logs[objective]) for objective in self.signs]
        for objective, value in zip(self.signs, found, strict=True):
            if not math.isfinite(value):
                raise InputError(f"{objective} is {value}")
        return found

    def as_numbers(self) -> dict[str, Any]:
        """All trials, and the number of the best one, for a file."""
        rows = [{"number": trial.number, "state": trial.state.name.lower(), "values": trial.values,
                 "settings": settings_of(trial), "error": trial.user_attrs.get(_ERROR)} for trial in self.finished]
        return {"best": None if self.best is None else self.best.number, "trials": rows}


def training_of(experiment: Experiment, dataset: Any) -> Training:
    """What baselines are trained on: the splits, tasks and features of an experiment."""
    tasks = fit_tasks(dataset.lists("train"), experiment.select(dataset))
    return Training.of(dataset, tasks, dataset.schema(tasks), experiment.training.seed)


def settings_of(trial: Any) -> dict[str, Any]:
    """The settings of a trial."""
    found: dict[str, Any] = json.loads(trial.user_attrs[_SETTINGS])
    return found


def _range(given: Mapping[str, Any]) -> Range:
    whole = isinstance(given["low"], int) and isinstance(given["high"], int)
    return Range(given["low"], given["high"], given.get("log", False), whole)


def _mean(gains: Sequence[float], preference: Any) -> float:
    """The mean of gains by preference; tasks without a gain hand their preference to the others."""
    known = [(value, share) for value, share in zip(gains, preference, strict=True) if math.isfinite(value)]
    total = sum(share for _, share in known)
    return float(sum(value * share for value, share in known) / total) if total > 0 else math.nan
