"""Numbered version folders, as TensorFlow Serving reads them: ``BASE/1``, ``BASE/2``, ...

The server looks at ``BASE`` about once a second and loads what has a number for a name, finished or not. A version is
therefore written under another name on the same filesystem, and gets its number by one rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tfmtl2r.errors import InputError, MissingFileError

SAVED_MODEL = "saved_model.pb"
TEMPORARY = ".tmp-"
"""How the names of unfinished versions begin."""
ABANDONED = 24 * 3600
"""Seconds after which nobody writes an unfinished version any more: its export was killed."""
_HIGHEST = 2**63 - 1  # the server reads a version as an int64 and ignores what does not fit


def numbers(base: str | Path) -> list[int]:
    """The version numbers in use, ascending; complete or not, since the server looks at names only.

    Args:
        base: the folder of an export; without it there are no versions.

    >>> numbers("/no/such/folder")
    []
    """
    return sorted(_named(Path(base)))


def newest(base: str | Path) -> Path:
    """The folder of the highest version that holds a SavedModel.

    Args:
        base: the folder of an export.

    Raises:
        FileNotFoundError: when there is none.
    """
    base = Path(base)
    named = _named(base)
    for number in sorted(named, reverse=True):
        if (named[number] / SAVED_MODEL).is_file():
            return named[number]
    what = "has no numbered version with a SavedModel in it" if base.is_dir() else "does not exist"
    raise MissingFileError(f"{base} {what}: export a ranker there first with tfmtl2r.export(model, {str(base)!r}), "
                            "or give the path of a .keras file")


def latest(folder: str | Path) -> Path:
    """The version that the server would take: the highest number, finished or not.

    Args:
        folder: the folder of an export, or a version, which is given back.

    Raises:
        FileNotFoundError: when there is none.
    """
    folder = Path(folder)
    named = _named(folder)
    if (folder / SAVED_MODEL).is_file() or (not named and folder.is_dir() and is_version(folder)):
        return folder
    return named[max(named)] if named else newest(folder)  # which says what is missing


def is_version(folder: Path) -> bool:
    """Whether the server reads a folder of this name, or :func:`publish` has yet to give it one."""
    number = re.fullmatch(r"[0-9]+", folder.name)
    return folder.name.startswith(TEMPORARY) or (number is not None and int(folder.name) <= _HIGHEST)


def publish(base: str | Path, write: Callable[[Path], None]) -> Path:
    """Writes a version and makes it visible under the next number, all of it or nothing.

    What an export that was killed left behind more than a day ago is removed.

    Args:
        base: the folder of an export, made if missing.
        write: fills the (existing, empty) folder that it is given. If it raises, nothing is left of the version.

    Returns:
        The numbered folder.

    Raises:
        ValueError: when ``base`` is itself a version.
        NotADirectoryError: when ``base`` is a file.
    """
    base = Path(base)
    if (base / SAVED_MODEL).exists():
        raise InputError(f"{base} is a version of an export itself; give the folder that holds the versions: "
                         f"{base.parent}")
    if base.exists() and not base.is_dir():
        raise NotADirectoryError(f"{base} is a file; an export needs a folder for its numbered versions")
    base.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(base)
    # Not tempfile.mkdtemp: its folders are closed to other users, and the server may run as one.
    temporary = base / f"{TEMPORARY}{secrets.token_hex(4)}"
    temporary.mkdir()
    try:
        write(temporary)
        return _renamed(temporary, base)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _remove_abandoned(base: Path) -> None:
    for left in base.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):  # it was finished just now, or another export removes it too
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _renamed(temporary: Path, base: Path) -> Path:
    """Gives a finished folder the next number; another export may take that number first."""
    while True:
        version = base / str(max(numbers(base), default=0) + 1)
        try:
            os.rename(temporary, version)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) or not version.exists():
                raise
        else:
            return version


def _named(base: Path) -> dict[int, Path]:
    if not base.is_dir():
        return {}
    children = {int(path.name): path for path in sorted(base.iterdir()) if re.fullmatch(r"[0-9]+", path.name)}
    return {number: path for number, path in children.items() if number <= _HIGHEST}
