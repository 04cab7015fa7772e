"""The origin of registered things: built-in, an installed package, a file or a session."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Origin:
    """The origin of a registered thing.

    Args:
        kind: ``"built-in"``, ``"package"`` (installed), ``"file"`` (registered by a file) or ``"session"``.
        where: a path, or name and version of a package.
        sha256: hash of the file that registered the thing.
    """

    kind: str
    where: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.where}".strip()


def origin_of(cls: type) -> Origin:
    """The file that contains a class, or the session for a class from an interactive session."""
    path = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if path is None or not Path(path).is_file():
        return Origin("session")
    return Origin("file", str(Path(path).resolve()), hashlib.sha256(Path(path).read_bytes()).hexdigest())
