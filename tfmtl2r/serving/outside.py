"""Compares a table of requests with the training data, as an export's metadata describes them."""

from __future__ import annotations

from pathlib import Path

from tfmtl2r.data.contents import of_table, worth_a_look
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.reading import read_json
from tfmtl2r.serving.check import EXPORT_AGAIN, METADATA
from tfmtl2r.serving.versions import latest


def outside(folder: str | Path, table: Lists) -> list[str]:
    """Returns a line for each input of a table that differs from the training data of an export.

    The lines are about missing values, ids that are not in the vocabulary, and numbers outside of the range of the
    training split (:func:`tfmtl2r.data.contents.worth_a_look`).

    Args:
        folder: a version folder, or the folder of an export, whose newest version counts.
        table: rows with the columns of the training.

    Raises:
        ValueError: for an export that was written without the contents of the training data.
    """
    version = latest(folder)
    metadata = read_json(version / METADATA, EXPORT_AGAIN)
    if not metadata.get("train"):
        raise InputError(f"{version} does not describe the training data: export the run again (tfmtl2r export)")
    columns = {name: spec["feature"] for name, spec in metadata["inputs"].items()}
    lines = [f"{columns[name]}: the table has no such column" for name in metadata["train"]
             if name in columns and columns[name] not in table.columns]
    return lines + worth_a_look(of_table(table, metadata["train"], columns), metadata["train"], "the training data")
