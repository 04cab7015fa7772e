"""Plug-ins: local Python files that register methods, losses, metrics, architectures and data sets.

The command line imports the files that ``--plugins`` names, and those of ``[tool.tfmtl2r] plugins = [...]`` in the
working folder's ``pyproject.toml``; an experiment file names its own. Nothing else makes a command import a file. A run
card remembers name and hash of the files that were imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.names import digest
from tfmtl2r.reading import check, read_toml

__all__ = ["Plugin", "PluginError", "load", "loaded"]


class PluginError(InputError):
    """A plug-in that a run needs is not imported, or has changed."""


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A file that was imported.

    Args:
        path: the given path.
        name: name of the file, without its folder.
        sha256: hash of the file's bytes.
    """

    path: str
    name: str
    sha256: str


_LOADED: dict[Path, Plugin] = {}


def load(*paths: str | Path, folder: str | Path = ".", remember: bool = True) -> list[Plugin]:
    """Imports plug-in files. The things that they register can then be used by name.

    A file that was imported before is imported again only if it has changed since.

    Args:
        *paths: paths of the files.
        folder: the folder to which relative paths refer.
        remember: whether later run cards contain name and hash of the files.

    Raises:
        FileNotFoundError: for a file that does not exist.
        ValueError: for a file whose import fails, with the line and the cause.
    """
    found = {(Path(folder) / path).resolve(): path for path in paths}
    plugins = {path: _load(given, path) for path, given in found.items()}
    if remember:
        _LOADED.update(plugins)
    return list(plugins.values())


def loaded() -> list[Plugin]:
    """The imported files, in order."""
    return list(_LOADED.values())


def paths() -> list[str]:
    """Paths of the imported files: relative ones to the working folder, for files that lie in it."""
    here = Path.cwd()
    return [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in _LOADED]


def remembered() -> list[dict[str, str]]:
    """Name and hash of the imported files, as run cards contain them."""
    return [{"name": plugin.name, "sha256": plugin.sha256} for plugin in loaded()]


def of_folder(folder: str | Path = ".") -> list[Plugin]:
    """Imports the files of ``[tool.tfmtl2r] plugins`` in a folder's ``pyproject.toml``, if there are any.

    Raises:
        ValueError: for a ``pyproject.toml`` that cannot be read, or if ``plugins`` is not a list of paths.
    """
    path = Path(folder) / "pyproject.toml"
    if not path.is_file():
        return []
    content = read_toml(path)
    check(content, {"tool": {"tfmtl2r": dict}}, str(path))
    found = content.get("tool", {}).get("tfmtl2r", {}).get("plugins", [])
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise InputError(f"{path}: [tool.tfmtl2r] plugins must be a list of paths, not {found!r}")
    return load(*found, folder=folder)


def require(needed: Sequence[Mapping[str, str]], where: str) -> None:
    """Checks that the plug-ins of a run are imported, with the hashes that the run used.

    Args:
        needed: name and hash of each plug-in, as in :func:`remembered`.
        where: name of the run, for the message.

    Raises:
        PluginError: for a file that is not imported (the message contains the flag), or that has changed (the message
            contains both hashes).
    """
    for need in needed:
        hashes = [plugin.sha256 for plugin in loaded() if plugin.name == need["name"]]
        if not hashes:
            raise PluginError(f"{where} used the plug-in {need['name']}, which is not imported: add --plugins "
                             f"{need['name']} (with its path), or call tfmtl2r.plugins.load in Python")
        if need["sha256"] not in hashes:
            raise PluginError(f"{where} used the plug-in {need['name']} with the hash {need['sha256'][:12]}, but the "
                             f"file now has the hash {hashes[0][:12]}: give the file as it was, or train again")


def expect(extensions: Sequence[Mapping[str, str]]) -> None:
    """Checks that all things that a file needs are registered. :meth:`Registry.extensions` lists them.

    Raises:
        PluginError: for the first missing thing; the message explains what to do.
    """
    for need in extensions:
        registry = _registry(need)
        if need["name"] in {*registry.names(), *registry.aliases()}:
            continue
        remedy = {
            "package": "install that package",
            "file": f"import it first: --plugins {need['where']} on the command line, "
                    f"tfmtl2r.plugins.load(\"{need['where']}\") in Python",
        }.get(need["kind"], "register it again first")
        raise PluginError(f"the {registry.kind} {need['name']!r} is missing: it came from the {need['kind']} "
                         f"{need['where']}; {remedy}".replace("  ", " "))


def files(extensions: Iterable[Mapping[str, str]] = ()) -> tuple[list[str], list[str]]:
    """The files that another process must import: all plug-ins, and the others that registered the given things.

    Args:
        extensions: as :meth:`tfmtl2r.registry.Registry.extensions` lists them.

    Raises:
        ValueError: for a thing that a script or a notebook registered, which no other process can import.
    """
    plugins, others = [str(path) for path in _LOADED], []
    for need in extensions:
        registry, name = _registry(need), need["name"]
        origin = registry.origin(name)
        if origin.kind == "package":
            continue
        if origin.kind != "file" or registry.constructor(name).__module__ == "__main__":
            raise InputError(f"the {registry.kind} {name!r} is registered by the main program, which other processes "
                             "cannot import: move it into a file of its own, and import that file")
        others.append(origin.where)
    return plugins, [path for path in dict.fromkeys(others) if path not in plugins]


def from_arguments(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """The paths that ``--plugins`` names, and the other arguments of a command line.

    The flag may be given several times, and takes several paths separated by commas.

    Raises:
        ValueError: for the flag without a path.

    >>> from_arguments(["train", "--plugins", "a.py,b.py", "--epochs", "2", "--plugins=c.py"])
    (['a.py', 'b.py', 'c.py'], ['train', '--epochs', '2'])
    """
    paths: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        flag, equals, value = argument.partition("=")
        if flag != "--plugins":
            rest.append(argument)
            continue
        value = value if equals else next(waiting, "")
        if not value or value.startswith("-"):
            raise InputError("--plugins expects the path of a Python file, or several separated by commas")
        paths += [path for path in value.split(",") if path]
    return paths, rest


def _registry(need: Mapping[str, str]) -> Any:
    if not need["registry"].startswith("tfmtl2r."):
        raise InputError(f"{need['registry']!r} is no registry of tfmtl2r: the file is damaged")
    return importlib.import_module(need["registry"]).registry


def _load(given: str | Path, path: Path) -> Plugin:
    if not path.is_file():
        raise MissingFileError(f"plug-in {given}: {path} does not exist")
    source = path.read_bytes()
    plugin = Plugin(str(given), path.name, hashlib.sha256(source).hexdigest())
    if path in _LOADED and _LOADED[path].sha256 == plugin.sha256:
        return _LOADED[path]
    # The name must shadow no other module, and be the same in each process.
    name = f"tfmtl2r_plugin_{path.stem}_{digest(str(path))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise InputError(f"plug-in {given}: expected a Python file, whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(f"plug-in {given}, line {_line(error, path)}: {_cause(error)}") from error
    return plugin


def _line(error: BaseException, path: Path) -> Any:
    """The last line of the file that was running."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else "?"


def _cause(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}".split("\n")[0]
