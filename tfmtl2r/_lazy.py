"""Public names of a package that are imported when they are first used.

A package lists them once, as imports that type checkers and editors follow::

    if TYPE_CHECKING:
        from tfmtl2r.data.lists import Lists
    else:
        __getattr__, __dir__ = _lazy.attach(__name__)

:func:`attach` reads that block as text. Importing the package loads none of the modules that the block names.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

from tfmtl2r.errors import InputError


def attach(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__``, for the names that it imports under ``if TYPE_CHECKING:``.

    Args:
        package: its dotted name; the package is being imported.

    >>> get, _ = attach("tfmtl2r")
    >>> get("Task").__name__
    'Task'
    """
    public = _imports(inspect.getsource(sys.modules[package]), package)

    def get(name: str) -> Any:
        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, member = public[name]
        value = importlib.import_module(f"{module}.{member}") if module == package else getattr(
            importlib.import_module(module), member)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *public})


def _imports(source: str, package: str) -> dict[str, tuple[str, str]]:
    """Name -> module and member, of every ``from MODULE import NAME`` in the block ``if TYPE_CHECKING:``.

    >>> _imports("if TYPE_CHECKING:\\n    from tfmtl2r.task import Task as Goal", "tfmtl2r")
    {'Goal': ('tfmtl2r.task', 'Task')}
    """
    found = {}
    for block in ast.parse(source).body:
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            for node in block.body:
                if not isinstance(node, ast.ImportFrom) or node.level or node.module is None:
                    raise InputError(f"{package}: public names are imported as 'from MODULE import NAME'")
                found.update({alias.asname or alias.name: (node.module, alias.name) for alias in node.names})
    return found
