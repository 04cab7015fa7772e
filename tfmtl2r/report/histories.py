"""Whole histories of arrays in TensorBoard's files, for the page ``tfmtl2r`` of TensorBoard.

TensorBoard keeps only some points of a series. A history is therefore one tensor, which is written again after every
epoch: the last one contains all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import tf

PLUGIN = "tfmtl2r"
MOST = 256
"""A history of more points loses every second one."""


class History:
    """Values of an array at some steps.

    Args:
        kind: what the page draws: "matrix", "rates", "shares", "gates" or "lines".
        labels: the label of every place on every axis.
        unit: what is counted, "step" or "epoch".

    >>> history = History("shares", [["click", "like"]])
    >>> history.add(10, np.array([0.25, 0.75]))
    >>> history.tensor().tolist()
    [[10.0, 0.25, 0.75]]
    """

    def __init__(self, kind: str, labels: list[list[str]], unit: str = "step"):
        self.about: dict[str, Any] = {"kind": kind, "labels": labels, "unit": unit}
        self._rows: list[np.ndarray] = []
        self._stride, self._seen = 1, 0

    def add(self, step: int, values: np.ndarray) -> None:
        """Adds the values of a step."""
        if self._seen % self._stride == 0:
            self._rows.append(np.concatenate([[step], np.ravel(values)]).astype(np.float32))
        self._seen += 1
        if len(self._rows) > MOST:
            self._rows, self._stride = self._rows[::2], 2 * self._stride

    def tensor(self) -> np.ndarray:
        """A row for each kept step: the step, then the values."""
        return np.stack(self._rows)


class Histories:
    """The histories of one run, by their tags."""

    def __init__(self) -> None:
        self._all: dict[str, History] = {}

    def add(
        self, tag: str, step: int, values: np.ndarray, kind: str, labels: list[list[str]], unit: str = "step",
    ) -> None:
        """Adds the values of a step, or of an epoch, to the history of a tag."""
        self._all.setdefault(tag, History(kind, labels, unit)).add(step, values)

    def last(self) -> Iterator[tuple[str, np.ndarray, list[list[str]]]]:
        """Tag, last values and labels of every history of cosines or gates."""
        for tag, history in self._all.items():
            labels = history.about["labels"]
            if history.about["kind"] in ("matrix", "gates"):
                yield tag, history.tensor()[-1, 1:].reshape(*map(len, labels)), labels

    def write(self, step: int) -> None:
        """Writes all histories to the writer whose context is open."""
        for tag, history in self._all.items():
            write(tag, step, history.tensor(), history.about)


def write(tag: str, step: int, values: np.ndarray, about: Mapping[str, Any]) -> None:
    """Writes a tensor and what it is, for the page."""
    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data={"plugin_name": PLUGIN, "content": json.dumps(about).encode()},
        data_class=_TENSOR)
    tf.summary.write(f"{PLUGIN}/{tag}", values, step=step, metadata=metadata)


_TENSOR: Any = 2
"""``DATA_CLASS_TENSOR`` of TensorBoard's records."""
