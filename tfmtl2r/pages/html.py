"""Reports as one self-contained HTML file: sortable tables, and fronts with details about every point.

The file opens without network. Its Content-Security-Policy forbids the browser to load anything, and to run any script
except the script in the file. Names of runs therefore cannot inject code.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.resources
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from tfmtl2r.errors import InputError
from tfmtl2r.pages.bars import Bars, drawn_bars
from tfmtl2r.pages.svg import COLOURS, Scale, class_of, colour_of, line_of, tip_of
from tfmtl2r.writing import write_text

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 480, 78, 24, 26, 52
_LIGHT = "--page: #fff; --ink: #1d2126; --line: #cfd4da; --lit: #eaf1fb; --good: #1a7f37; --bad: #b42318;"
_DARK = "--page: #15181c; --ink: #e3e6ea; --line: #3b424a; --lit: #25303e; --good: #5fc77d; --bad: #ff8a7a;"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: text of the column's head.
        direction: ``"max"`` or ``"min"``; the best value is bold and comes first when sorted. Empty marks no best.
        digits: number of decimal places.
        hint: tooltip of the head.
    """

    name: str
    direction: str = ""
    digits: int = 4
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        value: text or a number; None or NaN leaves the cell empty.
        hint: tooltip of the cell.
        mark: ``"+"`` or ``"-"``, shown after the number.
    """

    value: str | float | None
    hint: str = ""
    mark: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that is sorted by a click on a column's head.

    Args:
        title: title of the table.
        columns: columns of the table.
        rows: rows with one cell per column.
        keys: for each row, the key of its points; row and points are highlighted together.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    keys: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Point:
    """A run in objective space.

    Args:
        values: ``[T]``.
        group: group of the run, for example its method.
        hint: tooltip of the point.
        key: key of the table row that belongs to the point.
        pale: whether another point dominates this point.
    """

    values: Sequence[float]
    group: str
    hint: str
    key: str = ""
    pale: bool = False


@dataclasses.dataclass(frozen=True)
class Front:
    """Runs in objective space: a plane for two objectives, else parallel axes with the best values at the top.

    Args:
        title: title of the figure.
        labels: labels of the objectives.
        maximise: for each objective, whether it is maximised.
        points: the runs.
        corners: group -> ``[M, 2]``, corners of the boundary of the attained region; only for two objectives.
        single: architecture -> values of single-task training, drawn as lines; None for unknown values.
    """

    title: str
    labels: Sequence[str]
    maximise: Sequence[bool]
    points: Sequence[Point]
    corners: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    single: Mapping[str, Sequence[float | None]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report.

    Args:
        title: its heading.
        text: paragraphs.
        parts: tables, fronts and bars.
    """

    title: str
    text: Sequence[str] = ()
    parts: Sequence[Table | Front | Bars] = ()


def write_html(path: str | Path, title: str, sections: Sequence[Section], note: str = "") -> Path:
    """Writes a report as one self-contained file.

    Args:
        path: the file to write; its folder is created.
        title: title of the page.
        sections: sections in order. Markup in texts is escaped.
        note: text at the bottom of the page.

    Raises:
        ValueError: when a row has another number of cells than there are columns, or a point does not have one finite
            value per objective.
    """
    return write_text(path, page(title, sections, note))


def page(title: str, sections: Sequence[Section], note: str = "") -> str:
    """Returns the HTML text that :func:`write_html` writes.

    >>> made = page("a <b> c", [Section("s", ["x < y"], [Table("t", [Column("loss", "min")], [[Cell(0.25)]])])])
    >>> "<h1>a &lt;b&gt; c</h1>" in made, "<p>x &lt; y</p>" in made, 'data-v="0.25">0.2500</td>' in made
    (True, True, True)
    """
    style = (f":root {{ color-scheme: light; {_LIGHT} }}\n:root[data-theme=dark] {{ color-scheme: dark; {_DARK} }}\n"
             f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ color-scheme: dark; {_DARK} }} "
             f"}}\n{_asset('page.css')}")
    script = _asset("page.js")
    policy = f"default-src 'none'; style-src {_fingerprint(style)}; script-src {_fingerprint(script)}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1><button id="theme" type="button">light / dark</button></header>\n'
        f'{"".join(map(_section, sections))}<footer>{escape(note)}</footer>\n'
        '<div id="tip" role="tooltip" hidden></div>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    text = "".join(f"<p>{escape(line)}</p>\n" for line in section.text)
    parts = "".join(map(_part, section.parts))
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{text}{parts}</section>\n"


