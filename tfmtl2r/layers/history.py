"""The layers of one history: its table, the layers of its side columns, a transformer, and attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmtl2r._backend import keras


class History(keras.layers.Layer):
    """Holds layers as attributes, so that files store their weights under the history's name.

    Args:
        table: the embedding table; None if the history shares the table of another feature.
        sides: name of a side column -> its layer.
        transformer: a layer over the rows; None for none.
        attention: a layer that weighs the rows for a candidate; None for another pooling.

    Attributes:
        by_side: the layers in ``sides``.
    """

    def __init__(
        self, table: Any, sides: Mapping[str, Any], transformer: Any = None, attention: Any = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.table, self.transformer, self.attention = table, transformer, attention
        for number, layer in enumerate(sides.values()):
            setattr(self, f"side_{number}", layer)
        self._sides = tuple(sides)
        self.built = True

    @property
    def by_side(self) -> dict[str, Any]:
        """The layers of the side columns, by name of the column."""
        return {name: getattr(self, f"side_{number}") for number, name in enumerate(self._sides)}
