"""The file ``sweep.json``, which lists all planned runs of a sweep in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmtl2r.errors import InputError
from tfmtl2r.runs.card import versions
from tfmtl2r.runs.format1 import check_format
from tfmtl2r.settings import FORMAT
from tfmtl2r.writing import write_json

FILE = "sweep.json"


def read(folder: Path) -> dict[str, Any]:
    """Reads the file of a sweep; without a file, a sweep without runs.

    Raises:
        InputError: for a damaged file, or a file that a newer version wrote.
    """
    path = folder / FILE
    if not path.is_file():
        return {"runs": [], "format": FORMAT}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check_format(content, str(path))
        if all(job["name"] for job in content["runs"]):
            return dict(content)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        if isinstance(error, InputError):
            raise
    raise InputError(f"{path} is damaged: restore it from a copy, or give the sweep another name")


def write(folder: Path, runs: Sequence[Mapping[str, Any]], threads: int) -> None:
    """Writes the file of a sweep."""
    write_json(folder / FILE, {"format": FORMAT, "versions": versions(), "threads": threads, "runs": runs}, indent=1)
