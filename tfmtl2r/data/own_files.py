"""A user's own files: which files a place stands for, of which kind they are, and how they are read as lists.

>>> kind_of([Path("logs/a.csv"), Path("logs/b.csv.gz")]), kind_of([Path("train.tfrecord")])
('table', 'elwc')
"""

from __future__ import annotations

import dataclasses
import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from tfmtl2r.data.cells import Cells, TextCells
from tfmtl2r.data.frame import SUFFIXES, read_lists
from tfmtl2r.data.letor import joined_ids, read_letor
from tfmtl2r.data.letor_disk import read_letor_on_disk
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.sorted_rows import read_sorted
from tfmtl2r.data.stored import Column, Source
from tfmtl2r.data.vectors import Vectors
from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.remote import fetched, is_remote

ENDINGS = {
    "table": SUFFIXES,
    "letor": (".txt", ".txt.gz", ".txt.bz2", ".letor", ".letor.gz", ".svm", ".svm.gz", ".libsvm", ".libsvm.gz"),
    "elwc": (".tfrecord", ".tfrecord.gz", ".tfrecords", ".tfrecords.gz"),
}
"""The kinds of files, with the endings that are clear."""
STEMS = {"train": ("train", "trainingset"), "vali": ("vali", "validationset"), "test": ("test", "testset")}
"""The names of files that are splits, without their ending."""
LETOR_FEATURES, LETOR_LABEL, LETOR_LIST = "features", "label", "qid"
"""The columns of a LETOR file, beside those of its comments."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        kind: "table" (Parquet or CSV), "letor" (LETOR/SVMlight text) or "elwc" (TFRecord).
        list_id: the column with the id of each row's list; a LETOR file's own is ``qid``.
        context: columns with one value per list.
        separator: splits a cell of text that is a list; empty to choose it from the column.
        named: columns that the lists must have. ``features[3]`` is the third component of the column ``features``,
            counted from 1, and leaves this column.
        width: number of features of a LETOR file, if it is known.
        zero_based: whether the feature ids of LETOR files count from 0, not from 1.
    """

    kind: str = "table"
    list_id: str | None = None
    context: tuple[str, ...] = ()
    separator: str = ""
    named: tuple[str, ...] = ()
    width: int | None = None
    zero_based: bool = False

    def __post_init__(self) -> None:
        if self.kind == "letor" and self.list_id not in (None, LETOR_LIST):
            raise InputError(f"the list id of a LETOR file is {LETOR_LIST!r}, not {self.list_id!r}: leave list_id out")

    def lists(self, paths: Sequence[Path]) -> Lists:
        """Reads files, one after the other, as one table.

        Raises:
            FileNotFoundError: for a missing file.
            ValueError: for a malformed file or a missing column.
        """
        return self.made(self.read(paths))

    def made(self, lists: Lists) -> Lists:
        """The lists with the columns that ``named`` makes of vectors."""
        return with_components(lists, self.named)

    def read(self, paths: Sequence[Path], work: Path | None = None, on: str = "local") -> Lists:
        """The lists of files as :meth:`lists` reads them, with whole vectors.

        Args:
            paths: the files.
            work: a folder that belongs to these files alone. Rows and columns then stay in files of this folder, from
                which they are read one column at a time.
            on: where the rows of tables are sorted then, see :func:`tfmtl2r.data.sorted_rows.read_sorted`.
        """
        if self.kind == "table":
            return read_lists(paths, self.list_id, self.context, self.separator) if work is None else \
                read_sorted(paths, work, self.list_id, self.context, self.separator, on)
        if self.kind == "letor" and work is not None:
            lists = read_letor_on_disk(paths, work, self.width, self.zero_based)
        elif self.kind == "letor":
            options: dict[str, Any] = {"num_features": self.width, "zero_based": self.zero_based}
            lists = _one_after_the_other([read_letor(path, comments=True, **options) for path in paths])
        else:
            from tfmtl2r.data.elwc import read_elwc
            from tfmtl2r.data.elwc_disk import read_elwc_on_disk

            labels = [name for name in self.named if component(name) is None]
            lists = read_elwc(paths, labels=labels, list_id=self.list_id) if work is None else \
                read_elwc_on_disk(paths, work, labels, self.list_id)
        if self.separator:
            columns = {name: _separated(name, column, lists.source, self.separator)
                       for name, column in lists.stored.columns.items()}
            lists = dataclasses.replace(lists, columns=columns)
        context = tuple(dict.fromkeys([*lists.context, *self.context]))
        for name in context:
            lists.kept(name)
        return dataclasses.replace(lists, context=context)


