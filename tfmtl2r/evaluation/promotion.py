"""Compares an export with the one that it would replace: scores, orders, latency and size, and limits for all of them.

Requests are files, which both exports score, or the warm-up records of both exports.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.file_scores import score_files
from tfmtl2r.evaluation.slices import slicing
from tfmtl2r.names import safe_name
from tfmtl2r.reading import read_json
from tfmtl2r.serving import warmup
from tfmtl2r.serving.check import EXPORT_AGAIN, METADATA
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.serving.signatures import DEFAULT
from tfmtl2r.serving.versions import latest
from tfmtl2r.writing import write_json

KEY = "compared"
"""Where the metadata of an export keep its comparisons."""
ALL = "all"
_RUNS, _DROPPED = 40, 5


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far two exports agree in one output, over the lists of a slice.

    Args:
        of: the slice; ``"all"`` for all lists.
        output: such as ``score`` or ``value_<task>``.
        lists: number of lists.
        overlap: share of the first k items of a list that both exports have among their first k, the mean over lists
            of more than k items; NaN if there is none.
        order: Spearman's rank correlation of the two orders, the mean over lists with different scores.
        mean, largest: mean and largest absolute difference of the numbers.
    """

    of: str
    output: str
    lists: int
    overlap: float
    order: float
    mean: float
    largest: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An export beside an earlier one.

    Args:
        new, old: the version folders.
        top: the k of the overlaps.
        rows: how far they agree.
        latency_ms: median time of their largest warm-up request, in this process, of the new and the old one.
        size_mb: size of their files in 10^6 bytes, of the new and the old one.
        only: outputs that only one of them has.
        failures: one sentence for each limit that the new one does not keep.
    """

    new: Path
    old: Path
    top: int
    rows: tuple[Agreement, ...]
    latency_ms: tuple[float, float]
    size_mb: tuple[float, float]
    only: tuple[str, ...]
    failures: tuple[str, ...] = ()

    def within(
        self, min_overlap: float | None = None, max_latency_ms: float | None = None, max_size_mb: float | None = None
    ) -> Comparison:
        """The comparison with the failures of these limits; None is no limit.

        Args:
            min_overlap: least overlap of ``score`` in every slice. If no list of a slice is longer than k, its order
                must correlate by as much.
            max_latency_ms, max_size_mb: limits of the new export.
        """
        found = []
        least = -math.inf if min_overlap is None else min_overlap
        for row in (row for row in self.rows if row.output == "score"):
            kind, value = ("order", row.order) if np.isnan(row.overlap) else (f"top-{self.top} overlap", row.overlap)
            if value < least or (np.isnan(value) and min_overlap):
                found.append(f"{kind} of score in the slice {row.of!r} is {value:.4f}, below {least:g}")
        limits = (("latency", "ms", self.latency_ms[0], max_latency_ms), ("size", "MB", self.size_mb[0], max_size_mb))
        found += [f"the {what} is {value:.3g} {unit}, above {limit:g} {unit}"
                  for what, unit, value, limit in limits if limit is not None and value > limit]
        return dataclasses.replace(self, failures=tuple(found))

    def table(self) -> Table:
        """The agreements for a terminal."""
        table = Table(title=f"{self.new} beside {self.old}")
        for name in ("slice", "output"):
            table.add_column(name, overflow="fold")
        for name in ("lists", f"top-{self.top} overlap", "order", "mean diff.", "largest"):
            table.add_column(name, justify="right")
        for row in self.rows:
            table.add_row(row.of, row.output, str(row.lists), *("-" if np.isnan(one) else f"{one:.4f}"
                          for one in (row.overlap, row.order)), f"{row.mean:.3g}", f"{row.largest:.3g}")
        return table

    def keep(self) -> None:
        """Adds the comparison to the metadata of the new export. One with the same old export is replaced."""
        metadata = _metadata(self.new)
        told = {**dataclasses.asdict(self), "new": str(self.new), "old": str(self.old), "passed": not self.failures}
        others = [one for one in metadata.get(KEY, []) if one["old"] != told["old"]]
        write_json(self.new / METADATA, {**metadata, KEY: [*others, told]})


def compare(
    new: str | Path, old: str | Path, files: Sequence[str] = (), by: Sequence[str] = (), top: int = 10,
    list_id: str = "",
) -> Comparison:
    """Compares two exports on the same requests.

    Args:
        new, old: version folders, or folders of exports, of which the newest version counts.
        files: files of requests, as :func:`tfmtl2r.evaluation.file_scores.score_files` reads them. Without files, the
            requests are the warm-up records of both exports.
        by: columns of the files whose values make slices (:func:`tfmtl2r.evaluation.slices.slicing`).
        top: k of the overlaps.
        list_id: the column with the id of each row's list, if it differs from that of the training.

    Raises:
        ValueError: for exports that rank different things, slices without files, or warm-up records that do not suit
            the other export.
    """
    new, old = latest(new), latest(old)
    if top < 1:
        raise InputError(f"the number of first items must be at least 1, not {top}")
    if by and not files:
        raise InputError("slices need files of requests: name the files, or leave the slices out")
    about = [_metadata(version) for version in (new, old)]
    if about[0]["lists"] != about[1]["lists"]:
        raise InputError(f"{new if about[0]['lists'] else old} ranks lists and the other export plain rows: these have "
                         "no common requests")
    with LoadedExport(new) as first, LoadedExport(old) as second:
        exports = (first, second)
        if files:
            lists, frames = _of_files((new, old), files, by, list_id or about[0].get("files", {}).get("list_id", ""))
        else:
            lists, frames = _of_records(exports, about)
        latency = _latencies(exports)
    outputs = [name for name in frames[0] if name in frames[1]]
    only = tuple(sorted({*frames[0]} ^ {*frames[1]}))
    slices = {ALL: np.ones(lists.num_items, bool)}
    for column in by:
        slices |= {f"{column} = {name}": items for name, items in slicing(lists, column).slices.items()}
    rows = tuple(_agreement(of, name, lists, items, frames[0][name], frames[1][name], top)
                 for of, items in slices.items() for name in outputs)
    return Comparison(new, old, top, rows, latency, (_size(new), _size(old)), only)


Scores = dict[str, np.ndarray]


def _metadata(version: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(version / METADATA, EXPORT_AGAIN)
    return found


def _of_files(
    versions: Sequence[Path], files: Sequence[str], by: Sequence[str], list_id: str
) -> tuple[Lists, list[Scores]]:
    """The lists of the files, with the columns of the slices, and the scores of each export."""
    frames = []
    with tempfile.TemporaryDirectory() as folder:
        for number, version in enumerate(versions):
            path = Path(folder, f"{number}.parquet")
            score_files(version, files, path, columns=by, list_id=list_id)
            frames.append(pd.read_parquet(path))
    scores = [{str(name): frame[name].to_numpy() for name in frame if frame[name].dtype.kind == "f" and name not in by}
              for frame in frames]
    columns = {name: frames[0][name].to_numpy() for name in by}
    if not list_id:
        return Lists(columns or {ALL: np.zeros(len(frames[0]))}), scores
    ids = frames[0][list_id].to_numpy()
    codes = pd.factorize(ids)[0]
    order = np.argsort(codes, kind="stable")  # rows of one list may lie apart
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    columns = {name: values[order] for name, values in columns.items()} or {ALL: np.zeros(len(ids))}
    return Lists(columns, offsets), [{name: values[order] for name, values in one.items()} for one in scores]


def _of_records(
    exports: Sequence[LoadedExport], about: Sequence[Mapping[str, Any]]
) -> tuple[Lists, list[Scores]]:
    """The lists of the warm-up records of both exports, and the scores of each."""
    inputs = [{*metadata["signatures"][DEFAULT]["inputs"]} for metadata in about]
    if inputs[0] != inputs[1]:
        raise InputError(f"the exports read different inputs ({', '.join(sorted(inputs[0] ^ inputs[1]))}), so that one "
                         "cannot answer the other's warm-up records: name files of requests with the columns of both")
    sizes: list[int] = []
    parts: list[dict[str, list[np.ndarray]]] = [{}, {}]
    for record in (record for export in exports for record in _records(export)):
        for export, metadata, found in zip(exports, about, parts, strict=True):
            answers = export.run(DEFAULT, record.inputs)
            valid = answers.get("valid", np.ones_like(answers["score"], bool))
            own = {f"_{safe_name(task['name'])}": f"_{task['name']}" for task in metadata["tasks"]}
            for name, values in answers.items():
                if name != "valid" and values.dtype.kind == "f" and values.shape == valid.shape:
                    kind, _, task = name.partition("_")
                    found.setdefault(kind + own.get(f"_{task}", name[len(kind):]), []).append(values[valid])
        sizes += [size for size in valid.sum(axis=1).tolist() if size] if valid.ndim > 1 else []
    scores = [{name: np.concatenate(values) for name, values in found.items()} for found in parts]
    items = {ALL: np.zeros(len(scores[0]["score"]))}
    return Lists(items, np.concatenate([[0], np.cumsum(sizes)])) if sizes else Lists(items), scores


def _records(export: LoadedExport) -> list[warmup.Record]:
    return [record for record in warmup.read(export.folder / warmup.WARMUP) if record.signature == DEFAULT]


def _agreement(
    of: str, output: str, lists: Lists, items: np.ndarray, new: np.ndarray, old: np.ndarray, top: int
) -> Agreement:
    starts = np.array([0, lists.num_items]) if lists.is_rows else np.asarray(lists.offsets)
    overlaps, orders, count = [], [], 0
    for first, last in itertools.pairwise(starts):
        places = first + np.flatnonzero(items[first:last])
        count += bool(len(places))
        a, b = new[places], old[places]
        if len(places) > top:
            overlaps.append(len({*_first(a, top)} & {*_first(b, top)}) / top)
        if len(places) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0:
            orders.append(float(np.corrcoef(pd.Series(a).rank(), pd.Series(b).rank())[0, 1]))
    apart = np.abs(new[items].astype(np.float64) - old[items])
    overlap, order = (float(np.mean(one)) if one else math.nan for one in (overlaps, orders))
    return Agreement(of, output, count, overlap, order, float(apart.mean()), float(apart.max(initial=0.0)))


def _first(scores: np.ndarray, top: int) -> list[int]:
    found: list[int] = np.argsort(-scores, kind="stable")[:top].tolist()
    return found


def _latencies(exports: Sequence[LoadedExport]) -> tuple[float, float]:
    """The median times of the largest warm-up request of each export, measured by turns."""
    largest = [max(_records(export), key=lambda one: sum(np.size(value) for value in one.inputs.values()))
               for export in exports]
    times: list[list[float]] = [[], []]
    for _ in range(_RUNS + _DROPPED):
        for export, record, found in zip(exports, largest, times, strict=True):
            start = time.perf_counter()
            export.run(DEFAULT, record.inputs)
            found.append(1e3 * (time.perf_counter() - start))
    first, second = (statistics.median(found[_DROPPED:]) for found in times)
    return first, second


def _size(version: Path) -> float:
    return sum(path.stat().st_size for path in version.rglob("*") if path.is_file()) / 1e6
