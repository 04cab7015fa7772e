"""Starts a training from the weights of an earlier ranker on new data, whose vocabularies may have grown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r import architectures, methods
from tfmtl2r.errors import InputError
from tfmtl2r.layers.features import FeatureLayers
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.training.inputs import task_config
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.optimizers import is_table
from tfmtl2r.transforms import of_task

__all__ = ["continued", "continued_tasks", "start_from"]


def continued(schema: Schema, earlier: MultiTaskRanker, keep: bool) -> Schema:
    """The schema of a ranker that starts from an earlier one.

    Args:
        schema: the schema that was fitted on the new data.
        earlier: the earlier ranker.
        keep: True to keep the earlier statistics of numbers, and to let the earlier vocabularies grow.

    Raises:
        InputError: for other features, or features of other kinds, than those of the earlier ranker.
    """
    assert earlier.schema is not None
    before = {feature.name: feature for feature in earlier.schema.features}
    new, gone = [n for n in schema.names if n not in before], [n for n in before if n not in schema.names]
    for names, how in ((new, "does not know"), (gone, "also needs")):
        if names:
            raise InputError(f"the earlier run {how} the feature {names[0]!r}: a warm start needs the same features; "
                             "choose them with [[features]] and leave_out, or train without start.from")
    found = {}
    for feature in schema.features:
        old = before[feature.name]
        layout = [(type(one), one.context, {name: (values.dtype, values.shape) for name, values in one.raw.items()})
                  for one in (feature, old)]
        if layout[0] != layout[1]:
            raise InputError(f"feature {feature.name!r} is another kind of feature in the earlier run: a warm start "
                             "needs the same kinds and shapes; declare it in [[features]]")
        found[feature.name] = feature.continued(old, keep)
    return Schema(found[name] for name in before)


def continued_tasks(
    given: Sequence[Task], tasks: Sequence[Task], earlier: MultiTaskRanker, keep: bool
) -> tuple[Task, ...]:
    """The tasks of a ranker that starts from an earlier one.

    Args:
        given: the tasks as the user gives them, before anything is fitted.
        tasks: the same tasks with statistics of the new data.
        earlier: the earlier ranker.
        keep: True for the earlier statistics of labels, which decide what a score means. Statistics that the user gives
            take precedence.
    """
    before = {task.name: task for task in earlier.tasks}
    return tuple(dataclasses.replace(before[asked.name], calibration=asked.calibration)  # which is fitted anew
                 if keep and _agrees(asked, before.get(asked.name)) else task
                 for asked, task in zip(given, tasks, strict=True))


def _agrees(asked: Task, before: Task | None) -> bool:
    """Whether an earlier task is one that is asked for now: nothing that the user gives differs."""
    if before is None or _unfitted(asked) != _unfitted(before):
        return False
    mine, theirs = of_task(asked), of_task(before)
    pairs = [(getattr(mine, name), getattr(theirs, name)) for name in mine.fitted] if mine else []
    pairs.append((asked.statistics, before.statistics))
    return all(own is None or own == old for own, old in pairs)


def _unfitted(task: Task | None) -> dict[str, Any]:
    """A task as plain data, without what was fitted on data, and without its calibrator, which trains nothing."""
    if task is None:
        return {}
    transform = of_task(task)
    if transform is not None:
        transform = dataclasses.replace(transform, **dict.fromkeys(transform.fitted))
    return task_config(dataclasses.replace(task, transform=transform, statistics=None, calibration=None))


def start_from(model: MultiTaskRanker, earlier: MultiTaskRanker, method_state: bool = False) -> list[str]:
    """Copies the weights of an earlier ranker. Rows of tables follow their values; new rows keep their random start.

    Args:
        model: a compiled ranker with the schema of :func:`continued`.
        earlier: the earlier ranker, of the same architecture and tasks.
        method_state: whether to copy the method's state and the count of epochs, too.

    Returns:
        A line for each change.

    Raises:
        InputError: for another architecture, other tasks, or a state of another method.
    """
    mine, theirs = ({"architecture": architectures.registry.describe(one.architecture),
                     "tasks": [_unfitted(task) for task in one.tasks]} for one in (model, earlier))
    for what in ("architecture", "tasks"):
        if mine[what] != theirs[what]:
            raise InputError(f"the earlier run has another {what} ({theirs[what]}, not {mine[what]}): a warm start "
                             "needs the same; change the experiment, or train without start.from")
    if model.conditioned != earlier.conditioned:
        raise InputError(f"the earlier run has conditioned={earlier.conditioned}, not {model.conditioned}: a warm "
                         "start needs the same; change the experiment, or train without start.from")
    if len(model.architecture.variables) != len(earlier.architecture.variables):
        raise InputError("the ranker has other variables than the earlier run, since an option of a feature, such as "
                         "pooling, is another one: a warm start needs the same; change the experiment, or train "
                         "without start.from")
    lines, rows = _grown(model, earlier)
    for variable, value in zip(model.architecture.variables, earlier.architecture.variables, strict=True):
        old, places = np.array(value), rows.get(id(variable))
        if places is not None and variable.shape[1:] == value.shape[1:]:
            new = np.array(variable)
            new[places >= 0] = old[places[places >= 0]]
            variable.assign(new)
        elif places is None and variable.shape == value.shape:
            variable.assign(old)
        else:
            lines.append(f"{variable.path} has another shape and starts anew")
    lines.append(_method_state(model, earlier, method_state))
    return lines


def _grown(model: MultiTaskRanker, earlier: MultiTaskRanker) -> tuple[list[str], dict[int, np.ndarray]]:
    """A line for each vocabulary, and the earlier rows of each table that has changed, by the table's id."""
    assert model.schema is not None
    assert earlier.schema is not None
    features = {feature.name: feature for feature in model.schema.features}
    before = {feature.name: feature for feature in earlier.schema.features}
    architecture: Any = model.architecture
    made = [layer.by_name for layer in architecture._flatten_layers() if isinstance(layer, FeatureLayers)]
    lines, rows = [], {}
    for name, feature in features.items():
        layers = [by_name[name] for by_name in made if name in by_name]
        tables = [getattr(layer, "table", layer) for layer in layers]
        pairs = [(feature, before[name], name, tables)]
        pairs += [(one, old, f"{one.name} of {name}", [layer.by_side.get(one.name) for layer in layers])
                  for one, old in zip(feature.inside, before[name].inside, strict=True)]
        for one, old, shown, holders in pairs:
            places = one.rows(old)
            if places is not None:
                lines.append(f"feature {shown!r}: {_values(places, old)}")
                variables = [v for holder in holders if holder is not None for v in holder.variables]
                rows.update({id(v): places for v in variables if is_table(v) and v.shape[0] == len(places)})
            elif any(getattr(one, option) != getattr(old, option) for option in one.fitted if option != "dim"):
                lines.append(f"feature {shown!r}: its statistics are those of the new data")
    return lines, rows


