"""Files that cannot be read: one error that names the file and what is wrong with it, whichever library found it."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow

from tfmtl2r.data.encoding import not_utf8
from tfmtl2r.errors import InputError


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Reads a table's file in the block.

    Args:
        path: a Parquet file, or text, which may be compressed.

    Raises:
        InputError: for a file that is damaged, truncated, of another format, or not UTF-8.

    >>> with readable(Path("log.csv.gz")):
    ...     gzip.decompress(b"a,b")
    Traceback (most recent call last):
        ...
    tfmtl2r.errors.InputError: log.csv.gz: cannot be read: Not a gzipped file (b'a,')
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {_encoding(path) or f'cannot be read: {error}'}") from error
    except (pyarrow.ArrowInvalid, EOFError, zlib.error, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the system refuses the file, such as one of another user
        wrong = _encoding(path) if "UTF8" in str(error) else ""
        raise InputError(f"{path}: {wrong or f'cannot be read: {error}'}") from error


@contextlib.contextmanager
def as_raised(kind: type[Exception]) -> Iterator[Callable[[Iterator[Any]], Iterator[Any]]]:
    """Hands rows to a library that replaces every error of its source by one of its own, and raises the first one.

    Args:
        kind: the errors of the library.

    Yields:
        A function that the rows pass on their way to the library.
    """
    raised: list[InputError] = []

    def watched(rows: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from rows
        except InputError as error:
            raised.append(error)
            raise

    try:
        yield watched
    except kind:
        if raised:
            raise raised[0] from None
        raise


def _encoding(path: Path) -> str:
    """What is wrong with the encoding of a text file."""
    opened: Any = gzip.open if path.name.endswith(".gz") else open
    with contextlib.suppress(OSError, EOFError, zlib.error), opened(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if wrong := not_utf8(line):
                return wrong.replace("line 1 ", f"line {number} ")
    return ""
