"""Discovery: the class of a name, and the name of a class.

A :class:`Registry` knows three sources. A built-in is a file of the package's folder that contains
``CARD = Card(...)``; the file's stem is its name, and ``__all__`` begins with its class. Files in a sub-folder can be
reached by name, but :meth:`Registry.names` leaves them out. An installed package adds classes through an entry-point
group named like the package::

    [project.entry-points."tfmtl2r.methods"]
    my_method = "my_package.my_method:MyMethod"

A script, a notebook or a plug-in file (:mod:`tfmtl2r.plugins`) registers a class::

    @tfmtl2r.methods.register("my_method")
    class MyMethod(tfmtl2r.methods.GramMethod): ...

Names and cards are read from the files as text, so that a listing never imports TensorFlow. ``get()`` imports the one
file that it needs.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from tfmtl2r import constructors
from tfmtl2r.descriptions import listed, plain
from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.names import did_you_mean, with_article
from tfmtl2r.origins import Origin, origin_of
from tfmtl2r.promises import check_known
from tfmtl2r.situations import check_situations
from tfmtl2r.types import Described

_Class = TypeVar("_Class", bound=type)
_Thing = TypeVar("_Thing")
_HAS_CARD = re.compile(r"^CARD\b", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Card:
    """The description of a thing in its file. All values are literals, so that they can be read without an import.

    Args:
        title: the name in the field's own words.
        paper: authors, year and link of the source; empty if there is no single source.
        aliases: other names that ``get`` accepts.
        promises: properties that :mod:`tfmtl2r.testing` checks, names of :data:`tfmtl2r.promises.PROMISES`.
        note: one line with the most important fact for a user's choice.
        helps: situations in which it is worth a try, names of :data:`tfmtl2r.situations.SITUATIONS`.
    """

    title: str
    paper: str = ""
    aliases: tuple[str, ...] = ()
    promises: tuple[str, ...] = ()
    note: str = ""
    helps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_known(self.promises)
        check_situations(self.helps)


@dataclasses.dataclass(frozen=True)
class _Entry:
    """The thing behind a name."""

    origin: Origin
    module: str
    member: str
    card: Callable[[], Card]
    listed: bool = True
    registered: type | None = None

    def load(self) -> Any:
        if self.registered is not None:
            return self.registered
        try:
            module = importlib.import_module(self.module)
        except ImportError as error:
            if self.origin.kind == "package":
                raise InputError(f"{self.module} of {self.origin} cannot be imported: {error}; reinstall") from error
            raise
        return functools.reduce(getattr, (self.member or module.__all__[0]).split("."), module)

    def stands_for(self, cls: type) -> bool:
        """Whether this entry names a class; while the file of the class is still being imported, names decide."""
        if self.module == cls.__module__ and cls.__qualname__.split(".")[0] not in vars(sys.modules[self.module]):
            return self.member == cls.__qualname__
        return self.load() is cls


class Registry(Generic[_Thing]):
    """The public things of one kind.

    Args:
        package: dotted name of the folder, for example ``"tfmtl2r.methods"``; also the entry-point group.
        kind: singular noun for error messages.
        formerly: names in files of earlier versions -> current names.
        base: name of the base class in the package's ``base.py``; by default the kind, such as ``DataSet``.

    >>> methods = Registry("tfmtl2r.methods", "method")
    >>> "mgda" in methods.names()
    True
    >>> methods.resolve("ls")
    'linear_scalarization'
    """

    def __init__(self, package: str, kind: str, formerly: Mapping[str, str] | None = None, base: str = ""):
        self.package = package
        self.kind = kind
        self._base_name = base or kind.title().replace(" ", "")
        self._formerly = dict(formerly or {})
        self._registered: dict[str, _Entry] = {}
        self._classes: dict[type, str] = {}

    def names(self) -> list[str]:
        """Canonical names, sorted, without aliases and without things in sub-folders."""
        return sorted(name for name, entry in self._entries().items() if entry.listed)

    def aliases(self) -> dict[str, str]:
        """Every alias and the canonical name that it stands for.

        Raises:
            ValueError: for an alias that is also another thing's name or alias; the message names both.
        """
        entries = self._entries()
        found: dict[str, str] = {}
        for name, entry in entries.items():
            for alias in entry.card().aliases:
                other = alias if alias in entries else found.get(alias)
                if other is not None:
                    raise InputError(f"the {self.kind} name {alias!r} stands for two things: {other!r} ("
                                     f"{entries[other].origin}) and {name!r} ({entry.origin}); rename one of them")
                found[alias] = name
        return found

    def card(self, name: str) -> Card:
        """The card of a name or alias, read from the file's text."""
        return self._entries()[self.resolve(name)].card()

    def origin(self, name: str) -> Origin:
        """Where the thing of a name or alias comes from."""
        return self._entries()[self.resolve(name)].origin

    def resolve(self, name: str) -> str:
        """The canonical name of a name or alias. For an unknown name, the error proposes the most similar names."""
        name, entries = self._formerly.get(name, name), self._entries()
        if name in entries and entries[name].origin.kind == "built-in":
            return name
        aliases = self.aliases()  # refuses an extension whose name is the alias of a built-in
        if name in entries or name in aliases:
            return aliases.get(name, name)
        for path, _ in self._folder():
            if path.stem == name:
                _read_card(path)  # raises an error that explains what is missing in the file
        hint, known = did_you_mean(name, [*entries, *aliases], most=3) or ".", ", ".join(self.names())
        raise InputError(f"no {self.kind} is called {name!r}{hint} Known: {known}; --plugins imports your own.")

    def constructor(self, name: str) -> Any:
        """The class behind a name or alias."""
        return self._entries()[self.resolve(name)].load()

    def options(self, name: str) -> list[constructors.Option]:
        """The constructor arguments of a name or alias, in order, including inherited arguments."""
        return constructors.options(self.constructor(name), self.package)

    def register(self, name: str, card: Card | None = None) -> Callable[[_Class], _Class]:
        """A decorator that gives a class a name, under which it can be built, saved, loaded and swept.

        A file that is imported again may register its class again.

        Args:
            name: letters, digits and underscores.
            card: title, source, aliases and promises; by default the title is the first line of the docstring.

        Raises:
            ValueError: for a name that is taken; the message contains both things and their origins.
        """
        if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w*", name)):
            raise InputError(f"register expects a name of letters, digits and underscores, such as "
                             f"@{self._public}.register(\"my_{self.kind.replace(' ', '_')}\"), not {name!r}")

        def decorated(cls: _Class) -> _Class:
            if not (inspect.isclass(cls) and issubclass(cls, self._base)):
                raise InputTypeError(f"{getattr(cls, '__name__', cls)} is no {self.kind}: it is not a subclass of "
                                     f"{self._base.__name__}")
            if constructors.unnamed(cls, self.package):
                raise InputTypeError(f"{cls.__name__} takes *args, whose values no file could repeat: name each option")
            known = self.find(cls)
            if known is not None and known != name:
                raise InputError(f"{cls.__name__} is called {known!r} already; give it another name by "
                                 "card=Card(title=..., aliases=(...))")
            line = (cls.__doc__ or name).strip().split("\n")[0]
            entry = _Entry(origin_of(cls), cls.__module__, cls.__qualname__, lambda: card or Card(line), registered=cls)
            before = self._registered.get(name)
            if before is not None and not _same_source(before, entry):
                raise InputError(self._twice(name, before, entry))
            self._registered[name] = entry
            try:
                self.aliases()  # refuses a name or alias that is already in use
            except InputError:
                self.unregister(name)
                raise
            self._classes[cls] = name
            return cls

        return decorated

    def unregister(self, name: str) -> None:
        """Forgets a name that :meth:`register` gave."""
        self._registered.pop(name, None)
        self._classes = {cls: known for cls, known in self._classes.items() if known != name}

    def get(self, name: Described | _Thing, /, **options: Any) -> _Thing:
        """Builds a registered thing.

        Args:
            name: a name or alias, a mapping ``{"name": ..., **options}`` as :meth:`describe` returns it, or an
                instance, which is returned unchanged.
            **options: constructor arguments.

        Raises:
            ValueError: for an unknown name; the message contains the most similar names.
            TypeError: for an unknown option; the message contains the known options.
        """
        if isinstance(name, Mapping):
            if "name" not in name:
                raise InputError(f"{with_article(self.kind)} is described by {{'name': ..., option: value}}, not "
                                 f"{dict(name)!r}")
            described = {**name, **options}
            return self.get(described.pop("name"), **described)
        if inspect.isclass(name):
            raise InputTypeError(f"expected {with_article(self.kind)} or its name, got the class {name.__name__}: "
                                 "call it first")
        if not isinstance(name, str):
            if options:
                raise InputTypeError(f"options {sorted(options)} were given with a ready {self.kind}; pass its name "
                                     "instead")
            if not isinstance(name, self._base):
                raise InputTypeError(f"expected {with_article(self.kind)}, its name or "
                                     f"{{'name': ..., option: value}}, not {name!r}")
            return name
        canonical = self.resolve(name)
        known = [option.name for option in self.options(canonical)]
        if unknown := sorted(set(options) - set(known)):
            raise InputTypeError(f"{self.kind} {canonical!r} has no option {', '.join(unknown)}; it accepts: "
                                 f"{', '.join(known) or 'none'}")
        for lacking in constructors.required(self.constructor(canonical), options):
            raise InputTypeError(f"{self.kind} {canonical!r} needs the option {lacking}: write it as "
                                 f"{{name = \"{canonical}\", {lacking} = ...}}")
        return self.constructor(canonical)(**options)

    def find(self, cls: type) -> str | None:
        """The name of a class, or None. A subclass of a registered class does not inherit its name."""
        if cls in self._classes:
            return self._classes[cls]
        for name, entry in self._entries().items():
            inside = entry.module == cls.__module__ or (
                entry.origin.kind == "package" and entry.module.split(".")[0] == cls.__module__.split(".")[0]
            )
            if inside and entry.stands_for(cls):
                return name
        return None

    def name_of(self, cls: type) -> str:
        """The name of a class, see :meth:`find`.

        Raises:
            ValueError: for a class without a name; the message explains how to register it.
        """
        name = self.find(cls)
        if name is None:
            raise InputError(f"{cls.__name__} ({origin_of(cls)}) is no registered {self.kind}, so what uses it could "
                             f"not be saved and loaded: put @{self._public}.register(\"name\") above the class")
        return name

    def describe(self, thing: Any) -> dict[str, Any]:
        """The mapping from which ``get`` rebuilds a thing: its name, and all options that differ from the default.

        Raises:
            ValueError: for an object whose class has no name, or whose options cannot be written as plain data.
        """
        name, given = self.name_of(type(thing)), getattr(thing, "given_options", None)
        described: dict[str, Any] = {"name": name}
        for option in self.options(name):
            try:
                value = getattr(thing, option.name) if given is None else given.get(option.name, option.default)
            except AttributeError:
                raise InputError(f"{type(thing).__name__} has an option {option.name!r} but no attribute of that name, "
                                 "so its value cannot be saved: make the class a frozen dataclass") from None
            if value is option.default:  # a default of any type needs no entry
                continue
            written = plain(value, f"{type(thing).__name__} has the option {option.name}", self.describe)
            if written not in (listed(option.default), {"name": option.default}):
                described[option.name] = written
        return described

    def extensions(self, described: Any) -> list[dict[str, str]]:
        """The things of a description that are not built in, and must be registered before it can be rebuilt.

        Args:
            described: a name, what :meth:`describe` returns, or None.
        """
        options = described if isinstance(described, Mapping) else {}
        inner = [need for value in options.values() if isinstance(value, Mapping) for need in self.extensions(value)]
        name = options.get("name") if options else described
        name = name.partition("@")[0] if isinstance(name, str) else name
        known = {*self._entries(), *self.aliases(), *self._formerly}  # an option may be a mapping without a name
        if name not in known or (origin := self.origin(name)).kind == "built-in":
            return inner
        where = Path(origin.where).name if origin.kind == "file" else origin.where
        return [{"registry": self.package, "name": self.resolve(name), "kind": origin.kind, "where": where}, *inner]

    @functools.cached_property
    def _base(self) -> type:
        if importlib.util.find_spec(f"{self.package}.base") is None:
            return object
        return getattr(importlib.import_module(f"{self.package}.base"), self._base_name)

    @property
    def _public(self) -> str:
        return f"tfmtl2r.{self.package.rpartition('.')[2]}"

    def _twice(self, name: str, first: _Entry, second: _Entry) -> str:
        return f"the {self.kind} {name!r} exists twice: {first.origin} and {second.origin}; rename one of them"

    def _entries(self) -> dict[str, _Entry]:
        found: dict[str, _Entry] = dict(self._files)
        points = _installed(importlib.metadata.entry_points, self.package)
        for name, entry in [*points, *self._registered.items()]:
            if name in found and (found[name].module, found[name].member) != (entry.module, entry.member):
                raise InputError(self._twice(name, found[name], entry))
            found[name] = dataclasses.replace(entry, origin=found.get(name, entry).origin)  # the card is the last one's
        return found

    def _folder(self) -> list[tuple[Path, str]]:
        """The files of the package and of its sub-folders, each with the name of its module."""
        spec = importlib.util.find_spec(self.package)
        folders = [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or []]
        return [(path, ".".join([self.package, *path.relative_to(folder).with_suffix("").parts]))
                for folder in folders for path in sorted([*folder.glob("*.py"), *folder.glob("*/*.py")])
                if not path.stem.startswith("_")]

    @functools.cached_property
    def _files(self) -> dict[str, _Entry]:
        """The built-ins, which are files with a card. Files without a card are shared parts."""
        return {path.stem: _Entry(Origin("built-in", path.stem), module, "", functools.partial(_read_card, path),
                                  listed=module.count(".") == self.package.count(".") + 1)
                for path, module in self._folder() if _HAS_CARD.search(path.read_text(encoding="utf-8"))}


