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
        table: also compare this table (.csv, .csv.gz, .parquet) of requests with the training data: unknown ids,
            numbers outside of the range, missing values.
    """

    directory: Annotated[str, tyro.conf.Positional]
    table: str = ""


def main(arguments: Sequence[str]) -> int:
    """Prints the version that passed all checks."""
    options = tyro.cli(ExportCheck, args=arguments, prog="tfmtl2r export-check")
    from tfmtl2r.serving.check import check

    print(f"passed: {check(options.directory)}")
    if options.table:
        from tfmtl2r.data.frame import read_lists
        from tfmtl2r.serving.outside import outside

        lines = outside(options.directory, read_lists([options.table]))
        print(f"{options.table} {'differs from' if lines else 'is like'} the training data{':' if lines else ''}")
        for line in lines:
            print(f"  {line}")
    return 0