def _part(part: Table | Front | Bars) -> str:
    if isinstance(part, Bars):
        return drawn_bars(part)
    return _table(part) if isinstance(part, Table) else _figure(part)


def _table(table: Table) -> str:
    for row in table.rows:
        if len(row) != len(table.columns):
            raise InputError(f"table {table.title!r} has {len(table.columns)} columns, but a row of {len(row)} cells")
    values = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    numeric = [any(_is_number(cell.value) for cell in column) for column in values]
    best = [_best(column, cells) for column, cells in zip(table.columns, values, strict=True)]
    heads = "".join(
        f'<th scope="col" data-first="{"descending" if column.direction == "max" else "ascending"}"'
        f'{class_of("number" if number else "")}{tip_of(column.hint)}><button type="button">{escape(column.name)}'
        "</button></th>" for column, number in zip(table.columns, numeric, strict=True)
    )
    rows = []
    for i, row in enumerate(table.rows):
        cells = "".join(_cell(cell, table.columns[j], numeric[j], best[j]) for j, cell in enumerate(row))
        key = f' data-key="{escape(table.keys[i])}"' if table.keys else ""
        rows.append(f"<tr{key}>{cells}</tr>\n")
    return (f'<h3>{escape(table.title)}</h3>\n<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n'
            f'<tbody>\n{"".join(rows)}</tbody>\n</table></div>\n')


def _cell(cell: Cell, column: Column, number: bool, best: float | None) -> str:
    value = cell.value
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    if missing:
        shown = full = ""
    elif _is_number(value):
        assert isinstance(value, (int, float))
        shown, full = f"{value:.{column.digits}f}" if isinstance(value, float) else str(value), repr(value)
    else:
        shown = full = str(value)
    mark = {"+": ' <span class="good">+</span>', "-": ' <span class="bad">−</span>'}.get(cell.mark, "")
    names = " ".join(name for name, on in (("number", number), ("best", not missing and value == best)) if on)
    return f'<td{class_of(names)}{tip_of(cell.hint)} data-v="{escape(full)}">{escape(shown)}{mark}</td>'


def _best(column: Column, cells: Sequence[Cell]) -> float | None:
    values = [cell.value for cell in cells
              if isinstance(cell.value, (int, float)) and not math.isnan(cell.value)]
    if not column.direction or len(values) < 2:
        return None
    return max(values) if column.direction == "max" else min(values)


def _figure(front: Front) -> str:
    count = len(front.labels)
    for point in front.points:
        if len(point.values) != count or not np.isfinite(point.values).all():
            raise InputError(f"front {front.title!r}: expected {count} finite values, got {list(point.values)} of "
                             f"{point.group!r}")
    groups = list(dict.fromkeys(point.group for point in front.points))
    drawn = (_plane if count == 2 else _parallel)(front, groups) if front.points and count > 1 else ""
    legend = "".join(
        f'<button type="button" data-of="{i}"><svg viewBox="-7 -7 14 14"{class_of(colour_of(i))}>{_marker(i)}</svg> '
        f"{escape(name)}</button>" for i, name in enumerate(groups)
    )
    return (f'<h3>{escape(front.title)}</h3>\n<figure>\n<div class="legend">{legend}</div>\n'
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(front.title)}">\n{drawn}</svg>\n'
            "</figure>\n")


def _plane(front: Front, groups: Sequence[str]) -> str:
    values = np.array([point.values for point in front.points], float)
    places = []
    for axis, (start, end) in enumerate(((_LEFT, _WIDTH - _RIGHT), (_HEIGHT - _BOTTOM, _TOP))):
        lines = [of[axis] for of in front.single.values() if of[axis] is not None]
        seen = [*values[:, axis], *lines]
        places.append(Scale(min(seen), max(seen), start, end))
    x, y = places
    parts = [_ticks(x, y, front)]
    for name, of in front.single.items():
        for axis, value in enumerate(of):
            if value is not None:
                ends = ((x(value), _TOP, x(value), _HEIGHT - _BOTTOM) if axis == 0
                        else (_LEFT, y(value), _WIDTH - _RIGHT, y(value)))
                what = f"single-task{f' {name}' if len(front.single) > 1 else ''} {front.labels[axis]}: {value:.4f}"
                parts.append(line_of(ends, "single", what))
    for name, corners in front.corners.items():
        i = groups.index(name)
        sign = -1 if front.maximise[0] else 1
        path = np.repeat(corners[np.argsort(sign * corners[:, 0])], 2, axis=0)[:-1]
        path[1::2, 0] = path[2::2, 0]
        spots = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in path)
        parts.append(f'<polyline{class_of(f"path {colour_of(i)}")} data-group="{i}" points="{spots}"/>\n')
    for point in sorted(front.points, key=lambda p: not p.pale):
        i = groups.index(point.group)
        name = f"mark {colour_of(i)}" + (" pale" if point.pale else "")
        parts.append(f'<g transform="translate({x(point.values[0]):.1f} {y(point.values[1]):.1f})" data-group="{i}">'
                     f"{_marker(i, name, point)}</g>\n")
    return "".join(parts)


