"""The command line, ``tfmtl2r COMMAND ...``. Each command is a file in ``tfmtl2r/commands/``, imported on demand."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import os
import select
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import tfmtl2r
from tfmtl2r import plugins
from tfmtl2r.errors import UserError
from tfmtl2r.names import did_you_mean
from tfmtl2r.writing import fault_of, one_line

__all__ = ["commands", "main", "usage"]
_FOLDER = Path(__file__).parent / "commands"
_OUTPUT = 1
"""The descriptor of standard output."""


def commands() -> dict[str, str]:
    """Every command and the first line of its file's docstring."""
    files = {path.stem: path for path in sorted(_FOLDER.glob("*.py")) if not path.stem.startswith("_")}
    docs = {name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for name, path in files.items()}
    return {name.replace("_", "-"): (doc or "").split("\n")[0] for name, doc in docs.items()}


def usage() -> str:
    """The output of ``tfmtl2r --help``, as wide as the terminal."""
    known = commands()
    indent, columns = max(map(len, known)) + 4, shutil.get_terminal_size().columns
    lines = [textwrap.fill(line, columns, initial_indent=f"  {name}".ljust(indent), subsequent_indent=" " * indent)
             for name, line in known.items()]
    rest = ("tfmtl2r COMMAND --help shows the options of a command; tfmtl2r --version prints the version. Any command "
            "takes --plugins FILE.py, which imports methods, losses and the like of your own, and --traceback, which "
            "shows where an error was raised.")
    return "\n".join(["usage: tfmtl2r COMMAND [--help] ...", "",
                      "Multi-task learning to rank in TensorFlow and Keras 3.", "", "commands:", *lines, "",
                      textwrap.fill(rest, columns)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code.

    An error that the user can mend is printed as one line, unless ``--traceback`` is given. So are errors of the
    operating system, such as a full disk, and Ctrl-C. A command whose output nobody reads any more, as in
    ``tfmtl2r list | head``, ends without a word. Every other exception is a fault of the program, and Python shows its
    traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in arguments
    arguments = [argument for argument in arguments if argument != "--traceback"]
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, an error is one of the command
    except KeyboardInterrupt as stop:
        if traceback:
            raise
        _say(arguments, str(stop) or "stopped; files that were complete are kept, and no file is half written")
        return 130
    except Exception as error:
        if traceback or not (line := _line(error)):
            raise
        if not (isinstance(error, BrokenPipeError) and _unread()):
            _say(arguments, line)
        _write_rest()
        return 1


def _line(error: Exception) -> str:
    """The line for an error that the user can mend; empty for a fault of the program."""
    if isinstance(error, UserError):
        return str(error)
    return one_line(error) if fault_of(error) else ""


def _unread() -> bool:
    """Whether the program that reads standard output has ended."""
    if sys.platform == "win32":
        return False
    output = select.poll()
    output.register(_OUTPUT, 0)
    return any(event & select.POLLERR for _, event in output.poll(0))


def _write_rest() -> None:
    """Writes what is left of the output, or discards it if that is impossible: Python would try again when it ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _OUTPUT)


def _say(arguments: list[str], line: str) -> None:
    chosen = [argument for argument in arguments if argument in commands()][:1]
    print(f"{' '.join(['tfmtl2r', *chosen])}: {line}", file=sys.stderr)


def _run(arguments: list[str]) -> int:
    paths, arguments = plugins.from_arguments(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(tfmtl2r.__version__)
        return 0
    known = commands()
    if arguments[0] not in known:
        print(f"tfmtl2r: there is no command {arguments[0]!r}{did_you_mean(arguments[0], known)}\n\n{usage()}",
              file=sys.stderr)
        return 2
    plugins.of_folder()
    plugins.load(*paths)
    command = importlib.import_module(f"tfmtl2r.commands.{arguments[0].replace('-', '_')}")
    with _help_fitted() if {"-h", "--help"} & {*arguments[1:]} else contextlib.nullcontext():
        return command.main(arguments[1:]) or 0


@contextlib.contextmanager
def _help_fitted() -> Iterator[None]:
    """Prints the output at the end, with lines that are longer than the terminal is wide broken between words."""
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            yield
    finally:
        columns = shutil.get_terminal_size().columns
        for line in shown.getvalue().splitlines():
            indent = " " * (len(line) - len(line.lstrip()) + 2 * line.startswith(("usage:", " ")))
            print(line if len(line) <= columns else textwrap.fill(line, columns, subsequent_indent=indent))


if __name__ == "__main__":
    sys.exit(main())
