"""The command line of an experiment: flags derive from the schema and from the options of the chosen things."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmtl2r import plugins
from tfmtl2r.commands._flags import kind_of, metavar_of, text_of
from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean
from tfmtl2r.settings import Data, SettingError, Settings, files
from tfmtl2r.settings.help import help_of
from tfmtl2r.settings.layers import layered, preset_of, with_preset
from tfmtl2r.settings.things import THINGS, check_options
from tfmtl2r.settings.values import Section, Text, converted, facts, hints, name_of, read, registry_of

_PLANS = ("sweep", "tune")
"""Sections that plan several trainings, each of them for one command."""


@dataclasses.dataclass(frozen=True)
class Value:
    """A flag of one command that is no key of an experiment.

    Args:
        kind: ``int``, ``float`` or ``str``.
        help: description, for ``--help``.
        default: its value if it is not given.
        several: whether the flag takes several values; they form a list.
    """

    kind: Any
    help: str
    default: Any = None
    several: bool = False


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that reads an experiment.

    Args:
        name: name of the command, for example ``"train"``.
        about: description of the command, for ``--help``.
        switches: additional flags that are true or false: name -> help.
        values: additional flags with a value: name -> its description.
        named: whether the first argument may be the name of the result.
        bare: sections whose keys are flags without the section's name.
        defaults: values of keys that neither file nor flags give.
        resumes: whether ``--resume NAME`` goes on with an unfinished training.
    """

    name: str
    about: str
    switches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    values: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    named: bool = False
    bare: tuple[str, ...] = ("training",)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    resumes: bool = False


@dataclasses.dataclass
class Flag:
    """A flag and the key that it sets. For an option of a registered thing, also the name of this thing."""

    names: tuple[str, ...]
    path: tuple[str, ...]
    hint: Any
    help: str
    default: Any
    thing: str = ""


def parse(command: Command, arguments: Sequence[str]) -> tuple[dict[str, Any], argparse.Namespace]:
    """The tree of an experiment from a file or an earlier run and from flags, and the switches.

    Flags take precedence over the file or the earlier run.

    Raises:
        ValueError: for an unknown flag or key; the message contains the most similar name, and the line of a file.
    """
    arguments = [_as_flag(argument, command) for argument in arguments]
    file = _taken(arguments, lambda argument: argument.endswith(".toml"))
    name = _taken(arguments[:1], bool) if command.named else None
    early, _ = _early(command).parse_known_args(arguments[1:] if name else arguments)
    tree = _begin(file, early)
    before = tree.get("preset")
    sets = [_assignment(text) for text in early.set or ()]
    if name:
        tree["name"] = name
    try:
        paths = [argument[2:].partition("=")[0].split(".") for argument in arguments if argument.startswith("--")]
        if keys := [path[1] for path in [*paths, *(path for path, _ in sets)] if path[0] == "data" and path[1:]]:
            tree["data"] = Data.moved(_described(tree.get("data")), keys)
        for thing in THINGS:
            if chosen := getattr(early, thing):
                _choose(tree, thing, chosen)
        _assign_all(tree, [(path, value) for path, value in sets if path[0] in THINGS])
        if early.preset:
            tree["preset"] = early.preset
        parser, flags = _parser(command, _above_preset(tree))
        given, rest = parser.parse_known_args(arguments[1:] if name else arguments)
        if rest:
            known = [*(flag for one in flags for flag in one.names), *(f"--{name}" for name in command.values)]
            raise InputError(_unknown(rest[0], known, command))
        for flag in (flag for flag in flags if flag.names[0][2:] not in THINGS):
            if (value := getattr(given, ".".join(flag.path), None)) is not None:
                if flag.thing:
                    tree[flag.path[0]] = {"name": flag.thing, **_described(tree.get(flag.path[0]))}
                files.assign(tree, flag.path, _typed(flag, value))
        _assign_all(tree, sets)
        if _resumed(early):
            begun = _begin(file, early)
            tree |= {key: begun[key] for key in ("name", "directory")}  # --directory is where the run was sought
            if Settings.of(tree) != Settings.of(begun):
                raise InputError(f"{_resumed(early)} goes on with the settings of that training: leave out all flags "
                                 "that change them, or begin a training of another name with --like")
        if early.like and tree.get("preset") != before:
            raise InputError(f"--preset has no effect beside --like {early.like}: the settings of a run are complete, "
                             "and a preset is below them; begin with a file, or give the keys themselves")
        tree = with_preset(tree, Settings)
        if not (early.like or _resumed(early)):
            tree = layered(command.defaults, tree, Settings)
        check_options(Settings.of(tree))
    except SettingError as error:
        if file and error.path[:1] and files.line_of(Path(file).read_text(encoding="utf-8"), error.path):
            raise files.located(error, file) from None
        raise
    return tree, given


