"""A pool of processes that train runs, each of them one run after the other: on this machine, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tfmtl2r import (
    architectures,
    baselines,
    blends,
    calibrators,
    cluster,
    datasets,
    losses,
    methods,
    metrics,
    transforms,
)
from tfmtl2r.errors import WorkerError
from tfmtl2r.experiment import Experiment
from tfmtl2r.sweeps.lines import LineProcess

_PATIENCE = 5.0
"""Seconds until a worker that was asked to stop is killed: a step must end and a checkpoint be written."""
_LOOK = 0.5
"""Seconds between looks whether the cluster has a place for a worker."""
Job = TypeVar("Job")


def place(experiments: Sequence[Experiment]) -> str:
    """Where the pool that trains the experiments is: "ray" if each is to be trained on Ray by one worker, which then is
    a process of the pool; else "local"."""
    settings = [experiment.training for experiment in experiments]
    return "ray" if settings and all(one.on == "ray" and (one.workers or 1) == 1 for one in settings) else "local"


class Pool:
    """Processes that train runs at a time. They start when they are needed, and end with the block.

    Args:
        jobs: number of processes at a time; None uses the number of CPUs, on a cluster that of its GPUs if it has some.
        threads: number of TensorFlow threads in each process.
        on: "local" for processes of this machine, "ray" for processes of a Ray cluster, with one CPU each.

    Raises:
        InputError: for more jobs than CPUs of the cluster.
        ImportError: if Ray is wanted and not installed.
    """

    def __init__(self, jobs: int | None = None, threads: int = 1, on: str = "local"):
        self.threads, self.on = threads, on
        self.stopped = False
        self.workers: list[Worker] = []
        self._over = threading.Event()
        self._held = contextlib.ExitStack()
        gpus = 0.0
        if on == "ray":
            has = self._held.enter_context(cluster.joined(jobs, "jobs"))
            gpus = has.get("GPU", 0)
            jobs = jobs or int(gpus) or int(has.get("CPU", 1))
        self.jobs = jobs or os.cpu_count() or 1
        self._gpus = cluster.share_of_gpu(self.jobs, gpus)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: Any) -> None:
        self.stopped = True  # interrupted runs are no failures
        self._over.set()  # no further process starts
        for worker in self.workers:
            worker.ask_to_stop()
        for worker in self.workers:
            worker.stop()
        self._held.close()

    def work(
        self, count: int, files: Sequence[Sequence[str]], take: Callable[[], Job | None],
        do: Callable[[Worker, Job], None],
    ) -> None:
        """Does all jobs, as many at a time as there are processes.

        Args:
            count: number of jobs, if it is known, or the largest number of them at a time.
            files: files that the processes import, see :func:`tfmtl2r.plugins.files`.
            take: returns the next job, or None if there is none; called by one thread at a time.
            do: does a job with a worker.

        Raises:
            WorkerError: if no process can start on the cluster.
            Exception: the first one that ``do`` or ``take`` has raised.
        """
        count = min(self.jobs, count)
        self.workers += [Worker(self.threads, files, self.on, self._gpus) for _ in range(count - len(self.workers))]
        self._over = over = threading.Event()
        one_at_a_time = threading.Lock()
        errors: list[BaseException] = []

        def feed(worker: Worker) -> None:
            try:
                while worker.ready(over):
                    with one_at_a_time:
                        job = None if over.is_set() else take()
                    if job is None:
                        break
                    do(worker, job)
            except BaseException as error:
                errors.append(error)
            over.set()  # no worker waits for a place any more

        threads = [threading.Thread(target=feed, args=(worker,), daemon=True) for worker in self.workers[:count]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]


class Worker:
    """One process that trains runs. It starts before the first run, and again after it has died."""

    def __init__(self, threads: int, files: Sequence[Sequence[str]], on: str = "local", gpus: float = 0.0):
        self.on, self.gpus = on, gpus
        self.arguments = ["-m", "tfmtl2r.sweeps.worker", str(threads), *map(json.dumps, files)]
        self.process: Any = None
        self._placed = False
        self._starting = threading.Lock()

    def ready(self, over: threading.Event) -> bool:
        """Starts the process if there is none, and waits until the cluster has placed it.

        Args:
            over: ends the waiting. The result is False then, and no process starts.
        """
        if self._reached and not over.is_set() and self._dead():
            self.stop()
        with self._starting:
            if self.process is None and not over.is_set():
                self.process = self._start()
        while self.on == "ray" and not self._placed and not over.is_set():
            self._placed = self.process.placed(_LOOK)
        return not over.is_set()

    def run(self, job: Mapping[str, Any], judge: Callable[[int, float], bool] | None = None) -> str | None:
        """Trains a run and returns an error message, or None.

        Args:
            job: see :meth:`tfmtl2r.sweeps.worker.Trainings.run`.
            judge: called with the number and the value of each epoch, if the job has a watched number; returns whether
                the training shall end.
        """
        line = json.dumps(job)
        try:
            while True:
                if not (answer := self.process.ask(line)):
                    return f"its process {self.process.ended()}"
                found = json.loads(answer)
                if "error" in found:
                    error: str | None = found["error"]
                    return error
                assert judge is not None
                line = json.dumps({"prune": judge(found["epoch"], found["value"])})
        except WorkerError as error:
            return str(error)

    def ask_to_stop(self) -> None:
        """Lets a training end its step and save a checkpoint."""
        if self._reached:
            with contextlib.suppress(WorkerError):
                self.process.ask_to_stop()

    def stop(self) -> None:
        """Ends the process, even during a run, and gives its place back."""
        with self._starting:
            if self._reached:
                with contextlib.suppress(WorkerError):
                    self.process.stop(_PATIENCE)
            if self.on == "ray" and self.process is not None:
                self.process.release()
            self.process, self._placed = None, False

    @property
    def _reached(self) -> bool:
        """Whether there is a process. Before the cluster has placed it, a call of it would wait."""
        return self.process is not None and (self.on != "ray" or self._placed)

    def _start(self) -> Any:
        if self.on != "ray":
            return LineProcess(self.arguments)
        # TensorFlow would take all of the memory of a GPU that several processes share.
        shared = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if 0 < self.gpus < 1 else {}
        return cluster.Remote(LineProcess, self.arguments, os.getcwd(), shared, gpus=self.gpus)

    def _dead(self) -> bool:
        try:
            return not self.process.is_alive()
        except WorkerError:
            return True


def extensions(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
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
