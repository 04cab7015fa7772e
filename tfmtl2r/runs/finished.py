"""Finished runs as points in objective space."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.data.fingerprints import comparable
from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.names import STOP_ON, LogName
from tfmtl2r.runs.card import FILE, RunCard
from tfmtl2r.settings.outcome import leaves, outcome

SOURCES = ("test", "vali", "train_loss", "vali_loss")
SEED = "training.seed"


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run, or one point of the curve of a conditioned one.

    Args:
        folder: of the run.
        card: what it did.
        asked: the preference that a conditioned ranker was asked for; empty for the run as a whole, whose results are
            those for its own preference.
    """

    folder: Path
    card: RunCard
    asked: tuple[float, ...] = ()

    def points(self, source: str) -> list[Run]:
        """Itself, or for a conditioned run what its ranker reaches for each preference of the card's curve.

        Args:
            source: see :meth:`objective`. A conditioned run has one loss for all preferences: it is one point there.
        """
        curve = [] if self.asked or source.endswith("loss") else self.card.curve
        return [dataclasses.replace(self, asked=tuple(point["preference"])) for point in curve] or [self]

    def whole(self) -> Run:
        """Of a point of a curve the run itself."""
        return dataclasses.replace(self, asked=())

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of its tasks, in order."""
        return tuple(self.card.results["test"])

    @property
    def method(self) -> str:
        """The method with its options, such as ``cagrad c=0.5``, and whether the ranker reads the preference."""
        conditioned = self.card.config.get("conditioned")
        return described(self.card.config["method"]) + (f" conditioned={conditioned:g}" if conditioned else "")

    @property
    def architecture(self) -> str:
        """The architecture with its options, such as ``mmoe units=[8]``."""
        return described(self.card.config["architecture"])

    @property
    def preference(self) -> tuple[float, ...]:
        """Scaled to sum 1; empty where the tasks' own weights were used."""
        given = self.card.config.get("preference", {})
        values = self.asked or [given[task] for task in self.tasks if task in given]
        return tuple(v / sum(values) for v in values)

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.card.config["training"]["seed"])

    def group(self) -> str:
        """The same for runs that differ in nothing but the seed."""
        return json.dumps(outcome(self.card.config, without=(SEED,)), sort_keys=True)

    def epoch(self) -> int:
        """The epoch whose weights were kept: what staged training says, with ``patience`` the best one, else the last.

        Raises:
            ValueError: for a staged training that kept the weights it began with.
        """
        history = self.card.history
        if "kept" in history:
            kept = np.flatnonzero(history["kept"])
            if not len(kept):
                raise InputError(f"run {self.card.name!r} kept the weights it began with: no epoch stands for it")
            return int(kept[-1])
        watched = str(LogName(STOP_ON, validation=True))
        if self.card.config["training"]["patience"] and watched in history:
            return int(np.argmax(history[watched]))
        return len(next(iter(history.values()))) - 1

    def objective(self, task: str, source: str, metric: str | None = None) -> tuple[float, bool, str]:
        """One task's objective.

        Args:
            task: name.
            source: ``"test"`` or ``"vali"`` (the metric on that split), ``"train_loss"`` (mean over the batches of
                the kept epoch) or ``"vali_loss"``.
            metric: label; the task's first one if None.

        Returns:
            The value, whether it is to be maximised, and what it is.

        Raises:
            ValueError: for an unknown source or metric, or one that this run did not measure.
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
        if self.asked:
            value = next(point for point in self.card.curve if tuple(point["preference"]) == self.asked)[source][task][
                metric]
        else:
            value = known[metric]["value"] if source == "test" else self._logged(LogName(metric, task, True))
        return float(value), known[metric]["direction"] == "max", f"{task} {metric} ({source})"

    def trajectory(self, tasks: Sequence[str], source: str = "train_loss") -> np.ndarray:
        """Losses ``[epochs, T]`` from epoch to epoch."""
        names = [str(LogName("loss", task, source == "vali_loss")) for task in tasks]
        return np.stack([self.card.history[name] for name in names], axis=1)

    def _logged(self, name: LogName) -> float:
        values = self.card.history.get(str(name))
        if values is None:
            raise InputError(f"run {self.card.name!r} did not log '{name}'; it logged {', '.join(self.card.history)}")
        # Validation may be rarer than epochs, but the last epoch has one; without patience it is the epoch that counts.
        return float(values[-1] if self.card.config["training"].get("validate_every", 1) != 1 else values[self.epoch()])


@dataclasses.dataclass(frozen=True)
class Objectives:
    """Several runs in one objective space.

    Args:
        runs: N of them.
        values: ``[N, T]``.
        maximise: for each of T objectives.
        labels: what each is.
    """

    runs: tuple[Run, ...]
    values: np.ndarray
    maximise: tuple[bool, ...]
    labels: tuple[str, ...]

    @property
    def seeds(self) -> np.ndarray:
        """Of each run, ``int[N]``."""
        return np.array([run.seed for run in self.runs])

    def where(self, keep: Sequence[bool] | np.ndarray) -> Objectives:
        """Only the runs with True."""
        rows = np.flatnonzero(keep)
        return dataclasses.replace(self, runs=tuple(self.runs[i] for i in rows), values=self.values[rows])


def objectives(
    runs: Sequence[Run], source: str, tasks: Sequence[str] = (), metrics: Mapping[str, str] | None = None
) -> Objectives:
    """Places runs in objective space.

    Args:
        runs: at least one, all on the same data.
        source: see :meth:`Run.objective`.
        tasks: the objectives; all tasks of the first run if empty.
        metrics: task -> metric; the first of each task if None.

    Raises:
        ValueError: when there is no run, runs saw different data, or an objective was not measured or is not finite.
    """
    if not runs:
        raise InputError("there is no finished run")
    same_data(runs)
    tasks = tuple(tasks) or runs[0].tasks
    rows = [[run.objective(task, source, (metrics or {}).get(task)) for task in tasks] for run in runs]
    values = np.array([[value for value, _, _ in row] for row in rows])
    if not np.isfinite(values).all():
        row, column = map(int, np.argwhere(~np.isfinite(values))[0])
        raise InputError(f"run {runs[row].card.name!r}: {rows[row][column][2]} is {values[row, column]}")
    return Objectives(tuple(runs), values, tuple(up for _, up, _ in rows[0]), tuple(label for _, _, label in rows[0]))


def finite(
    runs: Sequence[Run], source: str, tasks: Sequence[str] = (), metrics: Mapping[str, str] | None = None
) -> tuple[list[Run], list[str]]:
    """The runs whose objectives are finite numbers, and for each of the others a line that says which is not.

    Args:
        runs: to choose from.
        source, tasks, metrics: see :func:`objectives`.
    """
    kept, lost = [], []
    for run in runs:
        try:
            objectives([run], source, tasks, metrics)
            kept.append(run)
        except ValueError as error:
            lost.append(str(error))
    return kept, lost


def same_data(runs: Sequence[Run]) -> None:
    """Refuses to compare runs whose splits differ.

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
                             "splits differ; train again on one of them")


