"""Scores files of any size with a trained run or an export, and writes the scores beside the ids of lists and items."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from tfmtl2r.features import Time
from tfmtl2r.reading import read_json
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.identity import MODEL
from tfmtl2r.runs.places import CARD
from tfmtl2r.schema import Schema
from tfmtl2r.serving.answers import Answers, own_names
from tfmtl2r.serving.blend import Blend, of_config, resolved
from tfmtl2r.serving.check import EXPORT_AGAIN, METADATA
from tfmtl2r.serving.client import Client
from tfmtl2r.serving.load import load
from tfmtl2r.serving.versions import SAVED_MODEL, latest, numbers
from tfmtl2r.settings import Settings
from tfmtl2r.training.blending import check_usable, facts_of
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.writing import written

ENDINGS = (".parquet", ".csv")


def score_files(
    folder: str | Path, files: str | Sequence[str], to: str | Path, *, columns: Sequence[str] | None = (),
    list_id: str = "", batch_size: int = 256, rows: int = ROWS,
) -> int:
    """Scores the rows of files with a ranker, in bounded memory, and writes the scores in the order of the rows.

    The files are read as those of the training: the same kind, list id, separator and features. They need no labels.
    The written columns are the ids of list and item, ``score_<task>``, ``score`` (the run's blend, ``export.blend``; by
    default weighted by its preference), ``value_<task>``, ``probability_<task>`` and ``uncertainty_<task>``.

    Args:
        folder: folder of a run, a ``.keras`` file, or the folder of an export (its newest version) or of a version. Of
            a ``.keras`` file, and of an export that was not made of a run, only the features are known.
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
    with contextlib.closing(_open(Path(folder), batch_size)) as opened:
        return _written(opened, files, to, columns, list_id, rows)


def _written(
    opened: _Opened, files: str | Sequence[str], to: str | Path, columns: Sequence[str] | None, list_id: str, rows: int
) -> int:
    """Scores the files, writes the scores, and returns the number of rows."""
    reading, ids = _reading(opened.about, files, list_id)
    paths = expanded(files, reading.kind)[1]
    keep = None if columns is None else tuple(dict.fromkeys([*ids, *columns]))
    tables = _scored(opened.scores, chunks(paths, reading, keep, rows))
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
    scored: Callable[[Lists], Mapping[str, np.ndarray]], pieces: Iterable[tuple[pyarrow.Table, Lists]]
) -> Iterator[pyarrow.Table]:
    """The kept columns of each piece, and the scores."""
    for kept, lists in pieces:
        scores = scored(lists)
        if twice := sorted(set(kept.column_names) & set(scores)):
            raise InputError(f"the column {twice[0]!r} of the files has the name of a score: rename it, or leave it "
                             "out of the columns")
        for name, values in scores.items():
            kept = kept.append_column(name, pyarrow.array(values))
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
    chosen = resolved(model, blend)
    check_usable(chosen.made, facts_of(model, not lists.is_rows), not lists.is_rows)
    answers = Answers.of(model, chosen, not lists.is_rows)
    own = own_names(task.name for task in model.tasks)
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
    return {own.get(name, name): np.concatenate(found) for name, found in parts.items()}


def how_to_read(card: RunCard, schema: Schema) -> dict[str, Any]:
    """How files are read for a run, as plain data, which an export's metadata contain.

    Args:
        card: the run card.
        schema: the fitted features.
    """
    data, train = card.config["data"], card.data.get("train", {})
    wanted = {column for feature in schema.features for column in feature.columns}
    named = [name for name in _named(card) if component(name) or name in wanted]
    wide = [feature for feature in schema.features if feature.name == LETOR_FEATURES]
    taken = sum((component(name) or ("",))[0] == LETOR_FEATURES for name in named)
    return {
        "what": f"run {card.name!r}", "data_set": data.get("name") or "", "kind": data.get("kind"),
        "list_id": data.get("list_id", ""), "item_id": data.get("item_id", ""),
        "separator": data.get("separator", ""), "named": named, "lists": train.get("num_lists") is not None,
        "width": math.prod(wide[0].raw[LETOR_FEATURES].shape) + taken if wide else None,
        "zero_based": bool(train.get("zero_based")), "times": _times(schema),
    }


