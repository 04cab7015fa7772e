"""Finished runs as points in objective space."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.data.fingerprints import comparable
from tfmtl2r.errors import InputError, MissingFileError, UserError
from tfmtl2r.names import STOP_ON, LogName
from tfmtl2r.plugins import PluginError
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.places import CARD, is_attempt, settled, subfolders
from tfmtl2r.settings.outcome import leaves, outcome

SOURCES = ("test", "vali", "train_loss", "vali_loss")
SEED = "training.seed"
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run, or one point of the curve of a conditioned run.

    Args:
        folder: folder of the run.
        card: its run card.
        asked: the preference of a point of a curve; empty for the whole run, whose results are for the preference
            given to ``compile``.
    """

    folder: Path
    card: RunCard
    asked: tuple[float, ...] = ()

    def points(self, source: str) -> list[Run]:
        """The points of the run in objective space.

        A conditioned run has one point for each preference of its run card's curve. Every other run is one point.

        Args:
            source: see :meth:`objective`. A conditioned run has a single loss for all preferences, so it is one point
                when the objectives are losses.
        """
        curve = [] if self.asked or source.endswith("loss") else self.card.curve
        return [dataclasses.replace(self, asked=tuple(point["preference"])) for point in curve] or [self]

    def whole(self) -> Run:
        """Returns the run that a point of a curve belongs to."""
        return dataclasses.replace(self, asked=())

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the run's tasks, in order."""
        return tuple(self.card.results["test"])

    @property
    def method(self) -> str:
        """The method with its options, for example ``cagrad c=0.5``; ``conditioned=...`` follows for such a ranker."""
        conditioned = self.card.config.get("conditioned")
        return described(self.card.config["method"]) + (f" conditioned={conditioned:g}" if conditioned else "")

    @property
    def architecture(self) -> str:
        """The architecture with its options, for example ``mmoe units=[8]``."""
        return described(self.card.config["architecture"])

    @property
    def preference(self) -> tuple[float, ...]:
        """The preference, scaled to sum 1; empty when the weights of the tasks were used."""
        given = self.card.config.get("preference", {})
        values = self.asked or [given[task] for task in self.tasks if task in given]
        return tuple(v / sum(values) for v in values)

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.card.config["training"]["seed"])

    def group(self) -> str:
        """A key that is equal for runs that differ only in the seed."""
        return json.dumps(outcome(self.card.config, without=(SEED,)), sort_keys=True)

    def epoch(self) -> int:
        """The epoch whose weights were kept.

        Staged training logs this epoch. Otherwise it is the best epoch if ``patience`` is set, and else the last.

        Raises:
            ValueError: when staged training kept its initial weights.
        """
        history = self.card.history
        if "kept" in history:
            kept = np.flatnonzero(history["kept"])
            if not len(kept):
                raise InputError(f"run {self.card.name!r} kept the weights it began with, so that no epoch has its "
                                 "results")
            return int(kept[-1])
        watched = str(LogName(STOP_ON, validation=True))
        if self.card.config["training"]["patience"] and watched in history:
            return int(np.argmax(np.nan_to_num(history[watched], nan=-np.inf)))
        return len(next(iter(history.values()))) - 1

    def objective(self, task: str, source: str, metric: str | None = None) -> tuple[float, bool, str]:
        """Returns the objective of one task.

        Args:
            task: name of the task.
            source: ``"test"`` or ``"vali"`` (the metric on that split), ``"train_loss"`` (mean over the batches of
                the kept epoch) or ``"vali_loss"``.
            metric: label of the metric; None selects the task's first metric.

        Returns:
            The value, whether it is maximised, and its label.

        Raises:
            ValueError: for an unknown source or metric, or when the run did not measure the objective.
        """
        if source not in SOURCES:
            raise InputError(f"objectives come from {', '.join(SOURCES)}, not {source!r}")
        known = self.card.results["test"].get(task)
        if known is None:
            raise InputError(f"run {self.card.name!r} has no task {task!r}; its tasks: {', '.join(self.tasks)}")
        if source.endswith("loss"):
            return self._logged(LogName("loss", task, source == "vali_loss")), False, f"{task} {source}"
        metric = metric or next(iter(known), "")
        if metric not in known:
            raise InputError(f"task {task!r} of run {self.card.name!r} has no metric {metric!r}; its metrics: "
                             f"{', '.join(known) or 'none'}")
        if not known[metric]["direction"]:
            raise InputError(f"{metric} of task {task!r} has no better side: choose another metric")
        if self.asked:
            value = next(point for point in self.card.curve if tuple(point["preference"]) == self.asked)[source][task][
                metric]
        else:
            value = known[metric]["value"] if source == "test" else self._logged(LogName(metric, task, True))
        return float(value), known[metric]["direction"] == "max", f"{task} {metric} ({source})"

    def trajectory(self, tasks: Sequence[str], source: str = "train_loss") -> np.ndarray:
        """Losses ``[epochs, T]``, one row per epoch."""
        names = [str(LogName("loss", task, source == "vali_loss")) for task in tasks]
        return np.stack([self.card.history[name] for name in names], axis=1)

    def _logged(self, name: LogName) -> float:
        values = self.card.history.get(str(name))
        if values is None:
            raise InputError(f"run {self.card.name!r} did not log '{name}'; it logged {', '.join(self.card.history)}")
        # With validate_every only some epochs have a value. The last epoch always has one; without patience it is kept.
        return float(values[-1] if self.card.config["training"].get("validate_every", 1) != 1 else values[self.epoch()])


