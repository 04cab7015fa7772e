"""Parse LETOR files into a cache and report on their quality, or on tables and the data of an experiment file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from tfmtl2r.commands._options import parse
from tfmtl2r.errors import InputError

if TYPE_CHECKING:
    from tfmtl2r.data.quality import QualityReport
    from tfmtl2r.datasets.base import DataSet
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.features.base import Feature
    from tfmtl2r.schema import Schema

_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Parses LETOR/SVMlight files, stores the parsed form in a cache, and prints a report of their contents.

    Of an experiment file, it prints what each column of the data becomes, a report of the training split, what differs
    in the other splits, and the memory, parameters and steps to expect.
    With --to, it makes a store of an experiment file's own files instead, from which train reads in little memory.
    Of tables (.csv, .csv.gz, .parquet), it prints what each column would become as a feature.

    Args:
        paths: files (.txt, .gz, .bz2), folders with .txt[.gz|.bz2] files, tables, or one experiment file (.toml).
        cache_dir: folder for the parsed form; give the same folder to the data set.
        sort: sort rows so that the rows of a query are adjacent.
        group: files with the number of rows of each list, one file per path, for rows without qid.
        on_error: stop at the first malformed row, or skip and count malformed rows.
        num_features: number of features per row; by default the highest id in the file.
        zero_based: feature ids start at 0; by default at 1.
        comments: report on the key = value pairs in comments, too.
        to: folder of the store to make; set data.files to it for the training. An interrupted preparation continues.
        shard_items: a shard of the store ends with the list that reaches this number of items; 131072 by default.
        on: with --to, where the rows of tables are sorted into lists: local, or ray for a Ray cluster. The store is the
            same.
    """

    paths: Annotated[tuple[str, ...], tyro.conf.Positional]
    cache_dir: str = ".cache/tfmtl2r"
    sort: bool = False
    group: tuple[str, ...] = ()
    on_error: Literal["raise", "skip"] = "raise"
    num_features: int | None = None
    zero_based: bool | None = None
    comments: bool = False
    to: str | None = None
    shard_items: int | None = None
    on: Literal["local", "ray"] = "local"


def main(arguments: Sequence[str]) -> None:
    """Parses and prints a report for each file."""
    options = tyro.cli(Prepare, args=arguments, prog="tfmtl2r prepare")
    if any(path.endswith(".toml") for path in options.paths):
        store = Prepare(options.paths[:1], to=options.to, shard_items=options.shard_items, on=options.on)
        if options != (store if options.to else Prepare(options.paths[:1])):
            raise InputError("an experiment file is prepared alone and without flags but --to, --shard-items and --on: "
                             "tfmtl2r prepare experiment.toml [--to FOLDER [--shard-items N] [--on ray]]")
        if options.to is None:
            _experiment(options.paths[0])
        else:
            _store(options.paths[0], options.to, options.shard_items, options.on)
        return
    if options.to is not None or options.shard_items is not None or options.on != "local":
        raise InputError("--to makes a store of the data of an experiment file: tfmtl2r prepare experiment.toml --to "
                         "FOLDER")
    from tfmtl2r.data.frame import SUFFIXES
    from tfmtl2r.data.letor import expand

    if not options.paths:
        raise InputError("no file was given; usage: tfmtl2r prepare PATH...")
    tables = [path for path in options.paths if path.endswith(SUFFIXES)]
    for table in tables:
        _show_columns(table)
    files = expand(path for path in options.paths if path not in tables)
    if options.group and len(options.group) != len(files):
        raise InputError(f"{len(options.group)} group files were given for {len(files)} files; give one for each")
    for file, group in zip(files, options.group or [None] * len(files), strict=True):
        _prepare(file, group, options)