def _taken(arguments: list[str], wanted: Any) -> str | None:
    """Removes the first argument that is not a flag and satisfies a condition, and returns it."""
    for position, argument in enumerate(arguments):
        if not argument.startswith("-") and wanted(argument) and arguments[position - 1 : position] != ["--name"]:
            return arguments.pop(position)
    return None


def _as_flag(argument: str, command: Command) -> str:
    """A flag that is written like its key in the file, such as ``--training.batch_size``, by its own name."""
    flag, equals, value = argument.partition("=")
    if not flag.startswith("--"):
        return argument
    path = flag[2:].replace("_", "-").split(".")
    if len(path) == 2 and path[0] in command.bare:
        path = path[1:]
    elif len(path) == 2 and path[0] in THINGS and path[1] == "name":
        path = path[:1]
    elif path == ["start", "from"]:
        path = ["from"]
    return f"--{'.'.join(path)}{equals}{value}"


class _Parser(argparse.ArgumentParser):
    """A parser that raises its errors, so that the command line shows them like all other errors."""

    def error(self, message: str) -> typing.NoReturn:
        raise InputError(message)


def _early(command: Command) -> _Parser:
    """Parses the flags that are needed before the flags of the chosen things are known."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    for flag in ("like", "directory", "preset", *(["resume"] if command.resumes else []), *THINGS):
        parser.add_argument(f"--{flag}")
    parser.add_argument("--set", action="append")
    return parser


def _above_preset(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree above the things that its preset chooses, whose options are flags."""
    preset = preset_of(tree)
    return tree if preset is None else layered(preset.settings, tree, Settings)


def _begin(file: str | None, early: argparse.Namespace) -> dict[str, Any]:
    """The tree without flags, presets and defaults of the command."""
    given = [file and f"the file {file}", early.like and f"--like {early.like}", _resumed(early)]
    if len(sources := [source for source in given if source]) > 1:
        raise InputError(f"give only one of {' and '.join(sources)}")
    if _resumed(early):
        return _unfinished(early)
    if file:
        named = converted(files.raw(file).get("plugins", []), tuple[str, ...])
        plugins.load(*named, folder=Path(file).parent)
        return files.load(file)
    if early.like:
        return {key: value for key, value in _of_run(early).items() if key not in ("name", "plugins")}
    return {}


def _resumed(early: argparse.Namespace) -> str:
    return f"--resume {early.resume}" if getattr(early, "resume", None) else ""


def _unfinished(early: argparse.Namespace) -> dict[str, Any]:
    """The settings of the unfinished training that ``--resume`` names."""
    from tfmtl2r.runs import attempt
    from tfmtl2r.runs.places import find

    run = find(early.directory or Settings().directory, early.resume)
    return {**attempt.settings_of(run), "name": run.name, "directory": str(run.parent)}


def _of_run(early: argparse.Namespace) -> dict[str, Any]:
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.runs.places import find

    folder = find(early.directory or Settings().directory, early.like)
    config = RunCard.load(folder).config  # names a plug-in that is missing or has changed
    return files.load(folder / files.FILE) if (folder / files.FILE).is_file() else config