@dataclasses.dataclass(frozen=True)
class Objectives:
    """Several runs in one objective space.

    Args:
        runs: the N runs.
        values: ``[N, T]``.
        maximise: for each of the T objectives, whether it is maximised.
        labels: label of each objective.
        tasks: the T tasks that have a value.
    """

    runs: tuple[Run, ...]
    values: np.ndarray
    maximise: tuple[bool, ...]
    labels: tuple[str, ...]
    tasks: tuple[str, ...] = ()

    @property
    def seeds(self) -> np.ndarray:
        """The seed of each run, ``int[N]``."""
        return np.array([run.seed for run in self.runs])

    def where(self, keep: Sequence[bool] | np.ndarray) -> Objectives:
        """Keeps the runs for which ``keep`` is True."""
        rows = np.flatnonzero(keep)
        return dataclasses.replace(self, runs=tuple(self.runs[i] for i in rows), values=self.values[rows])


def objectives(
    runs: Sequence[Run], source: str, tasks: Sequence[str] = (), metrics: Mapping[str, str] | None = None
) -> Objectives:
    """Places runs in objective space.

    A task whose objective is NaN in every run of several has no value on this data and is left out, unless no task
    remains.

    Args:
        runs: at least one, all on the same data.
        source: see :meth:`Run.objective`.
        tasks: tasks whose objectives to use; all tasks of the first run if empty.
        metrics: task -> metric; None selects the first metric of each task.

    Raises:
        ValueError: when there is no run, runs used different data, or an objective was not measured or is not finite.
    """
    if not runs:
        raise InputError("there is no finished run")
    same_data(runs)
    tasks = tuple(tasks) or runs[0].tasks
    missing = _without_value(runs, source, tasks, metrics or {})
    return _placed(runs, source, [task for task in tasks if task not in missing], metrics or {})


def _placed(runs: Sequence[Run], source: str, tasks: Sequence[str], metrics: Mapping[str, str]) -> Objectives:
    """The objectives of exactly these tasks; a number that is not finite is an error."""
    rows = [[run.objective(task, source, metrics.get(task)) for task in tasks] for run in runs]
    values = np.array([[value for value, _, _ in row] for row in rows])
    if not np.isfinite(values).all():
        row, column = map(int, np.argwhere(~np.isfinite(values))[0])
        raise InputError(f"run {runs[row].card.name!r}: {rows[row][column][2]} is {values[row, column]}")
    return Objectives(tuple(runs), values, tuple(up for _, up, _ in rows[0]), tuple(label for _, _, label in rows[0]),
                      tuple(tasks))


def finite(
    runs: Sequence[Run], source: str, tasks: Sequence[str] = (), metrics: Mapping[str, str] | None = None
) -> tuple[list[Run], list[str], list[str]]:
    """Separates the runs whose objectives are finite numbers from the other runs.

    Args:
        runs: runs to choose from.
        source, tasks, metrics: see :func:`objectives`.

    Returns:
        The runs with finite objectives; the tasks that count, by which :func:`objectives` places these runs; a message
        for each task that has no value in any run and does not count, and for each other run.
    """
    missing = _without_value(runs, source, tasks, metrics or {})
    kept, lost = [], list(missing.values())
    for run in runs:
        try:
            counted = [task for task in tasks or run.tasks if task not in missing]
            _placed([run], source, counted, metrics or {})
            kept += [run] if counted else []
        except ValueError as error:
            lost.append(str(error))
    every = dict.fromkeys(task for run in runs for task in tasks or run.tasks)
    return kept, [task for task in every if task not in missing], lost


