"""Paired tests between groups of runs: which ranker is better, and which tasks lose against single-task training."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.paired_tests import DRAWS, bootstrap, holm, permutation_test
from tfmtl2r.evaluation.split_metrics import COUNTS, ORDER
from tfmtl2r.reading import stored_arrays
from tfmtl2r.runs.finished import SEED, Run, other_split, same_data, told_apart
from tfmtl2r.runs.identity import PER_LIST
from tfmtl2r.settings.outcome import keys_where, outcome

LEVEL = 0.05

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]


def delta_m(results: Results, single: Results) -> float:
    """The mean relative change against single-task training, in percent: **below 0 is better** than single-task.

    ``100 mean_t mean_i s_ti (m_ti - b_ti) / |b_ti|`` over tasks t and their metrics i. ``b`` is the value of the
    single-task run. ``s`` is -1 for a metric that is maximised, and 1 for a metric that is minimised.

    Args:
        results: task -> metric -> ``{"value", "direction", ...}`` as in a run card.
        single: results of the single-task runs, in the same form.

    Raises:
        ValueError: when the single-task results lack a metric, a single-task value is 0, or a value is not finite. A
            metric that is NaN in both results is left out.

    Source: Maninis, Radosavovic and Kokkinos, Attentive Single-Tasking of Multiple Tasks, 2019,
    https://arxiv.org/abs/1904.08918, with the sign of Liu et al., CAGrad, 2021, https://arxiv.org/abs/2110.14048.

    >>> ours = {"click": {"ndcg@5": {"value": 0.55, "direction": "max"}}}
    >>> round(delta_m(ours, {"click": {"ndcg@5": {"value": 0.5, "direction": "max"}}}), 9)
    -10.0
    """
    changes = []
    for task, row in results.items():
        of_task = []
        for metric, score in row.items():
            base = single.get(task, {}).get(metric, {}).get("value")
            if not score["direction"]:
                continue  # no side is better
            if base is not None and math.isnan(base) and math.isnan(score["value"]):
                continue  # the labels of the split leave the metric without a value
            if not base or not math.isfinite(base):
                raise InputError(f"delta-m needs a single-task value other than 0 of {task} {metric}, got {base}")
            if not math.isfinite(score["value"]):
                raise InputError(f"delta-m needs a finite value of {task} {metric}, got {score['value']}")
            sign = -1.0 if score["direction"] == "max" else 1.0
            of_task.append(sign * (score["value"] - base) / abs(base))
        if of_task:
            changes.append(np.mean(of_task))
    if not changes:
        raise InputError("delta-m needs at least one metric")
    return 100 * float(np.mean(changes))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The comparison of two rankers on the same lists, for one metric of one task.

    Args:
        ours, theirs: names of the two rankers.
        task, metric: the task and the label of its metric.
        difference: value of ``ours`` minus value of ``theirs``.
        low, high: 95 % bootstrap interval of the difference.
        p: p-value of the permutation test.
        adjusted: p-value after Holm's correction over all comparisons that were made together.
        num_lists: number of lists that count in both rankers.
        direction: ``"max"`` or ``"min"``, the direction of the metric.
        untested: the reason why there is no test (interval and p-values are then NaN); empty if there is one.
    """

    ours: str
    theirs: str
    task: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    num_lists: int
    direction: str
    untested: str = ""

    @property
    def better(self) -> bool:
        """Whether ``ours`` has the better value, significant or not."""
        return self.difference > 0 if self.direction == "max" else self.difference < 0

    @property
    def mark(self) -> str:
        """``"+"`` if ``ours`` is significantly better, ``"-"`` if significantly worse, else empty."""
        if self.untested or self.adjusted >= LEVEL:
            return ""
        return "+" if self.better else "-"


