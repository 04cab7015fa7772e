"""Compute scores of the rows of a table with a served model."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from tfmtl2r.errors import InputError
from tfmtl2r.writing import written


@dataclasses.dataclass(frozen=True)
class Client:
    """Sends a table to a model behind TensorFlow Serving and writes the scores, in the order of the rows.

    Args:
        model: name of the model on the server.
        table: a .csv, .csv.gz or .parquet file with a row per item.
        list_id: the column with the id of each row's list; leave it out for a model of plain rows.
        to: a .csv or .parquet file for the scores; by default they are printed as CSV.
        target: for example localhost:8500 for gRPC, http://localhost:8501 for REST.
        signature: name of the signature.
        version: a version number or a label; by default the newest version.
        timeout: maximum seconds for a response.
        batch_size: lists (or rows) per request.
        tasks: names of the tasks, if they are more than letters, digits and underscores: the columns then have them.
        separator: what splits a cell of text that is a list; by default each column decides.
        times: columns with dates or times and the unit of their features, as in when=s.
        export: folder of the export, whose description of the training data the table is compared with; what differs
            is printed.
    """

    model: Annotated[str, tyro.conf.Positional]
    table: Annotated[str, tyro.conf.Positional]
    list_id: str = ""
    to: str = ""
    target: str = "localhost:8500"
    signature: str = "serving_default"
    version: str = ""
    timeout: float = 5.0
    batch_size: int = 64
    tasks: tuple[str, ...] = ()
    separator: str = ""
    times: tuple[str, ...] = ()
    export: str = ""


def main(arguments: Sequence[str]) -> int:
    """Calls the server and writes a table of the list id and the outputs."""
    options = tyro.cli(Client, args=arguments, prog="tfmtl2r client")
    if options.to and not options.to.endswith((".csv", ".parquet")):
        raise InputError(f"--to must be a file that ends in .csv or .parquet, not {options.to!r}")
    from tfmtl2r.data.frame import read_lists
    from tfmtl2r.serving import client
    from tfmtl2r.serving.outside import outside

    version = int(options.version) if options.version.isdigit() else options.version or None
    with client.Client(options.target, options.model, version=version, timeout=options.timeout,
                       tasks=options.tasks) as served:
        lists = read_lists([options.table], options.list_id or None, separator=options.separator)
        for line in outside(options.export, lists) if options.export else ():
            print(f"unlike the training data: {line}", file=sys.stderr)
        answer = served.predict_frame(lists, signature=options.signature, batch_size=options.batch_size,
                                      times=dict(entry.rpartition("=")[::2] for entry in options.times))
    if options.list_id:
        answer.insert(0, options.list_id, lists.in_order_of_rows(lists.identities(options.list_id)))
    if not options.to:
        answer.to_csv(sys.stdout, index=False)
        return 0
    with written(options.to) as path:
        answer.to_parquet(path, index=False) if path.suffix == ".parquet" else answer.to_csv(path, index=False)
    print(f"{len(answer)} rows scored: {Path(options.to)}")
    return 0