def _parallel(front: Front, groups: Sequence[str]) -> str:
    values = np.array([point.values for point in front.points], float)
    count = values.shape[1]
    across = np.linspace(_LEFT, _WIDTH - _LEFT, count)
    scales = [
        Scale(*((low, high) if up else (high, low)), _HEIGHT - _BOTTOM, _TOP + 18, room=0.0)
        for low, high, up in zip(values.min(axis=0), values.max(axis=0), front.maximise, strict=True)
    ]
    parts = []
    for i, (place, scale) in enumerate(zip(across, scales, strict=True)):
        parts.append(line_of((place, _TOP + 18, place, _HEIGHT - _BOTTOM), "axis"))
        for text, height in ((f"{scale.high:.4g}", _TOP + 10), (f"{scale.low:.4g}", _HEIGHT - _BOTTOM + 16),
                             (front.labels[i], _HEIGHT - 14)):
            parts.append(f'<text x="{place:.1f}" y="{height}" text-anchor="middle">{escape(text)}</text>\n')
    for point in sorted(front.points, key=lambda p: not p.pale):
        i = groups.index(point.group)
        spots = " ".join(f"{a:.1f},{scale(v):.1f}" for a, scale, v in zip(across, scales, point.values, strict=True))
        name = f"path {colour_of(i)}" + (" pale" if point.pale else "")
        parts.append(f'<polyline{class_of(name)} data-group="{i}"{_about(point)} points="{spots}"/>\n')
    return "".join(parts)


def _ticks(x: Scale, y: Scale, front: Front) -> str:
    base, left = _HEIGHT - _BOTTOM, _LEFT
    parts = [line_of((left, base, _WIDTH - _RIGHT, base), "axis"), line_of((left, _TOP, left, base), "axis")]
    for scale, across in ((x, True), (y, False)):
        found = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(scale.low, scale.high)
        ticks = [float(tick) for tick in found if scale.low <= tick <= scale.high]
        digits = max(0, -math.floor(math.log10(min(np.diff(ticks))))) if len(ticks) > 1 else 4
        for tick in ticks:
            text = f"{tick:.{digits}f}"
            if across:
                parts.append(line_of((x(tick), base, x(tick), base + 5), "axis"))
                parts.append(f'<text x="{x(tick):.1f}" y="{base + 19}" text-anchor="middle">{text}</text>\n')
            else:
                parts.append(line_of((left - 5, y(tick), left, y(tick)), "axis"))
                parts.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{text}</text>\n')
    names = [f"{label}, {'large' if up else 'small'} is good"
             for label, up in zip(front.labels, front.maximise, strict=True)]
    parts.append(f'<text x="{(left + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">'
                 f"{escape(names[0])}</text>\n")
    parts.append(f'<text transform="translate(16 {(_TOP + base) / 2}) rotate(-90)" text-anchor="middle">'
                 f"{escape(names[1])}</text>\n")
    return "".join(parts)


def _marker(i: int, name: str = "mark", point: Point | None = None) -> str:
    about = _about(point) if point else ""
    shapes = ('<circle r="5"', '<rect x="-4.5" y="-4.5" width="9" height="9"', '<path d="M0 -5.5 L5.5 4.5 L-5.5 4.5 Z"',
              '<path d="M0 -6 L6 0 L0 6 L-6 0 Z"', '<path d="M0 5.5 L5.5 -4.5 L-5.5 -4.5 Z"')
    return f"{shapes[i // COLOURS % len(shapes)]}{class_of(name)}{about}/>"


def _about(point: Point) -> str:
    key = f' data-key="{escape(point.key)}"' if point.key else ""
    return f'{tip_of(point.hint)}{key} tabindex="0" aria-label="{escape(point.hint)}"'


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _asset(name: str) -> str:
    return importlib.resources.files("tfmtl2r.pages").joinpath(name).read_text(encoding="utf-8")


def _fingerprint(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
