"""The code blocks of a page, and how they run: in order, in one folder, with one set of Python names.

======================================  ===============================================================================
block                                   what happens
======================================  ===============================================================================
``python``                              runs; lines ``print(...)  # text`` must print their comments
``console``                             each line ``$ command`` runs; lines below it are what it must print, where
                                        ``...`` stands for anything
``{code-block}`` with a ``:caption:``   is written to the file that the caption names
``toml``                                must be a part of an experiment file: its keys are checked
``sh``                                  needs the network, make or a recipe: it is not run, and contains no command of
                                        tfmtl2r; the recipes that it names exist
``text``                                a formula or a tree of files; no code
======================================  ===============================================================================

A page runs in the slow suite if it contains the comment ``<!-- tests: slow -->``, and ``<!-- tests: long -->`` marks a
page of more than 15 seconds.
"""

import contextlib
import dataclasses
import doctest
import io
import json
import re
import shlex
import tomllib
import urllib.request
from pathlib import Path

from markdown_it import MarkdownIt

import tfmtl2r
from tfmtl2r.cli import main as command_line
from tfmtl2r.settings import Settings

ROOT = Path(__file__).parents[2]
KINDS = ("python", "console", "file", "toml", "sh", "text")
SAME = doctest.OutputChecker()
TABLE = {"data": {"files": "table.csv", "list_id": "list"}, "tasks": [{"name": "click", "kind": "binary"}]}
"""What an experiment needs before it may declare features."""
SERVER, ADDRESS = "tensorflow_model_server", "localhost:8501"


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block; ``line`` is the line of its first line of code in the page."""

    kind: str
    text: str
    line: int
    file: str = ""


def pages():
    """All pages with code that people read: the site's, and those of the repository's first folder."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in found if not {"_build", "generated"} & {*path.relative_to(ROOT).parts})


def blocks(text):
    """The code blocks of a page's text."""
    for token in MarkdownIt().parse(text):
        if token.type != "fence":
            continue
        kind, code, line = token.info.strip(), token.content, token.map[0] + 2
        if kind.startswith("{code-block}"):
            options = re.match(r"(?::\w+:.*\n)+\n?", code)
            caption = re.search(r"^:caption: (.+)$", options[0], re.MULTILINE) if options else None
            assert caption, f"line {line}: a {{code-block}} names its file in :caption:"
            yield Block("file", code[options.end():], line + options[0].count("\n"), caption[1].strip())
        elif not kind.startswith("{"):
            assert kind in KINDS, f"line {line}: a code block is one of {', '.join(KINDS)}, not {kind!r}"
            yield Block(kind, code, line)


def mark_of(text):
    """``slow``, ``long`` or nothing."""
    found = re.search(r"<!-- tests: (\w+) -->", text)
    return found[1] if found else ""


class Page:
    """Runs the blocks of a page in the working folder.

    Args:
        path: of the page.
        server: makes the server of a base folder and a model's name, a context manager with the address ``rest``.
    """

    def __init__(self, path, server):
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.server = server
        self.names = {"__name__": path.stem}
        self.rest = ""

    def run(self):
        """Runs all blocks and forgets what they registered. Returns the Python names of the page."""
        with contextlib.ExitStack() as self.stack:
            self.stack.callback(self.forget)
            for block in blocks(self.text):
                getattr(self, f"run_{block.kind}")(block)
        return self.names

    def forget(self):
        code = "\n".join(block.text for block in blocks(self.text) if block.kind in ("python", "file"))
        for kind, name in re.findall(r"^@(\w+)\.register\(\"(\w+)\"", code, re.MULTILINE):
            getattr(tfmtl2r, kind).registry.unregister(name)

    def run_python(self, block):
        padded = "\n" * (block.line - 1) + block.text  # a traceback then names the line of the page
        printed = captured(lambda: exec(compile(padded, str(self.path), "exec"), self.names))
        expected = re.findall(r"^print\(.*\)  # (.*)$", block.text, re.MULTILINE)
        assert not expected or printed.splitlines() == expected, f"{self.path}:{block.line} printed\n{printed}"

    def run_console(self, block):
        for command, shown in steps(block):
            printed = captured(lambda command=command: self.command(shlex.split(command)))
            if shown.strip():
                flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
                where = f"{self.path}:{block.line}, $ {command}, printed:\n{printed}"
                assert SAME.check_output(shown, printed, flags), where

    def command(self, words):
        """Runs one command of a console."""
        if words[0] == "tfmtl2r":
            assert command_line(words[1:]) == 0, words
        elif words[0] == SERVER:  # the stand-in of the tests answers on a port of its own
            options = dict(word.removeprefix("--").split("=", 1) for word in words[1:])
            folder = options["model_base_path"].replace("$PWD/", "")
            server = self.stack.enter_context(self.server(Path(folder).resolve(), options["model_name"]))
            server.wait_for(max(int(path.name) for path in Path(folder).iterdir() if path.name.isdigit()))
            self.rest = server.rest
        elif words[0] == "curl":
            _, flag, body, url = words
            assert flag == "-d"
            assert url.startswith(ADDRESS), url
            assert self.rest, f"{self.path}: no server was started above curl"
            with urllib.request.urlopen(url.replace(ADDRESS, self.rest), body.encode(), timeout=60) as answer:
                print(json.dumps(json.load(answer), indent=1))
        else:
            raise AssertionError(f"{self.path}: {words[0]} cannot run here: write the block as sh")

    def run_file(self, block):
        Path(block.file).parent.mkdir(parents=True, exist_ok=True)
        Path(block.file).write_text(block.text, encoding="utf-8")

    def run_toml(self, block):
        given = tomllib.loads(block.text)
        Settings.of({**(TABLE if "features" in given else {}), **given})

    def run_sh(self, block):
        assert not re.search(r"^\$? ?tfmtl2r ", block.text, re.MULTILINE), f"{self.path}:{block.line}: write console"
        for name in re.findall(r"recipes/\w+\.py", block.text):
            assert (ROOT / name).is_file(), f"{self.path}:{block.line}: {name}"

    def run_text(self, block):
        """Nothing: no code."""


def steps(block):
    """Each command of a console, with its continued lines, and the output that is shown below it."""
    command, shown = "", []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(shown)
            command, shown = line[2:], []
        elif command.endswith("\\"):
            command = command[:-1] + line.strip()
        else:
            shown.append(line)
    if command:
        yield command, "\n".join(shown)


def captured(call):
    """What a call prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        call()
    return out.getvalue()
