"""Pages that are made of the registries when the site is built: galleries, other parts, reference, commands, papers.

Every page is a file below ``docs/generated``, which git ignores. A file is written only if its text has changed, so
that a second build reads few pages.
"""

from __future__ import annotations

from pathlib import Path

import commands
import gallery
import papers
import reference
import trajectories


def write(folder: Path, pages: dict[str, str]) -> None:
    """Writes pages and removes those of an earlier build that are no longer made."""
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.rglob("*"):
        if path.suffix in (".rst", ".txt") and path.relative_to(folder).as_posix() not in pages:
            path.unlink()


def make(app) -> None:
    """Makes all pages and pictures before Sphinx looks for pages."""
    folder = Path(app.srcdir) / "generated"
    trajectories.draw_all(folder)
    write(folder, {**gallery.pages(), **reference.pages(), **commands.pages(), **papers.pages()})


def setup(app) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", make)
    return {"parallel_read_safe": True}
