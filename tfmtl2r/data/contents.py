"""What the inputs of a split contain, and how another split or a request differs from the training data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tfmtl2r.data.columns import feature_parts
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.features.base import Feature, size_of
from tfmtl2r.schema import Schema

_MOST_LISTED = 200_000
_WIDEST = 256
"""Wider vectors have no ranges."""
_LEAST = 0.01
"""The difference to the training data from which a share is worth a look."""
_CHANCE = 10
"""Of that many values or fewer, as a part of the training data, a share may differ by chance."""


def described(lists: Lists, schema: Schema, fingerprint: str | None = None) -> dict[str, Any]:
    """What a run card holds of a split: fingerprint, numbers of lists and items, and :func:`contents`.

    Args:
        lists: the split.
        schema: its features.
        fingerprint: of the split, if it is known.
    """
    return {"fingerprint": fingerprint or lists.fingerprint(), "num_lists": None if lists.is_rows else lists.num_lists,
            "items": lists.num_items, "inputs": contents(lists, schema)}


def contents(
    lists: Lists, schema: Schema, train: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """What each input of a split contains.

    Of features that read lists, about 200,000 items are read, in lists that are spread evenly over the split.

    Args:
        lists: the split.
        schema: its features, fitted on the training split.
        train: the contents of the training split, whose ranges ``outside`` is about.

    Returns:
        input -> ``rows``, their number; ``missing``, the share of rows (or lists) without a value; ``unknown``, the
        share of the ids that the vocabulary does not contain; of numbers ``lowest`` and ``highest``; ``outside``, the
        share of numbers that are not in the range of the training split; and ``listed`` for an input of lists, whose
        elements count. The numbers of a vector are lists, one number for each component.

    >>> from tfmtl2r import Category, Dense
    >>> schema = Schema([Category("brand", vocabulary=("a",)), Dense("price")])
    >>> rows = Lists({"brand": np.array(["a", "b", ""], object), "price": np.array([1.0, np.nan, 3.0])})
    >>> found = contents(rows, schema)
    >>> found["brand"]["missing"], found["brand"]["unknown"], found["price"]["highest"]
    (0.333..., 0.5, 3.0)
    """
    if lists.prepared is not None:
        return lists.prepared.contents(schema)
    owners = {feature.name: feature for feature in schema.features}
    found: dict[str, dict[str, Any]] = {}
    some = lists
    if lists.num_items > _MOST_LISTED and any(feature.reads_lists for feature in schema.features):
        some = lists.select(np.arange(0, lists.num_lists, -(-lists.num_items // _MOST_LISTED)))
    for feature in schema.features:
        owner = owners[feature.shares] if feature.shares else feature
        parts = [_of_feature(raw, feature, owner, train or {})
                 for raw in feature_parts(some if feature.reads_lists else lists, feature)]
        found |= {name: _together([part[name] for part in parts]) for name in parts[0]}
    return found


def _of_feature(
    raw: Mapping[str, np.ndarray], feature: Feature, owner: Feature, train: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What the inputs of a feature contain."""
    found: dict[str, dict[str, Any]] = {}
    for name, wanted in feature.raw.items():
        if size_of(name) in raw:
            sizes = raw[size_of(name)]
            values, missing = raw[name][np.arange(raw[name].shape[1]) < sizes[:, None]], sizes == 0
            found[name] = {"listed": True}
        elif wanted.dtype == "int32":  # lengths
            continue
        else:
            values, missing = raw[name], _missing(raw[name])
        found[name] = {"rows": len(missing), "missing": _share(missing), **found.get(name, {})}
        if name == feature.name and (known := owner.known_values) is not None:
            found[name]["unknown"] = _unknown(owner.as_known(values[~_missing(values)]), known)
        else:
            found[name] |= _of_values(values, train.get(name, {}))
    return found


def _together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What parts of a vector contain together."""
    if len(parts) == 1:
        return parts[0]
    rows = sum(part["rows"] for part in parts)
    found = {"rows": rows, "missing": sum(round(part["missing"] * part["rows"]) for part in parts) / rows}
    for key, choose in (("lowest", min), ("highest", max)):
        if key in parts[0]:
            columns = zip(*(part[key] for part in parts), strict=True)
            found[key] = [choose((one for one in column if one is not None), default=None) for column in columns]
    return found


def of_table(
    lists: Lists, train: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """What the columns of a table contain, without its features, as an export's metadata describes them.

    Args:
        lists: the table.
        train: input -> contents of the training split, with ``values``, the vocabulary, where it is known.
        columns: input -> the column; by default they have the same name.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, seen in train.items():
        column = (columns or {}).get(name, name)
        if column not in lists.columns:
            continue
        try:
            cells = lists.kept(column).elements() if seen.get("listed") else None
            flat = lists.kept(column) if cells is None else cells.flat
            names = isinstance(next(iter(seen.get("values", [""])), ""), str)
            values = flat.values if "lowest" in seen else flat.identities if names else flat.typed
        except InputError:
            continue
        if "lowest" in seen and values.dtype.kind not in "iufb":
            continue
        missing = _missing(values) if cells is None else cells.sizes == 0
        found[name] = {"rows": len(missing), "missing": _share(missing)}
        if "values" in seen:
            found[name]["unknown"] = _unknown(values[~_missing(values)], seen["values"])
        else:
            found[name] |= _of_values(values, seen)
    return found


