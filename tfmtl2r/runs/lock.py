"""One process at a time works on a run, a sweep or an export."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tfmtl2r.errors import InputError


class BusyError(InputError):
    """Another process works on the same folder."""


@contextlib.contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Holds a lock during the block. The operating system releases it when the process dies.

    Args:
        path: the lock file, which is left behind. The file beside it that ends in ``.pid`` has the holder's number.
        doing: what the process does, for the message of another process: ``"trains the run runs/a"``.

    Raises:
        BusyError: if another process, or another part of this process, holds the lock.
        OSError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab"):  # filelock does not tell a file that cannot be written from a lock that is held
        pass
    lock = FileLock(path)
    holder = path.with_suffix(".pid")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        number = "of an unknown number"
        with contextlib.suppress(OSError):  # the holder writes or removes it at this moment
            number = holder.read_text(encoding="utf-8") or number
        raise BusyError(f"another process ({number}) {doing}: wait until it has ended, or stop it") from None
    try:
        holder.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()
