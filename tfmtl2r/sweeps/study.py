"""Compares the rankers of a sweep (equal and tuned weights, special methods, single-task training), with a verdict."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.errors import MissingFileError
from tfmtl2r.evaluation.seeds import deviation
from tfmtl2r.evaluation.significance import (
    LEVEL,
    compare,
    delta_m,
    mean_results,
    negative_transfer,
    single_runs,
)
from tfmtl2r.pareto.summary import summarise
from tfmtl2r.pareto.sweep_fronts import front_verdict, served_fronts
from tfmtl2r.runs.finished import described, finite, load_all, objectives, same_data, told_apart
from tfmtl2r.runs.places import CARD, holds_runs, settled
from tfmtl2r.settings import Settings
from tfmtl2r.settings.outcome import keys_where
from tfmtl2r.sweeps import manifest

__all__ = ["BASELINES", "EQUAL", "RANDOM", "TUNED", "Study", "conclusions", "study", "sweeps"]

BASELINES = "baselines"
"""Subfolder of a sweep for run cards of rankers that no sweep trains, for example boosted trees."""
EQUAL, TUNED, SINGLE, RANDOM = "equal weights", "tuned weights", "single-task", "random order"
"""Names of rows. If the baselines contain a random order, it is the reference point of hypervolumes."""
Results = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Ranker:
    """A row of the comparison: one way of training, with all of its seeds.

    Args:
        name: name of the row.
        runs: one run per seed; for single-task training, one run per task and seed.
        results: results on the test split, as means over seeds.
        seeds: number of seeds.
        spread: task -> standard deviation over seeds of its first metric.
        change: delta-m in percent, as mean and standard deviation over seeds; None without single-task runs.
        volume: hypervolume of the front of what is served, with points averaged over seeds, and the standard deviation
            over seeds; where that was not measured, of own heads, as a mean over seeds; None if there is no front.
        trainings: number of trainings per seed that the row requires.
        step_s: seconds of a training step; if each task has its own model, the sum of one step per task.
        special: whether the method is not a plain weighted sum of losses, or the ranker is conditioned.
        alone: task -> its single-task runs.
    """

    name: str
    runs: Sequence[Any]
    results: Results
    seeds: int
    spread: Mapping[str, float]
    change: tuple[float, float] | None
    volume: tuple[float, float] | None
    trainings: int
    step_s: float | None
    special: bool
    alone: Mapping[str, Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Study:
    """A sweep and the comparison of its rankers.

    Args:
        name: name of the sweep's folder.
        runs: finished runs of the sweep.
        rankers: rows of the comparison, best first.
        comparisons: baseline (``"tuned weights"``, ``"equal weights"``) -> comparisons of all other rankers with it.
        transfer: comparisons of all multi-task rankers with single-task training.
        served: fronts of what is served, see :func:`tfmtl2r.pareto.sweep_fronts.served_fronts`; None if no run was
            measured so.
        summary: fronts of own heads, see :func:`tfmtl2r.pareto.summary.summarise`; None if no run learns all tasks. If
            the baselines contain a random order, it is the reference point of the hypervolumes.
        unfinished: names of planned runs without a result.
    """

    name: str
    runs: Sequence[Any]
    rankers: Sequence[Ranker]
    comparisons: Mapping[str, Sequence[Any]]
    transfer: Sequence[Any]
    summary: Any
    unfinished: Sequence[str]
    served: Any = None

    @property
    def special(self) -> list[str]:
        """Names of the rankers that are special methods."""
        return [ranker.name for ranker in self.rankers if ranker.special]

    def verdict(self, baseline: str) -> list[str]:
        """:func:`verdict` on the comparisons with a baseline; for equal weights, only those of special methods."""
        chosen = [c for c in self.comparisons.get(baseline, ()) if baseline == TUNED or c.ours in self.special]
        changes = {ranker.name: ranker.change[0] for ranker in self.rankers if ranker.change}
        return verdict(chosen, baseline, self.special, changes)


def sweeps(folder: Path) -> list[Path]:
    """Returns the folder itself if it is or contains a run, else its subfolders that contain runs.

    Raises:
        FileNotFoundError: when there is no run.
    """
    folder = settled(folder)
    if (folder / CARD).is_file() or holds_runs(folder):
        return [folder]
    found = [path for path in sorted(folder.glob("*")) if not path.name.startswith(".") and holds_runs(path)]
    if not found:
        raise MissingFileError(f"{folder} contains no finished run, nor do its subfolders; tfmtl2r sweep writes runs")
    return found


def study(folder: Path) -> Study:
    """Reads a sweep and compares its rankers."""
    runs = load_all(folder)
    beside = load_all(folder / BASELINES) if (folder / BASELINES).is_dir() else []
    same_data([*runs, *beside])
    planned = manifest.read(folder)["runs"]
    unfinished = sorted({job["name"] for job in planned} - {run.card.name for run in runs})
    tasks = {task for run in runs for task in run.tasks}
    if not any(len(run.tasks) > 1 and set(run.tasks) == tasks for run in runs):
        return Study(folder.name, runs, [], {}, [], None, unfinished)
    chance = [run for run in beside if _baseline(run) == RANDOM]
    order = list(dict.fromkeys(task for run in runs for task in run.tasks))
    reference = objectives(chance, "test", order).values.mean(axis=0) if chance else ()
    summary = summarise(runs, reference=reference)
    served = served_fronts(runs)
    found = merged(_rankers(summary, runs, beside, served))
    joint = {ranker.name: ranker for ranker in found if len(ranker.runs[0].tasks) > 1 and ranker.name != RANDOM}
    groups = {name: ranker.runs for name, ranker in joint.items()}
    alone = {name: ranker.alone for name, ranker in joint.items() if ranker.alone}
    transfer = negative_transfer({name: groups[name] for name in alone}, alone) if alone else []
    comparisons = {name: compare(groups, name) for name in (TUNED, EQUAL) if name in groups}
    return Study(folder.name, runs, found, comparisons, transfer, summary, unfinished, served)


def tuned(candidates: Sequence[Any]) -> list[Any]:
    """Returns for each seed the run with the best validation metrics; test results are not used.

    Each metric is divided by its mean over all candidates, and negated if it is minimised. The best run has the largest
    mean of these values over tasks. A seed is left out if none of its runs has finite validation metrics.

    Args:
        candidates: runs with several preferences and seeds.
    """
    candidates, tasks, _ = finite(candidates, "vali")
    if not candidates:
        return []
    found = objectives(candidates, "vali", tasks)
    scale = np.abs(found.values.mean(axis=0))
    gain = (np.where(found.maximise, 1, -1) * found.values / np.where(scale > 0, scale, 1)).mean(axis=1)
    best: dict[int, int] = {}
    for row, run in enumerate(candidates):
        if run.seed not in best or gain[row] > gain[best[run.seed]]:
            best[run.seed] = row
    return [candidates[row] for _, row in sorted(best.items())]


def merged(rankers: Sequence[Ranker]) -> list[Ranker]:
    """Merges special rankers with the same test results in every seed into one row named ``a = b``.

    Several methods are the same rule for two tasks, for example. They must not count as two findings.
    """
    found: dict[Any, Ranker] = {}
    for ranker in rankers:
        values = [(run.seed, task, metric, score["value"]) for run in ranker.runs
                  for task, row in run.card.results["test"].items() for metric, score in row.items()]
        key = (ranker.special, tuple(sorted(values)) if ranker.special else ranker.name)
        first = found.get(key)
        found[key] = ranker if first is None else dataclasses.replace(
            first, name=f"{first.name} = {ranker.name}", volume=first.volume or ranker.volume)
    return list(found.values())


def verdict(
    comparisons: Sequence[Any], baseline: str, special: Sequence[str], changes: Mapping[str, float] | None = None
) -> list[str]:
    """States in words which special methods beat a baseline: significantly better on a task and worse on none.

    Args:
        comparisons: comparisons of all rankers with the baseline.
        baseline: name of the baseline.
        special: names of special methods; every other ranker gets its own line.
        changes: ranker -> delta-m, for rankers whose delta-m is known.
    """
    kinds: dict[str, list[str]] = {"beats": [], "mixed": [], "worse": [], "same": []}
    lines, behind = [], []
    changes = changes or {}
    for name in dict.fromkeys(c.ours for c in comparisons):
        better, worse = ([c.task for c in comparisons if c.ours == name and c.mark == mark] for mark in "+-")
        if name in special:
            kind = "mixed" if better and worse else "beats" if better else "worse" if worse else "same"
            tasks = [f"{mark}{task}" for mark, these in (("+", better), ("-", worse)) for task in these]
            kinds[kind].append(f"{name} ({', '.join(tasks)})" if tasks else name)
            if kind == "beats" and changes.get(name, 0.0) > changes.get(baseline, math.inf):
                behind.append(name)
        else:
            lines.append(f"{name[0].upper()}{name[1:]} against {baseline}: significantly better on "
                         f"{', '.join(better) or 'no task'}, worse on {', '.join(worse) or 'no task'}.")
    total = sum(map(len, kinds.values()))
    if total:
        means = "significantly better on at least one task, worse on none"
        head = (f"{len(kinds['beats'])} of {total} special methods beat {baseline} ({means}): "
                if kinds["beats"] else f"No special method beats {baseline} ({means})")
        found = [f"{head}{', '.join(kinds['beats'])}."]
        if behind:
            found.append(f"In the mean over all tasks (delta-m), these methods are still worse than {baseline}: "
                         f"{', '.join(behind)}.")
        for kind, words in (("same", "No clear difference from"), ("worse", "Worse on a task and better on none than"),
                            ("mixed", "Better on one task and worse on another than")):
            if kinds[kind]:
                found.append(f"{words} {baseline}: {', '.join(kinds[kind])}.")
        lines.insert(0, " ".join(found))
    return lines


def resolution(comparisons: Sequence[Any], baseline: str) -> list[str]:
    """States how small a difference the data can show, and which differences are significant only without correction.

    Args:
        comparisons: comparisons of all rankers with a baseline.
        baseline: name of the baseline.
    """
    widths: dict[str, list[float]] = {}
    hints = []
    for c in comparisons:
        if np.isfinite([c.low, c.high]).all():
            widths.setdefault(f"{c.task} {c.metric}", []).append((c.high - c.low) / 2)
            if not c.mark and (c.low > 0 or c.high < 0):
                hints.append(f"{c.ours} {c.task} {c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}]")
    said = ", ".join(f"{np.median(values):.3f} on {name}" for name, values in widths.items())
    lines = [f"Failing to find a difference does not prove that there is none. Single differences from {baseline} are "
             f"known to within ± {said} (median half-width of the 95 % intervals), and significance among "
             f"{len(comparisons)} comparisons requires larger differences."] if widths else []
    if hints:
        lines.append(f"Differences from {baseline} whose own 95 % interval excludes 0, but which are not significant "
                     f"after the correction for many comparisons: {'; '.join(hints)}.")
    return lines


def conclusions(found: Study) -> list[str]:
    """States the conclusions of a sweep in words; every sentence follows from its comparisons."""
    rows = {ranker.name: ranker for ranker in found.rankers}
    lines = [] if found.served is None else front_verdict(found.served)
    lines += _about_tuning(found, rows)
    if found.special:
        asked = dict.fromkeys(run.preference for name in found.special for run in rows[name].runs if run.preference)
        shown = f" ({', '.join(map(_ratio, asked))})" if asked else ""
        lines.append(f"Each special method is shown with one training, at one preference{shown}; a method without a "
                     "preference uses the weights of the tasks.")
    for baseline, comparisons in found.comparisons.items():
        lines += found.verdict(baseline)
        lines += resolution(comparisons, baseline) if baseline == TUNED else []
    if found.transfer:
        lost = {name: [c.task for c in found.transfer if c.ours == name and c.mark == "-"]
                for name in dict.fromkeys(c.ours for c in found.transfer)}
        named = [f"{name} ({', '.join(tasks)})" for name, tasks in lost.items() if tasks]
        lines.append(f"Significantly below single-task training: {'; '.join(named) or 'no ranker'}.")
    tests = [c for comparisons in found.comparisons.values() for c in comparisons]
    if tests:
        lists = sorted({min(c.num_lists for c in tests), max(c.num_lists for c in tests)})
        lines.append("Better and worse mean significantly better and worse at the 5 % level: permutation tests on "
                     "paired differences per list, with Holm's correction over all comparisons with one baseline. The "
                     "tests answer whether a difference generalises to other lists, given these seeds. They use "
                     f"{' to '.join(map(str, lists))} test lists.")
        if 2.0 ** (1 - lists[-1]) * max(map(len, found.comparisons.values())) >= LEVEL:
            lines.append("With so few lists, no difference can be significant among so many comparisons. That none is "
                         "significant means nothing here.")
    if found.unfinished:
        lines.append(f"{len(found.unfinished)} planned runs have no result: {', '.join(found.unfinished)}.")
    return lines


def _about_tuning(found: Study, rows: Mapping[str, Ranker]) -> list[str]:
    """States which tuned weights were chosen, and which seeds have none."""
    lines = []
    weighted = [name for name, ranker in rows.items() if ranker.volume and not ranker.special]
    for name in (name for name in rows if name.startswith(TUNED)):
        chosen, count = ", ".join(_ratio(run.preference) for run in rows[name].runs), rows[name].trainings
        lines.append(f"{name[0].upper()}{name[1:]}: for each seed the best of {count} preferences by validation "
                     f"({chosen}), so {count} trainings.")
        lost = sorted({run.seed for run in found.runs if len(run.tasks) > 1} - {run.seed for run in rows[name].runs})
        if lost:
            lines.append(f"No tuned weights, because a validation metric is not a finite number: "
                         f"seed{'s' if len(lost) > 1 else ''} {', '.join(map(str, lost))}.")
    if weighted and not lines:
        lines.append("There are no tuned weights: no run has a finite number for every validation metric.")
    return lines


def _ratio(preference: Sequence[float]) -> str:
    return " : ".join(f"{p:.2g}" for p in preference)


def _rankers(summary: Any, runs: Sequence[Any], beside: Sequence[Any], served: Any) -> list[Ranker]:
    plain = described(Settings().method)
    found: dict[str, Ranker] = {}
    alone: dict[str, list[Any]] = {}
    firsts = [group.runs[0] for group in summary.groups.values()]
    kinds = told_apart(firsts, without=keys_where(several=True))  # settings that also matter for single-task runs
    for (name, group), kind in zip(summary.groups.items(), kinds, strict=True):
        several = len({run.preference for run in group.runs}) > 1
        trained = [*{run.card.name: run.whole() for run in group.runs}.values()]
        preferences: dict[tuple[float, ...], list[Any]] = {}
        for run in trained:
            preferences.setdefault(run.preference, []).append(run)
        middle = min(preferences, key=lambda p: max(p, default=0.0) - min(p, default=0.0))
        even = max(middle, default=0.0) - min(middle, default=0.0) < 1e-6
        is_plain = trained[0].method == plain
        differs = name.removeprefix(trained[0].method)  # empty if there is only one such group
        by_task = single_runs(group.runs, runs)
        alone = {task: by_task[task] for task in group.runs[0].tasks if task in by_task}
        if len(alone) == len(group.runs[0].tasks):
            these = [run for of_task in alone.values() for run in of_task]
            found[SINGLE + kind] = _ranker(SINGLE + kind, these, alone, trainings=len(alone))
        row = summary.rows[name]
        volume = _volume(row) if several else None
        if served is not None:
            volume = _volume(served.rows[name]) if name in served.rows else None
        shown = EQUAL + differs if is_plain and even else name
        found[shown] = _ranker(shown, preferences[middle], alone, volume, special=not is_plain)
        if is_plain and several:
            shown = TUNED + differs
            if best := tuned(trained):
                found[shown] = _ranker(shown, best, alone, trainings=len(preferences))
    for name in dict.fromkeys(map(_baseline, beside)):
        these = [run for run in beside if _baseline(run) == name]
        found[name] = _ranker(name, these, alone, trainings=0 if name == RANDOM else len(these[0].tasks))
    return sorted(found.values(), key=lambda ranker: ranker.change or (0.0, 0.0))


def _volume(row: Mapping[str, Any]) -> tuple[float, float]:
    return row["hypervolume"], row["hypervolume_std"]


def _baseline(run: Any) -> str:
    """Name of a baseline ranker, without its options."""
    method = run.card.config["method"]
    return method if isinstance(method, str) else method["name"]


def _ranker(
    name: str, runs: Sequence[Any], alone: Mapping[str, Sequence[Any]], volume: tuple[float, float] | None = None,
    trainings: int = 1, special: bool = False,
) -> Ranker:
    seeds: dict[int, dict[str, Any]] = {}
    steps: dict[tuple[str, ...], list[float]] = {}
    for run in runs:
        seeds.setdefault(run.seed, {}).update(run.card.results["test"])
        if run.card.step_ms:
            steps.setdefault(run.tasks, []).append(run.card.step_ms / 1000)
    results: dict[str, dict[str, Any]] = {}
    spread = {}
    for task, row in {task: row for of_seed in seeds.values() for task, row in of_seed.items()}.items():
        values = {metric: [of[task][metric]["value"] for of in seeds.values() if task in of] for metric in row}
        results[task] = {metric: {**row[metric], "value": float(np.mean(these))} for metric, these in values.items()}
        spread[task] = deviation(next(iter(values.values())))
    changes = []
    if set(results) <= set(alone):
        base = {task: mean_results(alone[task])[task] for task in results}
        with contextlib.suppress(ValueError):  # no relative change to a base of 0 or of a value that is not finite
            changes = [delta_m(of_seed, base) for of_seed in seeds.values()]
    change = (float(np.mean(changes)), deviation(changes)) if changes else None
    step = sum(float(np.median(times)) for times in steps.values()) if steps else None
    return Ranker(name, runs, results, len(seeds), spread, change, volume, trainings, step, special, alone)
