"""UCI Census-Income (KDD): people in the 1994 and 1995 population surveys, as plain rows with pairs of binary tasks."""

from __future__ import annotations

import dataclasses
import gzip
import zlib
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.csv

from tfmtl2r.data.lists import Lists
from tfmtl2r.datasets.base import DataSet
from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.features.base import Feature
from tfmtl2r.features.category import Category
from tfmtl2r.features.dense import Dense
from tfmtl2r.registry import Card
from tfmtl2r.settings import FilePath
from tfmtl2r.task import Task

CARD = Card(
    title="Census-Income KDD (your own copy)",
    paper="UCI Machine Learning Repository, 2000, https://doi.org/10.24432/C5N30T; pairs of tasks: Ma et al., MMoE, "
    "KDD 2018, https://doi.org/10.1145/3219819.3220007",
    note="CC BY 4.0; 199,523 training rows and an official test file, 40 attributes, no lists. Good for comparing "
    "multi-task architectures on plain rows (MMoE's benchmark). Pitfalls: the household columns almost reveal "
    "never_married (AUC .995), so differences are in the fourth digit; only 6 % earn more than 50K; a fifth of "
    "the rows occurs more than once; instance_weight is not an attribute and is dropped",
)
__all__ = ["CensusIncome"]

SOURCE = (
    "get census-income.data.gz and census-income.test.gz from "
    "https://archive.ics.uci.edu/dataset/117/census+income+kdd and put them into this folder"
)
STEMS = {"train": ("census-income.data",), "test": ("census-income.test", "census-income.test.dev")}
COLUMNS = (
    "age", "class_of_worker", "industry_code", "occupation_code", "education", "wage_per_hour", "enrolled", "marital",
    "major_industry", "major_occupation", "race", "hispanic_origin", "sex", "union_member", "unemployment_reason",
    "employment_stat", "capital_gains", "capital_losses", "dividends", "tax_filer", "previous_region",
    "previous_state", "household_detail", "household_summary", "instance_weight", "migration_msa", "migration_region",
    "migration_within_region", "same_house", "previous_sunbelt", "num_employer_persons", "family_under_18",
    "father_country", "mother_country", "self_country", "citizenship", "own_business", "veterans_questionnaire",
    "veterans_benefits", "weeks_worked", "year", "income_band",
)  # fmt: skip
PLAIN = ("age", "num_employer_persons", "weeks_worked")
SKEWED = ("wage_per_hour", "capital_gains", "capital_losses", "dividends")
BANDS = ("- 50000", "50000+")
COLLEGE = (
    "Some college but no degree", "Associates degree-occup /vocational", "Associates degree-academic program",
    "Bachelors degree(BA AB BS)", "Masters degree(MA MS MEng MEd MBA)", "Doctorate degree(PhD EdD)",
    "Prof school degree (MD DDS DVM LLB JD)",
)  # fmt: skip
OWN_COLUMN = {"income": "income_band", "never_married": "marital", "college": "education"}
GROUPS = {"income_married": ("income", "never_married"), "education_married": ("college", "never_married")}


