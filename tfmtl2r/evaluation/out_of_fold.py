"""Values of all lists from folds, in which each list was in the test split once, and paired differences of them.

A *partition* is a division of the lists into folds. Several partitions of the same lists show the noise of the
division; the standard error over lists does not contain this noise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.evaluation.paired_tests import bootstrap_means
from tfmtl2r.evaluation.split_metrics import COUNTS, ORDER, WITHOUT
from tfmtl2r.reading import stored_arrays
from tfmtl2r.runs.identity import PER_LIST
from tfmtl2r.writing import written

FILE = "out_of_fold.npz"
MEAN = "mean"
"""Name of the mean over tasks, for tasks with the same metric."""
_TOTAL, _SEEDS = "total/", "seeds/"


@dataclasses.dataclass(frozen=True)
class Part:
    """One ranker on the test split of one fold.

    Args:
        partition, fold, seed: which fold, and the seed of the ranker.
        results: task -> metric -> ``{"value", "direction", ...}`` of the test split, as in a run card.
        folder: the folder with ``per_list.npz``.
    """

    partition: int
    fold: int
    seed: int
    results: Mapping[str, Mapping[str, Mapping[str, Any]]]
    folder: Path


@dataclasses.dataclass(frozen=True)
class OutOfFold:
    """The out-of-fold values of one ranker, as means over its seeds.

    Args:
        name: name of the ranker.
        metrics: (task, metric) -> ``"max"`` or ``"min"``.
        values: (task, metric) -> ``float64[P, M]`` for P partitions and M lists, NaN for a list that does not count.
            A metric over all items has no values of lists.
        counts: (task, metric) -> ``float64[P, M]``, how many times each list counts.
        totals: (task, metric) -> ``float64[P]``, the value of each partition: the mean over its lists. The value of a
            metric over all items is the mean over folds, since the scores of different models cannot be put together.
        seeds: (task, metric) -> ``float64[S]``, the value of each seed, as the mean over partitions.
        without: (task, metric over all items) -> ``float64[P, folds, G]``, the value of each fold without the lists of
            a group each. A metric that was measured without groups is left out.
    """

    name: str
    metrics: Mapping[tuple[str, str], str]
    values: Mapping[tuple[str, str], np.ndarray]
    counts: Mapping[tuple[str, str], np.ndarray]
    totals: Mapping[tuple[str, str], np.ndarray]
    seeds: Mapping[tuple[str, str], np.ndarray]
    without: Mapping[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict)

    def first(self) -> dict[str, str]:
        """task -> its first metric."""
        found: dict[str, str] = {}
        for task, metric in self.metrics:
            found.setdefault(task, metric)
        return found


@dataclasses.dataclass(frozen=True)
class Difference:
    """A paired difference of two rankers: ours minus theirs.

    Args:
        value: the difference.
        error: its standard error: by bootstrap over lists, or for a metric over all items by :func:`jackknife`. NaN if
            it is not known.
        by_partition: the difference in each partition.
        better: whether ours is better, significant or not.
    """

    value: float
    error: float
    by_partition: tuple[float, ...]
    better: bool


def gathered(
    name: str, parts: Iterable[Part], places: Mapping[tuple[int, int], np.ndarray],
    orders: Mapping[tuple[int, int], str],
) -> OutOfFold:
    """Puts the folds of a ranker together.

    Args:
        name: name of the ranker.
        parts: the ranker on all folds, with the same seeds on each of them.
        places: (partition, fold) -> numbers of the lists of the fold's test split among all lists.
        orders: (partition, fold) -> digest of these lists in their order (:meth:`tfmtl2r.data.Lists.order`).

    Raises:
        ValueError: if a fold is missing, or a file has values of other lists.
    """
    found = {(part.partition, part.fold, part.seed): part for part in parts}
    seeds, partitions = sorted({seed for _, _, seed in found}), sorted({partition for partition, _ in places})
    missing = [(*place, seed) for place in places for seed in seeds if (*place, seed) not in found]
    if missing or not found:
        raise InputError(f"{name}: there is no result of partition, fold and seed {missing[0] if missing else ''}")
    arrays = {key: _arrays(part, orders[key[:2]]) for key, part in found.items()}
    row = next(iter(found.values())).results
    metrics = {(task, metric): score["direction"] for task in row for metric, score in row[task].items()}
    shape = (len(partitions), 1 + max(int(at.max()) for at in places.values()))
    values, counts, totals, by_seed, without = {}, {}, {}, {}, {}
    for task, metric in metrics:
        key, each, weights = f"test/{task}/{metric}", np.full((len(seeds), *shape), np.nan), np.zeros(shape)
        plain = np.zeros((len(seeds), len(partitions)))
        for (partition, fold), at in places.items():
            p = partitions.index(partition)
            for s, seed in enumerate(seeds):
                stored = arrays[partition, fold, seed]
                value = found[partition, fold, seed].results[task][metric]["value"]
                plain[s, p] += value / sum(one == partition for one, _ in places)
                if key in stored:
                    each[s, p, at], weights[p, at] = stored[key], stored[COUNTS + key]
        if not np.isnan(each).all():
            values[task, metric], counts[task, metric] = each.mean(axis=0), weights
            plain = np.array([[_mean(one, weight) for one, weight in zip(of, weights, strict=True)] for of in each])
        totals[task, metric], by_seed[task, metric] = plain.mean(axis=0), plain.mean(axis=1)
        if all(WITHOUT + key in stored for stored in arrays.values()):
            folds = [[fold for one, fold in places if one == partition] for partition in partitions]
            without[task, metric] = np.array([[[arrays[p, fold, seed][WITHOUT + key] for fold in of] for p, of in zip(
                partitions, folds, strict=True)] for seed in seeds]).mean(axis=0)
    return OutOfFold(name, metrics, values, counts, totals, by_seed, without)


def _arrays(part: Part, order: str) -> dict[str, np.ndarray]:
    """The values of a fold's lists, after a check that these are the present lists."""
    with stored_arrays(part.folder / PER_LIST, "train the fold again") as stored:
        if str(stored[f"{ORDER}test"]) != order:
            raise InputError(f"{part.folder} was trained on other data: the lists of fold {part.fold} (partition "
                             f"{part.partition}) have changed since; give the cross-validation another name")
        return {name: stored[name] for name in stored if not name.startswith(ORDER)}


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    known = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else math.nan


