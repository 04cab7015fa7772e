"""Permutation importance: how much a ranker loses for each goal if the values of one feature are exchanged.

What is exchanged decides what is measured. A ranking metric only reads the order within a list, so that the values of
a feature of the items are exchanged **within each list** by default: each list keeps its own set of values, and only
the link between value and item is lost. Values from anywhere in the split would also put items into lists in which
they cannot occur, such as the price of another city, and the answer of a ranker to impossible lists says little about
its answers to real ones. A metric over all items, such as AUC or a log loss, also reads the level of whole lists:
``among="split"`` exchanges values among all items. A feature that has one value in each list, declared as context or
not, cannot change within a list: the lists exchange their values. Plain rows exchange their values with each other.

Source: Breiman, Random Forests, 2001, https://doi.org/10.1023/A:1010933404324; Fisher, Rudin and Dominici, All models
are wrong, but many are useful, 2019, https://arxiv.org/abs/1801.01489.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.scoring import read
from tfmtl2r.evaluation.served import difference
from tfmtl2r.evaluation.split_metrics import GROUPS, Score, evaluate
from tfmtl2r.names import did_you_mean
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.training.trackers import metrics_of

AMONG = ("list", "split")
REPEATS = 5

Reads = Callable[[Lists], tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]
"""From lists to scores, values and levels of all items, as :func:`tfmtl2r.evaluation.evaluate` receives them."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """Columns whose values are exchanged together: a feature, a group of features, or a component of a vector.

    Args:
        name: the features, or ``feature[3]`` for the component 3 of a vector.
        columns: each column, with the number of the component, or None for the whole column, and with what exchanges
            its values: ``"items"``, ``"lists"`` or ``"rows"``.
    """

    name: str
    columns: tuple[tuple[str, int | None, str], ...]

    @property
    def of(self) -> str:
        """What exchanges the values."""
        return " and ".join(sorted({of for _, _, of in self.columns}))

    def exchanged(self, lists: Lists, rng: np.random.Generator, among: str) -> Lists:
        """The lists in which the values of these columns are exchanged, in one order for columns of the same kind."""
        columns: dict[str, Any] = dict(lists.stored.columns)
        orders = {of: _order(lists, rng, of, among) for of in sorted({of for _, _, of in self.columns})}
        for name, component, of in self.columns:
            if component is None:
                columns[name] = columns[name].take(orders[of])
            else:
                values = np.array(getattr(columns[name], "values", columns[name]))
                values[:, component] = values[orders[of], component]
                columns[name] = values
        return dataclasses.replace(lists, columns=columns)


def feature_importance(
    model: Any, lists: Lists, *, features: Sequence[str] = (), among: str = "list", repeats: int = REPEATS,
    seed: int = 0, tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measures how much a ranker loses for each goal if the values of a feature are exchanged.

    Args:
        model: a trained ranker, or several as one (:class:`tfmtl2r.Merged`).
        lists: the split with its labels.
        features: the features to measure; ``a+b`` exchanges two features together, and ``a[3]`` one component of a
            vector. By default each feature alone, and each component of a vector of separate numbers. Features that
            read the same column belong together.
        among: ``"list"`` exchanges values of items within each list, ``"split"`` among all items.
        repeats: how many times the values of each feature are exchanged.
        seed: seed of the exchanges, which are the same for all features.
        tell: receives one line with the number of passes and the expected time, before they start.

    Returns:
        Plain data: ``metrics`` and ``base``, the first metric of each task with its value, and ``features``, of which
        each has a ``name``, what exchanges its values (``of``), and for each task ``drop`` and ``error``. The drop is
        positive if the metric becomes worse. Its standard error is paired over lists, or over tenths of the lists for
        a metric over all items. The feature with the largest mean relative drop comes first.

    Raises:
        ValueError: for unknown features, no repeat, or a store of data, which contains no columns to exchange.
    """
    return measured(lambda part: read(model, part), lists, model.tasks, model.schema, features=features, among=among,
                    repeats=repeats, seed=seed, tell=tell)


