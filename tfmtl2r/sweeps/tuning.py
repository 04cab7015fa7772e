"""Search: trainings of an experiment with other values of some keys, chosen by Optuna. The extra ``[tune]`` has it.

A search lies in the folder ``NAME-tune`` below the folder of all runs. ``journal.log`` is Optuna's own record, which
its dashboards read. Each finished trial is a run ``trial-0000`` beside it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from tfmtl2r import cluster, plugins
from tfmtl2r._backend import keras
from tfmtl2r.errors import InputError, Stopped, UserError, WorkerError
from tfmtl2r.experiment import Experiment
from tfmtl2r.figures import figure
from tfmtl2r.names import did_you_mean
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.lock import locked
from tfmtl2r.runs.places import LOG, remove
from tfmtl2r.settings import SettingError, files
from tfmtl2r.settings.outcome import differing, outcome
from tfmtl2r.sweeps import space
from tfmtl2r.sweeps.pool import Pool, Worker, extensions, place
from tfmtl2r.sweeps.tuned_baselines import BaselineSearch, settings_of, training_of
from tfmtl2r.sweeps.watching import Pruned, Watching
from tfmtl2r.training.trackers import directions
from tfmtl2r.writing import one_line, write_json

JOURNAL, RESULT, LOCK = "journal.log", "tune.json", ".tune.lock"
_SETTINGS, _VALUES, _ERROR = "settings", "values", "error"
Chosen = Mapping[str, Any]


class Search:
    """The search of an experiment: its trials so far, and :meth:`run`, which adds trials.

    Entering takes the lock of the folder. A trial that a killed process left is not finished, and is trained again.

    Args:
        experiment: the experiment, with its section ``tune``.
        report: called with a line for every trial that ends.

    Raises:
        ValueError: for a space or objectives that cannot be used, a folder with a search of other settings, or if
            Optuna is not installed.

    >>> with Search(experiment) as search:  # doctest: +SKIP
    ...     search.run()
    ...     print(search.best[0].values)
    """

    def __init__(self, experiment: Experiment, report: Callable[[str], None] = print):
        if importlib.util.find_spec("optuna") is None:
            raise InputError("tfmtl2r tune needs optuna, which is not installed: pip install 'tfmtl2r[tune]'")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # this class reports the trials
        self.optuna = optuna
        self.base, self.report = experiment, report
        if (on := place([experiment])) == "ray":
            cluster.check()
        self.on = on
        self.folder = Path(experiment.directory) / f"{experiment.name or 'experiment'}-tune"
        self.dataset = experiment.dataset()
        self.num_lists = int(self.dataset.lists("vali").num_lists)
        self.signs = _signs(experiment, self.dataset)
        self.watched = next(iter(self.signs)) if len(self.signs) == 1 else None
        self.space = space.checked(experiment, self.dataset)
        given = experiment.tune.baselines or ()
        training = training_of(experiment, self.dataset) if given else None
        self.rivals = [BaselineSearch(one, experiment, training, self.signs) for one in given if training is not None]
        self.study: Any = None
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Search:
        path = self.folder / JOURNAL
        known = path.is_file()
        if not known and self.folder.is_dir() and any(not one.name.startswith(".") for one in self.folder.iterdir()):
            raise InputError(f"{self.folder} is not empty and contains no search ({JOURNAL}): choose another name")
        self._held.enter_context(locked(self.folder / LOCK, f"searches in {self.folder}"))
        with contextlib.ExitStack() as undo:
            undo.push(self._held.__exit__)
            self._open(path)
            undo.pop_all()
        return self

    def __exit__(self, kind: Any = None, error: BaseException | None = None, trace: Any = None) -> None:
        self._held.close()
        if isinstance(error, KeyboardInterrupt):
            raise Stopped(f"stopped; {self.folder} keeps its finished trials, and the same command goes on") from error

    def _open(self, path: Path) -> None:
        storages, samplers = self.optuna.storages, self.optuna.samplers
        storage = storages.JournalStorage(storages.journal.JournalFileBackend(
            str(path), storages.journal.JournalFileOpenLock(str(path))))
        name = self.folder.name.removesuffix("-tune")
        self.study = self.optuna.create_study(
            study_name=name, storage=storage, load_if_exists=True,
            directions=["maximize" if sign > 0 else "minimize" for sign in self.signs.values()],
            pruner=self.optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1))
        self._check_same()
        for trial in self.study.get_trials(states=[self.optuna.trial.TrialState.RUNNING]):  # nobody else holds the lock
            self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
            if len(trial.params) == len(self.space):
                self.study.enqueue_trial(trial.params)
        for rival in self.rivals:
            rival.open(self.optuna, name, storage, self.base.training.seed)
        # The seed grows, so that a search that goes on does not draw its first values again.
        self.study.sampler = samplers.TPESampler(seed=self.base.training.seed + len(self.study.trials))

    def _check_same(self) -> None:
        """Raises if the folder has trials of another experiment, space or objectives."""
        mine = json.loads(json.dumps({**outcome(self.base.config()), "tune.objectives": [*self.signs],
                                      "tune.space": self.base.tune.space}))
        before = self.study.user_attrs.get(_SETTINGS)
        if before is None:
            self.study.set_user_attr(_SETTINGS, mine)
            return
        if differ := differing(before, mine):
            raise InputError(f"the search in {self.folder} has {differ[0]}: give the new search another name")

    @property
    def finished(self) -> list[Any]:
        """The trials that have ended: complete, pruned or failed, but not killed."""
        failed = self.optuna.trial.TrialState.FAIL
        return [trial for trial in self.study.trials
                if trial.state.is_finished() and (trial.state != failed or _ERROR in trial.user_attrs)]

    @property
    def best(self) -> list[Any]:
        """The complete trials, the best first; with several objectives, those of the front."""
        complete = self.study.get_trials(states=[self.optuna.trial.TrialState.COMPLETE])
        if not complete:
            return []
        found = self.study.best_trials if len(self.signs) > 1 else complete
        sign = next(iter(self.signs.values()))
        return sorted(found, key=lambda trial: (-sign * trial.values[0], trial.number))

    def run(self) -> None:
        """Trains until the search has as many trials as asked, or the time is over, and writes the results.

        Raises:
            ValueError: if no trial is complete; the message contains the first reason.
        """
        tune, start = self.base.tune, time.monotonic()
        left = math.inf if tune.minutes is None else 60 * tune.minutes

        def may_start() -> bool:
            return time.monotonic() - start < left

        if self.on == "ray" or (tune.jobs or 1) > 1:
            self._run_in_pool(may_start)
        else:
            while len(self.finished) < tune.trials and may_start():
                self._end(*self._next(), self._train)
        for rival in self.rivals:
            rival.run(tune.trials, may_start, self.report)
        self._write()
        if not self.best:
            reasons = [trial.user_attrs[_ERROR] for trial in self.finished if _ERROR in trial.user_attrs]
            raise InputError(f"no trial of {self.folder} is complete; " + (f"the first failed: {reasons[0]}" if reasons
                             else "give more minutes"))

    def _run_in_pool(self, may_start: Callable[[], bool]) -> None:
        """Trains several trials at a time. Each is chosen by those that have ended before."""
        tune, begun = self.base.tune, len(self.finished)
        bases = [self.base, *(space.with_values(self.base, self.dataset, {key: value})
                              for key, one in self.space.items() for value in getattr(one, "values", ()))]
        files = plugins.files(extensions([one.config() for one in bases]))
        with Pool(tune.jobs, on=self.on) as pool:

            def take() -> tuple[Any, Chosen, str] | None:
                nonlocal begun
                if begun >= tune.trials or not may_start():
                    return None
                begun += 1
                return self._next()

            def train(worker: Worker, asked: tuple[Any, Chosen, str]) -> None:
                self._end(*asked, functools.partial(self._train_by, worker, pool))

            if begun < tune.trials:
                pool.work(tune.trials - begun, files, take, train)

    def _next(self) -> tuple[Any, Chosen, str]:
        """A new trial, its values, and the name of its run."""
        trial = self.study.ask()
        chosen = {key: one.suggest(trial, key) for key, one in self.space.items()}
        trial.set_user_attr(_VALUES, json.dumps(chosen))
        return trial, chosen, f"trial-{trial.number:04d}"

    def _end(self, trial: Any, chosen: Chosen, name: str, train: Callable[[Any, Chosen, str], list[float]]) -> None:
        """Trains a trial, and records how it has ended."""
        state = self.optuna.trial.TrialState
        try:
            values = train(trial, chosen, name)
        except _CutOff:
            return
        except Pruned:
            self.study.tell(trial, state=state.PRUNED)
            remove(self.folder / name)
            self.report(f"pruned  {name}: {_text(chosen)}")
        except UserError as error:
            trial.set_user_attr(_ERROR, one_line(error))
            self.study.tell(trial, state=state.FAIL)
            self.report(f"FAILED  {name}: {one_line(error)}")
        else:
            self.study.tell(trial, values)
            self.report(f"done    {name}: {' '.join(map(figure, values))}   {_text(chosen)}")

    def _train(self, trial: Any, chosen: Chosen, name: str) -> list[float]:
        """Trains a trial in this process."""
        keras.backend.clear_session()
        experiment, data = self._made(chosen, name)
        watchers = [Watching(self.watched, functools.partial(_judge, trial))] if self.watched else []
        _, card = experiment.run(verbose=0, dataset=data, callbacks=watchers, overwrite=True)
        return self._values_of(card)

    def _train_by(self, worker: Worker, pool: Pool, trial: Any, chosen: Chosen, name: str) -> list[float]:
        """Trains a trial in a process of the pool."""
        experiment, _ = self._made(chosen, name)
        pruned = False

        def judge(epoch: int, value: float) -> bool:
            nonlocal pruned
            pruned = _judge(trial, epoch, value)
            return pruned

        job = experiment.but(training={"on": "local"}).config()
        error = worker.run({**job, "watched": self.watched}, judge)
        if pool.stopped:
            raise _CutOff
        if error is not None:
            raise WorkerError(f"{error}; see {self.folder / name / LOG}")
        if pruned:
            raise Pruned
        return self._values_of(RunCard.load(self.folder / name))

    def _made(self, chosen: Chosen, name: str) -> tuple[Experiment, Any]:
        """The experiment of a trial and its data, after a check that its validation split is that of all trials."""
        experiment = space.with_values(self.base, self.dataset, chosen).but(name=name, directory=str(self.folder))
        data = self.dataset if experiment.data == self.base.data and experiment.features == self.base.features and \
            experiment.tasks == self.base.tasks else experiment.dataset()
        if data.lists("vali").fingerprint() != self.dataset.lists("vali").fingerprint():
            raise InputError("its validation split has other lists or labels, so that trials cannot be compared")
        return experiment, data

    def _values_of(self, card: Any) -> list[float]:
        """The objectives of a run at the epoch that it has kept."""
        kept = card.history.get("kept", [])
        at = kept.index(1.0) if 1.0 in kept else -1
        values = [float(card.history[objective][at]) for objective in self.signs]
        for objective, value in zip(self.signs, values, strict=True):
            if not math.isfinite(value):
                raise InputError(f"{objective} is {value}")
        return values

    def _write(self) -> None:
        """Writes all trials, and the best one as an experiment."""
        best = self.best
        rows = [{"number": trial.number, "state": trial.state.name.lower(), "values": trial.values,
                 "settings": _values(trial), "error": trial.user_attrs.get(_ERROR)} for trial in self.finished]
        write_json(self.folder / RESULT, {
            "objectives": [*self.signs], "maximise": [sign > 0 for sign in self.signs.values()],
            "num_lists": self.num_lists, "best": [trial.number for trial in best], "trials": rows,
            **({"baselines": {rival.name: rival.as_numbers() for rival in self.rivals}} if self.rivals else {}),
        })
        if best:
            found = space.with_values(self.base, self.dataset, _values(best[0]))
            named = found.but(name=f"{self.folder.name.removesuffix('-tune')}-best", directory=self.base.directory)
            files.save(named.config(), self.folder / files.FILE)

    def table(self, most: int = 10) -> Table:
        """The best trials with their settings and values, and the best trial of each baseline."""
        pruned, failed = (sum(trial.state == state for trial in self.finished)
                          for state in (self.optuna.trial.TrialState.PRUNED, self.optuna.trial.TrialState.FAIL))
        title = "best trials" if len(self.signs) == 1 else "front of trials"
        table = Table(title=title, title_justify="left", caption_justify="left", caption=(
            f"values on {self.num_lists} validation lists; of {len(self.finished)} trials, {pruned} pruned, "
            f"{failed} failed"))
        for column in ("trial", *self.signs):
            table.add_column(column, justify="right")
        for key in self.space:
            table.add_column(escape(key), overflow="fold")
        if self.rivals:
            table.add_column("settings", overflow="fold")
        for trial in self.best[:most]:
            values = _values(trial)
            table.add_row(str(trial.number), *map(figure, trial.values),
                          *(escape(_shown(values[key])) for key in self.space), *([""] if self.rivals else []))
        for rival in (one for one in self.rivals if one.best is not None):
            table.add_row(escape(f"{rival.name} {rival.best.number}"), *map(figure, rival.best.values),
                          *([""] * len(self.space)), escape(_text(settings_of(rival.best))))
            table.caption = f"{table.caption}; {len(rival.finished)} trials of {escape(rival.name)}"
        return table


def _signs(experiment: Experiment, dataset: Any) -> dict[str, int]:
    """Objective -> 1 for large, -1 for small values, after a check that the validation logs it."""
    objectives = experiment.tune.objectives
    if not objectives or len(set(objectives)) < len(objectives):
        raise SettingError(["tune", "objectives"], f"must be one or several different numbers, not {list(objectives)}")
    if experiment.in_stages:
        raise SettingError(["tune"], "does not go with stages and constraints, whose last epoch is not the kept one")
    known = directions(experiment.select(dataset), not dataset.lists("train").is_rows)
    signs = {f"val_{name}": sign for name, sign in known.items() if sign}
    for objective in objectives:
        if objective not in signs:
            raise SettingError(["tune", "objectives"], f"has {objective!r}, which is no logged number of the validation"
                               f"{did_you_mean(objective, signs)}; these are {', '.join(signs)}")
    return {objective: signs[objective] for objective in objectives}


class _CutOff(Exception):
    """The search has been stopped during a trial, which is no failure of the trial."""


def _judge(trial: Any, epoch: int, value: float) -> bool:
    """Whether a trial is worse than the median of the trials before it."""
    trial.report(value, epoch)
    return bool(trial.should_prune())


def _values(trial: Any) -> dict[str, Any]:
    return json.loads(trial.user_attrs[_VALUES])


def _text(values: Mapping[str, Any]) -> str:
    return "  ".join(f"{key}={_shown(value)}" for key, value in values.items())


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