def _values(places: np.ndarray, old: Any) -> str:
    if (places < 0).all():
        return "its table starts anew, since its values have other rows"
    new, kept = int((places < 0).sum()), int((places > 0).sum())
    gone = len(old.vocabulary or ()) - kept
    return f"{new} new values, {kept} known values" + (f", {gone} values left out" if gone else "")


def _method_state(model: MultiTaskRanker, earlier: MultiTaskRanker, keep: bool) -> str:
    if not keep:
        return "the state of the method and the count of epochs start anew"
    if not earlier.compiled or methods.registry.describe(model.method) != methods.registry.describe(earlier.method):
        raise InputError("method_state = \"keep\" needs the method of the earlier run with the same options: set "
                         "method_state = \"reset\", or choose that method")
    mine, theirs = ([*one.method_state.states, {"epoch": one.method_state.epoch}] for one in (model, earlier))
    pairs: list[tuple[Any, Any]] = [
        (state[key], old[key]) for state, old in zip(mine, theirs, strict=True) for key in state]
    if any(variable.shape != old.shape for variable, old in pairs):
        raise InputError("the method's state has a number per parameter, and tables have grown: set "
                         "method_state = \"reset\"")
    for variable, old in pairs:
        variable.assign(np.array(old))
    return f"the state of the method is kept, after {int(earlier.method_state.epoch.numpy())} epochs"