def other_split(first: Run, run: Run) -> str:
    """The first split in which two runs saw different data; empty if there is none."""
    return next((split for split, said in first.card.data.items()
                 if run.card.data.get(split, {}).get("fingerprint") != said["fingerprint"]), "")


def told_apart(runs: Sequence[Run], without: Sequence[str] = ()) -> list[str]:
    """For each run the settings in which some of the runs differ, such as `` mmoe gradients=features``.

    Args:
        runs: on the same data.
        without: keys that do not matter. Keys that tables show in words or columns of their own never do.
    """
    # Cards of earlier versions lack settings that are off.
    settings = [{path: value for path, value, facts in leaves(run.card.config)
                 if facts.outcome and facts.shown == "apart" and path not in without
                 and value not in (None, False, 0, [], {})} for run in runs]
    keys = [key for key in dict.fromkeys(key for each in settings for key in each)
            if any(each.get(key) != settings[0].get(key) for each in settings)]
    return ["".join(f" {run.architecture}" if key == "architecture" else f" {key.split('.')[-1]}={each[key]}"
                    for key in keys if key in each) for run, each in zip(runs, settings, strict=True)]


def load(folder: str | Path) -> Run:
    """One run.

    Raises:
        FileNotFoundError: when the folder holds none.
    """
    return Run(Path(folder), RunCard.load(folder))


def load_all(folder: str | Path) -> list[Run]:
    """All finished runs below a folder, by name; or the run that is the folder itself.

    Raises:
        FileNotFoundError: when there is none.
    """
    if (Path(folder) / FILE).is_file():
        return [load(folder)]
    cards = sorted(Path(folder).glob(f"*/{FILE}"))
    if not cards:
        raise MissingFileError(f"{folder} holds no finished run; tfmtl2r sweep makes some")
    return [load(card.parent) for card in cards]


def described(thing: Any) -> str:
    """A method or architecture of a run card in a few words.

    >>> described({"name": "cagrad", "c": 0.5}), described("mgda")
    ('cagrad c=0.5', 'mgda')
    """
    if isinstance(thing, str):
        return thing
    options = [f"{key}={value}" for key, value in thing.items() if key != "name"]
    return " ".join([thing["name"], *options])
