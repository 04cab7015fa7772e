"""Check whether an export can be served. The exported run is not needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class ExportCheck:
    """Loads an export as TensorFlow Serving does, replays its warm-up requests and compares the responses.

    Args:
        directory: a version, or the folder of all versions, of which the highest is checked, as on the server.
    """

    directory: Annotated[str, tyro.conf.Positional]


def main(arguments: Sequence[str]) -> int:
    """Prints the version that passed all checks."""
    options = tyro.cli(ExportCheck, args=arguments, prog="tfmtl2r export-check")
    from tfmtl2r.serving.check import check

    print(f"passed: {check(options.directory)}")
    return 0
