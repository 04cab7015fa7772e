"""The API reference: one page for each package with its public names."""

from __future__ import annotations

import inspect
import types

from rst import code, table, title, toctree

import tfmtl2r

REGISTRY = {"names", "get", "card", "register", "registry"}
"""Names that every package of parts has."""


def pages() -> dict[str, str]:
    """Name of a file -> text."""
    modules = {"tfmtl2r": tfmtl2r}
    for name in sorted(tfmtl2r.__all__):
        found = getattr(tfmtl2r, name)
        if isinstance(found, types.ModuleType) and of_package(found):
            modules[found.__name__] = found
    found = {f"api/{name}.rst": page(name, module) for name, module in modules.items()}
    return {**found, "api/index.rst": index(modules)}


def index(modules: dict[str, types.ModuleType]) -> str:
    rows = [(f":doc:`{name}`", first_line(module)) for name, module in modules.items()]
    about = "Public names: what these packages list in ``__all__``. All other names may change at any time."
    return "\n\n".join([title("Reference"), about, table(("package", "what it contains"), rows),
                        toctree(modules, "hidden")])


def first_line(module: types.ModuleType) -> str:
    return (module.__doc__ or "").strip().split("\n")[0]


def page(package: str, module: types.ModuleType) -> str:
    lines = [title(package), first_line(module)]
    public = getattr(module, "__all__", [])
    if REGISTRY.issubset(public):
        lines.append("``names()`` lists the registered parts, ``get(name, **options)`` builds one, ``card(name)`` "
                     "returns its title, source and promises, and ``register(name)`` is the decorator for your own.")
    for name in sorted({*public} - REGISTRY, key=str.lower):
        lines.append(entry(package, name, getattr(module, name)))
    return "\n\n".join(lines) + "\n"


def of_package(thing: types.ModuleType) -> bool:
    """Whether a module is of this package; others, such as that of TensorFlow Recommenders, have no page here."""
    return thing.__name__.startswith("tfmtl2r.")


def entry(package: str, name: str, thing: object) -> str:
    """The directive of a class or function; one line for anything else."""
    where = getattr(thing, "__module__", "")
    if isinstance(thing, types.ModuleType):
        page = f":doc:`{thing.__name__}`" if package == "tfmtl2r" and of_package(thing) else code(thing.__name__)
        return f"{page}: {first_line(thing)}"
    if inspect.isclass(thing) and where.startswith("tfmtl2r"):
        return f".. autoclass:: {where}.{thing.__qualname__}\n   :members:\n   :no-index:\n"
    if inspect.isroutine(thing) and where.startswith("tfmtl2r"):
        return f".. autofunction:: {where}.{thing.__qualname__}\n   :no-index:\n"
    return f"{code(name)}"
