"""Sweeps: runs many experiments in processes on this machine; finished runs are never run again."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tfmtl2r import (
    architectures,
    baselines,
    blends,
    calibrators,
    datasets,
    losses,
    methods,
    metrics,
    plugins,
    transforms,
)
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
from tfmtl2r.sweeps.table import write_tables
from tfmtl2r.types import Array

LOCK = ".sweep.lock"
_PATIENCE = 5.0
"""Seconds until a worker that was asked to stop is killed: a step must end and a checkpoint be written."""


class Sweep:
    """A folder of runs, and the processes that train them.

    A run is finished when its folder contains a run card with exactly the planned settings. The run card is written
    last and atomically. An unfinished run goes on from its last checkpoint. The result of a run
    depends only on its settings: every run starts from its own seed, with the same number of threads, in any order. A
    run that fails is reported with its log file, and the other runs continue.

    Args:
        folder: folder of the sweep; its subfolders are the runs.
        jobs: number of processes at a time; None uses the number of CPUs.
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
        self.jobs = jobs or os.cpu_count() or 1
        self.threads = threads
        self.preferences = preferences
        self.failed: dict[str, str] = {}
        self._report = report
        self._table = table
        self._workers: list[_Worker] = []
        self._stopped = False
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Sweep:
        others = [path for path in self.folder.glob("*") if not path.name.startswith(LOCK.removesuffix("lock"))]
        if others and not (self.folder / manifest.FILE).is_file():
            raise InputError(f"{self.folder} is not empty and contains no sweep ({manifest.FILE}): choose another name")
        self._held.enter_context(locked(self.folder / LOCK, f"runs the sweep in {self.folder}"))
        return self

    def __exit__(self, kind: Any = None, error: BaseException | None = None, trace: Any = None) -> None:
        self._stopped = True  # after Ctrl-C, interrupted runs are no failures, and no further run starts
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.stop()
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
            ValueError: when an experiment differs from this sweep in another setting.
        """
        jobs = [{**experiment.config(), "directory": str(self.folder)} for experiment in experiments]
        known = self._join_manifest(jobs)
        self.failed = {}
        missing = [job for job in jobs if self._finished(job) is None]
        if missing:
            self._train(missing, len(jobs))
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

    def _train(self, missing: list[dict[str, Any]], total: int) -> None:
        waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        for job in missing:
            waiting.put(job)
        count = min(self.jobs, len(missing))
        files = plugins.files(_extensions(missing))
        self._workers += [_Worker(self.threads, files) for _ in range(count - len(self._workers))]
        with self._progress(total - len(missing), total) as ended:
            threads = [threading.Thread(target=self._feed, args=(worker, waiting, ended), daemon=True)
                       for worker in self._workers[:count]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _feed(self, worker: _Worker, waiting: queue.SimpleQueue[Any], ended: Callable[[str, str | None], None]) -> None:
        worker.served = None if self.preferences is None else np.asarray(self.preferences).tolist()
        with contextlib.suppress(queue.Empty):
            while True:
                job = waiting.get_nowait()
                error = worker.run(job)
                if self._stopped:
                    return
                if error is None and self._finished(job) is None:
                    error = "the run ended without writing all of its files"
                if error is not None:
                    self.failed[job["name"]] = f"{error}; see {self.folder / job['name'] / LOG}"
                ended(job["name"], self.failed.get(job["name"]))

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


def _extensions(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The data sets, architectures, methods, and parts of tasks of the jobs that are not built in."""
    needs = []
    for job in jobs:
        used = [(datasets, job["data"]), (architectures, job["architecture"]), (methods, job["method"])]
        teachers = job.get("teacher", {}).get("from", [])
        used += [(baselines, teacher) for teacher in (teachers if isinstance(teachers, list) else [teachers])]
        for task in (task for task in job["tasks"] if isinstance(task, Mapping)):
            used += [(losses, task.get("loss")), (transforms, task.get("transform")),
                     (calibrators, task.get("calibration")),
                     *((metrics, metric) for metric in task.get("metrics") or ())]
        used.append((calibrators, job.get("calibration", {}).get("kind")))
        used.append((blends, job.get("export", {}).get("blend", {}).get("kind")))
        needs += [need for package, described in used for need in package.registry.extensions(described)]
    return needs


class _Worker:
    """One process that trains runs. It starts with the first run, and again after it has died."""

    def __init__(self, threads: int, files: Sequence[Sequence[str]]):
        self.threads = threads
        self.files = files
        self.served: list[list[float]] | None = None
        self.process: subprocess.Popen[str] | None = None
        self._asked = False

    def run(self, job: dict[str, Any]) -> str | None:
        """Trains a run and returns an error message, or None."""
        if self.process is None or self.process.poll() is not None:
            self.stop()
            # The worker has its own session: Ctrl-C reaches only the sweep, which then stops its workers.
            command = [sys.executable, "-m", "tfmtl2r.sweeps.worker", str(self.threads), *map(json.dumps, self.files)]
            self._asked = False
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            )
        process = self.process
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps({**job, "served": self.served}) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        return json.loads(answer)["error"] if answer.endswith("\n") else f"its process ended with code {process.wait()}"

    def ask_to_stop(self) -> None:
        """Sends SIGTERM once: a training then ends its step and saves a checkpoint. A second one would cut it off."""
        if self.process is not None and not self._asked:
            self._asked = True
            self.process.terminate()

    def stop(self) -> None:
        """Ends the process, even during a run, and closes its pipes."""
        if self.process is not None:
            self.ask_to_stop()
            try:
                self.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()
