"""Fields of ``ExampleListWithContext`` records: type, width and place of each feature in the files."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.data.elwc_records import ElwcError, message_of, records
from tfmtl2r.data.lists import missing_column

LOOKED_AT = 100
"""Number of records in which features are searched if no features are named."""
ABSENT = -(2**63)
"""Represents a missing integer between the parser and the columns, since integers have no NaN."""


@dataclasses.dataclass(frozen=True)
class Field:
    """The representation of a feature's input in the file.

    Args:
        kind: ``"float"``, ``"int64"`` or ``"bytes"``.
        missing: the value that replaces a missing integer; None for NaN.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]
    context: bool
    missing: int | None

    @property
    def is_list(self) -> bool:
        """Whether the input is a list of values of any number."""
        return self.shape == (None,)

    @property
    def spec(self) -> Any:
        dtype, missing = {"float": (tf.float32, np.nan), "int64": (tf.int64, ABSENT), "bytes": (tf.string, "")}[
            self.kind
        ]
        if self.is_list:
            return tf.io.VarLenFeature(dtype)
        # A single number is parsed as a vector of length 1, because TF-Ranking requires a known width.
        width = math.prod(size or 1 for size in self.shape)
        return tf.io.FixedLenFeature([width], dtype, default_value=[missing] * width)


class Search:
    """Finds type, width and place of the requested features in the files."""

    def __init__(self, files: list[Path], wanted: dict[str, Any], everything: bool):
        self.files, self.wanted, self.everything = files, wanted, everything
        self.found: dict[str, tuple[str, int, bool]] = {}
        self.widths: dict[str, set[int]] = {}

    def fields(self) -> list[Field]:
        """One field per feature: requested features in order, then the others in alphabetical order."""
        for number, (path, index, record) in enumerate(records(self.files)):
            self._look(message_of(record, path, index))
            if number + 1 >= (LOOKED_AT if self.everything else 1) and self.wanted.keys() <= self.found.keys():
                break
        names = [*self.wanted, *(sorted(self.found.keys() - self.wanted.keys()) if self.everything else ())]
        return [self._field(name) for name in names]

    def _look(self, message: Any) -> None:
        places = [(message.context, True), *((example, False) for example in message.examples)]
        for place, context in places:
            for name, feature in place.features.feature.items():
                kind = feature.WhichOneof("kind")
                width = len(getattr(feature, kind).value) if kind else 0
                self.widths.setdefault(name, set()).add(width)
                if width and name not in self.found:
                    self.found[name] = (kind.removesuffix("_list"), width, context)
            if not self.everything and self.wanted.keys() <= self.found.keys():
                return

    def _field(self, name: str) -> Field:
        where = ", ".join(map(str, self.files))
        if name not in self.found:
            raise ElwcError(missing_column(name, sorted(self.found), f"{where}: no record").replace(
                "has no column", "has a feature").replace("Its columns", "Found"))
        (kind, width, context), feature = self.found[name], self.wanted.get(name)
        values = feature.raw[name] if feature else None
        if feature and feature.context != context:
            place = "the context" if context else "the examples"
            raise ElwcError(f"{where}: feature {name!r} is in {place}: declare it with context={context}")
        if kind == "bytes" and values and values.dtype != "string":
            raise ElwcError(f"{where}: feature {name!r} is text, expected numbers; declare it as text")
        if kind != "bytes" and values and values.dtype == "string":
            raise ElwcError(f"{where}: feature {name!r} has numbers, expected text; declare it with dtype='int64'")
        varies = (kind == "bytes" and width > 1) or len(self.widths[name] - {0}) > 1
        shape = values.shape if values else (None,) if varies else () if width == 1 else (width,)
        return Field(name, kind, shape, context, values.missing if values and values.dtype == "int64" else None)
