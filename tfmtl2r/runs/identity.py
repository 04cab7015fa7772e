"""The identity of a run: a random text in its run card, in its model and in its values per list.

The three files are written at different times. If they have the same identity, they belong to the same training.
"""

from __future__ import annotations

import secrets
import zipfile
from pathlib import Path

from tfmtl2r.errors import DamagedError, InputError
from tfmtl2r.reading import stored_arrays

KEY = "identity"
"""Name of the array of ``per_list.npz`` that contains the identity."""
MODEL, PER_LIST = "model.keras", "per_list.npz"


def new() -> str:
    """Returns a random identity."""
    return secrets.token_hex(8)


def stamp(model: Path, identity: str) -> None:
    """Writes an identity into a ``.keras`` file, as the comment of its archive, which Keras does not read."""
    with zipfile.ZipFile(model, "a") as archive:
        archive.comment = identity.encode()


def check(folder: Path, identity: str, name: str) -> None:
    """Checks that model and values per list in a folder have the identity of the run card.

    A run card without an identity has a model and values without one, or none.

    Args:
        folder: folder of the run.
        identity: identity in the run card; empty for cards of earlier versions.
        name: name of the run, for messages.

    Raises:
        InputError: for a file that is missing, damaged, or of another training.
    """
    for file, read in ((MODEL, _of_model), (PER_LIST, _of_lists)):
        path = folder / file
        if not path.is_file():
            if identity:
                raise InputError(f"{path} is missing, so that run {name!r} is not whole: train it again")
            continue
        found = read(path, f"train run {name!r} again with --overwrite")
        if found != identity:
            raise InputError(f"{path} is of another training than the run card beside it (identity {found or 'none'}, "
                             f"not {identity or 'none'}): train run {name!r} again with --overwrite")


def _of_model(path: Path, advice: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment.decode(errors="replace")
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise DamagedError(f"{path} is damaged ({error}): {advice}") from error


def _of_lists(path: Path, advice: str) -> str:
    with stored_arrays(path, advice) as arrays:
        return str(arrays[KEY]) if KEY in arrays else ""