def compare(
    groups: Mapping[str, Sequence[Run]], baseline: str, split: str = "test", seed: int = 0, untested: bool = False
) -> list[Comparison]:
    """Compares every group of runs with a baseline group, list by list.

    The runs of a group differ in their seed. The values of each list are averaged over the runs of a group first. The
    tests then answer whether the difference generalises to other lists, given these seeds.

    Args:
        groups: name -> runs on the same data.
        baseline: name of the baseline group.
        split: a split that the runs were evaluated on.
        seed: seed of bootstrap and permutations.
        untested: also return metrics that cannot be tested: metrics over all items (such as AUC) and metrics that are
            not finite.

    Returns:
        A comparison for each other group, each task, and each metric that both groups have. Holm's correction covers
        all of them.

    Raises:
        ValueError: for an unknown baseline, or runs on different data.
    """
    if baseline not in groups:
        raise InputError(f"the baseline must be one of {', '.join(groups)}, not {baseline!r}")
    same_data([run for runs in groups.values() for run in runs])
    pairs = [(name, runs, baseline, groups[baseline]) for name, runs in groups.items() if name != baseline]
    return _compare(pairs, split, seed, untested)


def negative_transfer(
    groups: Mapping[str, Sequence[Run]], single: Mapping[str, Mapping[str, Sequence[Run]]], split: str = "test",
    seed: int = 0, untested: bool = False,
) -> list[Comparison]:
    """Compares every group of runs with single-task training, task by task.

    A comparison whose mark is ``-`` is significant negative transfer.

    Args:
        groups: name -> runs that learn several tasks.
        single: name -> task -> runs that learn only this task; see :func:`single_runs`.
        split: a split that all runs were evaluated on.
        seed: seed of bootstrap and permutations.
        untested: also return metrics that cannot be tested; see :func:`compare`.

    Raises:
        ValueError: for runs on different data.
    """
    pairs = [(name, runs, f"single-task {task}", alone) for name, runs in groups.items()
             for task, alone in single[name].items()]
    same_data([run for _, runs, _, alone in pairs for run in [*runs, *alone]])
    return _compare(pairs, split, seed, untested)


def single_runs(group: Sequence[Run], candidates: Iterable[Run], alike: bool = True) -> dict[str, list[Run]]:
    """Selects the single-task runs to compare a group with: same data, same training settings, one of its tasks.

    Args:
        group: runs that learn several tasks.
        candidates: runs to choose from.
        alike: require equal settings, except for the seed, settings that change no number, and settings that only
            matter for several tasks (method, gradients, preference, stages and constraints, conditioning). False
            accepts any run of the task on the same data.

    Returns:
        task -> runs; a task without runs is left out.
    """
    apart = (*keys_where(several=True), SEED, "tasks", "data.tasks", *keys_where(shown="never"))
    wanted = outcome(group[0].card.config, without=apart)
    found: dict[str, list[Run]] = {}
    for run in candidates:
        if (len(run.tasks) == 1 and run.tasks[0] in group[0].tasks and not other_split(group[0], run)
                and (not alike or outcome(run.card.config, without=apart) == wanted)):
            found.setdefault(run.tasks[0], []).append(run)
    return found


def mean_results(runs: Sequence[Run], split: str = "test") -> dict[str, dict[str, dict[str, Any]]]:
    """Results of a group as the mean over its runs: task -> metric -> ``{"value", ...}``.

    Raises:
        ValueError: when a run was not evaluated on the split.
    """
    for run in runs:
        if split not in run.card.results:
            raise InputError(f"run {run.card.name!r} was not evaluated on {split}: tfmtl2r evaluate {run.card.name} "
                             f"--split {split}")
    return {
        task: {
            metric: {**score, "value": float(np.mean([r.card.results[split][task][metric]["value"] for r in runs]))}
            for metric, score in row.items()
        }
        for task, row in runs[0].card.results[split].items()
    }


