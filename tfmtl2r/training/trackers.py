"""Running means of losses and metrics, shown by ``fit`` and returned by ``evaluate``."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r import metrics as metric_registry
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.metrics.base import Metric, default_names
from tfmtl2r.names import STOP_ON, LogName, refuse_ambiguous, safe_name
from tfmtl2r.task import Task
from tfmtl2r.training.beside import columns_of
from tfmtl2r.training.flat import as_lists, flat_lists, item_weights, tiled
from tfmtl2r.training.objectives import LossValues, labels_of
from tfmtl2r.training.readings import Reading, readings_of
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.types import Mask, TaskScores

log = logging.getLogger("tfmtl2r")


def metrics_of(task: Task, has_lists: bool) -> list[Any]:
    """The metrics of a task: its own metrics, or the defaults of its kind."""
    names = default_names(task.kind, has_lists) if task.metrics is None else task.metrics
    return [metric_registry.get(name) for name in names]


def log_names(tasks: Sequence[Task], has_lists: bool | None) -> list[str]:
    """The names of all logged values, in the order of the logs; see :func:`directions`."""
    return list(directions(tasks, has_lists))


def directions(tasks: Sequence[Task], has_lists: bool | None) -> dict[str, int]:
    """The names of all logged values -> 1 if large values are good, -1 if small values are good, 0 for neither.

    Args:
        tasks: the tasks.
        has_lists: whether batches contain lists; if None, the names of metrics are left out.
    """
    found = {LogName("loss"): -1, **{LogName("loss", task.name): -1 for task in tasks}}
    if has_lists is not None:
        metrics = [(task.name, metric) for task in tasks for metric in metrics_of(task, has_lists)]
        signs = {"max": 1, "min": -1}
        found |= {LogName(metric.label, task): signs.get(metric.direction, 0) for task, metric in metrics}
        found |= {LogName(STOP_ON): 1} if metrics else {}
    return {str(name): sign for name, sign in found.items()}


def check_levels(readings: Iterable[Reading], has_lists: bool) -> None:
    """Refuses metrics that read a level, such as probabilities, of tasks whose scores have none.

    Raises:
        InputError: naming the task, the metric and what to choose.
    """
    for reading in readings:
        task, loss = reading.task, type(reading.loss).__name__
        for metric in metrics_of(task, has_lists):
            wants = metric.reads == "probability"
            if wants and task.kind != "binary":
                raise InputError(f"task {task.name!r}: {metric.label} reads probabilities of a label of 0 or 1, but "
                                 f"the task is {task.kind}: choose another metric")
            if not (reading.has_probability if wants else metric.reads != "level" or reading.has_level):
                what = "probabilities" if wants else "values in the label's unit"
                raise InputError(f"task {task.name!r}: {metric.label} reads {what}, but the scores of the loss {loss} "
                                 f"are none: choose a loss with a level, such as "
                                 f"{'mse' if task.kind == 'regression' else 'bce'!r}"
                                 f"{', or calibration = ' + repr('platt') if task.kind == 'binary' else ''}")


class Tracked:
    """A metric of one task and its running value.

    Args:
        task: the name of the task.
        metric: the metric.
    """

    def __init__(self, task: str, metric: Any):
        self.name = str(LogName(metric.label, task))
        self.metric = metric
        self.stream = metric.streaming(safe_name(self.name))


class Bound:
    """The trivial or the perfect value of a task's metric: a number, or a metric of the labels that is accumulated.

    Args:
        name: the name of the stream.
        bound: the number or the metric, as :meth:`tfmtl2r.metrics.Metric.trivial` returns it.
        of_labels: True if the metric reads the labels as scores; False for constant scores.
    """

    def __init__(self, name: str, bound: Any, of_labels: bool):
        self.number = None if hasattr(bound, "streaming") else float(bound)
        self.stream = None if self.number is not None else bound.streaming(safe_name(name))
        self.of_labels = of_labels

    def update(self, labels: Any, mask: Any, weights: Any) -> None:
        """Adds a batch."""
        if self.stream is not None:
            constant = tf.zeros_like(labels)
            scores = tf.where(tf.math.is_nan(labels), constant, labels) if self.of_labels else constant
            self.stream.update_state(labels, scores, mask, weights)

    def value(self, values: Mapping[int, Any]) -> Any:
        """The value, from the values of all streams by their ids."""
        return self.number if self.stream is None else values[id(self.stream)]


class Trackers:
    """Streaming losses and metrics of all tasks.

    The logs contain ``loss`` (weighted by the preference), ``<task>_loss``, ``<task>_<metric>`` and ``stop_on``.
    ``stop_on`` is one number for callbacks such as early stopping: the preference-weighted mean of the gain of each
    task's first metric m, ``(m - m_trivial) / (m_perfect - m_trivial)``. In every unit, the gain is 0 for a ranking
    that knows nothing and 1 for a perfect ranking. A task without a gain (NaN) leaves the mean, and the other tasks
    share its preference. ``stop_on`` is NaN only if no task has a gain.

    Args:
        tasks: the tasks.
        has_lists: whether batches contain lists.
        skipping: whether training may leave out batches or tasks; ``<task>_skipped`` then counts these batches.
        readings: the reading of each task; by default, without anything that is fitted after training.

    Raises:
        ValueError: if two log names are equal.
    """

    def __init__(
        self, tasks: Sequence[Task], has_lists: bool, skipping: bool = False,
        readings: Mapping[str, Reading] | None = None,
    ):
        self.tasks = tuple(tasks)
        self.readings = readings_of(tasks, has_lists) if readings is None else readings
        names = [str(LogName("skipped", task.name)) for task in self.tasks] if skipping else []
        self.skipped = {name: keras.metrics.Sum(name=safe_name(name)) for name in names}
        self.losses = [keras.metrics.Mean(name=safe_name(str(LogName("loss", task.name)))) for task in self.tasks]
        self.metrics = [[Tracked(task.name, metric) for metric in metrics_of(task, has_lists)] for task in self.tasks]
        self.bounds = [(Bound(f"{row[0].name}_trivial", row[0].metric.trivial(), of_labels=False),
                        Bound(f"{row[0].name}_perfect", row[0].metric.perfect(), of_labels=True)) if row else ()
                       for row in self.metrics]
        self._said: set[str] = set()
        for metric in (tracked.metric for row in self.metrics for tracked in row):
            (_try if type(metric).__hash__ is None else _try_once)(metric)
        check_levels(self.readings.values(), has_lists)
        refuse_ambiguous({task.name: [tracked.metric.label for tracked in row]
                          for task, row in zip(self.tasks, self.metrics, strict=True)})

    def all(self) -> list[Any]:
        """Every Keras metric, for resetting."""
        bounds = [bound.stream for pair in self.bounds for bound in pair if bound.stream is not None]
        metrics = [tracked.stream for row in self.metrics for tracked in row]
        return [*self.losses, *self.skipped.values(), *metrics, *bounds]

    def skip(self, tasks: Mask) -> None:
        """Counts a batch for each task that is left out, ``bool[T]``."""
        for index, count in enumerate(self.skipped.values()):
            count.update_state(tf.cast(tasks[index], tf.float32))

    def skips(self) -> dict[str, Any]:
        """The number of batches that were left out, by log name."""
        return {name: count.result() for name, count in self.skipped.items()}

    def update(self, batch: Batch, step: Any, replicas: Replicas, metrics: bool) -> None:
        """Adds the losses of a step, and its metrics if they are wanted."""
        self.update_losses(step.losses, replicas)
        if metrics:
            self.update_metrics(batch, step.scores)

    def update_losses(self, values: LossValues, replicas: Replicas) -> None:
        """Adds a batch's losses, weighted by the count of lists that have a loss."""
        for index, mean in enumerate(self.losses):
            # Each replica adds its share of the sum and of the count. `_results` sums over the replicas.
            mean.update_state(values.local[index] * replicas.count, sample_weight=values.count[index] / replicas.count)

    def update_metrics(self, batch: Batch, scores: TaskScores) -> None:
        """Adds a batch's metrics. Scores with leading axes count as several copies of the batch."""
        for task, row, bounds in zip(self.tasks, self.metrics, self.bounds, strict=True):
            if not row:
                continue
            predicted, copies = flat_lists(batch, scores[task.name])
            labels = tiled(as_lists(batch, labels_of(batch, task)), copies)
            mask = tf.ones_like(predicted, tf.bool) if batch.is_rows else tiled(batch.valid, copies)
            weights = item_weights(batch, batch.weights, task.name, predicted, copies)
            read = {"score": predicted}
            reading, kinds = self.readings[task.name], {tracked.metric.reads for tracked in row}
            columns = {key: tiled(as_lists(batch, ids), copies)
                       for key, ids in columns_of(batch, reading.columns).items()}
            if "value" in kinds:
                read["value"] = reading.best_guess(predicted, columns)
            if kinds & {"level", "probability"}:
                read["level"] = read["probability"] = reading.value_later(predicted, columns)
            for tracked in row:
                tracked.stream.update_state(labels, read[tracked.metric.reads], mask, weights)
            for bound in bounds:
                bound.update(labels, mask, weights)

    def logs(self, preference: Any, replicas: Replicas, metrics: bool = True) -> dict[str, Any]:
        """The current values by name, the same on every replica. The loss of a task without any label is NaN.

        Args:
            preference: ``float32[T]``, sum 1.
            replicas: the replicas to sum over.
            metrics: whether metrics were updated. If False, the logs contain losses only.
        """
        streams = self.all() if metrics else self.losses
        found = dict(zip(map(id, streams), _results(streams, replicas), strict=True))
        values = {key: value for key, (value, _) in found.items()}
        losses = [values[id(mean)] for mean in self.losses]
        logs = {"loss": len(losses) * tf.reduce_sum(preference * tf.stack(losses))}
        for task, mean, value in zip(self.tasks, self.losses, losses, strict=True):
            _, (_, count) = found[id(mean)]  # a mean's variables
            logs[str(LogName("loss", task.name))] = tf.where(count > 0, value, float("nan"))
        if metrics:
            gains = []
            for row, bounds in zip(self.metrics, self.bounds, strict=True):
                logs.update({tracked.name: values[id(tracked.stream)] for tracked in row})
                gains.append(_gain(values[id(row[0].stream)], *(b.value(values) for b in bounds)) if row else 0.0)
            if any(self.metrics):
                logs[STOP_ON] = _mean_of_known(tf.stack(gains), preference)
        return logs

    def say_without_value(self, logs: Mapping[str, Any]) -> None:
        """Warns once of each metric that has no value on the validation data.

        Nothing is said if the loss is not finite either, since this has other causes.

        Args:
            logs: the logs of an epoch.
        """
        if not np.isfinite(logs.get(str(LogName("loss", validation=True)), np.nan)):
            return
        for task, row in zip(self.tasks, self.metrics, strict=True):
            for tracked in row:
                if tracked.name in self._said or not np.isnan(logs.get(f"val_{tracked.name}", 0.0)):
                    continue
                self._said.add(tracked.name)
                leaves = "; the task does not count in stop_on" if tracked is row[0] else ""
                later = tracked.metric.reads in ("level", "probability") and not self.readings[task.name].has_own_level
                why = ("before its calibrator is fitted, after training" if later else
                       "on the validation data: it is NaN, as for labels that are missing or all the same")
                log.warning("task %s: %s has no value %s%s", task.name, tracked.metric.label, why, leaves)

    def conventions(self) -> dict[str, dict[str, Any]]:
        """Log name of each metric -> the metric's conventions, which are stored beside its values."""
        return {tracked.name: tracked.metric.conventions() for row in self.metrics for tracked in row}