def expanded(files: str | Sequence[str], kind: str | None = None) -> tuple[str, list[Path]]:
    """The kind and the paths of files, patterns and folders; the files of a pattern or a folder are sorted by name.

    Files of an address such as ``s3://bucket/*.csv`` are fetched (:mod:`tfmtl2r.remote`).

    Of a folder, the files whose ending is that of the kind count. If there are none, all files count whose names begin
    with neither ``.`` nor ``_``. A file counts once, also if several of the places stand for it.

    Args:
        files: a file, a pattern such as ``logs/*.csv``, a folder, or several of them.
        kind: the kind, if it is known; by default the endings decide.

    Raises:
        FileNotFoundError: for a pattern without a match, or a folder without such a file.
        ValueError: if the endings do not decide about the kind.
    """
    places = [files] if isinstance(files, str) else list(files)
    found: dict[Path, Path] = {}
    for place in places:
        for path in _paths(place, kind):
            found.setdefault(path.resolve(), path)
    return kind or kind_of([*found.values()]), [*found.values()]


def kind_of(paths: Sequence[Path]) -> str:
    """The kind that the endings of all paths have."""
    kinds = {_kind_of_one(path) for path in paths}
    if len(kinds) > 1:
        raise InputError(f"the files {', '.join(str(path) for path in paths[:4])} are of several kinds: "
                         f"{', '.join(sorted(kind or 'unknown' for kind in kinds))}; give files of one kind")
    if kinds == {""}:
        listed = "; ".join(f"{kind}: {', '.join(endings)}" for kind, endings in ENDINGS.items())
        raise InputError(f"{paths[0]}: its ending does not show its kind; set kind (--data.kind) to table, letor or "
                         f"elwc, or rename it ({listed})")
    return kinds.pop()


def split_files(folder: Path, kind: str | None, split: str) -> list[Path]:
    """The files of a folder whose name is that of a split, such as ``train.csv``."""
    endings = ENDINGS[kind] if kind else [ending for one in ENDINGS.values() for ending in one]
    names = [f"{stem}{ending}" for stem in STEMS[split] for ending in (*endings, *([""] if kind else []))]
    found = [path for path in folder.iterdir() if path.name.lower() in names and path.is_file()]
    return sorted(found, key=lambda path: names.index(path.name.lower()))


def equally_wide(parts: Sequence[Lists]) -> list[Lists]:
    """Lists of LETOR files, whose vectors get the width of the longest; a feature that a file lacks is 0."""
    width = max(lists.kept(LETOR_FEATURES).typed.shape[1] for lists in parts)
    return [lists.with_column(LETOR_FEATURES, _wide(lists.kept(LETOR_FEATURES), width)) for lists in parts]


def with_components(lists: Lists, names: Iterable[str]) -> Lists:
    """Makes a column of each component of a vector that a name such as ``features[3]`` stands for.

    The component leaves the vector, so that a label made of it is no input.

    Raises:
        ValueError: for a component that the vector does not have, counted from 1.

    >>> lists = with_components(Lists({"x": np.array([[1.0, 7.0], [2.0, 8.0]])}), ["x[2]"])
    >>> lists.column("x[2]").tolist(), lists.column("x").tolist()
    ([7.0, 8.0], [[1.0], [2.0]])
    """
    wanted = [(name, *found) for name in dict.fromkeys(names)
              if name not in lists.columns and (found := component(name))]
    columns: dict[str, Any] = dict(lists.stored.columns)
    for vector in dict.fromkeys(vector for _, vector, _ in wanted if vector in lists.columns):
        column = lists.kept(vector)
        matrix = column.typed if isinstance(column, Vectors) else column.values
        width = matrix.shape[1] if matrix.ndim == 2 else 0
        places = {name: number for name, owner, number in wanted if owner == vector}
        for name, number in places.items():
            if not 1 <= number <= width:
                raise InputError(f"there is no {name!r}: the column {vector!r} has {width} components, which are "
                                 "counted from 1")
            columns[name] = column.component(number - 1) if isinstance(column, Vectors) else matrix[:, number - 1]
        gone = [number - 1 for number in places.values()]
        columns[vector] = column.without(gone) if isinstance(column, Vectors) else np.delete(matrix, gone, axis=1)
    return dataclasses.replace(lists, columns=columns)


