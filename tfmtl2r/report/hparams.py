"""TensorBoard's HParams tab: all runs with their settings and test results, to sort and compare; what they serve."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.report import histories
from tfmtl2r.settings.outcome import leaves

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # TensorBoard's own
    from tensorboard.plugins.hparams import api


Results = Mapping[str, Mapping[str, Mapping[str, Any]]]


def write(folder: str | Path, config: Mapping[str, Any], results: Results) -> None:
    """Adds a run to the HParams tab, with the first metric of each task, and to the page ``tfmtl2r``, with all.

    Args:
        folder: folder of the run's logs.
        config: settings of a run card. Those on which the numbers depend are shown; nested settings get names like
            ``method.c``, and lists become text.
        results: task -> metric -> ``{"value", ...}``; shown as ``test/<task>/<metric>``.
    """
    decided = {path: value for path, value, facts in leaves(config) if facts.outcome}
    settings = {key: value for key, value in flatten(decided).items() if value not in (None, "")}
    found = {f"{task} {metric}": float(score["value"]) for task, row in results.items()
             for metric, score in row.items()}
    writer = tf.summary.create_file_writer(str(Path(folder) / "results"))
    with writer.as_default(step=0):
        api.hparams(settings, trial_id=str(config.get("name", folder)))
        for task, row in results.items():
            for metric, score in list(row.items())[:1]:
                tf.summary.scalar(f"test/{task}/{metric}", float(score["value"]))
        histories.write("results", 0, np.array([[0, *found.values()]], np.float32),
                        {"kind": "results", "labels": [[*found]], "settings": settings})
    writer.close()


def write_points(folder: str | Path, tag: str, points: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> None:
    """Adds a run's first metric of each task at several preferences to the page ``tfmtl2r``; nothing without points.

    Args:
        folder: folder of the run's logs.
        tag: "curve" for the order of each task's own scores, "served" for the one order that is served.
        points: ``curve`` or ``served["points"]`` of a run card.
        tasks: the tasks in the order of the preferences.
    """
    rows = {}
    for point in points:
        found = {f"{task} {metric}": value for task, row in point["test"].items()
                 for metric, value in [*row.items()][:1]}
        rows[tuple(point["preference"])] = found  # the ranker's own preference may be one of the grid
    if not rows:
        return
    table = [[place, *preference, *rows[preference].values()] for place, preference in enumerate(sorted(rows))]
    labels = [[*tasks], [*next(iter(rows.values()))]]
    writer = tf.summary.create_file_writer(str(Path(folder) / "served"))
    with writer.as_default(step=0):
        histories.write(tag, 0, np.array(table, np.float32), {"kind": "points", "labels": labels})
    writer.close()


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens settings to one level of numbers, booleans and text.

    >>> flatten({"method": {"name": "cagrad", "c": 0.4}, "tasks": ["click", "like"], "seed": 0})
    {'method': 'cagrad', 'method.c': 0.4, 'tasks': 'click,like', 'seed': 0}
    >>> flatten({"constraints": [{"task": "like", "loses_at_most": "5%"}]})
    {'constraints': 'task=like loses_at_most=5%'}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = prefix.removesuffix(".") if prefix and key == "name" else prefix + key
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        elif isinstance(value, (list, tuple)):
            flat[name] = ",".join(map(_text, value))
        else:
            flat[name] = value if value is None or isinstance(value, (bool, int, float)) else str(value)
    return flat


def _text(value: Any) -> str:
    """An entry of a list: the name of a thing that has one, otherwise all that it holds."""
    if not isinstance(value, Mapping):
        return str(value)
    return str(value["name"]) if "name" in value else " ".join(f"{key}={entry}" for key, entry in value.items())