def _try(metric: Metric) -> None:
    """Evaluates one list, so that a metric which returns something else is found before the training."""
    if metric.per_list_mean:
        with tf.init_scope():
            metric.per_list(tf.zeros([1, 2]), tf.zeros([1, 2]), tf.ones([1, 2], tf.bool))


_try_once = functools.lru_cache(256)(_try)


def _gain(value: Any, trivial: Any, perfect: Any) -> Any:
    """``(m - m_trivial) / (m_perfect - m_trivial)``; NaN where the labels leave no room for a gain."""
    room = tf.cast(perfect, tf.float32) - tf.cast(trivial, tf.float32)
    gain = tf.math.divide_no_nan(value - tf.cast(trivial, tf.float32), room)
    return tf.where(tf.abs(room) > 1e-6 * tf.abs(tf.cast(trivial, tf.float32)), gain, float("nan"))


def _mean_of_known(values: Any, preference: Any) -> Any:
    """The sum of preference times value, where tasks without a value hand their preference to the others."""
    known = ~tf.math.is_nan(values)
    share = tf.reduce_sum(tf.where(known, preference, 0.0)) / tf.reduce_sum(preference)
    total = tf.reduce_sum(preference * tf.where(known, values, 0.0))
    return tf.where(share > 0, tf.math.divide_no_nan(total, share), float("nan"))


