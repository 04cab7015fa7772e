"""Where a run lies: ``runs/NAME/``, and while ``--overwrite`` replaces it, ``runs/.NAME.new/`` and ``runs/.NAME.old/``.

The folder ``.attempt/`` inside marks a folder as one of this package. A folder with it and without a run card is a
training that has not finished.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tfmtl2r.errors import DamagedError, InputError
from tfmtl2r.names import checked_folder
from tfmtl2r.reading import read_json
from tfmtl2r.runs.identity import MODEL, PER_LIST
from tfmtl2r.runs.lock import BusyError, locked
from tfmtl2r.settings import files
from tfmtl2r.writing import remove_parts

CARD = "run.json"
MARK = ".attempt"
CHECKPOINTS = "checkpoints"
LOGS = "logs"
LOG = "log.txt"
_OWN = (CARD, PER_LIST, MODEL, files.FILE, LOGS, MARK, "pareto")


def find(directory: str | Path, name: str) -> Path:
    """Returns the folder of a run or a sweep that a command names. Every command finds its runs here.

    A replacement of the run that was interrupted between its two renames is finished first.

    Args:
        directory: the folder of all runs.
        name: ``NAME`` or ``SWEEP/NAME``.

    Raises:
        InputError: for a name that leaves the folder of all runs.
    """
    return settled(below(directory, name))


def below(directory: str | Path, name: str) -> Path:
    """Returns the folder of a name in a folder.

    Raises:
        InputError: for a name that leaves the folder, or is hidden.
    """
    parts = name.rstrip("/").split("/")
    try:
        for part in parts:
            checked_folder(part, "run")
    except InputError:
        parts = []
    if not parts or any(part.startswith(".") or ":" in part for part in parts):
        raise InputError(f"{name!r} is not a name: expected NAME or SWEEP/NAME, a folder in {directory}; --directory "
                         "names another folder")
    return Path(directory, *parts)


def beside(run: Path, ending: str) -> Path:
    """Returns a hidden path beside a run: its lock, or its folders ``new`` and ``old`` during a replacement."""
    return run.with_name(f".{run.name}.{ending}")


@contextlib.contextmanager
def training(run: Path) -> Iterator[None]:
    """Holds the lock of a run (:func:`tfmtl2r.runs.lock.locked`), and removes what killed processes wrote in part."""
    with locked(beside(run, "lock"), f"works on the run {run}"):
        for folder in (run, beside(run, "new")):
            remove_parts(folder)
        yield


def is_attempt(folder: Path) -> bool:
    """Whether a folder contains a training that has not finished."""
    return (folder / MARK).is_dir() and not (folder / CARD).is_file()


def can_go_on(folder: Path) -> bool:
    """Whether a folder contains an unfinished training with at least one checkpoint, so that work would be lost."""
    return is_attempt(folder) and any((folder / MARK / CHECKPOINTS).glob("*"))


def is_ours(folder: Path) -> bool:
    """Whether a folder is empty, absent, or written by this package, so that it may be replaced."""
    if not os.path.lexists(folder):
        return True
    if not folder.is_dir():
        return False
    if (folder / MARK).is_dir() or not any(folder.iterdir()):
        return True
    card = folder / CARD
    if not card.is_file():
        return False
    try:
        content = read_json(card, "")
    except DamagedError:
        return (folder / PER_LIST).is_file() or (folder / MODEL).is_file()
    return "config" in content


def clear(folder: Path) -> None:
    """Removes the files of a run, and no other files. The mark stays, as an empty folder: the folder remains ours."""
    mark = folder / MARK
    mark.mkdir(parents=True, exist_ok=True)
    for path in (*mark.iterdir(), *(folder / name for name in _OWN if name != MARK)):
        remove(path)


def replace(run: Path) -> None:
    """Puts the folder ``new`` in the place of a run, with two renames. The caller holds the run's lock.

    Whatever a kill left of an earlier call is finished. Files in the old folder that this package did not write move
    to the new folder.
    """
    new, old = beside(run, "new"), beside(run, "old")
    if (new / CARD).is_file():
        if os.path.lexists(run):
            remove(old)
            os.rename(run, old)
        os.rename(new, run)
    if os.path.lexists(old):
        if not os.path.lexists(run):
            os.rename(old, run)
            return
        for path in sorted(old.iterdir()):
            if path.name not in _OWN and not os.path.lexists(run / path.name):
                os.rename(path, run / path.name)
        remove(old)


def settled(run: Path) -> Path:
    """Finishes a replacement that was interrupted, and returns the folder from which to read the run.

    Without permission to write, or while another process works on the run, nothing is changed. If the run's own place
    is then empty, the new folder is returned.
    """
    if not run.name:  # the working folder itself
        return run
    new, old = beside(run, "new"), beside(run, "old")
    if (new / CARD).is_file() or os.path.lexists(old):
        with contextlib.suppress(BusyError, OSError), training(run):
            replace(run)
    return new if not run.exists() and (new / CARD).is_file() else run


def subfolders(folder: Path) -> Iterator[Path]:
    """Gives the subfolders of a folder that are runs or unfinished trainings, sorted by name."""
    names = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    for name in [*names]:
        if hidden := re.fullmatch(r"\.(.+)\.(new|old)", name):
            names.add(hidden[1])
    for name in sorted(name for name in names if not name.startswith(".")):
        path = settled(folder / name)
        if (path / CARD).is_file() or is_attempt(path):
            yield path


def holds_runs(folder: Path) -> bool:
    """Whether a folder contains finished runs, and is no run itself."""
    return not (folder / CARD).is_file() and any((path / CARD).is_file() for path in subfolders(folder))


def remove(path: Path) -> None:
    """Removes a file, a link or a whole folder, if it exists."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
