"""The sections of an experiment about its data: files, splits and features.

The help of a key on the command line is its entry under ``Args``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Self

from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean
from tfmtl2r.rules import checked_rules
from tfmtl2r.schema import KINDS
from tfmtl2r.settings.values import FilePath, Section, SettingError, key

Files = FilePath | tuple[FilePath, ...]
Transforms = Literal["zscore", "log1p", "signed_log1p", "quantile_clip", "rank_gauss"]


@dataclasses.dataclass(frozen=True)
class Split(Section):
    """The division of one table into the splits train, vali and test.

    Args:
        by: "list" divides by a hash of the list id (of the row number for plain rows), so that a list is always in the
            same split; "time" takes the latest lists, by data.time, for the test, and the latest others for validation.
        vali: share of the lists for validation.
        test: share of the lists for the test.
        seed: seed of the hash, for by = "list"; another seed gives another division.
    """

    identity: ClassVar[str] = "by"

    by: Literal["list", "time"] = key("list")
    vali: float = key(0.1, least=0)
    test: float = key(0.2, least=0)
    seed: int | None = key()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by == "time" and self.seed is not None:
            raise SettingError(["seed"], "does nothing for by = 'time', which draws nothing: leave it out")
        if not self.vali + self.test < 1:
            raise SettingError([], f"must leave lists to train on: vali {self.vali} + test {self.test} is not below 1")


@dataclasses.dataclass(frozen=True)
class Fold(Section):
    """One fold of all lists, in place of the splits: those of train, vali and test are put together and divided anew.

    tfmtl2r cross-validate trains all folds.

    Args:
        number: the number of the fold, from 0, whose lists are the test split.
        folds: the number of folds.
        seed: seed of the hash that divides the lists by their ids; another seed gives another division.
        vali: share of the other lists for validation.
    """

    identity: ClassVar[str] = "number"

    number: int = key(0, least=0)
    folds: int = key(5, least=2)
    seed: int = key(0, least=0)
    vali: float = key(0.1, above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.number >= self.folds:
            raise SettingError(["number"], f"must be below the number of folds, {self.folds}, not {self.number}")
        if not self.vali < 1:
            raise SettingError(["vali"], f"must leave lists to train on: a share below 1, not {self.vali}")


@dataclasses.dataclass(frozen=True)
class Data(Section):
    """The data of an experiment: a registered data set by name, or files of your own.

    Args:
        name: a registered data set (tfmtl2r list datasets); its options are keys beside the name. The default without
            name and files is kuairand_excerpt, which is part of the package.
        tasks: names of the tasks to train; by default all entries of [[tasks]], without entries the data set's default
            tasks.
        files: your own files: a file, a list of files, a pattern such as logs/*.csv, or a folder. If a folder contains
            files called train, vali and test, these are the three splits.
        train: files of the training split, in place of files.
        vali: files of the validation split.
        test: files of the test split.
        kind: "table" (.parquet, .csv, .tsv), "letor" (LETOR/SVMlight text) or "elwc" (TFRecords of
            ExampleListWithContext or tf.Example); by default the ending of the files decides. "store" is a folder that
            tfmtl2r prepare --to has made, and is recognised by itself. LETOR files have the
            columns label, qid, features, and one for each key = value in their comments; features[3] is the third
            feature, as a label or among leave_out.
        separator: what splits a cell of text that is a list, such as "|"; by default each column decides.
        list_id: the column with the id of each row's list; without it, the table has plain rows without lists.
        item_id: the column with the id of each row's item, which tfmtl2r score keeps; no feature, unless [[features]]
            names it.
        context: columns with one value per list, such as features of the user.
        time: the column with the time of each row, for split = {by = "time"}; no feature, unless [[features]] names it.
        split: how the files are divided, such as {by = "list", vali = 0.1, test = 0.2}.
        cross_validation: one fold of all lists in place of the splits, such as {number = 0, folds = 5, seed = 0,
            vali = 0.1}; for a registered data set, too. tfmtl2r cross-validate sets it.
        leave_out: columns that are not features, such as ids, the place in the list, and feedback that is not a label.
        only_where: the rows to read, such as {column = "duration", above = 0} (is, is_not, in, above, below), or a list
            of such rules that must all hold; for a registered data set, too. These columns are features only if
            [[features]] or the data set names them.
        max_list_size: longer training lists are cut to this number of items.
        truncate: the items that a cut list keeps: the first items or random items.
    """

    name: Any = key(registry="tfmtl2r.datasets", shown="own")
    tasks: tuple[str, ...] | None = key(axis=True)
    files: Files | None = key(shown="own")
    train: Files | None = key(shown="own")
    vali: Files | None = key(shown="own")
    test: Files | None = key(shown="own")
    kind: Literal["table", "letor", "elwc", "store"] | None = key(shown="own")
    separator: str | None = key(shown="own")
    list_id: str | None = key(shown="own")
    item_id: str | None = key(shown="own")
    context: tuple[str, ...] | None = key(shown="own")
    time: str | None = key(shown="own")
    split: Split | None = key(shown="own")
    cross_validation: Fold | None = key(shown="own", flag=False, axis=True)
    leave_out: tuple[str, ...] | None = key(shown="own")
    only_where: Any = key()
    max_list_size: int | None = key(least=1)
    truncate: Literal["first", "random"] = key("first")
    options: Mapping[str, Any] = key(dict, shown="own", flag=False)

    own_table: ClassVar[tuple[str, ...]] = ("files", "train", "vali", "test", "kind", "separator", "list_id", "item_id",
                                            "context", "time", "split", "leave_out")
    beside_name: ClassVar[tuple[str, ...]] = ("name", "tasks", "cross_validation", "only_where", "max_list_size",
                                              "truncate")
    places: ClassVar[tuple[tuple[str, ...], ...]] = (("name",), ("files",), ("train", "vali", "test"))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("files", *self.places[-1]):
            if isinstance(place := getattr(self, name), tuple) and len(place) == 1:  # a flag gives a list
                object.__setattr__(self, name, place[0])
        table = [name for name in self.own_table if getattr(self, name) is not None]
        if self.name is None and not table:
            object.__setattr__(self, "name", "kuairand_excerpt")
        if self.name is not None and table:
            raise SettingError([table[0]], f"is only for files of your own, but the data set {self.name!r} is given, "
                               "too: leave one of them out")
        if self.name is None and self.options:
            raise SettingError([next(iter(self.options))], f"is not a key"
                               f"{did_you_mean(next(iter(self.options)), [f.name for f in dataclasses.fields(self)])}")
        try:
            checked_rules(self.only_where)
        except InputError as error:
            raise SettingError(["only_where"], f"cannot be used: {error}") from error
        if self.name is None and (self.files is None) == (self.train is None):
            raise SettingError([], "must have exactly one of these: name (a registered data set), files, or train "
                               "(with vali and test)")
        self._check_table()

    def _check_table(self) -> None:
        if self.kind == "store" and not isinstance(self.files, str):
            raise SettingError(["kind"], "'store' needs files = \"FOLDER\", the store that tfmtl2r prepare --to has "
                               "made")
        if self.split is not None and self.train is not None:
            raise SettingError(["split"], "divides files, but the files of train, vali and test are given: leave one "
                               "of them out")
        if self.split is not None and self.split.by == "time" and self.time is None:
            raise SettingError(["split"], "by time needs the column of the time: set time")

    @classmethod
    def of(cls, value: Any) -> Self:
        """Also accepts a data set. If a name is given, unknown keys are options of the data set."""
        if isinstance(value, cls) or not isinstance(value, Mapping):
            return value if isinstance(value, cls) else cls(name=value)
        if not value.get("name"):
            return super().of(value)
        mine = {name: entry for name, entry in value.items() if name in cls.beside_name}
        rest = {name: entry for name, entry in value.items() if name not in (*cls.beside_name, "options")}
        return cls(**{**mine, "options": {**value.get("options", {}), **rest}})

    @classmethod
    def moved(cls, value: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
        """The section of a file to which some keys will be added, without the places of data that they replace.

        >>> Data.moved({"train": "a.csv", "vali": "b.csv", "test": "c.csv", "list_id": "q"}, ["files"])
        {'list_id': 'q'}
        >>> Data.moved({"name": "synthetic_mslr", "num_lists": 9, "truncate": "random"}, ["files"])
        {'truncate': 'random'}
        >>> Data.moved({"train": "a.csv", "vali": "b.csv", "test": "c.csv"}, ["vali"])
        {'train': 'a.csv', 'vali': 'b.csv', 'test': 'c.csv'}
        """
        new = {key for place in cls.places if {*keys} & {*place} for key in place}
        gone = {key for place in cls.places for key in place} - new if new else set()
        if "train" in new:
            gone.add("split")  # it divides the files that are gone
        known = {*cls.own_table, *cls.beside_name} if "name" in gone & value.keys() else value.keys()
        return {key: entry for key, entry in value.items() if key not in gone and key in known}

    def tree(self) -> dict[str, Any]:
        """Returns the section as plain data, with the data set's options beside its name."""
        found = super().tree()
        options = found.pop("options")
        named = found.pop("name", {})
        return {**(named if isinstance(named, Mapping) else {"name": named}), **options, **found}


@dataclasses.dataclass(frozen=True)
class Feature(Section):
    """A feature of your own table.

    Args:
        name: a column, a list of columns, or "*" for all columns that no other entry names.
        kind: "dense" (a number or a vector), "category", another kind (tfmtl2r list features), or a kind of your own,
            whose options are keys beside the kind; by default the column decides.
        shares: name of another feature with the same ids, whose embedding table this feature uses.
        width: width of an embedding; by default the size of the vocabulary decides.
        vocabulary: the known ids; by default fitted on the training split.
        min_count: ids that occur less often count as unknown.
        hash_buckets: number of hash buckets of ids, in place of a vocabulary.
        hash: keep hashes of ids in place of the ids, so that no file of a run or an export contains them.
        max_length: the number of ids of a bag or a sequence that count.
        pooling: how a bag or a sequence becomes one vector, such as "mean"; a name, or {name = "...", option = value}.
        weights: the column with the weights of a bag.
        side: columns with a value for each id of a sequence, such as time gaps.
        projection: width of a trained linear layer after a vector.
        frozen: whether a vector enters as it is; false trains a linear map of it.
        normalise: divide a vector by its length.
        unit: unit of times that are numbers since 1970.
        zone: time zone of hours and days, such as "Europe/Berlin" or "+05:30"; by default UTC.
        reference: the column with the moment of the request, from which the age of a time is counted.
        missing: add an input that is 1 where the value is missing.
        transform: transform of a number before it is standardised: "zscore" (no transform), "log1p", "signed_log1p",
            "quantile_clip" (bounds at the .001 and .999 quantiles) or "rank_gauss" (normal scores of ranks); a list
            gives several inputs, one for each.
        within_list: add every standardised number again, standardised within its list; scores then depend on the list.
        steps: add step inputs of a number at thresholds: a list of thresholds, a number of quantiles, or
            {from = "lightgbm", number = 512}, the best thresholds of tree models (pip install 'tfmtl2r[baselines]').
        noise: standard deviation of Gaussian noise on a standardised number in training.
    """

    name: str | tuple[str, ...] | None = key()
    kind: str | None = key()
    shares: str | None = key()
    width: int | None = key(least=1)
    vocabulary: tuple[Any, ...] | None = key()
    min_count: int | None = key(least=1)
    hash_buckets: int | None = key(least=1)
    hash: bool | None = key()
    max_length: int | None = key(least=1)
    pooling: Any = key()
    weights: str | None = key()
    side: str | tuple[str, ...] | None = key()
    projection: int | None = key(least=1)
    frozen: bool | None = key()
    normalise: bool | None = key()
    unit: Literal["s", "ms", "us", "ns", "D"] | None = key()
    zone: str | None = key()
    reference: str | None = key()
    missing: bool | None = key()
    transform: Transforms | tuple[Transforms, ...] | None = key()
    within_list: bool | None = key()
    steps: Any = key()
    noise: float | None = key(least=0)
    options: Mapping[str, Any] = key(dict, shown="own", flag=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name:
            raise SettingError(["name"], "is missing: give a column, a list of columns, or \"*\"")
        if self.kind is not None:
            _check_feature_kind(self.kind)

    @classmethod
    def of(cls, value: Any) -> Self:
        """Also accepts keys that only the entry's kind has. They become ``options``."""
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if not isinstance(kind, str):
            return super().of(value)
        _check_feature_kind(kind)  # before the keys, whose meaning depends on the kind
        known = {field.name for field in dataclasses.fields(cls)}
        own = {name: value[name] for name in KINDS.constructor(kind).file_keys if name in value and name not in known}
        rest = {name: entry for name, entry in value.items() if name not in own}
        return super().of({**rest, "options": {**value.get("options", {}), **own}} if own else rest)

    def tree(self) -> dict[str, Any]:
        """Returns the section as plain data, with the kind's own options beside its name."""
        found = super().tree()
        options = found.pop("options")
        return {**found, **options}


def _check_feature_kind(kind: str) -> None:
    names = KINDS.names()
    if kind in names or kind in KINDS.aliases():
        return
    known = ", ".join(map(repr, names))
    raise SettingError(["kind"], f"must be a registered kind of feature ({known}), not {kind!r}"
                       f"{did_you_mean(kind, names)}")