def worth_a_look(
    found: Mapping[str, Mapping[str, Any]], train: Mapping[str, Mapping[str, Any]], where: str = "the training split"
) -> list[str]:
    """Yields a line for each input that differs from the training split, the greatest difference first.

    A share is worth a look if it is 1 point above that of the training split (a share of missing values also if it is
    below), by ten rows of the smaller split, or by half of its rows if these are few, and by four standard errors.

    Args:
        found: :func:`contents` of another split, with ``outside``.
        train: the contents of the training split.
        where: name of the training split in the lines.
    """
    lines: list[tuple[float, str]] = []
    for name, now in found.items():
        if name not in train:  # an input that the ranker does not read outside of training
            continue
        before = train[name]
        rows = max(1, min(now["rows"], before.get("rows", now["rows"])))
        least = max(_LEAST, min(0.5, _CHANCE / rows))
        change = abs(now["missing"] - before.get("missing", 0.0))
        if change >= max(least, _noise(before.get("missing", 0.0), rows)):
            lines.append((change, f"{name}: {_percent(now['missing'])} missing ({where}: "
                                  f"{_percent(before.get('missing', 0.0))})"))
        change = now.get("unknown", 0.0) - before.get("unknown", 0.0)
        if change >= max(least, _noise(before.get("unknown", 0.0), rows)):
            lines.append((change, f"{name}: {_percent(now['unknown'])} of the ids are unknown ({where}: "
                                  f"{_percent(before.get('unknown', 0.0))})"))
        lines += [(share, f"{part}: {_percent(share)} of the numbers are outside of {low:.6g} to {high:.6g}, the range "
                          f"in {where}")
                  for part, share, low, high in _parts(name, now, before) if share >= least]
    return [line for _, line in sorted(lines, key=lambda one: -one[0])]


def _noise(share: float, rows: int) -> float:
    """Four standard errors of a share of that many rows."""
    return 4 * float(np.sqrt(share * (1 - share) / rows))


def _parts(name: str, now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterable[tuple[str, float, float, float]]:
    """The numbers of an input, or of each component of a vector, which are counted from 1."""
    if "outside" not in now or before.get("lowest") is None:
        return
    if not isinstance(now["outside"], list):
        yield name, now["outside"], before["lowest"], before["highest"]
        return
    for place, (share, low, high) in enumerate(zip(now["outside"], before["lowest"], before["highest"], strict=True)):
        if low is not None:
            yield f"{name}[{place + 1}]", share, low, high


def _unknown(values: np.ndarray, known: Iterable[Any]) -> float:
    if values.dtype.kind == "f" and (values == np.floor(values)).all():  # integers beside missing ones
        values = values.astype(np.int64)
    known = list(known)
    if isinstance(next(iter(known), ""), str) != (values.dtype.kind in "OU"):  # a text file, where all ids are text
        values, known = values.astype(str), list(map(str, known))
    return _share(~pd.Series(values).isin(known).to_numpy())


def _of_values(values: np.ndarray, seen: Mapping[str, Any]) -> dict[str, Any]:
    if values.dtype.kind != "f" and "lowest" not in seen:
        return {}
    values = values.astype(np.float64)
    if values.ndim > 1 and values.shape[1] > _WIDEST:
        return {}
    numbers = values[:, None] if values.ndim == 1 else values
    low, high = (np.array([getattr(part[np.isfinite(part)], way)(initial=start) for part in numbers.T])
                 for way, start in (("min", np.inf), ("max", -np.inf)))
    ends = {"lowest": [one if np.isfinite(one) else None for one in low.tolist()],
            "highest": [one if np.isfinite(one) else None for one in high.tolist()]}
    lowest, highest = seen.get("lowest"), seen.get("highest")
    if lowest is not None and highest is not None:
        bounds = [np.array([np.nan if one is None else one for one in np.ravel(ends)], np.float64)
                  for ends in (lowest, highest)]
        if len(bounds[0]) == numbers.shape[1]:
            beyond = (numbers < bounds[0]) | (numbers > bounds[1])
            finite = np.isfinite(numbers).sum(axis=0)
            ends["outside"] = (beyond.sum(axis=0) / np.maximum(finite, 1)).tolist()
    return {name: part[0] if values.ndim == 1 else part for name, part in ends.items()}


def _missing(values: np.ndarray) -> np.ndarray:
    """Which values are missing: NaN, -1 in integers, or empty text; of a vector, all of its components."""
    found: Any
    if values.dtype.kind == "f":
        found = np.isnan(values)
    elif values.dtype.kind in "Mm":
        found = np.isnat(values)
    else:
        found = values == (-1 if values.dtype.kind in "iu" else "")
    of_cells: np.ndarray = np.asarray(found)
    return of_cells if values.ndim == 1 else np.all(of_cells.reshape(len(values), -1), axis=1)


def _share(which: np.ndarray) -> float:
    return float(which.mean()) if len(which) else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


