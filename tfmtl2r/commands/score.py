"""Score files of any size with a trained run or an export, and write the scores with the ids of lists and items."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from tfmtl2r.errors import InputError


@dataclasses.dataclass(frozen=True)
class Score:
    """Scores files with runs/NAME, or with an export, and writes a table of ids and scores, in the order of the rows.

    The files are read as those of the training, a part at a time. They need no labels. All rows are scored, also rows
    that only_where of [data] keeps out of the training.

    Args:
        run: name of the run; or the folder of an export, or a .keras file.
        files: files, patterns or folders.
        to: a .parquet or .csv file for the scores, which appears, or replaces an earlier one, when it is complete.
        columns: further columns of the files to write; "all" writes all of them.
        list_id: the column with the id of each row's list, if it differs from that of the training.
        batch_size: lists (or rows) per batch.
        rows: rows that are read at a time; a list is always read as a whole.
        directory: the folder of all runs.
    """

    run: Annotated[str, tyro.conf.Positional]
    files: Annotated[tuple[str, ...], tyro.conf.Positional]
    to: str
    columns: tuple[str, ...] = ()
    list_id: str = ""
    batch_size: int = 256
    rows: int = 65_536
    directory: str = "runs"


def main(arguments: Sequence[str]) -> None:
    """Scores and prints the number of rows."""
    options = tyro.cli(Score, args=arguments, prog="tfmtl2r score")
    if not options.files:
        raise InputError("no file was given; usage: tfmtl2r score NAME FILE --to scores.parquet")
    if min(options.batch_size, options.rows) < 1:
        raise InputError("--batch-size and --rows must be at least 1")
    from tfmtl2r.evaluation.file_scores import is_model, score_files
    from tfmtl2r.runs.places import CARD, find

    is_run = (Path(options.directory, options.run) / CARD).is_file() or not is_model(options.run)
    count = score_files(
        find(options.directory, options.run) if is_run else options.run, options.files, options.to,
        columns=None if options.columns == ("all",) else options.columns, list_id=options.list_id,
        batch_size=options.batch_size, rows=options.rows)
    print(f"{count} rows scored: {options.to}")
