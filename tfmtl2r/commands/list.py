"""List methods, losses, metrics, architectures, data sets, features, transforms, calibrators, blends, presets, ..."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfmtl2r.errors import InputError

if TYPE_CHECKING:
    from tfmtl2r.methods import Method

PACKAGES = {
    "methods": "tfmtl2r.methods",
    "losses": "tfmtl2r.losses",
    "metrics": "tfmtl2r.metrics",
    "architectures": "tfmtl2r.architectures",
    "datasets": "tfmtl2r.datasets",
    "features": "tfmtl2r.features",
    "transforms": "tfmtl2r.transforms",
    "calibrators": "tfmtl2r.calibrators",
    "blends": "tfmtl2r.blends",
    "penalties": "tfmtl2r.penalties",
    "baselines": "tfmtl2r.baselines",
    "presets": "tfmtl2r.presets",
}


@dataclasses.dataclass(frozen=True)
class List:
    """Lists all registered things. Only the table of methods, with their needs and costs, loads TensorFlow.

    Args:
        kind: methods, losses, metrics, architectures, datasets, (kinds of) features, (label) transforms, calibrators,
            blends, penalties, baselines or presets; by default all.
        markdown: print Markdown tables.
        summary: print the Markdown table of the README, with names only.
    """

    kind: Annotated[str, tyro.conf.Positional] = "all"
    markdown: bool = False
    summary: bool = False


def main(arguments: Sequence[str]) -> None:
    """Prints one table per kind."""
    options = tyro.cli(List, args=arguments, prog="tfmtl2r list")
    if options.kind not in ("all", *PACKAGES):
        raise InputError(f"kind must be one of {', '.join(PACKAGES)}, not {options.kind!r}")
    if options.summary:
        print(summary())
        return
    for kind, package in PACKAGES.items():
        if options.kind in ("all", kind):
            if kind == options.kind == "methods":
                print(methods_markdown()) if options.markdown else show_methods()
                continue
            rows = cards(package)
            print(markdown(kind, rows)) if options.markdown else show(kind, package, rows)


METHOD_COLUMNS = ("name", "also", "what it is", "needs", "gradients", "costs", "promises", "source")


def show_methods() -> None:
    """Prints the methods with their needs and costs, a paragraph for each, since a table would be too wide.

    This builds each method, and therefore loads TensorFlow.
    """
    rows, console = method_rows(), Console(highlight=False)
    console.print(f"methods ({len(rows)})", style="italic")
    for name, also, title, *facts in rows:
        console.print(Text.assemble((name, "bold"), f" ({also})" if also else "", f": {title}"))
        about = Table.grid("", "", padding=(0, 2))
        facts.append(came_from("tfmtl2r.methods", name))
        for label, fact in zip((*METHOD_COLUMNS[3:], "from"), facts, strict=True):
            if fact:
                about.add_row(f"  {label}", Text(fact, overflow="fold"))
        console.print(about)


def methods_markdown() -> str:
    """The methods as the Markdown table of the README."""
    lines = [f"| {' | '.join(METHOD_COLUMNS)} |", "| --- " * len(METHOD_COLUMNS) + "|"]
    for name, *middle, paper in method_rows():
        lines.append(f"| `{name}` | {' | '.join(middle)} | {linked(paper)} |")
    return "\n".join(lines)


def method_rows() -> list[tuple[str, ...]]:
    """One row per method, in the order of ``METHOD_COLUMNS``."""
    from tfmtl2r import methods

    rows: list[tuple[str, ...]] = []
    for name in methods.names():
        card, method = methods.card(name), methods.get(name)
        modes = ", ".join(method.modes) if method.needs & {"gram", "rows"} else "-"
        rows.append((name, ", ".join(card.aliases), card.title, ", ".join(sorted(method.needs)) or "losses", modes,
                     cost(method), ", ".join(card.promises).replace("_", " "), card.paper))
    return rows


def linked(paper: str) -> str:
    """``Authors year, address`` as a Markdown link. Several sources are separated by semicolons."""
    return re.sub(r"([^;]+?), (https?://[^\s;]+)", r"[\1](\2)", paper).replace("[ ", " [")


def cost(method: Method) -> str:
    """The cost of a step beyond a plain step, in passes through the network, for T tasks."""
    parts = []
    if "features" in method.modes and "gram" in method.needs:
        parts.append("features: 1 pass")
    if method.needs & {"gram", "rows"}:
        halves = " for each half of the batch" if "second_batch" in method.needs else ""
        parts.append(f"parameters: T backward passes{halves}" + (", [T, P] rows" if "rows" in method.needs else ""))
    if "losses_after" in method.needs:
        parts.append("one more forward pass")
    return "; ".join(parts) or "a plain step"


def summary() -> str:
    """All names as a Markdown table."""
    rows = [
        f"| {kind} | {', '.join(f'`{name}`' for name in importlib.import_module(package).registry.names())} |"
        for kind, package in PACKAGES.items()
    ]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def cards(package: str) -> list[tuple[str, str, str, str]]:
    """Name, aliases, title and source of everything in a package."""
    registry = importlib.import_module(package).registry
    rows = []
    for name in registry.names():
        card = registry.card(name)
        rows.append((name, ", ".join(card.aliases), card.title, card.paper))
    return rows


def markdown(kind: str, rows: list[tuple[str, str, str, str]]) -> str:
    """A Markdown table."""
    lines = [f"| {kind} | also | what it is | source |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | {also} | {title} | {paper} |" for name, also, title, paper in rows), ""])


def came_from(package: str, name: str) -> str:
    """The origin of a thing: built-in, an installed package with its version, or a file."""
    origin = importlib.import_module(package).registry.origin(name)
    return origin.kind if origin.kind == "built-in" else str(origin)


def show(kind: str, package: str, rows: list[tuple[str, str, str, str]]) -> None:
    """Prints a table."""
    table = Table(title=f"{kind} ({len(rows)})", title_justify="left")
    for column in ("name", "also", "what it is", "source", "from"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        table.add_row(*row, came_from(package, row[0]))
    Console().print(table)
