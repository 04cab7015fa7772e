"""Discovery: a public thing is one file, and the file's stem is its name.

A :class:`Registry` walks one package folder. ``names()`` and ``card()`` read the files as text, so that listing
what there is never imports TensorFlow; only ``get()`` imports, and only the one file that was asked for. Third-party
packages join through an entry-point group named like the package, for example::

    [project.entry-points."tfmtl2r.methods"]
    my_method = "my_package.my_method:MyMethod"
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.names import did_you_mean

_SHARED = ("base", "deciding", "tower", "wrappers")
"""Files beside the things: what things of one kind are built on."""


@dataclasses.dataclass(frozen=True)
class Card:
    """What a file says about itself, as literals, so that it can be read without importing it.

    Args:
        title: the name in the field's own words.
        paper: authors, year and link of the source; empty where the thing is older than its papers.
        aliases: other names that ``get`` accepts.
        promises: properties that the conformance tests hold it to, such as ``"non_conflicting"``.
        note: one line a user should know before choosing it.
    """

    title: str
    paper: str = ""
    aliases: tuple[str, ...] = ()
    promises: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Option:
    """One constructor argument of a registered thing: its name, type annotation and default."""

    name: str
    annotation: Any
    default: Any


class Registry:
    """The public things of one package folder.

    Args:
        package: dotted name of the folder, for example ``"tfmtl2r.methods"``; also the entry-point group.
        kind: singular noun for error messages.

    >>> methods = Registry("tfmtl2r.methods", "method")
    >>> "mgda" in methods.names()
    True
    >>> methods.resolve("ls")
    'linear_scalarization'
    """

    def __init__(self, package: str, kind: str):
        self.package = package
        self.kind = kind
        self._cards: dict[str, Card] = {}

    def names(self) -> list[str]:
        """Canonical names, sorted; aliases are left out."""
        return sorted({**self._files(), **self._entry_points()})

    def aliases(self) -> dict[str, str]:
        """Every alias and the canonical name that it stands for."""
        return {alias: name for name in self.names() for alias in self.card(name).aliases}

    def card(self, name: str) -> Card:
        """The card of a canonical name, read from the file's text."""
        if name not in self._cards:
            files = self._files()
            if name in files:
                self._cards[name] = _read_card(files[name])
            else:
                module = importlib.import_module(self._entry_points()[name].module)
                self._cards[name] = getattr(module, "CARD", Card(title=name))
        return self._cards[name]

    def resolve(self, name: str) -> str:
        """The canonical name for a name or alias; an unknown one is an error that proposes the nearest."""
        names = self.names()
        if name in names or self._is_building_block(name):
            return name
        aliases = self.aliases()
        if name in aliases:
            return aliases[name]
        hint = did_you_mean(name, [*names, *aliases], most=3) or "."
        raise InputError(f"no {self.kind} is called {name!r}{hint} Known: {', '.join(names)}.")

    def constructor(self, name: str) -> Callable[..., Any]:
        """The class (or function) behind a name: what the file lists in ``__all__``."""
        name = self.resolve(name)
        entry_points = self._entry_points()
        if name in entry_points:
            return entry_points[name].load()
        stem, _, member = name.partition(".")
        module = importlib.import_module(f"{self.package}.{stem}")
        return getattr(module, member or module.__all__[0])

    def options(self, name: str) -> list[Option]:
        """The constructor arguments of a name, in order."""
        constructor = self.constructor(name)
        found: dict[str, Option] = {}
        for source in _sources(constructor, self.package):
            hints, signature = _hints(source), inspect.signature(source)
            for p in signature.parameters.values():
                if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self":
                    default = None if p.default is p.empty else p.default
                    found.setdefault(p.name, Option(p.name, hints.get(p.name, Any), default))
        return list(found.values())

    def get(self, name: str | Mapping[str, Any] | Any, **options: Any) -> Any:
        """Builds a registered thing.

        Args:
            name: a name or alias, a mapping ``{"name": ..., **options}`` as :meth:`describe` makes it, or an
                instance, which is returned as it is. What a private file lists in ``__all__``, such as a wrapper, is
                called ``"_file.Class"``; it is not listed by :meth:`names`.
            **options: constructor arguments.

        Raises:
            ValueError: for an unknown name (with the nearest ones).
            TypeError: for an option that this thing does not have (with those that it has).
        """
        if isinstance(name, Mapping):
            described = {**name, **options}
            return self.get(described.pop("name"), **described)
        if not isinstance(name, str):
            if options:
                raise InputTypeError(f"options {sorted(options)} were given with a ready {self.kind}; pass its name "
                                     "instead")
            return name
        canonical = self.resolve(name)
        known = [option.name for option in self.options(canonical)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            accepted = ", ".join(known) or "none"
            raise InputTypeError(f"{self.kind} {canonical!r} has no option {', '.join(unknown)}; it accepts: "
                                 f"{accepted}")
        built = self.constructor(canonical)(**options)
        object.__setattr__(built, "registered_as", {"name": canonical, **options})
        return built

    def describe(self, thing: Any) -> dict[str, Any]:
        """The mapping from which ``get`` rebuilds a thing: its name and its options, JSON-ready.

        Raises:
            ValueError: for an object that no name of this registry can rebuild.
        """
        described = getattr(thing, "registered_as", None)
        if described is None:
            package, _, stem = type(thing).__module__.rpartition(".")
            block = f"{stem}.{type(thing).__name__}"
            config = vars(thing) if dataclasses.is_dataclass(thing) else getattr(thing, "get_config", dict)()
            if package == self.package and self._is_building_block(block):
                stem = block
            elif stem not in self.names():
                raise InputError(
                    f"{type(thing).__name__} cannot be saved by name: register your own {self.kind} under the "
                    f"entry-point group {self.package!r}"
                )
            described = {"name": stem, **{o.name: config[o.name] for o in self.options(stem) if o.name in config}}
        return {key: self._plain(value) for key, value in described.items()}

    def _plain(self, value: Any) -> Any:
        """Things become descriptions, tuples lists and arrays nested lists, so that a description survives JSON."""
        if isinstance(value, (tuple, list)):
            return [self._plain(v) for v in value]
        if isinstance(value, Mapping):
            return {key: self._plain(v) for key, v in value.items()}
        if hasattr(value, "registered_as") or dataclasses.is_dataclass(value):
            return self.describe(value)
        return value.tolist() if hasattr(value, "tolist") else value

    def _is_building_block(self, name: str) -> bool:
        """Whether a name is ``"_file.Class"`` with a class that the private file offers."""
        stem, _, member = str(name).partition(".")
        if not (member and stem.startswith("_") and importlib.util.find_spec(f"{self.package}.{stem}")):
            return False
        return member in getattr(importlib.import_module(f"{self.package}.{stem}"), "__all__", ())

    def _files(self) -> dict[str, Path]:
        module = importlib.util.find_spec(self.package)
        folders = list(module.submodule_search_locations or []) if module else []
        return {
            path.stem: path
            for folder in folders
            for path in sorted(Path(folder).glob("*.py"))
            if not path.stem.startswith("_") and path.stem not in _SHARED
        }

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        return dict(_installed(importlib.metadata.entry_points, self.package))


@functools.cache
def _installed(find: Callable[..., Any], group: str) -> dict[str, Any]:
    """Entry points by name; looking through all installed packages takes tens of milliseconds."""
    return {point.name: point for point in find(group=group)}


def _sources(constructor: Callable[..., Any], package: str) -> list[Callable[..., Any]]:
    """What takes the arguments: a function, or a class's ``__init__`` and, through ``**kwargs``, those of its bases."""
    if not inspect.isclass(constructor) or dataclasses.is_dataclass(constructor):
        return [constructor]
    sources: list[Callable[..., Any]] = []
    for base in inspect.getmro(constructor):
        if "__init__" in vars(base) and (base is constructor or base.__module__.startswith(package)):
            sources.append(vars(base)["__init__"])
            kinds = {p.kind for p in inspect.signature(sources[-1]).parameters.values()}
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                break
    return sources or [constructor]


def _hints(source: Callable[..., Any]) -> dict[str, Any]:
    target = source.__init__ if inspect.isclass(source) else source
    try:
        return inspect.get_annotations(target, eval_str=True)
    except NameError:  # an annotation of a name that is only imported for type checking
        return {}


def _read_card(path: Path) -> Card:
    """Finds ``CARD = Card(...)`` in a file's text; its arguments must be literals."""
    for node in ast.parse(path.read_text(encoding="utf-8"), filename=str(path)).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id == "CARD" for t in targets):
            call = node.value  # type: ignore[attr-defined]
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Card" and not call.args:
                return Card(**{k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg})
            raise InputError(f"{path}: CARD must be written as Card(title=..., ...) with literal arguments")
    raise InputError(f"{path}: no CARD = Card(title=...); every public file in {path.parent.name}/ describes itself")
