"""Write a first experiment.toml: an experiment on your own table, with an explanation of every key."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from tfmtl2r.errors import InputError
from tfmtl2r.writing import write_text


@dataclasses.dataclass(frozen=True)
class Init:
    """Writes DIR/experiment.toml. If the file exists, the command stops with an error.

    Args:
        directory: the folder, which is created if necessary.
    """

    directory: Annotated[str, tyro.conf.Positional] = "."


def main(arguments: Sequence[str]) -> None:
    """Writes the file and prints the next steps."""
    options = tyro.cli(Init, args=list(arguments), prog="tfmtl2r init")
    from tfmtl2r.settings.files import FILE
    from tfmtl2r.settings.starter import starter

    path = Path(options.directory) / FILE
    if path.exists():
        raise InputError(f"{path} already exists and is not overwritten: remove it, or name another folder")
    write_text(path, starter())
    print(f"wrote {path}: fill in data.files, data.list_id and [[tasks]], then\n\n    tfmtl2r train {path}")