def overall(row: OutOfFold) -> np.ndarray | None:
    """The mean of the tasks' first metrics in each partition, ``[P]``; None if the metrics are different ones."""
    first = row.first()
    same = len(first) > 1 and len(set(first.values())) == 1 and all(key in row.values for key in first.items())
    return np.mean([row.totals[key] for key in first.items()], axis=0) if same else None


def differences(ours: OutOfFold, theirs: OutOfFold, draws: int = 2000, seed: int = 0) -> dict[str, Difference]:
    """The paired differences of the tasks' first metrics, and of their mean if they have the same metric.

    The values of a list are averaged over partitions first. A bootstrap over lists, which takes the same lists for all
    tasks, gives the standard errors. Those of metrics over all items are by :func:`jackknife`.

    Args:
        ours, theirs: rankers on the same lists and partitions.
        draws: number of bootstrap samples.
        seed: seed of the samples.

    Returns:
        task (or :data:`MEAN`) -> difference.

    Raises:
        ValueError: if the rankers were not measured on the same lists and partitions.
    """
    keys = [key for key in ours.first().items() if key in theirs.metrics]
    if not keys:
        raise InputError(f"{ours.name} and {theirs.name} have no task and metric in common")
    found, listed = {}, [key for key in keys if key in ours.values and key in theirs.values]
    for key in keys:
        if ours.totals[key].shape != theirs.totals[key].shape:
            raise InputError(f"{ours.name} has {len(ours.totals[key])} partitions, but {theirs.name} has "
                             f"{len(theirs.totals[key])}")
        if key in listed and not np.array_equal(ours.counts[key], theirs.counts[key]):
            raise InputError(f"{ours.name} and {theirs.name} were not measured on the same lists")
    errors = {}
    if listed:
        apart = np.array([(ours.values[key] - theirs.values[key]).mean(axis=0) for key in listed])
        means = bootstrap_means(apart, np.array([ours.counts[key].mean(axis=0) for key in listed]), draws, seed)
        errors = dict(zip(listed, np.nanstd(means, axis=0, ddof=1), strict=True))
        errors[MEAN, ""] = np.nanstd(means.mean(axis=1), ddof=1)
    errors |= {key: jackknife(ours.without[key] - theirs.without[key]) for key in keys
               if key not in listed and key in ours.without and key in theirs.without}
    for task, metric in keys:
        gap = ours.totals[task, metric] - theirs.totals[task, metric]
        found[task] = _difference(gap, errors.get((task, metric), math.nan), ours.metrics[task, metric] == "max")
    both = overall(ours), overall(theirs)
    if both[0] is not None and both[1] is not None and len(listed) == len(ours.first()):
        found[MEAN] = _difference(both[0] - both[1], errors[MEAN, ""], ours.metrics[keys[0]] == "max")
    return found