@dataclasses.dataclass(frozen=True)
class CensusIncome(DataSet):
    """People with their attributes and two binary tasks, as plain rows.

    The tasks are ``income`` (more than 50,000 dollars), ``never_married`` and ``college`` (at least some college). The
    columns from which the labels of a group are made are no inputs of that group. In ``education_married``, the income
    is an input. The split ``vali`` is drawn from the training file.

    Args:
        path: a folder with ``census-income.data`` and ``census-income.test`` (or ``.test.dev``), plain or as ``.gz``.
        group: ``income_married`` or ``education_married``.
        embed_numbers: use every number also as a category. Amounts and weeks repeat (there are only 132 different
            capital gains), and their effect on the labels has steps that a network hardly learns from numbers.
        vali_share: share of the training file that becomes ``vali``.
        seed: seed of this draw.

    Raises:
        ValueError: for a missing path, an unknown group, or a share that is not between 0 and 1.

    >>> [task.name for task in CensusIncome("census", group="education_married").tasks()]
    ['college', 'never_married']
    """

    path: FilePath = ""
    group: str = "income_married"
    embed_numbers: bool = False
    vali_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.path:
            raise InputError(f"path is empty: set it to the folder with the census files; {SOURCE}")
        if self.group not in GROUPS:
            raise InputError(f"group must be one of {', '.join(GROUPS)}, not {self.group!r}")
        if not 0 < self.vali_share < 1:
            raise InputError(f"vali_share must be between 0 and 1, not {self.vali_share}")
        if self.seed < 0:
            raise InputError(f"seed must be 0 or more, not {self.seed}")

    def tasks(self) -> tuple[Task, ...]:
        """The two tasks of the group."""
        return tuple(Task(name, kind="binary", loss="bce", metrics=("auc", "log_loss")) for name in GROUPS[self.group])

    def features(self) -> tuple[str | Feature, ...]:
        """Three plain numbers, four skewed ones, and categories."""
        own = self.exclude()
        numbers = {**{name: Dense(name) for name in PLAIN}, **{name: Dense(name, transform="log1p") for name in SKEWED}}
        names = (name for name in COLUMNS if name not in own and name != "instance_weight")
        values = (Category(f"{name}_value", dim=8, dtype="int64") for name in numbers if self.embed_numbers)
        return (*(numbers.get(name, Category(name)) for name in names), *values)

    def exclude(self) -> tuple[str, ...]:
        """The columns from which the labels are made."""
        return tuple(OWN_COLUMN[name] for name in GROUPS[self.group])

    def read(self, split: str) -> Lists:
        if split == "test":
            return self._lists(self._file("test"))
        if "rows" not in self._cache:
            self._cache["rows"] = self._lists(self._file("train"))
        rows = self._cache["rows"]
        vali = np.random.default_rng(self.seed).random(rows.num_items) < self.vali_share
        if vali.all() or not vali.any():
            raise InputError(f"{self._file('train')}: {len(vali)} rows cannot be split by vali_share={self.vali_share}")
        return rows.select(vali if split == "vali" else ~vali)

    def _file(self, split: str) -> Path:
        files = [Path(self.path) / f"{stem}{end}" for stem in STEMS[split] for end in (".gz", "")]
        found = [file for file in files if file.is_file()]
        if not found:
            raise MissingFileError(f"{self.path}: expected {STEMS[split][0]}[.gz], found none; {SOURCE}")
        return found[0]

    def _lists(self, path: Path) -> Lists:
        table = _table(path)
        texts = {name: _text(table[name]) for name in COLUMNS if name not in (*PLAIN, *SKEWED, "instance_weight")}
        numbers = {name: _number(table[name], name, path) for name in (*PLAIN, *SKEWED)}
        texts["income_band"] = np.array([band.rstrip(".") for band in texts["income_band"]], object)
        odd = ~np.isin(texts["income_band"], BANDS)
        if odd.any():
            raise InputError(f"{path}: row {int(odd.argmax())} (counted from 0): expected '- 50000.' or '50000+.' as "
                             f"the last cell, got {texts['income_band'][odd][0]!r}; this is not the UCI file")
        columns = {name: (texts | numbers)[name] for name in COLUMNS if name != "instance_weight"}
        labels = {
            "income": texts["income_band"] == BANDS[1],
            "never_married": texts["marital"] == "Never married",
            "college": np.isin(texts["education"], COLLEGE),
        }
        chosen = {name: labels[name].astype(np.float32) for name in GROUPS[self.group]}
        values = {f"{name}_value": numbers[name].astype(np.int64) for name in numbers if self.embed_numbers}
        return Lists({**columns, **values, **chosen})


def _table(path: Path) -> pyarrow.Table:
    """Reads the file as text cells. Every row must have 42 cells."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return pyarrow.csv.read_csv(
            pyarrow.BufferReader(content),
            read_options=pyarrow.csv.ReadOptions(column_names=list(COLUMNS), use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(COLUMNS, pyarrow.string()), strings_can_be_null=False
            ),
        )
    except (pyarrow.ArrowInvalid, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read (rows are counted from 1): {error}; expected the UCI file with "
                         f"{len(COLUMNS)} cells per row, get it again") from error


def _text(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Cells without leading and trailing blanks; ``?`` becomes an empty cell. Equal cells share one string object."""
    coded = pyarrow.compute.utf8_trim_whitespace(column).combine_chunks().dictionary_encode()
    words = np.array(["" if word == "?" else word for word in coded.dictionary.to_pylist()], object)
    return words[coded.indices.to_numpy()]


def _number(column: pyarrow.ChunkedArray, name: str, path: Path) -> np.ndarray:
    cells = pyarrow.compute.utf8_trim_whitespace(column)
    try:
        return cells.cast(pyarrow.float64()).to_numpy()
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: column {name!r} must contain numbers: {error}; this is not the UCI file") from error
