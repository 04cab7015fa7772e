"""The map of papers: source, file, tests and differences of everything with a card."""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter
from pathlib import Path

from tfmtl2r.commands.list import PACKAGES, linked

ROOT = Path(__file__).parents[2]
QUOTED = re.compile(r"(?<=[\"'])\w+(?=[\"'])|(?<=import )\w+")
DIFFERENCES = re.compile(r"(?:Differs from|This is a reconstruction|This is our reading)[^\n]*(?:\n[^\n]+)*")


def pages() -> dict[str, str]:
    """Name of a file -> text, in Markdown."""
    tests = {path: Counter(QUOTED.findall(path.read_text(encoding="utf-8")))
             for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    lines = []
    for kind, package in PACKAGES.items():
        registry = importlib.import_module(package).registry
        rows = [row(kind, registry, name, tests) for name in registry.names() if registry.card(name).paper]
        if rows:
            lines += [f"## {kind.capitalize()}", "", "| name and paper | file, tests | differs |",
                      "| --- | --- | --- |", *rows, ""]
    return {"papers.txt": "\n".join([*lines, not_here()])}


def not_here() -> str:
    """Systems of the field that are not in this library: the text of ``docs/not_here.md``, one level deeper."""
    path = ROOT / "docs" / "not_here.md"
    return re.sub(r"^#", "##", path.read_text(encoding="utf-8"), flags=re.MULTILINE) if path.is_file() else ""


def row(kind: str, registry, name: str, tests: dict[Path, Counter[str]]) -> str:
    constructor = registry.constructor(name)
    file = Path(inspect.getfile(constructor)).relative_to(ROOT).as_posix()
    paper = linked(registry.card(name).paper)
    cells = (f"`{name}` {paper}", f"`{file}`, {named_in(kind, name, tests)}", differs(constructor))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def named_in(kind: str, name: str, tests: dict[Path, Counter[str]]) -> str:
    """The test files with the most mentions of a name, in the folder of its kind first."""
    counts = {path: words[name] for path, words in tests.items() if words[name]}
    order = sorted(counts, key=lambda path: (path.parent.name != kind, -counts[path]))
    return ", ".join(f"`{path.relative_to(ROOT / 'tests').as_posix()}`" for path in order[:2])


def differs(constructor) -> str:
    """The part of a docstring that names differences or a reconstruction, as Markdown in one line."""
    found = DIFFERENCES.findall(inspect.getdoc(constructor) or "")
    text = " ".join(" ".join(part.split()) for part in found)
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