def _results(streams: list[Any], replicas: Replicas) -> list[tuple[Any, list[Any]]]:
    """Value and variables of every Keras metric over all replicas: each has only its own sums, which are added here.

    A stream that is no sum has a method ``merged``, which takes the function that gathers tensors of all replicas, and
    a method ``summary``, which puts the values of its variable on all replicas together; its variables are left out.
    """
    if replicas.count == 1:
        return [(stream.result(), [v.value for v in stream.variables]) for stream in streams]
    # One collective operation for all sums, in float64; Keras casts the results back.
    added = [stream for stream in streams if not hasattr(stream, "merged")]
    # The cast of a variable that is float64 already is the read itself, which has no device: a collective would ask for
    # it on all devices. The identity gives it a place.
    sums = iter(replicas.sum(
        [tf.identity(tf.cast(v.value, tf.float64)) for stream in added for v in stream.variables]))
    own = {id(stream): [next(sums) for _ in stream.variables] for stream in added}
    return [(stream.stateless_result(own[id(stream)]), own[id(stream)]) if id(stream) in own
            else (stream.merged(lambda read: replicas.gather(tf.identity(read))), []) for stream in streams]


class SayWithoutValue(keras.callbacks.Callback):
    """Warns of metrics that have no value on the validation data; see :meth:`Trackers.say_without_value`."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the logs of the epoch."""
        self.model._set_up.trackers.say_without_value(logs or {})