@functools.cache
def _installed(find: Callable[..., Any], group: str) -> list[tuple[str, _Entry]]:
    """Entry points by name. The search through all installed packages takes tens of milliseconds."""
    found = []
    for point in find(group=group):
        where = f"{point.dist.name} {point.dist.version}" if point.dist else point.module
        card = functools.partial(_card_of_module, point.name, point.module)
        found.append((point.name, _Entry(Origin("package", where), point.module, point.attr, card)))
    return found


def _same_source(first: _Entry, second: _Entry) -> bool:
    """Whether both are the same class of the same file or session, defined twice."""
    return (first.origin.kind, first.origin.where, first.member) == (
        second.origin.kind, second.origin.where, second.member)


@functools.cache
def _read_card(path: Path) -> Card:
    """Finds ``CARD = Card(...)`` in a file's text; its arguments must be literals."""
    for node in ast.parse(path.read_text(encoding="utf-8"), filename=str(path)).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id == "CARD" for t in targets):
            call = node.value  # type: ignore[attr-defined]
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Card" and not call.args:
                return Card(**{k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg})
            raise InputError(f"{path}: CARD must be written as Card(title=..., ...) with literal arguments")
    raise InputError(f"{path}: no CARD = Card(title=...); a file in {path.parent.name}/ describes itself")


def _card_of_module(name: str, module: str) -> Card:
    """The card in an installed module's text. A broken package has a card too, since it must not block others."""
    try:
        spec = importlib.util.find_spec(module)
        path = Path((spec and spec.origin) or module)
        return _read_card(path) if _HAS_CARD.search(path.read_text(encoding="utf-8")) else Card(name)
    except (ImportError, OSError, ValueError, SyntaxError) as error:
        return Card(name, note=f"broken: {error}")
