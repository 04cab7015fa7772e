"""A process that trains one experiment after the other, each as if it were alone.

It reads experiments from standard input, one JSON object per line, and answers each with a line on standard output.
What a run prints goes to ``log.txt`` in the run's folder. When the process that started it goes away, it stops at
once, so that nothing writes into a folder that a new sweep may already use.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfmtl2r import plugins

LOG = "log.txt"


def main(threads: int, files: Sequence[str] = ()) -> None:
    """Serves until standard input ends.

    Args:
        threads: of TensorFlow. It is part of the outcome: sums over more threads round differently.
        files: plug-ins to import.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    trainings = Trainings()
    started = False
    while True:
        job = json.loads(lines.get())
        with _log(Path(job["directory"]) / job["name"]):
            try:
                if not started:
                    _set_threads(threads)
                    plugins.load(*files)
                    started = True
                trainings.run(job)
                error = None
            except Exception as caught:
                traceback.print_exc()
                error = f"{type(caught).__name__}: {caught}".split("\n")[0]
        answers.write(json.dumps({"error": error}) + "\n")


def _read(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(1)


class _log:
    """Makes an empty folder for a run and sends there what it prints, TensorFlow's own messages included."""

    def __init__(self, folder: Path):
        shutil.rmtree(folder, ignore_errors=True)  # what a killed run left
        folder.mkdir(parents=True)
        self.file = open(folder / LOG, "wb")  # noqa: SIM115

    def __enter__(self) -> None:
        for descriptor in (1, 2):
            os.dup2(self.file.fileno(), descriptor)

    def __exit__(self, *error: Any) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.file.close()


def _set_threads(threads: int) -> None:
    from tfmtl2r._backend import tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


class Trainings:
    """One training after the other. The data of the last one is kept, and its ranker, whose compiled steps serve the
    next one as well where nothing but seed and preference is another.
    """

    def __init__(self) -> None:
        self.data: Any = None
        self.ranker: Any = None
        self.key: tuple[str, str] = ("", "")

    def run(self, job: dict[str, Any]) -> None:
        """Trains one experiment, given as plain data."""
        from tfmtl2r._backend import keras
        from tfmtl2r.experiment import Experiment
        from tfmtl2r.runs.finished import SEED
        from tfmtl2r.settings.outcome import outcome

        experiment = Experiment.of(job)
        # A table of one's own is made from the entries of its tasks and features too.
        entries = [] if experiment.data.name else [job["tasks"], job["features"]]
        data = json.dumps([{**job["data"], "tasks": None}, *entries], sort_keys=True)
        key = data, json.dumps(outcome(job, without=(SEED, "preference")), sort_keys=True)
        if key[0] != self.key[0]:
            self.data = None
        if key != self.key:
            self.ranker = None
            keras.backend.clear_session()  # names and memory of the run before
        self.key = key
        self.data = self.data or experiment.dataset()
        before, self.ranker = self.ranker, None  # a run that fails leaves none behind
        self.ranker = experiment.run(verbose=2, dataset=self.data, before=before)[0]


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