def component(name: str) -> tuple[str, int] | None:
    """The vector and the number of a component such as ``features[3]``; None for another name."""
    found = re.fullmatch(r"(.+)\[(\d+)\]", name)
    return (found[1], int(found[2])) if found else None


def _paths(place: str, kind: str | None) -> list[Path]:
    if is_remote(place):
        return [*fetched(place)]
    if Path(place).is_dir():
        return _inside(Path(place), kind)
    if not glob.has_magic(place) or Path(place).is_file():
        return [Path(place)]
    if not (matches := sorted(path for path in map(Path, glob.glob(place, recursive=True)) if path.is_file())):
        raise MissingFileError(f"{place}: no file matches this pattern")
    return matches


def _inside(folder: Path, kind: str | None) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "_")))
    kinds = [_kind_of_one(path) for path in files]
    if kind is None:
        # A .txt file beside tables or records is a note.
        strong = {one for one in kinds if one and one != "letor"}
        kind = min(strong) if len(strong) == 1 else None
        chosen = [path for path, one in zip(files, kinds, strict=True) if one and (one == kind or kind is None)]
    else:
        chosen = [path for path, one in zip(files, kinds, strict=True) if one == kind] or files
    if not chosen:
        raise MissingFileError(f"{folder}: the folder has no file that ends in "
                               f"{', '.join(ENDINGS[kind] if kind else sum(ENDINGS.values(), ()))}")
    return chosen


def _kind_of_one(path: Path) -> str:
    return next((kind for kind, endings in ENDINGS.items() if path.name.lower().endswith(endings)), "")


def _separated(name: str, column: Column, source: Source, separator: str) -> Column:
    """A column whose texts are split at a separator where they are read as lists."""
    if column.holds_lists or isinstance(column, Vectors) or column.identities.dtype.kind not in "OU":
        return column
    cells = pyarrow.chunked_array([column.identities.tolist()], pyarrow.string())
    return (TextCells if column.spells_numbers else Cells)(name, cells, source, separator)


def _wide(column: Column, width: int) -> Any:
    if isinstance(column, Vectors):
        return column.as_wide_as(width)
    return np.pad(column.values, ((0, 0), (0, width - column.values.shape[1])))


def _one_after_the_other(parts: list[Lists]) -> Lists:
    """The lists of several LETOR files. A query belongs to one file."""
    if len(parts) == 1:
        return parts[0]
    parts = equally_wide(parts)
    files = [file for lists in parts for file in lists.source.files]
    ids = joined_ids([np.asarray(lists.ids) for lists in parts], [path for path, _ in files])
    rows = np.cumsum([0, *(count for _, count in files)])
    columns: dict[str, Any] = {name: np.concatenate([lists.column(name) for lists in parts])
                               for name in (LETOR_FEATURES, LETOR_LABEL)}
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([lists.sizes for lists in parts]))])
    columns[LETOR_LIST] = np.repeat(ids, np.diff(offsets))
    source = Source(tuple(files))
    for name in dict.fromkeys(name for lists in parts for name in lists.columns if name not in columns):
        cells = [lists.identities(name).tolist() if name in lists.columns else [""] * lists.num_items
                 for lists in parts]
        columns[name] = TextCells(name, pyarrow.chunked_array(cells, pyarrow.string()), source)
    places = [np.asarray(lists.source_rows) + start for lists, start in zip(parts, rows[:-1], strict=True)]
    return Lists(columns, offsets, ids, list_id=LETOR_LIST, source_rows=np.concatenate(places),
                 source=source)
