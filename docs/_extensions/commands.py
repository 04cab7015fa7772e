"""A page with the commands of the command line."""

from __future__ import annotations

from rst import code, table, title

from tfmtl2r.cli import commands


def pages() -> dict[str, str]:
    """Name of a file -> text."""
    rows = [(code(f"tfmtl2r {name}"), line) for name, line in commands().items()]
    return {"commands.rst": "\n\n".join([
        title("Commands"), "``tfmtl2r COMMAND --help`` prints the flags of a command. "
        ":doc:`/how_to/command_line` shows how commands are used together.", table(("command", "what it does"), rows)])}