def _without_value(
    runs: Sequence[Run], source: str, tasks: Sequence[str], metrics: Mapping[str, str]
) -> dict[str, str]:
    """The tasks whose objective is NaN in every run of several, each with a message; empty if no task would remain."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for task in tasks or run.tasks:
            try:
                values.setdefault(task, []).append(run.objective(task, source, metrics.get(task))[0])
            except ValueError:  # the run is left out with its own message
                continue
    # One run alone may have lost its numbers in training.
    lost = [task for task, found in values.items() if len(found) > 1 and np.isnan(found).all()]
    if len(lost) == len(values):
        return {}
    return {task: f"task {task!r}: its {source} objective has no value in any run; the other tasks count"
            for task in lost}


def same_data(runs: Sequence[Run]) -> None:
    """Raises an error for runs that cannot be compared because their splits differ.

    Raises:
        ValueError: naming two runs and the split.
    """
    for first, run in itertools.product(runs[:1], runs[1:]):
        if split := other_split(first, run):
            ours, theirs = (each.card.data.get(split, {}).get("fingerprint", "") for each in (first, run))
            if ours and theirs and not comparable(ours, theirs):
                raise InputError(f"the data of runs {first.card.name!r} and {run.card.name!r} cannot be compared: "
                                 "different versions of tfmtl2r wrote the fingerprints in their run cards; train one "
                                 "of them again")
            raise InputError(f"runs {first.card.name!r} and {run.card.name!r} saw different data: their {split} "
                             "splits differ; train one of the runs again on the data of the other run")


def other_split(first: Run, run: Run) -> str:
    """The first split in which two runs saw different data; empty if there is none."""
    return next((split for split, said in first.card.data.items()
                 if run.card.data.get(split, {}).get("fingerprint") != said["fingerprint"]), "")


def told_apart(runs: Sequence[Run], without: Sequence[str] = ()) -> list[str]:
    """Describes each run by the settings in which the runs differ, for example `` mmoe gradients=features``.

    Args:
        runs: runs on the same data.
        without: keys to ignore. Keys that tables show in a column of their own are always ignored.
    """
    # Run cards of earlier versions do not contain settings that are off.
    settings = [{path: value for path, value, facts in leaves(run.card.config)
                 if facts.outcome and facts.shown == "apart" and path not in without
                 and value not in (None, False, 0, [], {})} for run in runs]
    keys = [key for key in dict.fromkeys(key for each in settings for key in each)
            if any(each.get(key) != settings[0].get(key) for each in settings)]
    return ["".join(f" {run.architecture}" if key == "architecture" else f" {key.split('.')[-1]}={each[key]}"
                    for key in keys if key in each) for run, each in zip(runs, settings, strict=True)]


def load(folder: str | Path) -> Run:
    """Reads the run of a folder.

    Raises:
        FileNotFoundError: when the folder contains no run.
    """
    folder = settled(Path(folder))
    return Run(folder, RunCard.load(folder))


def load_all(folder: str | Path, unasked: bool = False) -> list[Run]:
    """Reads the run of a folder or, if the folder is no run, all finished runs in its subfolders, sorted by name.

    A subfolder that cannot be read, or whose training has not finished, is left out with a warning.

    Args:
        folder: the folder.
        unasked: True if nobody named the runs. A run whose plug-in is not imported is then left out, too.

    Raises:
        FileNotFoundError: when there is no finished run.
        PluginError: when a run used a plug-in that is not imported.
    """
    folder = settled(Path(folder))
    if (folder / CARD).is_file() or is_attempt(folder):
        return [load(folder)]
    found = []
    for path in subfolders(folder):
        try:
            found.append(load(path))
        except (UserError, OSError) as error:
            if isinstance(error, PluginError) and not unasked:
                raise
            log.warning("left out: %s", error)
    if not found:
        raise MissingFileError(f"{folder} contains no finished run; tfmtl2r train and tfmtl2r sweep write runs")
    return found


def described(thing: Any) -> str:
    """Describes a method or architecture of a run card by its name and options.

    >>> described({"name": "cagrad", "c": 0.5}), described("mgda")
    ('cagrad c=0.5', 'mgda')
    """
    if isinstance(thing, str):
        return thing
    options = [f"{key}={value}" for key, value in thing.items() if key != "name"]
    return " ".join([thing["name"], *options])