def jackknife(without: np.ndarray) -> float:
    """The standard error of a mean over folds by the delete-a-group jackknife.

    The variance of a fold is ``(G - 1) / G sum_g (v_g - mean v)^2``, where v_g is the value without the lists of group
    g. The folds have no lists in common, so that the variance of their mean is the sum over folds divided by their
    squared number. Partitions have the same lists: their variances are averaged, as if they added no information.

    Kott, The delete-a-group jackknife, Journal of Official Statistics 17(4), 2001.

    Args:
        without: ``[P, folds, G]``.

    >>> values = np.array([1.0, 2.0, 4.0, 5.0])
    >>> jackknife((values.sum() - values)[None, None] / 3), float(values.std(ddof=1) / 2)  # of a mean of 4 lists
    (0.912..., 0.912...)
    """
    folds, groups = without.shape[1:]
    of_fold = (groups - 1) * without.var(axis=-1)
    return float(np.sqrt(of_fold.sum(axis=-1).mean()) / folds)


def _difference(gap: np.ndarray, error: float, maximise: bool) -> Difference:
    value = float(gap.mean())
    return Difference(value, float(error), tuple(gap.tolist()), value > 0 if maximise else value < 0)


def save(rows: Sequence[OutOfFold], order: str, path: Path) -> None:
    """Writes the values of all lists and rankers to a file.

    Args:
        rows: the rankers.
        order: digest of all lists in their order (:meth:`tfmtl2r.data.Lists.order`), and of the partitions.
        path: the file.
    """
    arrays: dict[str, np.ndarray] = {ORDER: np.array(order), "names": np.array([row.name for row in rows])}
    for number, row in enumerate(rows):
        for (task, metric), direction in row.metrics.items():
            key = f"{number}/{direction}/{task}/{metric}"
            arrays |= {_TOTAL + key: row.totals[task, metric], _SEEDS + key: row.seeds[task, metric]}
            if (task, metric) in row.without:
                arrays[WITHOUT + key] = row.without[task, metric]
            if (task, metric) in row.values:
                arrays |= {key: row.values[task, metric], COUNTS + key: row.counts[task, metric]}
    with written(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def load(folder: Path, order: str) -> OutOfFold:
    """Reads the first ranker of an earlier cross-validation.

    Args:
        folder: its folder.
        order: the digest of the present lists and partitions.

    Raises:
        FileNotFoundError: if the folder has no such file.
        ValueError: if the file has values of other lists or partitions.
    """
    path = folder / FILE
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such file; {folder.name!r} is neither a baseline (tfmtl2r list "
                               "baselines) nor a finished tfmtl2r cross-validate")
    with stored_arrays(path, "run tfmtl2r cross-validate again") as stored:
        arrays = {name: stored[name] for name in stored}
    if str(arrays[ORDER]) != order:
        raise InputError(f"{path} has values of other lists, folds or partitions: the two cannot be paired; run "
                         "tfmtl2r cross-validate on the same data with the same folds and partitions")
    keys = [name.removeprefix(_TOTAL) for name in arrays if name.startswith(f"{_TOTAL}0/")]
    found = {(task, metric): (key, direction)
             for key in keys for _, direction, task, metric in [_parts(key)]}
    return OutOfFold(
        folder.name.removesuffix("-cv"), {key: direction for key, (_, direction) in found.items()},
        {key: arrays[name] for key, (name, _) in found.items() if name in arrays},
        {key: arrays[COUNTS + name] for key, (name, _) in found.items() if name in arrays},
        {key: arrays[_TOTAL + name] for key, (name, _) in found.items()},
        {key: arrays[_SEEDS + name] for key, (name, _) in found.items()},
        {key: arrays[WITHOUT + name] for key, (name, _) in found.items() if WITHOUT + name in arrays},
    )


def _parts(key: str) -> tuple[str, str, str, str]:
    """Number, direction, task and metric; a task may contain the separator."""
    number, direction, rest = key.split("/", 2)
    task, _, metric = rest.rpartition("/")
    return number, direction, task, metric
