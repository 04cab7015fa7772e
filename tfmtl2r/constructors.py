"""Names, types and defaults of the arguments of a constructor."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
    """One constructor argument of a registered thing: its name, type annotation and default."""

    name: str
    annotation: Any
    default: Any


def options(constructor: Callable[..., Any], package: str) -> list[Option]:
    """The arguments of a constructor, in order, including inherited arguments.

    Args:
        constructor: a class or a function.
        package: base classes are included up to the last one in this package.
    """
    found: dict[str, Option] = {}
    for source in _sources(constructor, package):
        hints, signature = _hints(source), inspect.signature(source)
        for p in signature.parameters.values():
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self":
                default = None if p.default is p.empty else p.default
                found.setdefault(p.name, Option(p.name, hints.get(p.name, Any), default))
    return list(found.values())


def required(constructor: Callable[..., Any], given: Collection[str]) -> list[str]:
    """The arguments that a constructor cannot do without and that are not given."""
    return [p.name for p in inspect.signature(constructor).parameters.values() if p.name not in given
            and p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def unnamed(constructor: Callable[..., Any], package: str) -> bool:
    """Whether a constructor takes values without a name (``*args``), which no description can repeat."""
    return any(p.kind is p.VAR_POSITIONAL for source in _sources(constructor, package)
               for p in inspect.signature(source).parameters.values())


def given(init: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The given arguments of a call of ``__init__`` by name, without defaults; empty for an invalid call."""
    signature = inspect.signature(init)
    try:
        named = signature.bind(None, *args, **kwargs).arguments
    except TypeError:
        return {}  # __init__ itself is about to raise
    rest = [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    return {**{name: value for name, value in named.items() if name not in ("self", *rest)},
            **{name: value for key in rest for name, value in named.get(key, {}).items()}}


def _sources(constructor: Callable[..., Any], package: str) -> list[Callable[..., Any]]:
    """The functions that accept the arguments: a function, or the ``__init__`` of a class and, for ``**kwargs``, its
    bases.

    The last of these is the package's own base class. The arguments that it passes to Keras are not options. A
    dataclass whose ``__init__`` was made from its fields stands for this ``__init__``: its annotations are resolved.
    """
    if not inspect.isclass(constructor):
        return [constructor]
    classes = inspect.getmro(constructor)
    ours = [i for i, base in enumerate(classes) if base.__module__.startswith(f"{package}.")]
    sources: list[Callable[..., Any]] = []
    for base in classes[: ours[-1] + 1 if ours else -1]:
        if "__init__" in vars(base):
            if _made_from_fields(base):
                return [*sources, base]
            sources.append(vars(base)["__init__"])
            kinds = {p.kind for p in inspect.signature(sources[-1]).parameters.values()}
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                break
    return sources or [constructor]


def _made_from_fields(cls: type) -> bool:
    fields = [field.name for field in vars(cls).get("__dataclass_fields__", {}).values() if field.init]
    return "__dataclass_fields__" in vars(cls) and fields == [*inspect.signature(cls).parameters]


def _hints(source: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of arguments. For a dataclass they are resolved in the module of each base class."""
    hints: dict[str, Any] = {}
    for target in reversed(inspect.getmro(source)) if inspect.isclass(source) else [source]:
        try:
            hints.update(inspect.get_annotations(target, eval_str=True))
        except NameError:  # the name in an annotation is imported for type checking only
            continue
    return hints
