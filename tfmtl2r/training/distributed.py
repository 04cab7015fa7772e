"""Training on several workers, which are processes on one machine or on many.

Every worker runs the same program. A cluster tells each of them its place in the environment variable ``TF_CONFIG``::

    from tfmtl2r.training import distributed

    strategy = distributed.strategy()  # before anything else that uses TensorFlow
    with strategy.scope():
        ranker = MultiTaskRanker("shared_bottom", tasks, schema)
        ranker.compile("adam", method="mgda")
    distributed.fit(ranker, batches(train, tasks, schema, batch_size=64), batches(vali, tasks, schema), epochs=5)
    if distributed.is_chief(strategy):
        ranker.save("ranker.keras")

The batch size is that of all workers together, and the order of the lists is that of one process: each worker reads its
share of every batch. Losses are divided by the number of lists of all workers, so that the weights after a step are
those of one process, up to rounding (with dropout: up to other random numbers), whatever the sizes of the shares.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.training.loop import Limits, Loop, Saving
from tfmtl2r.training.stages import OneStage
from tfmtl2r.training.workers import Workers

__all__ = ["Saving", "fit", "is_chief", "place", "strategy"]

CONFIG = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["host:port", "host:port"]}, "task": {"type": "worker", "index": 0}}'


def place() -> tuple[int, int] | None:
    """Number of this worker, and number of all workers, from ``TF_CONFIG``; None without it.

    Raises:
        InputError: if ``TF_CONFIG`` is no JSON, or describes no cluster of workers.
    """
    text = os.environ.get(CONFIG)
    if not text:
        return None
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        kind, index = task["type"], int(task["index"])
        known = 0 <= index < len(jobs[kind]) and not {*jobs} - {"chief", "worker"}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{CONFIG} must be JSON such as {_EXAMPLE}, not {text!r}") from error
    if not known:
        raise InputError(f"{CONFIG} must list jobs chief and worker only, and this process among them, such as "
                         f"{_EXAMPLE}; it has the jobs {', '.join(jobs)} and the task {task}")
    chiefs, workers = len(jobs.get("chief", ())), len(jobs.get("worker", ()))
    return index + (chiefs if kind == "worker" else 0), chiefs + workers


def strategy() -> Any:
    """The strategy of the cluster that ``TF_CONFIG`` describes, for one device per worker.

    Raises:
        InputError: if ``TF_CONFIG`` is missing or describes no cluster of workers, or if this worker has several
            devices.
    """
    if place() is None:
        raise InputError(f"{CONFIG} is missing: it must be JSON such as {_EXAMPLE}")
    found = tf.distribute.MultiWorkerMirroredStrategy()
    Workers(found)  # refuses several devices
    return found


def is_chief(strategy: Any) -> bool:
    """Whether this process is the worker that writes files."""
    return Workers(strategy).is_chief


def fit(
    model: Any, x: Any, validation_data: Any = None, *, epochs: int = 1, patience: int = 0,
    validate: Collection[int] | None = None, stop_on: str | None = None, callbacks: Sequence[Any] = (),
    verbose: int | str = 0, saving: Saving | None = None,
) -> dict[str, list[float]]:
    """Trains a compiled ranker by all workers together. Every worker calls this function with the same arguments.

    Without a strategy, or with a cluster of one worker, the same call trains in this process.

    Args:
        model: a compiled ranker, made in the scope of the strategy.
        x: training data, the same on all workers: a ``tf.data.Dataset`` that tells its number of batches, as
            :func:`tfmtl2r.data.batches` makes it.
        validation_data: such data for the evaluation after each epoch.
        epochs: the largest number of epochs.
        patience: number of epochs without a larger ``val_stop_on`` after which training stops and restores the best
            epoch; 0 trains all epochs.
        validate: numbers of the epochs, from 1, after which the validation data are evaluated; None for all.
        stop_on: the name of another number that patience looks at.
        callbacks: Keras callbacks of this worker. Those that write files belong to the chief; those that change the
            training belong to all workers.
        verbose: ``verbose`` of Keras' ``fit``, on the chief; other workers print nothing.
        saving: when the chief writes checkpoints. The same call goes on from the newest one, in a cluster of any size.

    Returns:
        The losses and metrics of every epoch by name, the same on all workers.

    Raises:
        InputError: for data without a number of batches, or in the scope of a strategy.
    """
    if tf.distribute.has_strategy():
        raise InputError("call distributed.fit outside of strategy.scope(): only the ranker is made inside")
    shown = verbose if Workers(model.distribute_strategy).is_chief else 0
    stage = OneStage(model, patience, along=validation_data if model.conditioned else None, stop_on=stop_on)
    return Loop(model, x, validation_data, stage, Limits(epochs, validate, callbacks, shown, saving)).run().history
