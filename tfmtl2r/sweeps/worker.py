"""The process that trains the runs of a sweep, one after the other and independent of each other.

The process reads experiments from standard input, one JSON object per line, and writes one line to standard output for
each of them. If a number of the run is watched, it also writes a line with the value of each epoch, and reads a line
that contains whether the training shall end. The output of a run goes to ``log.txt`` in the run's folder. When the
parent process ends, the worker stops at once, so that it does not write into a folder that a new sweep may already use.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmtl2r import plugins
from tfmtl2r.errors import DamagedError, UserError
from tfmtl2r.runs.places import LOG, LOGS, MARK
from tfmtl2r.writing import fault_of, one_line


def main(threads: int, plugin_files: Sequence[str] = (), files: Sequence[str] = ()) -> None:
    """Trains the experiments on standard input until it is closed.

    Args:
        threads: number of TensorFlow threads. It affects the numbers: sums over more threads round differently.
        plugin_files: plug-in files to import.
        files: other files to import, which registered something that the runs use.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()

    def answer(content: Mapping[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")

    def judge(epoch: int, value: float) -> bool:
        answer({"epoch": epoch, "value": value})
        return bool(json.loads(lines.get())["prune"])

    trainings = Trainings(judge)
    started = False
    while True:
        job = json.loads(lines.get())
        error = None
        try:
            with _log(Path(job["directory"]) / job["name"]):
                if not started:
                    _set_threads(threads)
                    plugins.load(*plugin_files)
                    plugins.load(*files, remember=False)
                    started = True
                trainings.run(job)
        except Exception as caught:
            error = one_line(caught) if fault_of(caught) else f"{type(caught).__name__}: {caught}".split("\n")[0]
        answer({"error": error})


def _read(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(1)


class _log:
    """Marks the folder of a run and redirects all output to its log file, including TensorFlow's messages."""

    def __init__(self, folder: Path):
        (folder / MARK).mkdir(parents=True, exist_ok=True)
        self.file = open(folder / LOG, "ab")  # noqa: SIM115

    def __enter__(self) -> None:
        for descriptor in (1, 2):
            os.dup2(self.file.fileno(), descriptor)

    def __exit__(self, *error: Any) -> None:
        if error[0]:
            traceback.print_exception(*error)
        sys.stdout.flush()
        sys.stderr.flush()
        self.file.close()


def _set_threads(threads: int) -> None:
    from tfmtl2r._backend import tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


class Trainings:
    """Trains one experiment after the other, and reuses data and compiled steps.

    The data of the last experiment are kept for the next one. So is the ranker, whose compiled steps are reused when
    the next experiment differs only in seed and preference.

    Args:
        judge: judges the watched number of a run after each epoch, see :class:`tfmtl2r.sweeps.watching.Watching`.
    """

    def __init__(self, judge: Callable[[int, float], bool] | None = None) -> None:
        self.judge = judge
        self.data: Any = None
        self.ranker: Any = None
        self.key: tuple[str, str] = ("", "")

    def run(self, job: dict[str, Any]) -> None:
        """Trains one experiment, given as a dictionary of settings, and measures what it serves.

        The preferences at which it is measured are ``job["served"]``. A trial of a search has ``job["watched"]``, the
        number by which it may end early, or None. Nothing that it serves is measured.
        """
        from tfmtl2r._backend import keras
        from tfmtl2r.experiment import Experiment
        from tfmtl2r.runs.finished import SEED
        from tfmtl2r.settings.outcome import outcome
        from tfmtl2r.sweeps.watching import Pruned

        served, is_trial, watched = job.pop("served", None), "watched" in job, job.pop("watched", None)
        experiment = Experiment.of(job)
        # A data set that is read from the user's table also depends on the entries of tasks and features.
        entries = [] if experiment.data.name else [job["tasks"], job["features"]]
        data = json.dumps([{**job["data"], "tasks": None}, *entries], sort_keys=True)
        key = data, json.dumps(outcome(job, without=(SEED, "preference")), sort_keys=True)
        if key[0] != self.key[0]:
            self.data = None
        if key != self.key:
            self.ranker = None
            keras.backend.clear_session()  # frees names and memory of the previous run
        self.key = key
        self.data = self.data or experiment.dataset()
        before, self.ranker = self.ranker, None  # a run that fails leaves no ranker behind
        go_on = _can_go_on(experiment)
        options = {"verbose": 2, "dataset": self.data, "callbacks": self._watching(watched)}
        try:
            self.ranker, card = experiment.run(**options, before=before, resume=go_on, overwrite=not go_on)
        except DamagedError as error:  # nothing is left that could be lost
            print(error)
            self.ranker, card = experiment.run(**options, overwrite=True)
        except Pruned:
            return
        if not is_trial:
            self.measure(experiment, card, served)

    def _watching(self, watched: str | None) -> list[Any]:
        from tfmtl2r.sweeps.watching import Watching

        return [Watching(watched, self.judge)] if watched and self.judge else []

    def measure(self, experiment: Any, card: Any, preferences: Any) -> None:
        """Adds what the ranker serves to the card of its run, if it has lists and several tasks."""
        from tfmtl2r.evaluation.served_points import served_results
        from tfmtl2r.report import hparams

        splits = {split: self.data.lists(split) for split in ("vali", "test")}
        card.served = served_results(self.ranker, splits, preferences, experiment.training.batch_size)
        if card.served:
            card.save(experiment.folder)
            if experiment.training.telemetry_every:
                names = [task.name for task in self.ranker.tasks]
                hparams.write_points(experiment.folder / LOGS, "served", card.served["points"], names)


def _can_go_on(experiment: Any) -> bool:
    """Whether the folder contains an unfinished training with the same settings."""
    from tfmtl2r.runs import attempt

    try:
        return attempt.same_settings(attempt.settings_of(experiment.folder), experiment.config())
    except UserError:
        return False


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(json.loads, sys.argv[2:]))
