"""Reads files that may be damaged or hostile. Every fault is one error that names the file, the fault and the remedy.

Nothing is unpickled, and no name of a file leaves its folder.
"""

from __future__ import annotations

import contextlib
import json
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmtl2r.errors import DamagedError, InputError, UserError
from tfmtl2r.names import checked_folder

if TYPE_CHECKING:
    import numpy as np

EACH = "*"
"""The key of a shape that stands for all keys."""
NUMBER = (int, float, str, type(None))
"""A number as JSON has it; numbers that are not finite are text or null."""
_NAMES: Mapping[Any, str] = {dict: "a table", list: "a list", str: "text", int: "an integer", float: "a number",
                             bool: "true or false", type(None): "null"}


def read_json(path: Path, advice: str, shape: Any = dict) -> Any:
    """Reads a JSON file.

    Args:
        path: the file.
        advice: what to do about a damaged file; the end of the message.
        shape: what the content must be; see :func:`check`.

    Raises:
        DamagedError: for a file that is no JSON, nests too deeply, has a number of too many digits, or another shape.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check(content, shape)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({error}): {advice}") from error
    return content


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        InputError: for a file that is no TOML, nests too deeply or has a number of too many digits.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error


@contextlib.contextmanager
def stored_arrays(path: Path, advice: str) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens an ``.npz`` file. An array is read when it is asked for; errors within the context count as the file's.

    Args:
        path: the file.
        advice: what to do about a damaged file; the end of the message.

    Raises:
        DamagedError: for a file that is no ``.npz``, an array that is missing, incomplete or larger than the memory, or
            Python objects, which would have to be unpickled.
    """
    import numpy as np  # the command line reads files before it needs numpy

    try:
        found = np.load(path)
        if not isinstance(found, Mapping):
            raise ValueError("it contains no arrays with names")
        with found:  # type: ignore[attr-defined]
            yield found
    except (ValueError, KeyError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, UserError):
            raise
        raise DamagedError(f"{path} is damaged ({error}): {advice}") from error


def check(value: Any, shape: Any, where: str = "") -> None:
    """Compares plain data with a shape.

    Args:
        value: what a file contains.
        shape: a type; a tuple of types; a list with the shape of all elements; or a dict with the shapes of some keys,
            which may be missing, where the key ``"*"`` stands for all keys.
        where: the place in the file, for messages.

    Raises:
        InputError: for other data; the message contains the place.

    >>> check({"runs": [{"name": "a"}]}, {"runs": [{"name": str}]})
    >>> check({"runs": [{"name": 1}]}, {"runs": [{"name": str}]})
    Traceback (most recent call last):
    tfmtl2r.errors.InputError: runs[0].name must be text, not 1
    """
    kinds: Any = shape if isinstance(shape, tuple) else shape if isinstance(shape, type) else type(shape)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds in (int, NUMBER)):
        wanted = " or ".join(_NAMES[kind] for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise InputError(f"{where or 'the content'} must be {wanted}, not {repr(value)[:60]}")
    if isinstance(shape, Mapping):
        for key, inner in value.items():
            if (known := shape.get(key, shape.get(EACH))) is not None:
                check(inner, known, f"{where}.{key}".lstrip("."))
    elif isinstance(shape, list):
        for place, one in enumerate(value):
            check(one, shape[0], f"{where}[{place}]")


def file_within(folder: Path, name: Any) -> Path:
    """The path of a file whose name another file contains.

    Raises:
        DamagedError: for a name that leaves the folder.

    >>> file_within(Path("store"), "../a")
    Traceback (most recent call last):
    tfmtl2r.errors.DamagedError: store contains the name of a file outside of it: '../a'
    """
    try:
        return folder / checked_folder(name, "file")
    except InputError as error:
        raise DamagedError(f"{folder} contains the name of a file outside of it: {name!r}") from error
