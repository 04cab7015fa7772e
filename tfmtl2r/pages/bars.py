"""Horizontal bars with intervals, a group of bars for each row."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from html import escape

from matplotlib.ticker import MaxNLocator

from tfmtl2r.errors import InputError
from tfmtl2r.pages.svg import Scale, class_of, colour_of, line_of, tip_of

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 210, 24, 10, 46
_BAR, _GAP = 11, 9
_LONGEST = 28


@dataclasses.dataclass(frozen=True)
class Bar:
    """One bar.

    Args:
        value: its length.
        half: half of its interval; NaN draws no interval.
        hint: its tooltip.
    """

    value: float
    half: float = math.nan
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Bars:
    """A group of bars for each row, one bar per series.

    Args:
        title: title of the figure.
        label: label of the axis.
        series: names of the series, one colour each.
        rows: name of each row, with one bar per series.
    """

    title: str
    label: str
    series: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Bar]]]


def drawn_bars(bars: Bars) -> str:
    """The figure as HTML."""
    for name, row in bars.rows:
        if len(row) != len(bars.series) or not all(math.isfinite(bar.value) for bar in row):
            raise InputError(f"bars {bars.title!r}: row {name!r} needs {len(bars.series)} finite values")
    legend = "".join(
        f'<button type="button" data-of="{i}"><svg viewBox="-7 -7 14 14"{class_of(colour_of(i))}>'
        f'<rect x="-5" y="-5" width="10" height="10" class="mark"/></svg> {escape(name)}</button>'
        for i, name in enumerate(bars.series))
    tall = len(bars.series) * _BAR + _GAP
    bottom = _TOP + len(bars.rows) * tall
    ends = [bar.value + side * (0 if math.isnan(bar.half) else bar.half)
            for _, row in bars.rows for bar in row for side in (-1, 1)]
    scale = Scale(min(0.0, *ends), max(0.0, *ends), _LEFT, _WIDTH - _RIGHT, room=0.02) if ends else None
    parts = [] if scale is None else [_axis(scale, bottom, bars.label)]
    for place, (name, row) in enumerate(bars.rows):
        assert scale is not None
        parts.append(_row(scale, name, row, _TOP + place * tall, tall - _GAP))
    return (f'<h3>{escape(bars.title)}</h3>\n<figure>\n<div class="legend">{legend}</div>\n'
            f'<svg viewBox="0 0 {_WIDTH} {bottom + _BOTTOM}" role="img" aria-label="{escape(bars.title)}">\n'
            f"{''.join(parts)}</svg>\n</figure>\n")


def _axis(scale: Scale, bottom: float, label: str) -> str:
    """Ticks at the bottom, a line at 0, and the label."""
    parts = [line_of((_LEFT, bottom, _WIDTH - _RIGHT, bottom), "axis")]
    found = [float(tick) for tick in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(scale.low, scale.high)]
    ticks = [tick for tick in found if scale.low <= tick <= scale.high]
    step = min((b - a for a, b in itertools.pairwise(ticks)), default=1.0)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    for tick in ticks:
        parts.append(line_of((scale(tick), _TOP, scale(tick), bottom + 5), "axis"))
        parts.append(f'<text x="{scale(tick):.1f}" y="{bottom + 19}" text-anchor="middle">{tick:.{digits}f}</text>\n')
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{bottom + 38}" text-anchor="middle">{escape(label)}'
                 "</text>\n")
    return "".join(parts)


def _row(scale: Scale, name: str, row: Sequence[Bar], top: float, tall: float) -> str:
    """The name of a row, its bars and their intervals."""
    short = name if len(name) <= _LONGEST else f"{name[:_LONGEST - 1]}\u2026"
    parts = [f'<text x="{_LEFT - 8}" y="{top + tall / 2 + 4:.1f}" text-anchor="end"{tip_of(name)}>{escape(short)}'
             "</text>\n"]
    for i, bar in enumerate(row):
        start, end = sorted((scale(0.0), scale(bar.value)))
        height = top + i * _BAR
        parts.append(f'<rect x="{start:.1f}" y="{height + 1:.1f}" width="{max(end - start, 0.5):.1f}" '
                     f'height="{_BAR - 2}"{class_of(f"mark {colour_of(i)}")} data-group="{i}"{tip_of(bar.hint)} '
                     f'tabindex="0" aria-label="{escape(bar.hint)}"/>\n')
        if not math.isnan(bar.half):
            middle = height + _BAR / 2
            ends = scale(bar.value - bar.half), scale(bar.value + bar.half)
            parts.append(f'<g data-group="{i}">{line_of((ends[0], middle, ends[1], middle), "whisker")}</g>')
    return "".join(parts)
