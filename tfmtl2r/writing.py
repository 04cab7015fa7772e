"""Writes files whole or not at all. Every file that this package writes for a user goes through :func:`written`.

A file is written under another name in the same folder, brought to the disk, and renamed. A process that is killed, or
a disk that is full, leaves the file as it was before.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["fault_of", "naming", "number", "one_line", "remove_parts", "strict", "to_disk", "write_json", "write_text",
           "written"]
_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)
_PART = ".part"


@contextlib.contextmanager
def written(path: str | Path) -> Iterator[Path]:
    """Gives a path to write to, and renames the file to ``path`` when the block has ended without an error.

    The temporary file lies in the same folder, is hidden, and has the same ending. After an error it is removed.

    Args:
        path: the file to write; its folder is created.

    Raises:
        OSError: of the operating system, always with a path.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe cannot be replaced
        with naming(path):
            yield path
        return
    path = Path(os.path.realpath(path))  # a link stays a link
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{_PART}{path.suffix}")
    with naming(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            to_disk(temporary)
            if path.is_file():
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
            to_disk(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raises the errors of the operating system with the path of what was to be written."""
    try:
        yield
    except Exception as error:
        if fault := fault_of(error):
            raise OSError(fault, os.strerror(fault), str(path)) from error
        raise


def remove_parts(folder: Path) -> None:
    """Removes the temporary files that killed processes left in a folder in which no other process writes."""
    for path in folder.glob(f".*{_PART}*"):
        if re.fullmatch(rf"\..*-[0-9a-f]{{8}}{re.escape(_PART)}(\.[^.]*)?", path.name):
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Writes a text file in UTF-8, whole or not at all, and returns its path."""
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return Path(path)


def write_json(path: str | Path, content: Any, indent: int = 2, default: Callable[[Any], Any] | None = None) -> Path:
    """Writes strict JSON, whole or not at all, and returns the path. See :func:`strict` for numbers that JSON lacks."""
    text = json.dumps(strict(content, default), indent=indent, allow_nan=False)
    return write_text(path, text + "\n")


def strict(content: Any, default: Callable[[Any], Any] | None = None) -> Any:
    """Converts data to what JSON can hold: NaN becomes None, and infinity the text ``"inf"`` or ``"-inf"``.

    Args:
        content: mappings, sequences, text, numbers and None, at any depth.
        default: converts any other value.

    >>> strict({"loss": [0.5, float("nan"), float("inf")]})
    {'loss': [0.5, None, 'inf']}
    """
    if isinstance(content, Mapping):
        return {str(key): strict(value, default) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [strict(value, default) for value in content]
    if isinstance(content, float):
        return float(content) if math.isfinite(content) else None if math.isnan(content) else str(float(content))
    if content is None or isinstance(content, (str, int)) or default is None:
        return content
    return strict(default(content), default)


def number(value: Any) -> float:
    """Returns the number that :func:`strict` converted.

    >>> number(None), number("inf"), number(2)
    (nan, inf, 2.0)
    """
    return math.nan if value is None else float(value)


def fault_of(error: BaseException) -> int | None:
    """Returns the number of the operating system's error behind an exception; None if there is none.

    HDF5 and TensorFlow raise exceptions of their own, whose text contains the text of the operating system.

    >>> fault_of(OSError(28, "No space left on device")) == fault_of(RuntimeError("x: No space left on device")) == 28
    True
    """
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, (OSError, RuntimeError)) or type(error).__module__.startswith("tensorflow"):
        return next((fault for fault in _FAULTS if os.strerror(fault).lower() in str(error).lower()), None)
    return None


def one_line(error: BaseException) -> str:
    """Describes an error of the operating system by its path and the system's words.

    >>> one_line(RuntimeError("{{node 3}} runs/a/step-2; No space left on device [Op:SaveV2]"))
    'runs/a/step-2: No space left on device'
    >>> one_line(OSError(28, "No space left on device"))  # of a stream, which has no path
    'No space left on device'
    """
    fault, path = fault_of(error), getattr(error, "filename2", None) or getattr(error, "filename", None)
    if not fault:
        return str(error)
    reason = os.strerror(fault)
    named = re.search(rf"(\S*/\S+)[;:] {re.escape(reason)}", str(error))
    place = path or (named[1] if named else str(error).splitlines()[0])
    return reason if place == f"[Errno {fault}] {reason}" else f"{place}: {reason}"


def to_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL, errno.ENOTSUP):  # a filesystem without it
            raise
    finally:
        os.close(descriptor)
