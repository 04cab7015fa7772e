"""Check whether an export can be served, and compare it with the one that it would replace."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from tfmtl2r.errors import InputError


@dataclasses.dataclass(frozen=True)
class ExportCheck:
    """Loads an export as TensorFlow Serving does, replays its warm-up requests and compares the responses.

    With --against, it also compares the export with an earlier one on the same requests; the result is kept in the
    export's metadata. An export that does not keep a limit fails.

    Args:
        directory: a version, or the folder of all versions, of which the highest is checked, as on the server.
        table: also compare this table (.csv, .csv.gz, .parquet) of requests with the training data: unknown ids,
            numbers outside of the range, missing values.
        against: the earlier export, or its version.
        requests: files of requests, which both exports score; by default, the warm-up records of both.
        by: columns of these files whose values make slices.
        list_id: the column of these files with the id of each row's list, if it differs from that of the training.
        top: number of first items whose overlap is compared.
        min_overlap: least overlap of the first items of both exports, ranked by score, in every slice.
        max_latency_ms: largest median time of the largest warm-up request, on this machine.
        max_size_mb: largest size of the export's files, in 10^6 bytes.
    """

    directory: Annotated[str, tyro.conf.Positional]
    table: str = ""
    against: str = ""
    requests: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    list_id: str = ""
    top: int = 10
    min_overlap: float | None = None
    max_latency_ms: float | None = None
    max_size_mb: float | None = None


def main(arguments: Sequence[str]) -> int:
    """Prints the version that passed all checks."""
    options = tyro.cli(ExportCheck, args=arguments, prog="tfmtl2r export-check")
    if not options.against and (options.requests or options.by or options.min_overlap is not None):
        raise InputError("--requests, --by and --min-overlap compare two exports: name the earlier one (--against)")
    from tfmtl2r.serving.check import check

    print(f"passed: {check(options.directory)}")
    if options.table:
        from tfmtl2r.data.frame import read_lists
        from tfmtl2r.serving.outside import outside

        lines = outside(options.directory, read_lists([options.table]))
        print(f"{options.table} {'differs from' if lines else 'is like'} the training data{':' if lines else ''}")
        for line in lines:
            print(f"  {line}")
    limits = {"max_latency_ms": options.max_latency_ms, "max_size_mb": options.max_size_mb}
    if options.against or any(limit is not None for limit in limits.values()):
        return _compare(options, limits)
    return 0


def _compare(options: ExportCheck, limits: dict[str, float | None]) -> int:
    """Prints the comparison with the earlier export; with no earlier one, the export is compared with itself."""
    from tfmtl2r.evaluation.promotion import compare
    from tfmtl2r.report import show

    found = compare(options.directory, options.against or options.directory, options.requests, options.by, options.top,
                    options.list_id).within(options.min_overlap, **limits)
    beside = ("", "") if not options.against else tuple(f" (earlier: {one:.3g})" for one in
                                                        (found.latency_ms[1], found.size_mb[1]))
    if options.against:
        show(found.table())
        if found.only:
            print(f"only one of the exports has {', '.join(found.only)}")
        found.keep()
    print(f"latency {found.latency_ms[0]:.3g} ms{beside[0]}, size {found.size_mb[0]:.3g} MB{beside[1]}")
    for failure in found.failures:
        print(f"failed: {failure}", file=sys.stderr)
    return int(bool(found.failures))