def _assignment(text: str) -> tuple[list[str], Any]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise InputError(f"--set takes KEY=VALUE, such as tasks.dwell.loss=mse, not {text!r}")
    text, places = value.strip(), [part.strip() for part in path.split(".")]
    try:
        return places, read(text) if text.startswith(("{", "[")) else Text(text)
    except SettingError as error:
        raise error.within(*places) from None


def _assign_all(tree: dict[str, Any], sets: Sequence[tuple[list[str], Any]]) -> None:
    for path, value in sets:
        if path[0] == "plugins":
            raise InputError("plug-ins are imported before other settings are read: use --plugins FILE.py")
        if path[0] == "tasks" and len(path) > 1:
            _keep_default_tasks(tree)
        files.assign(tree, path, value)


def _keep_default_tasks(tree: dict[str, Any]) -> None:
    """Keeps all default tasks of the data set if an entry changes one of them."""
    data = _described(tree.get("data"))
    if "tasks" not in tree and "tasks" not in data and "files" not in data and "train" not in data:
        wanted = Settings.of({"data": data}).data
        made = registry_of(THINGS["data"]).get(wanted.name, **wanted.options)
        tree["data"] = {**data, "tasks": list(made.default_tasks)}


def _described(thing: Any) -> dict[str, Any]:
    if not isinstance(thing, (str, Mapping, type(None))):
        raise InputError(f"expected a name or {{name = ..., option = value}}, not {thing!r}")
    return {"name": thing} if isinstance(thing, str) else dict(thing or {})


def _choose(tree: dict[str, Any], thing: str, text: str) -> None:
    """Sets a thing by a name or a table. If the name changes, the old options are removed."""
    try:
        given = dict(read(text)) if text.startswith("{") else {"name": text}
    except SettingError as error:
        raise error.within(thing) from None
    before = _described(tree.get(thing))
    if given.get("name", before.get("name")) != before.get("name"):
        kept = {*Data.beside_name} - {"name"} if thing == "data" else {}
        before = {key: value for key, value in before.items() if key in kept}
    tree[thing] = {**before, **given}


def _parser(command: Command, tree: Mapping[str, Any]) -> tuple[_Parser, list[Flag]]:
    first = " [NAME]" if command.named else ""
    parser = _Parser(
        prog=f"tfmtl2r {command.name}", description=command.about, allow_abbrev=False,
        usage=f"tfmtl2r {command.name}{first} [EXPERIMENT.toml | --like RUN] [flags]",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
        epilog="Flags override the file, the file overrides the preset (tfmtl2r list presets), and the preset "
        "overrides defaults. tfmtl2r init writes a file with every key.",
    )
    where = parser.add_argument_group("where settings come from")
    where.add_argument("--like", metavar="RUN", help="start from the settings of an earlier run")
    if command.resumes:
        where.add_argument("--resume", metavar="RUN", help="go on with a training that was stopped, with its settings")
    where.add_argument("--set", metavar="KEY=VALUE", action="append",
                       help="any key of an experiment file, such as tasks.dwell.loss=mse; an entry by its name")
    for name, text in command.switches.items():
        where.add_argument(f"--{name}", action="store_true", help=text)
    own = parser.add_argument_group(command.name) if command.values else where
    for name, value in command.values.items():
        shown = "" if value.default is None else f" (default: {value.default})"
        several: dict[str, Any] = {"nargs": "+", "action": "extend"} if value.several else {}
        own.add_argument(f"--{name}", type=value.kind, default=[] if value.several else value.default,
                         metavar=metavar_of(value.kind), help=(value.help + shown).replace("%", "%%"), **several)
    flags: list[Flag] = []
    for title, group in _groups(command, tree):
        added = parser.add_argument_group(title)
        for flag in group:
            flags.append(flag)
            _add(added, flag)
    return parser, flags


