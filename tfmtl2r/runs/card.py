"""Run cards: ``runs/NAME/run.json`` says what was run on what, and what came out. All tables read them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tfmtl2r
from tfmtl2r import plugins
from tfmtl2r.data.fingerprints import comparable
from tfmtl2r.errors import InputError, InputTypeError, MissingFileError
from tfmtl2r.runs import format1
from tfmtl2r.settings import FORMAT

FILE = "run.json"
PER_LIST = "per_list.npz"
_PACKAGES = ("tensorflow", "keras", "tensorflow-ranking", "numpy", "pandas")


@dataclasses.dataclass
class RunCard:
    """What one training was and did.

    Args:
        name: of the run, and of its folder.
        config: everything the run was started with, as :meth:`tfmtl2r.settings.Settings.tree` returns it.
        data: per split its fingerprint, number of lists and items, and how many items were cut.
        results: split -> task -> metric -> ``{"value", "lists", "conventions", "direction"}``.
        history: epoch by epoch, what ``fit`` reported.
        curve: what a conditioned ranker reaches for each of a grid of preferences: ``{"preference": [...], "vali": task
            -> metric -> value, "test": the same}``; empty for others.
        step_ms: median milliseconds of a training step, the first epoch (which compiles) left out; None if unmeasured.
        peak_memory_mb: highest resident memory of the process.
        versions: of Python, this library and what it stands on.
        plugins: name and hash of the plug-in files that were imported for the run.
        format: of the card.
    """

    name: str
    config: dict[str, Any]
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    results: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    curve: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    step_ms: float | None = None
    peak_memory_mb: float | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=lambda: versions())
    plugins: list[dict[str, str]] = dataclasses.field(default_factory=plugins.remembered)
    format: int = FORMAT

    def save(self, folder: str | Path) -> Path:
        """Writes the card atomically: a reader sees the old one or the new one."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        temporary = folder / f".{FILE}.{os.getpid()}"
        temporary.write_text(json.dumps(dataclasses.asdict(self), indent=2, default=_plain) + "\n", encoding="utf-8")
        os.replace(temporary, path)
        return path

    def expect(self, split: str, fingerprint: str) -> None:
        """Refuses other data than those of the run.

        Args:
            split: its name.
            fingerprint: of the lists that are at hand.

        Raises:
            ValueError: when the run saw others.
        """
        known = self.data.get(split, {}).get("fingerprint")
        if known is not None and not comparable(known, fingerprint):
            raise InputError(f"the {split} split cannot be compared with the one of run {self.name!r}: an earlier "
                             "version of tfmtl2r wrote the fingerprint in its run card, in another format; train "
                             "again, or use that version")
        if known is not None and known != fingerprint:
            raise InputError(f"the {split} split has changed since run {self.name!r} was trained: fingerprint "
                             f"{fingerprint[:12]}, in the run card {known[:12]}; train again on these data")

    @classmethod
    def load(cls, folder: str | Path) -> RunCard:
        """Reads the card of a run.

        Raises:
            FileNotFoundError: when the folder holds none.
            ValueError: for a file that is not a run card, naming what is wrong with it.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise MissingFileError(f"{path} does not exist: {Path(folder).name!r} is not a run of tfmtl2r train")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            card = cls(**{"plugins": [], **format1.read(content, str(path))})
        except (json.JSONDecodeError, TypeError, AttributeError, KeyError) as error:
            raise InputError(f"{path} is not a run card: {error}") from error
        plugins.require(card.plugins, f"the run {card.name!r}")
        return card


def versions() -> dict[str, str]:
    """Versions of Python, this library and the packages that numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "tfmtl2r": tfmtl2r.__version__, **found,
            "platform": platform.platform()}


def peak_memory_mb() -> float | None:
    """The highest resident memory of this process so far, in MiB; None on Windows, which does not count it this way."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise InputTypeError(f"{type(value).__name__} cannot be written to a run card")
