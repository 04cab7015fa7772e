"""Check whether an export may be served, without the model that it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class ExportCheck:
    """Loads an export as TensorFlow Serving does, replays its warm-up requests and compares the answers.

    Args:
        directory: a version, or the folder of the versions: then the highest number, as the server takes it.
    """

    directory: Annotated[str, tyro.conf.Positional]


def main(arguments: Sequence[str]) -> int:
    """Prints the version that passed all checks."""
    options = tyro.cli(ExportCheck, args=arguments, prog="tfmtl2r export-check")
    from tfmtl2r.serving.check import check

    print(f"passed: {check(options.directory)}")
    return 0
