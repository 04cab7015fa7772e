"""Scores files of any size with a trained run, and writes the scores beside the ids of lists and items."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from tfmtl2r import datasets
from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE, unpack
from tfmtl2r.data import Lists, batches
from tfmtl2r.data.chunks import ROWS, chunks
from tfmtl2r.data.own_files import LETOR_FEATURES, LETOR_LIST, Reading, component, expanded
from tfmtl2r.errors import InputError
from tfmtl2r.names import safe_name
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.identity import MODEL
from tfmtl2r.schema import Schema
from tfmtl2r.serving.answers import Answers
from tfmtl2r.serving.blend import Blend, of_config, resolved
from tfmtl2r.serving.load import load
from tfmtl2r.settings import Settings
from tfmtl2r.training.blending import check_usable, facts_of
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.writing import written

ENDINGS = (".parquet", ".csv")


def score_files(
    folder: str | Path, files: str | Sequence[str], to: str | Path, *, columns: Sequence[str] | None = (),
    list_id: str = "", batch_size: int = 256, rows: int = ROWS,
) -> int:
    """Scores the rows of files with a run, in bounded memory, and writes the scores in the order of the rows.

    The files are read as those of the training: the same kind, list id, separator and features. They need no labels.
    The written columns are the ids of list and item, ``score_<task>``, ``score`` (the run's blend, ``export.blend``; by
    default weighted by its preference), ``value_<task>`` and ``probability_<task>``.

    Args:
        folder: folder of the run.
        files: a file, a pattern, a folder, or several of them.
        to: a ``.parquet`` or ``.csv`` file, which appears when it is complete.
        columns: further columns of the files to write; None writes all of them.
        list_id: the column with the id of each row's list, if it differs from that of the training.
        batch_size: lists (or rows) per batch.
        rows: rows that are read at a time (:func:`tfmtl2r.data.chunks.chunks`).

    Returns:
        The number of rows.

    Raises:
        FileNotFoundError: for a missing file or run.
        ValueError: for another ending of ``to``, a missing column, a list whose rows are far apart in the files, or a
            column that has the name of a score.
    """
    if not str(to).endswith(ENDINGS):
        raise InputError(f"the scores are written to a file that ends in {' or '.join(ENDINGS)}, not {str(to)!r}")
    card = RunCard.load(folder)
    ranker: Any = load(Path(folder) / MODEL)
    schema = ranker.architecture.schema
    reading, ids = _reading(card, schema, files, list_id)
    paths = expanded(files, reading.kind)[1]
    keep = None if columns is None else tuple(dict.fromkeys([*ids, *columns]))
    tables = _scored(ranker, chunks(paths, reading, keep, rows), batch_size, of_config(card.config))
    first = next(tables)
    kind: Any = pyarrow.parquet.ParquetWriter
    if str(to).endswith(".csv"):
        kind = pyarrow.csv.CSVWriter
        if nested := [field.name for field in first.schema if pyarrow.types.is_nested(field.type)]:
            raise InputError(f"the column {nested[0]!r} contains lists, which a CSV file cannot hold: write to "
                             ".parquet, or leave it out")
    count = 0
    with written(to) as temporary, kind(temporary, first.schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)
            count += len(table)
    return count


def _scored(
    model: MultiTaskRanker, pieces: Iterable[tuple[pyarrow.Table, Lists]], batch_size: int, blend: Blend
) -> Iterator[pyarrow.Table]:
    """The kept columns of each piece, and the scores."""
    for kept, lists in pieces:
        scores = item_scores(model, lists, batch_size, blend)
        if twice := sorted(set(kept.column_names) & set(scores)):
            raise InputError(f"the column {twice[0]!r} of the files has the name of a score: rename it, or leave it "
                             "out of the columns")
        for name, values in scores.items():
            kept = kept.append_column(name, pyarrow.array(lists.in_order_of_rows(values)))
        yield kept


def item_scores(
    model: MultiTaskRanker, lists: Lists, batch_size: int = 256, blend: Blend | None = None
) -> dict[str, np.ndarray]:
    """Everything that an export would answer for each item, under the tasks' own names, each ``[N]``.

    Args:
        model: a trained ranker.
        lists: the items, with the ranker's features.
        batch_size: lists per batch.
        blend: the blend in ``score``; by default the ranker's own, weighted by its preference.
    """
    facts, chosen = facts_of(model, not lists.is_rows), resolved(model, blend)
    check_usable(chosen.made, facts, not lists.is_rows)
    answers = Answers(tuple(model.tasks), chosen, not lists.is_rows, facts.readings, deviations=facts.deviations,
                      constants=facts.constants)
    own = {safe_name(task.name): task.name for task in model.tasks}
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches(lists, (), model.architecture.schema, batch_size=batch_size):
        features, *_ = unpack(batch)
        scores = model.scores(features)
        valid = None
        if LIST_SIZE in features:
            valid = tf.sequence_mask(features[LIST_SIZE], tf.shape(next(iter(scores.values())))[1])
        for name, values in answers.scores(scores, valid, {}).items():
            if name != "valid":
                parts.setdefault(name, []).append(values.numpy() if valid is None else values.numpy()[valid.numpy()])
    return {_own_name(name, own): np.concatenate(found) for name, found in parts.items()}


def _own_name(name: str, own: Mapping[str, str]) -> str:
    """The name of an output with the task's own name."""
    kind, _, task = name.partition("_")
    return f"{kind}_{own[task]}" if task in own else name


def _reading(
    card: RunCard, schema: Schema, files: str | Sequence[str], list_id: str
) -> tuple[Reading, list[str]]:
    """How the files are read, and the columns of ids of lists and items."""
    data = card.config["data"]
    kind = expanded(files, data.get("kind") or None)[0]
    if kind == "letor" and data.get("name"):
        raise InputError(f"run {card.name!r} was trained on the data set {data['name']!r}, which makes labels of "
                         "features, clips or drops some of them: its text files cannot be scored as they are; score a "
                         f"table with the column {LETOR_FEATURES!r} as the run knows it")
    list_id = list_id or data.get("list_id", "")
    if card.data.get("train", {}).get("num_lists") is None:
        if list_id:
            raise InputError(f"run {card.name!r} ranks plain rows without lists: leave the list id out")
    elif not list_id and kind == "table":
        raise InputError(f"run {card.name!r} ranks lists, and its data set has no list id of its own: name the column "
                         "with the id of each row's list (list_id, --list-id)")
    wanted = {column for feature in schema.features for column in feature.columns}
    named = [name for name in _named(card) if component(name) or name in wanted]
    wide = [feature for feature in schema.features if feature.name == LETOR_FEATURES]
    taken = sum((component(name) or ("",))[0] == LETOR_FEATURES for name in named)
    width = math.prod(wide[0].raw[LETOR_FEATURES].shape) + taken if wide else None
    reading = Reading(kind, list_id or None, (), data.get("separator", ""), tuple(named),
                      width if kind == "letor" else None, bool(card.data.get("train", {}).get("zero_based")))
    ids = [list_id or (LETOR_LIST if kind == "letor" else ""), data.get("item_id", "")]
    return reading, [name for name in ids if name]


def _named(card: RunCard) -> tuple[str, ...]:
    """The columns that the run's own files must have."""
    if card.config["data"].get("name"):
        return ()
    table: Any = datasets.get("table", **Settings.of(card.config).table())
    return tuple(table.reading("table").named)