def measured(
    reads: Reads, lists: Lists, tasks: Sequence[Task], schema: Schema, *, features: Sequence[str] = (),
    among: str = "list", repeats: int = REPEATS, seed: int = 0, tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """:func:`feature_importance` of anything that scores lists; the other arguments are described there.

    Args:
        reads: scores a split.
        lists: the split.
        tasks: the tasks.
        schema: the features.
    """
    found = asked(lists, schema, features, among, repeats)
    started = time.perf_counter()
    base = _results(reads, lists, tasks)
    seconds = time.perf_counter() - started
    kept = {task.name: metric for task in tasks if (metric := first_metric(task, base[task.name], lists)) is not None}
    if not kept:
        raise InputError("no task has a metric with a value and a better side, so that nothing can drop")
    chosen = [dataclasses.replace(task, metrics=(kept[task.name],), propensity_column=None)
              for task in tasks if task.name in kept]
    if tell is not None:
        passes = len(found) * repeats
        times = "once" if repeats == 1 else f"{repeats} times"
        tell(f"importance: {len(found)} features, exchanged {times} each: {passes} passes over {lists.num_items} "
             f"items, at most about {_duration(passes * seconds)}")
    first = {task.name: base[task.name][kept[task.name].label] for task in chosen}
    exchange = _Exchange(reads, lists, chosen, first, among, repeats, seed)
    rows: list[dict[str, Any]] = [{"name": unit.name, "of": unit.of, "tasks": exchange.drops(unit)} for unit in found]
    rows.sort(key=lambda row: -_relative(row["tasks"], first))
    return {"among": among, "repeats": repeats, "seed": seed,
            "metrics": {name: metric.label for name, metric in kept.items()},
            "base": {name: one.value for name, one in first.items()}, "features": rows}


def asked(lists: Lists, schema: Schema, features: Sequence[str], among: str, repeats: int) -> list[Unit]:
    """What is exchanged, once the arguments of :func:`feature_importance` are checked. No ranker is needed for that.

    Raises:
        ValueError: as in :func:`feature_importance`.
    """
    if among not in AMONG:
        raise InputError(f"values are exchanged among the items of a list or split, not {among!r}: give one of "
                         f"{', '.join(AMONG)}")
    if repeats < 1:
        raise InputError(f"the values of a feature are exchanged at least once, not {repeats} times")
    return units(lists, schema, features)


def units(lists: Lists, schema: Schema, wanted: Sequence[str] = ()) -> list[Unit]:
    """What is exchanged, as :func:`feature_importance` describes it.

    >>> from tfmtl2r import Dense
    >>> lists = Lists({"age": np.array([30, 30, 50]), "price": np.array([1.0, 2.0, 3.0])}, offsets=np.array([0, 2, 3]))
    >>> [(unit.name, unit.of) for unit in units(lists, Schema([Dense("age"), Dense("price")]))]
    [('age', 'lists'), ('price', 'items')]
    """
    if lists.prepared is not None:
        raise InputError("a store contains no columns whose values could be exchanged: set data.files to the files of "
                         "which the store was made")
    parts: dict[str, list[tuple[str, int | None, str]]] = {}
    owners: dict[str, str] = {}
    for features, columns in _together(schema, lists):
        key = "+".join(feature.name for feature in features)
        size = _components(features, lists, columns)
        if size:
            parts |= {f"{key}[{place}]": [(columns[0], place, _of(lists, features, columns[0], place))]
                      for place in range(size)}
        if key in _names(wanted) or not size:
            parts[key] = [(column, None, _of(lists, features, column, None)) for column in columns]
        owners |= {feature.name: key for feature in features}
    found: dict[str, Unit] = {}
    for text in wanted or parts:
        keys = dict.fromkeys(owners.get(name, name) for name in ([text] if text in parts else text.split("+")))
        if unknown := [key for key in keys if key not in parts]:
            raise InputError(f"there is no feature {unknown[0]!r} to exchange{did_you_mean(unknown[0], parts)}; the "
                             f"ranker reads {', '.join(schema.names)}")
        name = "+".join(keys)
        found[name] = Unit(name, tuple(column for key in keys for column in parts[key]))
    return list(found.values())


def _names(wanted: Sequence[str]) -> set[str]:
    return {name for text in wanted for name in text.split("+")}


def _together(schema: Schema, lists: Lists) -> list[tuple[list[Any], list[str]]]:
    """Features that share columns, with their columns."""
    groups: list[tuple[list[Any], list[str]]] = []
    for feature in schema.features:
        columns = [column for column in feature.columns if column in lists.columns]
        shared = [group for group in groups if set(group[1]) & set(columns)]
        others = [group for group in groups if not set(group[1]) & set(columns)]
        features = [one for group in shared for one in group[0]]
        held = [column for group in shared for column in group[1]]
        groups = [*others, ([*features, feature], list(dict.fromkeys([*held, *columns])))]
    return groups


def _components(features: Sequence[Any], lists: Lists, columns: Sequence[str]) -> int:
    """The number of separate numbers in each value of a feature; 0 if a value is one thing."""
    if len(features) > 1 or len(columns) != 1 or not features[0].by_component or lists.kept(columns[0]).holds_lists:
        return 0
    values = lists.column(columns[0])
    return values.shape[1] if values.ndim == 2 else 0


def _of(lists: Lists, features: Sequence[Any], column: str, component: int | None) -> str:
    """What exchanges the values of a column."""
    if lists.is_rows:
        return "rows"
    readers = [feature for feature in features if column in feature.columns]
    if all(feature.context for feature in readers):
        return "lists"
    as_names = any(feature.reads_names for feature in readers)
    return "lists" if _constant(lists, column, component, as_names) else "items"


def _constant(lists: Lists, name: str, component: int | None, as_names: bool) -> bool:
    """Whether a column has one value in each list."""
    column = lists.kept(name)
    try:
        if column.holds_lists:
            lists.elements_of_lists(name)
        else:
            values = column.identities if as_names else column.values
            lists.first_of_lists(name, values if component is None else values[:, component])
    except InputError:
        return False
    return True


def _order(lists: Lists, rng: np.random.Generator, of: str, among: str) -> np.ndarray:
    """The item whose values each item receives, ``int[N]``."""
    number = np.repeat(np.arange(lists.num_lists), lists.sizes)
    if of == "lists" and lists.offsets is not None:
        return lists.offsets[:-1][rng.permutation(lists.num_lists)][number]
    if of == "rows" or among == "split":
        return rng.permutation(lists.num_items)
    return np.lexsort((rng.random(lists.num_items), number))


def _results(reads: Reads, lists: Lists, tasks: Sequence[Task]) -> dict[str, dict[str, Score]]:
    scores, values, levels = reads(lists)
    return evaluate(scores, lists, tasks, values=values, levels=levels, jackknife=True)


def first_metric(task: Task, found: dict[str, Score], lists: Lists) -> Any:
    """The first metric of a task that has a value and a better side; None without any."""
    for metric in metrics_of(task, not lists.is_rows):
        one = found.get(metric.label)
        if one is not None and one.direction and math.isfinite(one.value):
            return metric
    return None


@dataclasses.dataclass(frozen=True)
class _Exchange:
    """What all exchanges of a measurement have in common."""

    reads: Reads
    lists: Lists
    tasks: Sequence[Task]
    base: dict[str, Score]
    among: str
    repeats: int
    seed: int

    def drops(self, unit: Unit) -> dict[str, dict[str, float]]:
        """The drop of each task's metric and its standard error."""
        found = []
        for repeat in range(self.repeats):
            rng = np.random.default_rng([self.seed, repeat])
            results = _results(self.reads, unit.exchanged(self.lists, rng, self.among), self.tasks)
            found.append({task: next(iter(row.values())) for task, row in results.items()})
        return {task.name: paired_drop([self.base[task.name]] * len(found), [one[task.name] for one in found])
                for task in self.tasks}


def paired_drop(bases: Sequence[Score], others: Sequence[Score]) -> dict[str, float]:
    """The mean drop from scores to others, and its standard error over lists or groups of lists.

    Args:
        bases: results of one metric, on the same lists.
        others: for each of them, the result that it is compared with.

    Returns:
        ``drop``, positive if the others are worse, and ``error``; NaN where no error is known.
    """
    first = bases[0]
    sign = 1.0 if first.direction == "max" else -1.0
    pairs = list(zip(bases, others, strict=True))
    if first.per_list is not None and first.counts is not None:
        lost = np.mean([sign * (np.asarray(one.per_list) - np.asarray(other.per_list)) for one, other in pairs], axis=0)
        drop, error = difference(lost[None], np.zeros_like(lost)[None], first.counts[None])
        return {"drop": drop, "error": error}
    drop = float(np.mean([sign * (one.value - other.value) for one, other in pairs]))
    if first.without is None:
        return {"drop": drop, "error": math.nan}
    apart = np.mean([np.asarray(one.without) - np.asarray(other.without) for one, other in pairs], axis=0)
    return {"drop": drop, "error": float(np.sqrt((GROUPS - 1) / GROUPS * ((apart - apart.mean()) ** 2).sum()))}


def _relative(drops: dict[str, dict[str, float]], base: dict[str, Score]) -> float:
    """The mean of the drops, each as a share of the metric's value."""
    return float(np.mean([one["drop"] / max(abs(base[task].value), 1e-9) for task, one in drops.items()]))


def _duration(seconds: float) -> str:
    """Seconds as text.

    >>> _duration(0.2), _duration(90), _duration(300)
    ('1 s', '90 s', '5 minutes')
    """
    return f"{math.ceil(seconds / 60)} minutes" if seconds > 120 else f"{max(1, math.ceil(seconds))} s"