def grouped(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Groups runs that differ only in the seed: name -> runs. The short names are unique.

    A run that repeats another one, also its seed, begins a group of its own: it is no further seed.
    """
    groups: dict[tuple[str, int], list[Run]] = {}
    seen: Counter[tuple[str, int]] = Counter()
    for run in runs:
        same = run.group(), run.card.config["training"]["seed"]
        groups.setdefault((same[0], seen[same]), []).append(run)
        seen[same] += 1
    members = list(groups.values())
    names = [_short(runs[0]) for runs in members]
    if len(set(names)) < len(names):
        apart = told_apart([runs[0] for runs in members], without=("tasks", "data.tasks"))
        names = [name + what for name, what in zip(names, apart, strict=True)]
    for name_of in (lambda run: run.card.name, lambda run: str(run.folder)):
        if len(set(names)) < len(names):
            names = [name_of(runs[0]) for runs in members]
    return dict(zip(names, members, strict=True))


def _short(run: Run) -> str:
    what = f"single-task {run.tasks[0]}" if len(run.tasks) == 1 else run.method
    return what + (f" ({', '.join(f'{p:.3g}' for p in run.preference)})" if run.preference else "")


def _compare(
    pairs: Sequence[tuple[str, Sequence[Run], str, Sequence[Run]]], split: str, seed: int, untested: bool
) -> list[Comparison]:
    planned = []
    for name, runs, other, others in pairs:
        ours, theirs = mean_results(runs, split), mean_results(others, split)
        for task, metric in ((task, metric) for task, row in ours.items() for metric in row):
            if metric in theirs.get(task, {}):
                plain = ours[task][metric]["value"] - theirs[task][metric]["value"]
                planned.append((Comparison(name, other, task, metric, plain, math.nan, math.nan, math.nan, math.nan, 0,
                                           ours[task][metric]["direction"]), runs, others))
    # The smallest p-value that this number of draws can give must be far below the threshold of Holm's first step.
    draws = max(DRAWS, math.ceil(20 * len(planned) / LEVEL))
    found = []
    for compared, runs, others in planned:
        try:
            found.append(_tested(compared, runs, others, split, seed, draws))
        except ValueError as reason:
            found.append(dataclasses.replace(compared, untested=str(reason)))
    adjusted = iter(holm(c.p for c in found if not c.untested))
    return [c if c.untested else dataclasses.replace(c, adjusted=float(next(adjusted)))
            for c in found if untested or not c.untested]


def _tested(
    compared: Comparison, runs: Sequence[Run], others: Sequence[Run], split: str, seed: int, draws: int
) -> Comparison:
    """The comparison with its tests; a ValueError contains the reason when no test is possible."""
    stored = [_per_list(run, split, compared.task, compared.metric) for run in (*runs, *others)]
    weights = stored[0][1]
    if len({order for _, _, order in stored if order}) > 1:
        raise InputError("the runs read the lists in different orders, so that their values cannot be paired: run "
                         "tfmtl2r evaluate for each of them on the same files")
    if not all(np.array_equal(weights, other) for _, other, _ in stored):
        raise InputError("the runs measured this metric in different ways: the weights of the lists differ")
    ours, theirs = (np.mean([values for values, _, _ in part], axis=0)
                    for part in (stored[:len(runs)], stored[len(runs):]))
    difference, low, high = bootstrap(ours, theirs, seed=seed, weights=weights)
    return dataclasses.replace(
        compared, difference=difference, low=low, high=high, num_lists=int((~np.isnan(ours - theirs)).sum()),
        p=permutation_test(ours, theirs, draws, seed, weights),
    )


def _per_list(run: Run, split: str, task: str, metric: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Values of each list, how many times each list counts in the metric, and a digest of the order of the lists.

    Files of earlier versions contain only the values. Every list then counts once, provided that the plain mean is the
    metric, and the digest is empty. The order is checked all the same, because the fingerprints of the data that these
    versions made depend on it.
    """
    value, key = run.card.results[split][task][metric]["value"], f"{split}/{task}/{metric}"
    if not math.isfinite(value):
        raise InputError(f"the metric is {value} in run {run.card.name!r}")
    with stored_arrays(run.folder / PER_LIST, f"run tfmtl2r evaluate {run.card.name} --split {split}") as arrays:
        if key not in arrays:
            raise InputError("the metric has no values per list")
        values = arrays[key].astype(float)
        order = str(arrays[ORDER + split]) if ORDER + split in arrays else ""
        if COUNTS + key in arrays:
            return values, arrays[COUNTS + key].astype(float), order
    known = ~np.isnan(values)
    if known.any() and not np.isclose(values[known].mean(), value, rtol=1e-4, atol=1e-6):
        raise InputError(f"run {run.card.name!r} does not contain how many times each list counts in the metric: run "
                         f"tfmtl2r evaluate {run.card.name} --split {split}")
    return values, known.astype(float), order
