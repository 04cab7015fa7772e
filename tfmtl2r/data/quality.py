"""A report on data before training, with statistics and problems that would invalidate results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tfmtl2r.data.columns import numbers_of
from tfmtl2r.data.lists import Lists

SAMPLE = 50_000
FEW_VALUES = 20
CORRELATED = 0.999
EXPLAINED = 0.95
"""Share of a label's variance that an input may explain before it is suspicious."""
_PER_GROUP = 20
_GROUPS = 50


@dataclasses.dataclass(frozen=True)
class Leak:
    """An input that reveals a label; ``how`` is ``"equal"``, ``"correlation"``, ``"determines"`` or ``"explains"``."""

    label: str
    feature: str
    how: str
    correlation: float

    def __str__(self) -> str:
        return (f"SUSPECTED LEAK: {self.feature} gives {self.label} away ({self.how}, correlation "
                f"{self.correlation:.4f}): remove it from the inputs")


@dataclasses.dataclass(frozen=True)
class QualityReport:
    """The result of :func:`data_report`.

    Args:
        items: number of items N.
        num_lists: number of lists; None for plain rows.
        lengths: items per list: minimum, quartiles, 90 % and 99 % quantiles, and maximum.
        labels: label -> (value -> number of items) for at most 20 values, else its quantiles by name.
        missing_labels: label -> number of items whose label is NaN.
        negative_labels: label -> number of items whose label is negative; for binary and graded tasks, it is missing.
        empty_lists: label -> number of lists without a label above 0, from which a ranking loss learns nothing.
        constant: features with a single value.
        duplicates: number of items that equal an earlier item of their list in all columns.
        leaks: inputs that may reveal a label.
    """

    items: int
    num_lists: int | None
    lengths: dict[str, float]
    labels: dict[str, dict[str, float]]
    missing_labels: dict[str, int]
    negative_labels: dict[str, int]
    empty_lists: dict[str, int]
    constant: tuple[str, ...]
    duplicates: int
    leaks: tuple[Leak, ...]


def data_report(
    lists: Lists, labels: Sequence[str] = ("label",), features: Sequence[str] | None = None
) -> QualityReport:
    """Searches data from any source for problems that would invalidate results.

    A feature may leak a label in four cases: it equals the label, the absolute correlation is above .999, the label is
    a monotonic function of the feature (for example a grade of a count), or the means of the label over groups of equal
    or similar values explain 95 % of its variance (for example a status that is text, or a label with a little noise).
    The third case requires at least three items without the most frequent label, and the fourth 20 items per group,
    because fewer items could be chance.

    Args:
        lists: lists or plain rows.
        labels: label columns.
        features: input columns, of numbers or text; None selects all numeric columns except the labels and the list
            id. Components of vectors are named ``features[1]``, ``features[2]``, ..., with numbers as in LETOR.

    Raises:
        ValueError: for a missing column.

    >>> lists = Lists({"x": np.arange(9.0), "c": np.ones(9), "y": np.repeat([0.0, 1.0, 2.0], 3)})
    >>> report = data_report(lists, ["y"])
    >>> report.constant, [(leak.feature, leak.how) for leak in report.leaks], report.labels["y"]
    (('c',), [('x', 'determines')], {'0': 3, '1': 3, '2': 3})
    """
    targets = {name: numbers_of(lists, name, f"label column {name!r}").astype(np.float64) for name in labels}
    if features is None:
        features = [name for name, values in lists.stored.all_readable().items()
                    if name not in (*labels, lists.list_id) and values.dtype.kind in "iufb"]
    constant, leaks = leaks_of(lists, targets, features)
    return QualityReport(
        items=lists.num_items,
        num_lists=None if lists.is_rows else lists.num_lists,
        lengths=_quantiles(lists.sizes) if not lists.is_rows else {},
        labels={name: _histogram(values) for name, values in targets.items()},
        missing_labels={name: int(np.isnan(values).sum()) for name, values in targets.items()},
        negative_labels={name: int((values < 0).sum()) for name, values in targets.items()},
        empty_lists={} if lists.is_rows else {name: _empty(lists, values) for name, values in targets.items()},
        constant=tuple(constant), duplicates=count_duplicates(lists), leaks=tuple(leaks),
    )


def leaks_of(
    lists: Lists, targets: Mapping[str, np.ndarray], features: Sequence[str]
) -> tuple[list[str], list[Leak]]:
    """The features with a single value, and the features that may reveal a label; see :func:`data_report`.

    Args:
        lists: lists or plain rows.
        targets: label -> ``float64[N]``; NaN is missing.
        features: input columns.
    """
    constant, leaks = [], []
    for name, values, is_text in _components(lists, features):
        if _is_constant(values):
            constant.append(name)
            continue
        groups = _grouped(values, is_text)
        for label, target in targets.items():
            leak = None if is_text else _leak(label, target, name, values)
            leaks += [found for found in [leak or _explains(label, target, name, groups)] if found]
    return constant, leaks


def count_duplicates(lists: Lists) -> int:
    """Counts items that equal an earlier item of their list (for plain rows: any earlier row) in all columns.

    >>> count_duplicates(Lists({"x": np.array([1.0, 1.0, 1.0])}, offsets=np.array([0, 2, 3])))
    1
    """
    place = np.zeros(lists.num_items, np.int64) if lists.is_rows else np.repeat(np.arange(lists.num_lists), lists.sizes)
    # Two independent 64-bit sums over all columns represent a row: 2.3 million rows collide with p < 1e-24.
    multipliers = np.random.default_rng(0).integers(1, 2**63, (2, 1 + _width(lists)), dtype=np.uint64) | np.uint64(1)
    sums = multipliers[:, :1] * place.astype(np.uint64)
    for position, values in enumerate(_bit_columns(lists), start=1):
        sums += multipliers[:, position : position + 1] * _mixed(values)
    return lists.num_items - len(np.unique(sums.T, axis=0))


