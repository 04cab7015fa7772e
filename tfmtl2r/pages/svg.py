"""Parts of drawings: scales, lines, and the attributes that give colours and tooltips."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

COLOURS = 10


class Scale:
    """Maps a value to a coordinate on the page."""

    def __init__(self, low: float, high: float, start: float, end: float, room: float = 0.06):
        spread = (high - low) or abs(high) or 1.0
        self.low, self.high = low - room * spread, high + room * spread
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.end) / 2
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_of(ends: Sequence[float], name: str, hint: str = "") -> str:
    """A line between two points, with a class and a tooltip."""
    places = " ".join(f'{key}="{end:.1f}"' for key, end in zip(("x1", "y1", "x2", "y2"), ends, strict=True))
    return f"<line{class_of(name)}{tip_of(hint)} {places}/>\n"


def colour_of(i: int) -> str:
    """The class with the colour of group i."""
    return f"g{i % COLOURS}"


def class_of(names: str) -> str:
    """The attribute with these classes; empty without any."""
    return f' class="{names}"' if names else ""


def tip_of(text: str) -> str:
    """The attribute with this tooltip; empty without text."""
    return f' data-tip="{escape(text)}"' if text else ""
