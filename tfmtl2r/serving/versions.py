"""Numbered version folders, as TensorFlow Serving reads them: ``BASE/1``, ``BASE/2``, ...

The server looks at ``BASE`` about once a second and loads every folder whose name is a number, complete or not. A
version is therefore written under another name on the same filesystem, and then renamed to its number.
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

from tfmtl2r.errors import InputError, MissingFileError, NotAFolderError
from tfmtl2r.writing import naming, to_disk

SAVED_MODEL = "saved_model.pb"
TEMPORARY = ".tmp-"
"""Prefix of the names of unfinished versions."""
ABANDONED = 24 * 3600
"""Seconds after which an unfinished version counts as abandoned: its export was killed."""
_HIGHEST = 2**63 - 1  # the server reads a version as an int64 and ignores larger numbers


def numbers(base: str | Path) -> list[int]:
    """The version numbers in use, ascending. Incomplete versions count, because the server looks only at names.

    Args:
        base: the folder of an export; if it does not exist, there are no versions.

    >>> numbers("/no/such/folder")
    []
    """
    return sorted(_named(Path(base)))


def newest(base: str | Path) -> Path:
    """The folder of the highest version that contains a SavedModel.

    Args:
        base: the folder of an export.

    Raises:
        FileNotFoundError: when there is no such version.
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
    """The version that the server would load: the version with the highest number, complete or not.

    Args:
        folder: the folder of an export, or a version folder, which is returned unchanged.

    Raises:
        FileNotFoundError: when there is no version.
    """
    folder = Path(folder)
    named = _named(folder)
    if (folder / SAVED_MODEL).is_file() or (not named and folder.is_dir() and is_version(folder)):
        return folder
    return named[max(named)] if named else newest(folder)  # raises an error that names what is missing


def is_version(folder: Path) -> bool:
    """Whether the server reads a folder of this name, or :func:`publish` has not renamed the folder yet."""
    number = re.fullmatch(r"[0-9]+", folder.name)
    return folder.name.startswith(TEMPORARY) or (number is not None and int(folder.name) <= _HIGHEST)


def publish(base: str | Path, write: Callable[[Path], None]) -> Path:
    """Writes a version and makes it visible atomically under the next number.

    Unfinished versions that are older than a day are removed, because their exports were killed.

    Args:
        base: the folder of an export; it is created if missing.
        write: a function that fills the existing, empty folder that it gets. If it raises, the version is removed.

    Returns:
        The numbered folder.

    Raises:
        ValueError: when ``base`` is itself a version.
        NotADirectoryError: when ``base`` is a file.
    """
    base = Path(base)
    if (base / SAVED_MODEL).exists():
        raise InputError(f"{base} is a version of an export itself; use the folder that contains the versions: "
                         f"{base.parent}")
    if base.exists() and not base.is_dir():
        raise NotAFolderError(f"{base} is a file; an export needs a folder for its numbered versions")
    # tempfile.mkdtemp would deny access to other users, but the server may run as another user.
    temporary = base / f"{TEMPORARY}{secrets.token_hex(4)}"
    with naming(base):
        try:
            base.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(base)
            temporary.mkdir()
            write(temporary)
            for path in temporary.rglob("*"):
                to_disk(path)
            return _renamed(temporary, base)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _remove_abandoned(base: Path) -> None:
    for left in base.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):  # it was just finished, or another export removes it
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _renamed(temporary: Path, base: Path) -> Path:
    """Renames a finished folder to the next number, and tries again if another export took this number first."""
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