def _components(lists: Lists, features: Sequence[str]) -> Iterator[tuple[str, np.ndarray, bool]]:
    """The numbers of each column or component of a vector; of text, a number for each different text."""
    for name in features:
        values = lists.column(name)
        if values.dtype.kind in "OU":
            yield name, np.unique(values.astype(str), return_inverse=True)[1].astype(np.float64), True
        elif values.ndim == 1:
            yield name, values.astype(np.float64), False
        else:
            for position in range(values.shape[1]):
                yield f"{name}[{position + 1}]", values[:, position].astype(np.float64), False


def _grouped(values: np.ndarray, is_text: bool) -> np.ndarray:
    """A number for each of at most 50 groups of similar values, in a sample of items; -1 for the other items. Text has
    a group for each value."""
    groups = np.full(len(values), -1)
    sample = np.flatnonzero(~np.isnan(values))
    sample = sample[:: -(-len(sample) // SAMPLE)] if len(sample) else sample
    found, codes = np.unique(values[sample], return_inverse=True)
    if not is_text and len(found) > _GROUPS:
        codes = np.argsort(np.argsort(values[sample], kind="stable")) * _GROUPS // len(sample)
    groups[sample] = codes
    return groups


def _explains(label: str, target: np.ndarray, feature: str, groups: np.ndarray) -> Leak | None:
    known = np.isfinite(target) & (groups >= 0)
    target, groups = target[known], np.unique(groups[known], return_inverse=True)[1]
    count = int(groups.max(initial=-1)) + 1
    if count < 2 or len(target) < _PER_GROUP * count or not (spread := float(target.var())):
        return None
    sizes = np.bincount(groups)
    means = np.bincount(groups, target) / sizes
    share = float(sizes @ (means - target.mean()) ** 2) / len(target) / spread
    return Leak(label, feature, "explains", share**0.5) if share >= EXPLAINED else None


def _width(lists: Lists) -> int:
    return sum(1 if values.ndim == 1 else values.shape[1] for values in lists.stored.all_readable().values())


def _bit_columns(lists: Lists) -> Iterator[np.ndarray]:
    """Yields each component of each column as ``uint64[N]``; equal values have equal bits."""
    for values in lists.stored.all_readable().values():
        for column in [values] if values.ndim == 1 else values.T:
            if column.dtype.kind in "OU":
                yield np.unique(column.astype(str), return_inverse=True)[1].astype(np.uint64)
            elif column.dtype.kind == "f":
                yield (column.astype(np.float64) + 0.0).view(np.uint64)  # -0 becomes 0
            else:
                yield column.astype(np.int64).view(np.uint64)


def _mixed(bits: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser. Without it, sums of products would be equal for rows that differ in few bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _is_constant(values: np.ndarray) -> bool:
    known = values[~np.isnan(values)]
    return len(known) == 0 or bool((known == known[0]).all())


def _leak(label: str, target: np.ndarray, feature: str, values: np.ndarray) -> Leak | None:
    known = np.isfinite(target) & np.isfinite(values)
    target, values = target[known], values[known]
    if len(target) < 3 or _is_constant(target) or _is_constant(values):
        return None
    x, y = values - values.mean(), target - target.mean()
    correlation = float((x @ y) / np.sqrt((x @ x) * (y @ y)))
    if (values == target).all():
        return Leak(label, feature, "equal", correlation)
    if abs(correlation) > CORRELATED:
        return Leak(label, feature, "correlation", correlation)
    return Leak(label, feature, "determines", correlation) if _determines(values, target) else None


def _determines(values: np.ndarray, target: np.ndarray) -> bool:
    """Whether the target is a monotonic function of the values. A cheap test on a sample excludes most features."""
    step = -(-len(values) // SAMPLE)
    return (step == 1 or _monotonic(values[::step], target[::step])) and _monotonic(values, target)


def _monotonic(values: np.ndarray, target: np.ndarray) -> bool:
    most = np.unique(target, return_counts=True)[1].max()
    if len(target) - most < 3:
        return False
    order = np.lexsort((target, values))
    values, target = values[order], target[order]
    same = values[1:] == values[:-1]
    change = np.diff(target)
    return not change[same].any() and bool((change >= 0).all() or (change <= 0).all())


def _histogram(values: np.ndarray) -> dict[str, float]:
    found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if len(found) <= FEW_VALUES:
        return {f"{value:g}": count for value, count in zip(found.tolist(), counts.tolist(), strict=True)}
    return _quantiles(values[~np.isnan(values)])


def _quantiles(values: np.ndarray) -> dict[str, float]:
    points = {"min": 0, "25%": 0.25, "median": 0.5, "75%": 0.75, "90%": 0.9, "99%": 0.99, "max": 1}
    return {name: float(np.quantile(values, point)) for name, point in points.items()}


def _empty(lists: Lists, values: np.ndarray) -> int:
    assert lists.offsets is not None
    highest = np.maximum.reduceat(np.nan_to_num(values, nan=-1.0), lists.offsets[:-1])
    return int((highest <= 0).sum())
