"""A page for each method and each architecture, and a page for each other kind of part."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

from rst import code, sources, table, title, toctree

from tfmtl2r import architectures, methods
from tfmtl2r.commands.list import PACKAGES, cost
from tfmtl2r.promises import PROMISES
from tfmtl2r.settings.help import help_of

GALLERIES = ("methods", "architectures")
FIGURE = """\
.. figure:: {name}.svg
   :alt: Paths of {name} on two goals from three starting points
   :class: plain

   Two goals, three starting points (dots), Adam with the method's default options. On a thin line, a goal is worth the
   same. On the thick line, no goal can gain without a loss of the other. Diamonds are the ends of the paths."""
STUDY = Path(__file__).parents[1] / "study" / "compare.csv"


def pages() -> dict[str, str]:
    """Name of a file -> text."""
    found = {f"methods/{name}.rst": method_page(name) for name in methods.names()}
    found |= {f"architectures/{name}.rst": architecture_page(name) for name in architectures.names()}
    others = {kind: package for kind, package in PACKAGES.items() if kind not in GALLERIES}
    found |= {f"parts/{kind}.rst": kind_page(kind, package) for kind, package in others.items()}
    return {**found, "methods/index.rst": methods_index(), "architectures/index.rst": architectures_index(),
            "parts/index.rst": parts_index()}


def head_of(name: str, registry) -> list[str]:
    """Title, note, aliases and source."""
    card = registry.card(name)
    lines = [title(card.title), f"The name in commands and files is {code(name)}."]
    if card.aliases:
        lines[-1] += f" Also: {', '.join(map(code, card.aliases))}."
    return [*lines, *([card.note] if card.note else []), *([f"Source: {sources(card.paper)}."] if card.paper else [])]


def options_of(name: str, registry) -> list[str]:
    """The table of options."""
    options, texts = registry.options(name), help_of(registry.constructor(name))
    if not options:
        return [title("Options", "-"), "None."]
    rows = [(code(option.name), code(repr(option.default)), escaped(texts.get(option.name, ""))) for option in options]
    return [title("Options", "-"), table(("option", "default", "what it does"), rows)]


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|").replace("_", "\\_").replace("`", "\\`")


def text_of(cls: type) -> str:
    """The class's docstring, by autodoc."""
    return f".. autoclass:: {cls.__module__}.{cls.__qualname__}\n   :no-index:\n"


def method_page(name: str) -> str:
    registry, method = methods.registry, methods.get(name)
    card, modes = registry.card(name), method.modes if method.needs & {"gram", "rows"} else ()
    facts = [
        ("reads", ", ".join(sorted(method.needs)).replace("_", " ") or "losses"),
        ("gradients", ", ".join(map(code, modes)) or "no gradients per task"),
        ("costs", cost(method)),
        ("preference", "an importance of each task" if method.takes_preference else "none: it refuses a preference"),
    ]
    lines = [
        *head_of(name, registry), FIGURE.format(name=name),
        table(("", ""), [(f"**{key}**", value) for key, value in facts]),
        title("Formula", "-"), text_of(registry.constructor(name)), *options_of(name, registry),
        title("Promises", "-"),
        table(("promise", "meaning"), [(p.replace("_", " "), escaped(PROMISES[p])) for p in card.promises])
        if card.promises else "None beside finite updates.",
        "``tfmtl2r.testing.check_method`` checks them.", *study(name),
    ]
    return "\n\n".join(lines) + "\n"


def study(name: str) -> list[str]:
    """The method in the study: difference to single-task networks and seconds of a step beside equal weights."""
    with STUDY.open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    plain = {row["data"]: row for row in rows if row["ranker"] == "equal weights"}
    mine = {row["data"]: row for row in rows if name in row["ranker"].split(" = ")}
    if not mine:
        return []
    cells = [(data, change(row), change(plain[data]), time_of(row, plain[data])) for data, row in mine.items()]
    return [title("In the study", "-"),
            "Mean relative loss against single-task networks in percent, below 0 is better (mean ± standard deviation "
            "over seeds), and time of a step divided by that of equal weights. :doc:`The study </study/compare>` has "
            "the metrics and the tests.",
            table(("data", "this method", "equal weights", "time of a step"), cells)]


def change(row: dict[str, str]) -> str:
    return f"{float(row['delta_m']):+.2f} ± {float(row['delta_m_std']):.2f}" if row["delta_m"] else ""


def time_of(row: dict[str, str], plain: dict[str, str]) -> str:
    return f"{float(row['seconds_a_step']) / float(plain['seconds_a_step']):.1f}" if row["seconds_a_step"] else ""


def methods_index() -> str:
    groups = {
        "From the losses alone": lambda m: not m.needs & {"gram", "rows"},
        "From inner products of gradients": lambda m: "gram" in m.needs,
        "From the gradients themselves": lambda m: "rows" in m.needs,
    }
    lines = [title("Methods"),
             "A method turns the losses of the tasks, or their gradients, into one update. Begin with "
             ":doc:`linear_scalarization`, equal weights: it is hard to beat."]
    built = {name: methods.get(name) for name in methods.names()}
    for heading, belongs in groups.items():
        rows = [(f":doc:`{name}`", methods.card(name).title, cost(method)) for name, method in built.items()
                if belongs(method)]
        lines += [title(heading, "-"), table(("name", "what it is", "costs"), rows)]
    return "\n\n".join([*lines, toctree(built, "hidden")])


def architecture_page(name: str) -> str:
    registry = architectures.registry
    return "\n\n".join([*head_of(name, registry), title("Formula", "-"), text_of(registry.constructor(name)),
                        *options_of(name, registry)]) + "\n"


def architectures_index() -> str:
    lines = [title("Architectures"),
             "An architecture scores every item once for each task. Each works with every method and every export. "
             "Begin with :doc:`shared_bottom`, then try :doc:`mmoe`.",
             table(("name", "what it is", "note"), [
                 (f":doc:`{name}`", architectures.card(name).title, architectures.card(name).note)
                 for name in architectures.names()]),
             toctree(architectures.names(), "hidden")]
    return "\n\n".join(lines)


def kind_page(kind: str, package: str) -> str:
    registry = importlib.import_module(package).registry
    cards = {name: registry.card(name) for name in registry.names()}
    rows = [(code(name), escaped(card.title), sources(card.paper)) for name, card in cards.items()]
    lines = [title(kind.capitalize()), table(("name", "what it is", "source"), rows)]
    for name in registry.names():
        constructor = registry.constructor(name)
        lines += [title(name, "-")]
        if cards[name].note:
            lines.append(escaped(cards[name].note))
        lines.append(text_of(constructor) if isinstance(constructor, type) else code(constructor.__name__))
    return "\n\n".join(lines) + "\n"


def parts_index() -> str:
    rows = []
    for kind, package in PACKAGES.items():
        page = f"{kind} </generated/{kind}/index>" if kind in GALLERIES else kind
        rows.append((f":doc:`{page}`", ", ".join(map(code, importlib.import_module(package).registry.names()))))
    lines = [title("All parts"),
             "``tfmtl2r list`` prints these names, and ``tfmtl2r list NAME`` explains one of them.",
             table(("kind", "names"), rows), toctree([kind for kind in PACKAGES if kind not in GALLERIES], "hidden")]
    return "\n\n".join(lines)
