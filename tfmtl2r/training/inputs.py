"""The structure of a ranker's batches from its schema, and a schema from the structure of a batch."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r import architectures, calibrators, losses, metrics, transforms
from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE, PREFERENCE
from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.features.dense import Dense
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task


def specs(schema: Schema, has_lists: bool, preference: int | None = None) -> dict[str, Any]:
    """The tensor specs of looked-up features, with free sizes, so that one graph serves all shapes.

    Args:
        schema: the features.
        has_lists: whether the batch has a list axis and ``list_size``.
        preference: T, if the batch contains preferences.
    """
    layout: dict[str, Any] = {}
    for feature in schema.features:
        axes = [None] if feature.context or not has_lists else [None, None]
        layout |= {name: values.spec(axes) for name, values in feature.looked_up.items()}
    if has_lists:
        layout[LIST_SIZE] = tf.TensorSpec([None], tf.int32, LIST_SIZE)
    if preference is not None:
        layout[PREFERENCE] = tf.TensorSpec([None, preference], tf.float32, PREFERENCE)
    return layout


_PARTS: dict[str, Any] = {"loss": losses, "transform": transforms, "calibration": calibrators}
"""Field of a task -> the package of the thing in it."""
DROWNS = 1000.0
"""How many times the numbers of all others a feature may reach before a warning says so."""
log = logging.getLogger("tfmtl2r")


def plain_schema(features: Mapping[str, Any]) -> Schema:
    """A schema in which every feature of a batch is numeric and needs no preprocessing."""
    has_lists = LIST_SIZE in features
    made = []
    for name, value in features.items():
        if name == LIST_SIZE:
            continue
        shape = tuple(value.shape)
        context = has_lists and len(shape) == 1
        made.append(Dense(name, shape=shape[1 if context or not has_lists else 2:], context=context, clip=math.inf))
    return Schema(made)


def say_ranges(x: Any) -> None:
    """Warns of a feature whose numbers drown those of all others, for a ranker that reads numbers as they are.

    Args:
        x: arrays by name, or a data set, whose first batch decides; nothing is known about other data.
    """
    if isinstance(x, tf.data.Dataset):
        x = next(iter(x.take(1)), ({},))
        x = x[0] if isinstance(x, tuple) else x
    if not isinstance(x, Mapping):
        return
    arrays = {name: np.asarray(values) for name, values in x.items() if name != LIST_SIZE}
    reach = {name: float(np.nanmax(np.abs(values), initial=0.0)) for name, values in arrays.items()
             if values.dtype.kind in "fiu" and not np.isnan(values).all()}
    if len(reach) < 2:
        return
    *_, second, largest = sorted(reach, key=lambda name: reach[name])
    if math.isfinite(reach[largest]) and reach[largest] > DROWNS * max(reach[second], 1.0):
        log.warning("feature %r reaches %.3g, and the others at most %.3g: it drowns them, since a ranker without a "
                    "schema reads numbers as they are; pass a schema (tfmtl2r.data.fit_schema), or scale it",
                    largest, reach[largest], reach[second])


def task_config(task: Task) -> dict[str, Any]:
    """A task as plain data; ``Task(**config)`` is an equal task."""
    config = dict(vars(task))
    for name, package in _PARTS.items():
        if config[name] is not None and not isinstance(config[name], (str, Mapping)):
            config[name] = package.registry.describe(config[name])
    config["only_where"] = [dict(rule) for rule in task.only_where]
    config["statistics"] = None if task.statistics is None else dataclasses.asdict(task.statistics)
    if task.metrics is not None:
        config["metrics"] = [m if isinstance(m, (str, Mapping)) else metrics.registry.describe(m) for m in task.metrics]
    return config


def check_parts(tasks: Sequence[Task]) -> None:
    """Builds the losses, transforms, calibrators and metrics of all tasks.

    Raises:
        ValueError: for an unknown name (the message contains the most similar), an invalid option, or a calibrator of
            a task that is not binary.
        TypeError: for an option that does not exist, or an object that is no such part.
    """
    for task in tasks:
        parts: list[tuple[Any, Any]] = [(package, getattr(task, name)) for name, package in _PARTS.items()]
        parts = [part for part in parts if part[1] is not None]
        for package, given in [*parts, *((metrics, metric) for metric in task.metrics or ())]:
            try:
                package.get(given)
            except (InputError, InputTypeError) as error:
                raise type(error)(f"task {task.name!r}: {error}") from error
        if task.kind != "binary" and task.calibration is not None and calibrators.get(task.calibration).shape:
            raise InputError(f"task {task.name!r}: calibration makes probabilities of a label of 0 or 1, but the task "
                             f"is {task.kind}: leave calibration out")


def described(architecture: Any, tasks: Sequence[Task], schema: Schema | None = None) -> dict[str, Any]:
    """Architecture and tasks of a ranker as plain data, and ``extensions``: all parts that are not built in.

    Raises:
        ValueError: for an architecture, loss, metric or kind of feature that cannot be rebuilt from its name.
    """
    network, goals = architectures.registry.describe(architecture), [task_config(task) for task in tasks]
    needs = architectures.registry.extensions(network) + (schema.extensions() if schema else [])
    for task in goals:
        for name, package in _PARTS.items():
            needs += package.registry.extensions(task[name])
        for metric in task["metrics"] or ():
            needs += metrics.registry.extensions(metric)
    return {"architecture": network, "tasks": goals, "extensions": needs}
