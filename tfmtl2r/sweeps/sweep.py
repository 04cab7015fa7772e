"""Sweeps: runs many experiments in processes, here or on a Ray cluster; finished runs are never run again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tfmtl2r import cluster, plugins
from tfmtl2r.errors import InputError, Stopped
from tfmtl2r.experiment import Experiment
from tfmtl2r.runs import finished as finished_runs
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.finished import Run
from tfmtl2r.runs.identity import MODEL, PER_LIST
from tfmtl2r.runs.lock import locked
from tfmtl2r.runs.places import LOG, settled
from tfmtl2r.settings import FORMAT
from tfmtl2r.settings.outcome import differing, keys_where, outcome
from tfmtl2r.sweeps import manifest
from tfmtl2r.sweeps.pool import Pool, Worker, extensions, place
from tfmtl2r.sweeps.table import write_tables
from tfmtl2r.types import Array

LOCK = ".sweep.lock"


class Sweep:
    """A folder of runs, and the processes that train them.

    A run is finished when its folder contains a run card with exactly the planned settings. The run card is written
    last and atomically. An unfinished run goes on from its last checkpoint. The result of a run
    depends only on its settings: every run starts from its own seed, with the same number of threads, in any order. A
    run that fails is reported with its log file, and the other runs continue. Experiments with ``training.on = "ray"``
    and one worker run on a Ray cluster whose machines share the folder, and have the same results.

    Args:
        folder: folder of the sweep; its subfolders are the runs.
        jobs: number of processes at a time; None uses the number of CPUs, on a cluster that of its GPUs if it has some.
        threads: number of TensorFlow threads in each process.
        report: called with a line for every run that ends; None prints the line.
        table: whether to write the table of all runs, which must then be on the same data.
        preferences: ``[N, T]``, at which the served ranking of each run is measured, beside its own preference; by
            default :func:`tfmtl2r.preferences.usual_grid`.

    Raises:
        ValueError: when the folder is not a sweep, or another process is working on it.

    >>> with Sweep("runs/quick") as sweep:  # doctest: +SKIP
    ...     runs = sweep.run(plan(base, ["linear_scalarization", "mgda"], das_dennis(2, 10)))
    """

    def __init__(
        self, folder: str | Path, jobs: int | None = None, threads: int = 1,
        report: Callable[[str], None] | None = None, table: bool = True, preferences: Array | None = None,
    ):
        if (jobs is not None and jobs < 1) or threads < 1:
            raise InputError(f"jobs and threads must be at least 1, not {jobs} and {threads}")
        self.folder = Path(folder)
        self.jobs = jobs
        self.threads = threads
        self.preferences = preferences
        self.failed: dict[str, str] = {}
        self._report = report
        self._table = table
        self._pool: Pool | None = None
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Sweep:
        others = [path for path in self.folder.glob("*") if not path.name.startswith(LOCK.removesuffix("lock"))]
        if others and not (self.folder / manifest.FILE).is_file():
            raise InputError(f"{self.folder} is not empty and contains no sweep ({manifest.FILE}): choose another name")
        self._held.enter_context(locked(self.folder / LOCK, f"runs the sweep in {self.folder}"))
        return self

    def __exit__(self, kind: Any = None, error: BaseException | None = None, trace: Any = None) -> None:
        self._held.close()
        if isinstance(error, KeyboardInterrupt):
            raise Stopped(f"stopped; {self.folder} keeps its finished runs and all checkpoints, and the same command "
                          "goes on with the other runs") from error

    def run(self, experiments: Sequence[Experiment]) -> list[Run]:
        """Trains the runs that are not finished, and writes ``table.csv`` and ``table.md`` of the sweep, if asked.

        Args:
            experiments: for example those of :func:`tfmtl2r.sweeps.plan`. They may differ from the experiments of
                earlier calls only in the axes of a sweep, which :mod:`tfmtl2r.settings` declares: method, preference,
                seed, architecture, tasks, stages and constraints, and conditioning.

        Returns:
            The finished runs, in the order of ``experiments``. :attr:`failed` contains the reasons for the others.

        Raises:
            ValueError: when an experiment differs from this sweep in another setting, or when there are more jobs than
                CPUs of the Ray cluster.
            ImportError: when the runs shall be on a Ray cluster, and Ray is not installed.
        """
        if (on := place(experiments)) == "ray":
            cluster.check()
            experiments = [experiment.but(training={"on": "local"}) for experiment in experiments]
        jobs = [{**experiment.config(), "directory": str(self.folder)} for experiment in experiments]
        known = self._join_manifest(jobs)
        self.failed = {}
        missing = [job for job in jobs if self._finished(job) is None]
        if missing:
            self._train(missing, len(jobs), on)
        if self._table:
            for line in write_tables([run for job in known if (run := self._finished(job))], self.folder):
                (self._report or print)(f"not on the front: {line}")
        return [run for job in jobs if (run := self._finished(job))]

    def _finished(self, job: dict[str, Any]) -> Run | None:
        folder = settled(self.folder / job["name"])
        if not all((folder / file).is_file() for file in (MODEL, PER_LIST)):
            return None
        try:
            run = finished_runs.load(folder)
        except plugins.PluginError:
            raise
        except (FileNotFoundError, ValueError):
            return None
        same = outcome(run.card.config) == outcome(job)
        return run if same and "test" in run.card.results else None

    def _join_manifest(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Adds runs to ``sweep.json``, which lists all runs of the sweep in order, and returns all of them."""
        before = manifest.read(self.folder)
        if before.get("format", 1) != FORMAT:
            raise InputError(f"an earlier version of tfmtl2r began the sweep in {self.folder} (format 1): its runs can "
                             "be read, but none can be added; give the new sweep another name")
        if before.get("threads", self.threads) != self.threads:
            raise InputError(f"the sweep in {self.folder} was started with {before['threads']} threads, which is part "
                             f"of its outcome, not {self.threads}")
        known = {job["name"]: job for job in before["runs"]}
        common = [outcome(job, without=keys_where(axis=True)) for job in [*before["runs"], *jobs]]
        for other in common[1:]:
            if differ := differing(common[0], other):
                raise InputError(f"the sweep in {self.folder} has {differ[0]}: give it another name to compare such "
                                 "settings")
        known.update({job["name"]: job for job in jobs})
        manifest.write(self.folder, [*known.values()], self.threads)
        return [*known.values()]

    def _train(self, missing: list[dict[str, Any]], total: int, on: str) -> None:
        if self._pool is None or self._pool.on != on:
            self._pool = self._held.enter_context(Pool(self.jobs, self.threads, on))
        pool, waiting = self._pool, iter(missing)
        served = None if self.preferences is None else np.asarray(self.preferences).tolist()
        with self._progress(total - len(missing), total) as ended:

            def train(worker: Worker, job: dict[str, Any]) -> None:
                error = worker.run({**job, "served": served})
                if pool.stopped:
                    return
                if error is None and self._finished(job) is None:
                    error = "the run ended without writing all of its files"
                if error is not None:
                    self.failed[job["name"]] = f"{error}; see {self.folder / job['name'] / LOG}"
                ended(job["name"], self.failed.get(job["name"]))

            pool.work(len(missing), plugins.files(extensions(missing)), lambda: next(waiting, None), train)

    @contextlib.contextmanager
    def _progress(self, done: int, total: int) -> Iterator[Callable[[str, str | None], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn())
        console = Console(quiet=self._report is not None)

        def say(line: str) -> None:
            if self._report:
                self._report(line)
            else:
                console.print(line, highlight=False, markup=False, soft_wrap=True)

        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("runs", total=total, completed=done)

            def ended(name: str, failure: str | None) -> None:
                progress.advance(bar)
                say(f"FAILED  {name}: {failure}" if failure else f"done    {name}")

            if done:
                say(f"{done} of {total} runs were already finished")
            yield ended


def over_seeds(
    folder: str | Path, base: Experiment, variants: Mapping[str, Mapping[str, Any]], seeds: Sequence[int],
    jobs: int | None = None,
) -> dict[str, list[RunCard]]:
    """Trains variants of an experiment with several seeds, as a sweep. Finished runs are not run again.

    Args:
        folder: folder of the sweep.
        base: the common settings; name and seed are replaced.
        variants: label -> settings in which the variant differs, for example ``{"architecture": "ple"}``; see
            :meth:`tfmtl2r.settings.Settings.but`.
        seeds: seeds of the runs; the runs are named ``LABEL-SEED``.
        jobs: number of processes at a time; None uses the number of CPUs.

    Returns:
        label -> run cards of its seeds. Failed runs are left out, and so are labels whose runs all failed.
    """
    planned = {
        label: [base.but(**settings).but(name=f"{label}-{seed}", training={"seed": seed}) for seed in seeds]
        for label, settings in variants.items()
    }
    with Sweep(folder, jobs) as sweep:
        runs = sweep.run([experiment for same in planned.values() for experiment in same])
    cards = {run.card.name: run.card for run in runs}
    found = {label: [cards[e.name] for e in same if e.name in cards] for label, same in planned.items()}
    return {label: same for label, same in found.items() if same}
