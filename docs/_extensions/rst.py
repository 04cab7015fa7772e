"""Small pieces of reStructuredText."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def title(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n"


def code(text: object) -> str:
    return f"``{text}``" if str(text).strip() else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are reStructuredText of one paragraph."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {'* -' if not number else '  -'} {' '.join(str(cell).split())}".rstrip())
    return "\n".join(lines) + "\n"


def sources(paper: str) -> str:
    """``Authors year, address; ...`` as links."""
    return re.sub(r"([^;]+?), (https?://[^\s;]+)", lambda m: f"`{m[1].strip()} <{m[2]}>`__", paper)


def toctree(names: Iterable[str], *options: str) -> str:
    return "\n".join([".. toctree::", *(f"   :{option}:" for option in options), "", *(f"   {name}" for name in names),
                      ""])