def _times(schema: Schema) -> dict[str, str]:
    """The unit of each column of times."""
    return {column: one.unit or "s" for one in schema.features if isinstance(one, Time) for column in one.columns}


def _without_card(model: MultiTaskRanker, path: Path) -> dict[str, Any]:
    """How files are read for a saved ranker, of which nothing is known but its features."""
    schema: Any = model.architecture.schema
    return {"what": str(path), "lists": model.has_lists is not False, "times": _times(schema), "named": []}


def _reading(about: Mapping[str, Any], files: str | Sequence[str], list_id: str) -> tuple[Reading, list[str]]:
    """How the files are read, and the columns of ids of lists and items.

    Args:
        about: the result of :func:`how_to_read`.
        files: the files.
        list_id: the column with the ids of lists, if it differs from that of the training.
    """
    kind, what = expanded(files, about.get("kind") or None)[0], about["what"]
    if kind == "letor" and (about.get("data_set") or "data_set" not in about):
        raise InputError(f"{what} was trained on the data set {about.get('data_set', '?')!r}, which makes labels of "
                         "features, clips or drops some of them: its text files cannot be scored as they are; score a "
                         f"table with the column {LETOR_FEATURES!r} as the run knows it")
    list_id = list_id or about.get("list_id", "")
    if not about["lists"]:
        if list_id:
            raise InputError(f"{what} ranks plain rows without lists: leave the list id out")
    elif not list_id and kind == "table":
        raise InputError(f"{what} ranks lists, and its data set has no list id of its own: name the column "
                         "with the id of each row's list (list_id, --list-id)")
    reading = Reading(kind, list_id or None, (), about.get("separator", ""), tuple(about["named"]),
                      about.get("width") if kind == "letor" else None, bool(about.get("zero_based")))
    ids = [list_id or (LETOR_LIST if kind == "letor" else ""), about.get("item_id", "")]
    return reading, [name for name in ids if name]


def _named(card: RunCard) -> tuple[str, ...]:
    """The columns that the run's own files must have."""
    if card.config["data"].get("name"):
        return ()
    table: Any = datasets.get("table", **Settings.of(card.config).table())
    return tuple(table.reading("table").named)


def is_model(path: str | Path) -> bool:
    """Whether a path is a ``.keras`` file, or the folder of an export or of one of its versions."""
    path = Path(path)
    return (path.is_file() and path.suffix == ".keras") or (path / SAVED_MODEL).is_file() or bool(numbers(path))


class _Opened(NamedTuple):
    """What scores lists, in the order of their rows, and how their files are read."""

    scores: Callable[[Lists], Mapping[str, np.ndarray]]
    about: Mapping[str, Any]
    close: Callable[[], None] = lambda: None


def _open(path: Path, batch_size: int) -> _Opened:
    """Opens a run, a ``.keras`` file or an export."""
    if is_model(path) and path.is_dir() and not (path / CARD).is_file():
        return _export(latest(path), batch_size)
    card = None if path.is_file() else RunCard.load(path)
    ranker: Any = load(path if card is None else path / MODEL)
    schema = ranker.architecture.schema
    blend = None if card is None else of_config(card.config, card.blend)

    def scores(lists: Lists) -> dict[str, np.ndarray]:
        found = item_scores(ranker, lists, batch_size, blend)
        return {name: lists.in_order_of_rows(values) for name, values in found.items()}

    return _Opened(scores, _without_card(ranker, path) if card is None else how_to_read(card, schema))


def _export(version: Path, batch_size: int) -> _Opened:
    metadata = read_json(version / METADATA, EXPORT_AGAIN)
    tasks = [task["name"] for task in metadata["tasks"]]
    about = {"what": str(version), "lists": metadata["lists"], "named": [], "times": {}, **metadata.get("files", {})}
    client = Client(str(version), "export", tasks=tasks)
    order = [*(f"score_{task}" for task in tasks), "score",
             *(f"{kind}_{task}" for kind in ("value", "probability") for task in tasks)]

    def scores(lists: Lists) -> dict[str, np.ndarray]:
        frame = client.predict_frame(lists, batch_size=batch_size, separator=about.get("separator", ""),
                                     times=about["times"])
        names = [*(name for name in order if name in frame), *(str(name) for name in frame if name not in order)]
        return {name: frame[name].to_numpy() for name in names}

    return _Opened(scores, about, client.close)
