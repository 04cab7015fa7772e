"""The file ``sweep.json``, which lists all planned runs of a sweep in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmtl2r.errors import DamagedError
from tfmtl2r.reading import file_within, read_json
from tfmtl2r.runs.card import versions
from tfmtl2r.runs.format1 import check_format
from tfmtl2r.settings import FORMAT
from tfmtl2r.writing import write_json

FILE = "sweep.json"
_ADVICE = "restore it from a copy, or give the sweep another name"


def read(folder: Path) -> dict[str, Any]:
    """Reads the file of a sweep; without a file, a sweep without runs.

    Raises:
        InputError: for a damaged file, or a file that a newer version wrote.
    """
    path = folder / FILE
    if not path.is_file():
        return {"runs": [], "format": FORMAT}
    content: dict[str, Any] = read_json(path, _ADVICE, {"format": int, "versions": dict, "runs": [{"name": str}]})
    check_format(content, str(path))
    if not all(job.get("name") for job in content.get("runs", [{}])):
        raise DamagedError(f"{path} is damaged (a run has no name): {_ADVICE}")
    for job in content["runs"]:
        file_within(folder, job["name"])
    return content


def write(folder: Path, runs: Sequence[Mapping[str, Any]], threads: int) -> None:
    """Writes the file of a sweep."""
    write_json(folder / FILE, {"format": FORMAT, "versions": versions(), "threads": threads, "runs": runs}, indent=1)
