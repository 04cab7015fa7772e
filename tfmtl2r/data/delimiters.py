"""The header of a CSV file, and what stands between its cells: a comma, or else a semicolon, a tab or a bar."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.csv

log = logging.getLogger("tfmtl2r")
_DECIMAL_COMMA = r"^\s*[+-]?\d+,\d+\s*$"


def header(lines: Iterable[str], path: str | Path = "") -> tuple[list[str], str]:
    """The names of the columns, and the delimiter.

    A comma divides the cells of ``.csv`` files, if it divides the header, and a tab those of ``.tsv`` files. Without a
    comma in the header, the delimiter is the semicolon, tab or bar that divides it into most names.

    Args:
        lines: the lines of the file, of which the first one that is not empty is read.
        path: the file.

    >>> header(["a,b;c"]), header(["", "a;b|c;d"]), header(["a"])
    ((['a', 'b;c'], ','), (['a', 'b|c', 'd'], ';'), (['a'], ','))
    >>> header(["a,b\\tc"], "x.tsv")
    (['a,b', 'c'], '\\t')
    """
    # A quoted name may contain line ends, so that the reader takes as many lines as it needs.
    first = csv.reader(lines := iter(lines), delimiter="\t" if _is_tsv(path) else ",")
    names = next(filter(None, first), [])
    if len(names) != 1 or _is_tsv(path):
        return names, "\t" if _is_tsv(path) else ","
    found = [(next(csv.reader(names, delimiter=delimiter), []), delimiter) for delimiter in ";\t|"]
    return max([(names, ","), *found], key=lambda one: len(one[0]))


def parsing(names: Iterable[str], delimiter: str) -> dict[str, Any]:
    """Arguments of pyarrow's readers, which read all columns as text."""
    return {
        "parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True, delimiter=delimiter),
        "convert_options": pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.string())),
    }


def tell_decimal_commas(table: pyarrow.Table, delimiter: str, path: str | Path) -> None:
    """Logs a warning for columns that look like numbers with a decimal comma, which are read as text."""
    if delimiter == ",":
        return
    for name in table.column_names:
        cells = table[name].drop_null()
        cells = cells.filter(pyarrow.compute.not_equal(cells, ""))
        if len(cells) and pyarrow.compute.all(pyarrow.compute.match_substring_regex(cells, _DECIMAL_COMMA)).as_py():
            log.warning("%s: the cells of column %r, such as %s, look like numbers with a decimal comma and are read "
                        "as text; write a decimal point", path, name, cells[0].as_py())


def _is_tsv(path: str | Path) -> bool:
    return str(path).endswith((".tsv", ".tsv.gz"))