def _show_columns(path: str) -> None:
    from tfmtl2r.data.fit import described
    from tfmtl2r.data.frame import read_lists

    rows = read_lists([path])
    print(f"{path}: {rows.num_items} rows; the columns that nobody declares or leaves out become")
    for name, becomes in described(rows).items():
        print(f"  {name}: {becomes}")


def _prepare(file: Path, group: str | None, options: Prepare) -> None:
    from tfmtl2r.data.letor import LetorOptions, read_letor_with_report
    from tfmtl2r.data.quality import data_report

    letor = LetorOptions(group, options.on_error, options.sort, options.num_features, options.zero_based,
                         options.comments)
    lists, report = read_letor_with_report(file, letor, options.cache_dir)
    print(f"{file}: {report.rows} rows, {lists.num_lists} lists, {report.num_features} features")
    print(f"  {'parsed form, from an earlier run' if report.from_cache else 'parsed form'}: {report.cache_file}")
    if report.skipped:
        print(f"  left out {report.skipped} malformed rows:")
        for problem in report.problems:
            print(f"    {problem}")
    _print_report(describe(data_report(lists)))


def _store(path: str, to: str, shard_items: int | None, on: str) -> None:
    """Makes a store of an experiment's files."""
    from tfmtl2r.commands.train import COMMAND
    from tfmtl2r.experiment import Experiment

    experiment = Experiment.of(parse(COMMAND, [path])[0])
    dataset = experiment.dataset()
    if experiment.data.name is not None:
        raise InputError("prepare --to makes a store of files of your own (data.files, or data.train, vali and test), "
                         f"not of the data set {experiment.data.name!r}")
    items: dict[str, Any] = {} if shard_items is None else {"shard_items": shard_items}
    manifest = dataset.to_store(to, experiment.select(dataset), on=on, **items)
    print(f"{to}: the store is whole; train from it with --data.files {to}")
    for feature in manifest.schema.features:
        print(f"  {feature.name}: {described(feature)}")
    for split, about in manifest.content["splits"].items():
        size = f"{about['lists']} rows" if about["is_rows"] else f"{about['lists']} lists, {about['items']} items"
        stored = sum(one["bytes"] for one in about["files"])
        print(f"  {split} split: {size} in {len(about['shards'])} shards, {_size(stored)}")


def _experiment(path: str) -> None:
    """Prints what each column of an experiment's training split becomes, and a report of the split."""
    from tfmtl2r.commands.train import COMMAND
    from tfmtl2r.data.leaks import history_leaks, single_columns
    from tfmtl2r.data.quality import data_report
    from tfmtl2r.data.targets import fit_tasks
    from tfmtl2r.experiment import Experiment

    experiment = Experiment.of(parse(COMMAND, [path])[0])
    dataset = experiment.dataset()
    lists = dataset.lists("train")
    tasks = fit_tasks(lists, experiment.select(dataset))
    schema = dataset.schema(tasks)
    dataset.check(tasks, schema)
    print(f"{path}: {lists.num_items} items in the training split")
    for feature in schema.features:
        print(f"  {feature.name}: {described(feature)}")
    labels = list(dict.fromkeys(task.label for task in tasks))
    read = {column for feature in schema.features for column in feature.columns}
    rest = [name for name in lists.columns if name not in {*read, *labels, lists.list_id}]
    print(f"  left out: {', '.join(rest) or 'nothing'}")
    report = data_report(lists, labels, single_columns(lists, schema))
    _print_report([*describe(report), *history_leaks(lists, schema, labels)])
    for line in (*_splits(dataset, schema), *_cost(experiment, dataset)):
        print(line)


