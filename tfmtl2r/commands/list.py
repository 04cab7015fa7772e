"""List methods, losses, metrics, architectures, data sets, features, transforms, calibrators, blends, presets, ..."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfmtl2r.constructors import Option, required
from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean
from tfmtl2r.settings.help import help_of

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
    """Lists all names with one line each, all things of a kind, or what there is to know about one name.

    Only the table of methods, with their needs and costs, and the page of one name load TensorFlow.

    Args:
        what: methods, losses, metrics, architectures, datasets, (kinds of) features, (label) transforms, calibrators,
            blends, penalties, baselines or presets; or a name, such as cagrad; by default all names.
        markdown: print Markdown tables.
        summary: print one Markdown table with names only.
    """

    what: Annotated[str, tyro.conf.Positional] = "all"
    markdown: bool = False
    summary: bool = False


def main(arguments: Sequence[str]) -> None:
    """Prints the names, the table of a kind, or the page of a name."""
    options = tyro.cli(List, args=arguments, prog="tfmtl2r list")
    if options.summary:
        print(summary())
    elif options.what == "all" and not options.markdown:
        show_names()
    elif options.what in ("all", *PACKAGES):
        for kind in PACKAGES if options.what == "all" else [options.what]:
            show_kind(kind, PACKAGES[kind], options.markdown, detailed=kind == options.what)
    else:
        show_thing(options.what)


def show_kind(kind: str, package: str, as_markdown: bool, detailed: bool) -> None:
    """Prints the table of a kind; for methods also with needs and costs, if ``detailed``."""
    if kind == "methods" and detailed:
        print(methods_markdown()) if as_markdown else show_methods()
    else:
        print(markdown(kind, cards(package))) if as_markdown else show(kind, package, cards(package))


def show_names() -> None:
    """Prints every name with its title, a line each."""
    console = Console(highlight=False)
    for kind, package in PACKAGES.items():
        rows = cards(package)
        console.print(f"{kind} ({len(rows)})", style="italic")
        widest = max((len(row[0]) for row in rows), default=0)
        for name, also, title, _ in rows:
            origin = came_from(package, name)
            more = [f"also {also}"] * bool(also) + [origin] * (origin != "built-in")
            rest = f"  {title} ({', '.join(more)})" if more else f"  {title}"
            line = Text.assemble("  ", (name.ljust(widest), "bold"), rest)
            console.print(line, no_wrap=True, overflow="ellipsis")
    console.print("\ntfmtl2r list KIND shows sources, promises and costs; tfmtl2r list NAME explains one thing.")


def show_thing(name: str) -> None:
    """Prints title, source, promises, docstring and options of the things with a name or alias, one for each kind.

    Raises:
        InputError: for an unknown name; the message contains the most similar names.
    """
    registries = {kind: importlib.import_module(package).registry for kind, package in PACKAGES.items()}
    known = {kind: {*registry.names(), *registry.aliases()} for kind, registry in registries.items()}
    found = [kind for kind, names in known.items() if name in names]
    if not found:
        hint = did_you_mean(name, [*PACKAGES, *set().union(*known.values())])
        raise InputError(f"kind must be one of {', '.join(PACKAGES)}, or the name of a thing, not {name!r}{hint}")
    console = Console(highlight=False)
    for kind in found:
        registry = registries[kind]
        canonical, card, thing = registry.resolve(name), registry.card(name), registry.constructor(name)
        console.print(Text.assemble((canonical, "bold"), f" ({kind}): {card.title}"))
        facts = {"also": ", ".join(card.aliases), "note": card.note, "source": card.paper,
                 "promises": ", ".join(card.promises).replace("_", " "), "from": came_from(PACKAGES[kind], canonical)}
        about = Table.grid("", "", padding=(0, 2))
        for label, fact in facts.items():
            if fact:
                about.add_row(f"  {label}", Text(fact, overflow="fold"))
        console.print(about)
        console.print(Text(f"\n{_explained(thing)}\n"))
        _show_options(console, registry.options(canonical), help_of(thing), required(thing, ()))


def _explained(thing: Any) -> str:
    """A docstring down to its first section or doctest."""
    text = inspect.getdoc(thing) or ""
    return re.split(r"\n+(?:Args:|Raises:|Returns:|Attributes:|>>> )", text)[0].replace("``", "").strip()


def _show_options(
    console: Console, options: Sequence[Option], texts: Mapping[str, str], needed: Collection[str]
) -> None:
    table = Table.grid("", "", padding=(0, 2))
    for option in options:
        default = "(required)" if option.name in needed else f"= {option.default!r}"
        table.add_row(Text(f"  {option.name} {default}", overflow="fold"), texts.get(option.name, ""))
    console.print("options" if options else "no options", style="italic")
    console.print(table)


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
    """The methods as a Markdown table."""
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
