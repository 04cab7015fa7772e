"""The runs beside a run that train one of its tasks alone, which are the reference for its losses."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.errors import UserError
from tfmtl2r.runs import finished
from tfmtl2r.runs.places import subfolders
from tfmtl2r.settings.outcome import outcome


def losses_alone(folder: Path, config: Mapping[str, Any], vali: str) -> dict[str, float]:
    """Returns task -> its loss on vali where it was trained alone, for the tasks that such a run exists of.

    A run counts if it lies beside the given run, trains one task, and has the same data, the same vali split and the
    same settings of this task. The loss is that of the kept epoch; several runs (seeds, architectures) are averaged.

    Args:
        folder: the folder of the run.
        config: the settings of the run.
        vali: the fingerprint of its vali split.
    """
    found: dict[str, list[float]] = {}
    for path in subfolders(folder.parent):
        if path == folder:
            continue
        with contextlib.suppress(UserError, OSError):  # no whole run, or one without losses on vali
            run = finished.load(path)
            if len(run.tasks) == 1 and run.card.data.get("vali", {}).get("fingerprint") == vali:
                (task,) = run.tasks
                if _measured_as(run.card.config, task) == _measured_as(config, task):
                    found.setdefault(task, []).append(run.objective(task, "vali_loss")[0])
    means = {task: float(np.mean(losses)) for task, losses in found.items()}
    return {task: mean for task, mean in means.items() if mean > 0}  # NaN is not above 0


def _measured_as(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The settings on which the loss of a task depends, apart from the ranker and its training."""
    decided = outcome(config)
    data = {key: value for key, value in decided.items() if key.startswith("data.") and key != "data.tasks"}
    return {**data, "task": [entry for entry in decided.get("tasks", []) if entry["name"] == task]}