def _groups(command: Command, tree: Mapping[str, Any]) -> list[tuple[str, list[Flag]]]:
    top = [flag for flag in _flags(Settings, (), bare=True) if flag.path[0] not in ("data", *_PLANS)]
    groups = [("the experiment", top)]
    for name, hint in hints(Settings).items():
        if isinstance(hint, type) and issubclass(hint, Section) and (name not in _PLANS or name in command.bare):
            group = _flags(hint, (name,), name in command.bare)
            if name == "data" and _described(tree.get("data")).get("name"):
                group = [flag for flag in group if flag.path[1] in Data.beside_name]
            groups.append((f"[{name}]", group))
    for thing, package in THINGS.items():
        name = _described(tree.get(thing)).get("name") or Settings.of({}).tree()[thing]
        name = name if isinstance(name, str) else name["name"]
        options = _options(thing, package, name)
        if options:
            groups.append((f"options of the {'data set' if thing == 'data' else thing} {name}", options))
    return groups


def _flags(section: type[Section], prefix: tuple[str, ...], bare: bool) -> list[Flag]:
    texts, found = help_of(section), []
    default = section() if not prefix else None
    for field in dataclasses.fields(section):
        hint = hints(section)[field.name]
        if not facts(field).flag or (isinstance(hint, type) and issubclass(hint, Section)):
            continue
        path = (*prefix, name_of(field))
        dotted = "--" + ".".join(path).replace("_", "-")
        if path == ("data", "name"):
            names: tuple[str, ...] = ("--data",)
        elif path == ("start", "from"):
            names = ("--from",)
        else:
            names = (f"--{field.name.replace('_', '-')}",) if bare else (dotted,)
        shown = getattr(default or section(), field.name)
        found.append(Flag(names, path, hint, texts.get(field.name, ""), shown))
    return found


def _options(thing: str, package: str, name: str) -> list[Flag]:
    registry = registry_of(package)
    texts = help_of(registry.constructor(name))
    return [Flag((f"--{thing}.{option.name.replace('_', '-')}",), (thing, option.name), option.annotation,
                 texts.get(option.name, ""), option.default, name) for option in registry.options(name)
            if thing != "data" or option.name not in Data.beside_name]


def _add(group: Any, flag: Flag) -> None:
    shown = "" if flag.default in (None, (), "") else f" (default: {text_of(flag.default)})"
    options: dict[str, Any] = {"dest": ".".join(flag.path), "default": None,
                               "help": (flag.help + shown).replace("%", "%%")}
    kind = kind_of(flag.hint)
    if kind is bool:
        group.add_argument(*flag.names, action=argparse.BooleanOptionalAction, **options)
    elif kind is list:
        group.add_argument(*flag.names, nargs="*", action="extend", metavar=metavar_of(flag.hint), **options)
    else:
        group.add_argument(*flag.names, metavar=metavar_of(flag.hint), **options)


def _typed(flag: Flag, value: Any) -> Any:
    """Converts the value of an option to the flag's type. The schema converts the values of its own keys."""
    if isinstance(value, bool):
        return value
    typed = [Text(one) for one in value] if isinstance(value, list) else Text(value)
    if not flag.thing:
        return typed
    try:
        return converted(typed, flag.hint)
    except SettingError as error:
        raise error.within(*flag.path) from None


def _unknown(argument: str, known: Sequence[str], command: Command) -> str:
    if not argument.startswith("-"):
        hint = "use --name for the name of a run; the name of an experiment file must end in .toml"
        return f"unexpected argument {argument!r}: {hint}"
    flag = argument.partition("=")[0]
    where = f"tfmtl2r {command.name}"
    if {flag, flag.partition(".")[0]} & _later(Settings, ""):
        return f"{flag} is not built yet: this version of tfmtl2r lacks it; leave it out"
    return f"{flag} is not a flag of {where}{did_you_mean(flag, known)}; see {where} --help"


def _later(section: type[Section], prefix: str) -> set[str]:
    """The flags of keys of the format that this version does not support yet."""
    found = {f"--{prefix}{name}".replace("_", "-") for name in section.not_built}
    for name, hint in hints(section).items():
        if isinstance(hint, type) and issubclass(hint, Section):
            found |= _later(hint, "" if name == "training" else f"{name}.")
    return found
