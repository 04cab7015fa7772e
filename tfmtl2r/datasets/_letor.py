"""Base classes of data sets in LETOR's format: they find and read the file of a split, and normalise the features."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from tfmtl2r.data.letor import read_letor
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.normalise import DEFAULT, checked_recipes, normalised
from tfmtl2r.datasets._tfds import read_tfds
from tfmtl2r.datasets.base import DataSet
from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.features.dense import Dense
from tfmtl2r.settings import FilePath

SUFFIXES = (".txt", ".txt.gz", ".txt.bz2")
STEMS = {"train": ("train", "trainingset"), "vali": ("vali", "validationset"), "test": ("test", "testset")}


@dataclasses.dataclass(frozen=True)
class LetorFolder(DataSet):
    """A data set in a folder with train, vali and test files, or in folders ``Fold1`` to ``Fold5`` of such files.

    Class attributes:
        num_features: number of features per row.
        comments: whether to read the ``key = value`` pairs after ``#``.
        clip: largest magnitude of a feature; larger values are clipped. None does not clip.
        source: where to get the files; part of error messages.
    """

    num_features: ClassVar[int] = 0
    comments: ClassVar[bool] = False
    clip: ClassVar[float | None] = None
    source: ClassVar[str] = ""

    path: FilePath = ""
    fold: int = 1
    normalise: str | tuple[str, ...] = DEFAULT
    cache_dir: FilePath = ""
    within_list: bool = False
    steps: Any = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not self.path:
            raise InputError(f"path is empty: set it to the folder with the files train, vali and test; {self.source}")
        self._check_options()

    def _check_options(self) -> None:
        recipes = checked_recipes(self.normalise)
        object.__setattr__(self, "normalise", recipes if len(recipes) > 1 else recipes[0])
        Dense("features", within_list=self.within_list, steps=self.steps, noise=self.noise)  # checks the options
        if not 1 <= self.fold <= 5:
            raise InputError(f"fold must be 1 to 5, not {self.fold}")

    def features(self) -> tuple[Dense, ...]:
        """The feature vector, normalised by ``normalise``, with the other inputs that are chosen."""
        return (normalised(self.lists("train"), self.normalise, within_list=self.within_list, steps=self.steps,
                           noise=self.noise),)

    def file(self, split: str) -> Path:
        """The file of a split.

        Raises:
            FileNotFoundError: when there is no such file or more than one; the message contains ``source``.
        """
        folder = Path(self.path) / f"Fold{self.fold}"
        if not folder.is_dir():
            folder = Path(self.path)
            if self.fold != 1:
                raise MissingFileError(f"{folder}: there is no folder Fold{self.fold}; leave out fold if the "
                                        "files are in the folder itself")
        files = [folder / f"{stem}{suffix}" for stem in STEMS[split] for suffix in SUFFIXES]
        found = [file for file in files if file.is_file()]
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise MissingFileError(f"{folder}: expected one file {split}{{{','.join(SUFFIXES)}}}, found {names}; "
                                    f"{self.source}")
        return found[0]

    def _letor(self, split: str) -> Lists:
        """The split as in its file, without further processing."""
        return read_letor(self.file(split), num_features=self.num_features, zero_based=False, comments=self.comments,
                          cache_dir=self.cache_dir or None, clip=self.clip)


@dataclasses.dataclass(frozen=True)
class LetorOrTfds(LetorFolder):
    """A :class:`LetorFolder`, or a data set that tensorflow-datasets has prepared.

    Class attributes:
        tfds_name: name of the data set in tensorflow-datasets, without its configuration.
    """

    tfds_name: ClassVar[str] = ""

    tfds: str = ""

    def __post_init__(self) -> None:
        if self.tfds and self.path:
            raise InputError("set either path or tfds (a configuration of tensorflow-datasets), not both")
        if self.tfds:
            self._check_options()
        else:
            super().__post_init__()

    def _split(self, split: str) -> Lists:
        """The split from its file or from tensorflow-datasets, without further processing."""
        return read_tfds(f"{self.tfds_name}/{self.tfds}", split, self.clip) if self.tfds else self._letor(split)
