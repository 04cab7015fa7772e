"""Two kinds of trainings of the same seeds, compared on the same lists."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tfmtl2r.advice.facts import Sharing
from tfmtl2r.advice.opposition import t_tail
from tfmtl2r.data import Lists
from tfmtl2r.evaluation.exchanging import first_metric, paired_drop
from tfmtl2r.evaluation.split_metrics import GROUPS, Score, of_metric
from tfmtl2r.task import Task

Results = list[dict[str, dict[str, Score]]]
"""For each seed: task -> metric -> result on vali."""


def compared(task: Task, vali: Lists, together: Results, alone: Mapping[str, Results]) -> Sharing | None:
    """Equal weights against the task alone; None if the task has no metric to compare."""
    ours = [one[task.name] for one in together]
    theirs = [one[task.name] for one in alone[task.name]]
    metric = first_metric(task, theirs[0], vali)
    if metric is None or not math.isfinite(ours[0][metric.label].value):
        return None
    mine, single = ([one[metric.label] for one in each] for each in (ours, theirs))
    found = paired_drop(single, mine)
    sign = 1.0 if metric.direction == "max" else -1.0
    reached = float(np.mean([one.value for one in single]))
    lists = GROUPS if single[0].per_list is None else int((~np.isnan(single[0].per_list)).sum())
    drop, error = found["drop"], found["error"]
    p = 1.0 if not error > 0 else t_tail(drop / error, max(1, lists - 1))
    return Sharing(
        task.name, metric.label, float(np.mean([one.value for one in mine])), reached, drop, error, p,
        sign * (reached - of_metric(metric, vali, task).value),
        all(sign * (one.value - other.value) > 0 for one, other in zip(single, mine, strict=True)))