def _splits(dataset: DataSet, schema: Schema) -> Iterator[str]:
    """What is in each split, and how it differs from the training split."""
    from tfmtl2r.data.contents import contents, worth_a_look

    train = contents(dataset.lists("train"), schema)
    ids = dataset.lists("train").ids
    known = np.empty(0) if ids is None else ids
    for split in dataset.splits:
        lists, about = dataset.lists(split), dataset.about(split)
        size = f"{lists.num_items} items" if lists.is_rows else f"{lists.num_lists} lists, {lists.num_items} items"
        times = f", from {about['first_time']} to {about['last_time']}" if about else ""
        yield f"{split} split: {size}{times}"
        if split == "train":
            continue
        if lists.ids is not None and (both := int(np.isin(lists.ids, known).sum())):
            yield f"  {both} of its lists have the id of a list of train"
        for line in worth_a_look(contents(lists, schema, train), train):
            yield f"  {line}"


def _cost(experiment: Experiment, dataset: DataSet) -> Iterator[str]:
    """Memory, parameters and steps to expect."""
    from tfmtl2r.data.columns import feature_values

    model = experiment.model(dataset)
    schema, train, training = model.architecture.schema, dataset.lists("train"), experiment.training
    inputs = sum(values.nbytes for feature in schema.features for values in feature_values(train, feature).values())
    weights = model.architecture.trainable_variables
    count = sum(math.prod(weight.shape) for weight in weights)
    steps = -(-train.num_lists // (training.batch_size * (training.accumulate or 1)))
    yield f"cost: {_size(inputs)} of inputs in train; {steps} steps per epoch, {training.epochs} epochs"
    yield f"      {count} parameters, {_size(3 * 4 * count)} with the moments of the optimizer"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def described(feature: Feature) -> str:
    """What a feature is: its kind, place, width, and the options that are no defaults.

    >>> from tfmtl2r import Category
    >>> described(Category("brand", vocabulary=tuple("abcdef"), context=True))
    'category of the list, 5 wide; vocabulary: 6 values'
    """
    from tfmtl2r.schema import KINDS

    changed = []
    for field in dataclasses.fields(feature):  # type: ignore[arg-type]
        value = getattr(feature, field.name)
        if field.name not in ("name", "context") and value != field.default:
            changed.append(f"{field.name}: {_shown(value)}")
    place = "of the list" if feature.context else "of the item"
    return "; ".join([f"{KINDS.name_of(type(feature))} {place}, {feature.width} wide", *changed])


def _shown(value: Any) -> str:
    """A value with four digits; a tuple without its brackets, and as a count if it is long.

    >>> _shown((48.18639291465379,)), _shown("log1p"), _shown(3)
    ('48.19', 'log1p', '3')
    >>> _shown(((1.5, 2.5), tuple(range(400))))  # such as the quantiles of two copies of a feature
    '1.5, 2.5, 400 values'
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple) and len(value) > _SHOWN:
        return f"{len(value)} values"
    return ", ".join(map(_shown, value)) if isinstance(value, tuple) else str(value)


def describe(report: QualityReport) -> list[str]:
    """A :class:`tfmtl2r.data.quality.QualityReport` as lines of text."""
    lines = []
    if report.lengths:
        lines.append(f"items per list: {_pairs(report.lengths)}")
    for label, histogram in report.labels.items():
        negative = report.negative_labels[label]
        more = f", and {negative} negative, which is missing for binary and graded tasks" if negative else ""
        lines.append(f"{label}: {_pairs(histogram)}; missing: {report.missing_labels[label]}{more}")
        if report.empty_lists.get(label):
            lines.append(f"{label}: {report.empty_lists[label]} of {report.num_lists} lists have no label above 0")
    lines.append(f"constant features: {', '.join(report.constant) or 'none'}")
    lines.append(f"duplicate rows within a list: {report.duplicates}")
    return [*lines, *map(str, report.leaks)]


def _print_report(lines: Iterable[str]) -> None:
    lines = list(lines)
    none = [] if any(line.startswith("SUSPECTED LEAK") for line in lines) else ["suspected leaks: none"]
    for line in (*lines, *none):
        print(f"  {line}")


def _pairs(values: dict[str, float]) -> str:
    return ", ".join(f"{name}: {value:g}" for name, value in values.items())
