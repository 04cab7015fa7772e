"""The workers of a training on a Ray cluster (:mod:`tfmtl2r.cluster`), by Ray Train.

Ray places the workers, tells each its place in ``TF_CONFIG``, and each then runs the same command as on one machine
(:mod:`tfmtl2r.training.processes`). The command is a process of its own, because Ray prepares the process of a worker
for Keras 2, and because a cluster of TensorFlow must begin before anything else uses TensorFlow. All machines read the
data and write the run at the same paths.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tfmtl2r import cluster
from tfmtl2r.errors import WorkerError

__all__ = ["run"]


def _work_of(arguments: Sequence[str], folder: str) -> Callable[[], None]:
    """What the process does that Ray starts for each worker. Ray sends a function within a function as it is, so that
    its own processes need not import this package."""
    def work() -> None:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)  # Ray sets it; Keras 3 is wanted
        os.chdir(folder)
        from tfmtl2r.training import distributed, processes

        place = distributed.place()
        number, count = place if place is not None else (0, 1)
        processes.run([sys.executable, *arguments], [{}], number, count)

    return work


def run(arguments: Sequence[str], count: int, folder: Path) -> None:
    """Runs workers on the cluster.

    Args:
        arguments: arguments of Python, the same for every worker.
        count: number of workers, each with one CPU, and with one GPU if the cluster has as many.
        folder: a folder that all machines share, in which Ray keeps its notes until the training has ended.

    Raises:
        InputError: if the cluster has fewer CPUs than workers.
        WorkerError: if a worker ends too early; Ray ends the others.
    """
    notes = folder.absolute() / "ray"
    with cluster.joined(count) as has:
        from ray.train import RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.tensorflow import TensorflowTrainer

        try:
            TensorflowTrainer(
                _work_of([*arguments], os.getcwd()),
                scaling_config=ScalingConfig(num_workers=count, use_gpu=has.get("GPU", 0) >= count),
                run_config=RunConfig(name=notes.name, storage_path=str(notes.parent)),
            ).fit()  # fmt: skip
        except TrainingFailedError as error:
            raise WorkerError(_reason(error)) from error
        finally:
            shutil.rmtree(notes, ignore_errors=True)


def _reason(error: Exception) -> str:
    """What the first worker that failed has said, in one line."""
    failures: Mapping[int, Exception] = getattr(error, "worker_failures", None) or {0: error}
    lines = [text.splitlines()[-1] for _, failure in sorted(failures.items()) if (text := str(failure).strip())]
    said = lines[0] if lines else type(error).__name__
    return said.partition("WorkerError: ")[2] or said
