"""Files that lie elsewhere, at addresses such as ``s3://bucket/log.parquet``, are fetched into a cache and read there.

fsspec (extra ``store``) and the driver of the address, such as s3fs, do the reading.
"""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

from tfmtl2r.errors import DamagedError, InputError, MissingFileError, MissingPackageError, UserError
from tfmtl2r.writing import written

CACHE = Path(".cache") / "tfmtl2r" / "remote"
"""The folder of fetched files, in the current folder."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_remote(place: str) -> bool:
    """Whether a place is an address, such as ``s3://bucket/log.parquet``, and no path of this machine.

    >>> is_remote("s3://bucket/*.parquet"), is_remote("logs/a.csv"), is_remote("C:/logs/a.csv")
    (True, False, False)
    """
    return _ADDRESS.match(place) is not None


@functools.lru_cache(maxsize=256)
def fetched(place: str) -> tuple[Path, ...]:
    """The files of an address on this machine, sorted by name. A process looks at an address once.

    A file is fetched unless the cache holds it. It gets its name in the cache when all of its bytes are there. A file
    that has changed is fetched again.

    Args:
        place: the address of a file, or a pattern such as ``s3://bucket/logs/*.csv``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a folder, an unknown protocol, or a file that cannot be fetched as a whole.
        ImportError: without fsspec or the driver of the address.
    """
    system, path = _system(place)
    try:
        found = sorted(system.glob(path)) if any(one in path for one in "*?[") else [path]
        if not found:
            raise MissingFileError(f"{place}: no file matches this pattern")
        return tuple(_fetch(system, one, place) for one in found)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise MissingFileError(f"{place}: there is no such file") from error
    except Exception as error:  # each driver has errors of its own
        raise InputError(f"{place}: cannot be fetched: {type(error).__name__}: {error}. Check the address, the network "
                         "and your permissions") from error


def _system(place: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise MissingPackageError(f"{place}: files that lie elsewhere need fsspec: pip install 'tfmtl2r[store]'"
                                  ) from error
    try:
        system, path = fsspec.core.url_to_fs(place)
    except ImportError as error:
        raise MissingPackageError(f"{place}: fsspec lacks the driver of this address: {error}") from error
    except ValueError as error:
        raise InputError(f"{place}: fsspec does not know this address: {error}") from error
    return system, path


def _fetch(system: Any, path: str, place: str) -> Path:
    about = system.info(path)
    if about.get("type") == "directory":
        raise InputError(f"{place}: {path} is a folder: give its files by a pattern, such as "
                         f"{place.rstrip('/')}/*.parquet")
    state = str(system.ukey(path))
    key = hashlib.sha256(f"{system.protocol} {path} {state}".encode()).hexdigest()[:24]
    target = CACHE / key / path.rstrip("/").rpartition("/")[2]
    if target.is_file():
        return target
    with written(target) as temporary:
        with system.open(path, "rb") as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        size, expected = temporary.stat().st_size, about.get("size")
        if expected is not None and size != expected:
            raise DamagedError(f"{place}: {path} ended after {size} of {expected} bytes: run the command again")
        if str(system.ukey(path)) != state:
            raise InputError(f"{place}: {path} changed while it was fetched: run the command again when it is complete")
    return target
