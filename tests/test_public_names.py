"""Recipes and documents use public names only, and every public name is what its package lists."""

import ast
import importlib
import re
import types
from pathlib import Path

import pytest

import tfmtl2r
import tfmtl2r.pareto.front  # a case below depends on whether it is loaded

ROOT = Path(__file__).parents[1]
PACKAGES = ["tfmtl2r", *(f"tfmtl2r.{path.parent.name}" for path in sorted((ROOT / "tfmtl2r").glob("*/__init__.py")))]


def used(code):
    """Module and name of everything that code imports from the package, or reaches from it by attributes."""
    modules = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "tfmtl2r":
                    modules[alias.asname or "tfmtl2r"] = alias.name if alias.asname else "tfmtl2r"
                    if "." in alias.name:
                        yield alias.name, None
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tfmtl2r":
            for alias in node.names:
                yield node.module, alias.name
                found = getattr(importlib.import_module(node.module), alias.name, None)
                if isinstance(found, types.ModuleType) and found.__name__.startswith("tfmtl2r"):
                    modules[alias.asname or alias.name] = found.__name__
    for node in ast.walk(ast.parse(code)):
        names = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if names and isinstance(node, ast.Name) and node.id in modules:
            module = importlib.import_module(modules[node.id])
            for name in names:
                yield module.__name__, name
                module = getattr(module, name, None)
                if not isinstance(module, types.ModuleType):
                    break


def refused(code):
    """The uses that are not of public names."""
    wrong = set()
    for module, name in used(code):
        public = getattr(importlib.import_module(module), "__all__", ())
        private = any(part.startswith("_") and not part.startswith("__") for part in [*module.split("."), name or ""])
        if private or (name is not None and name != "__version__" and name not in public):
            wrong.add(f"{module}.{name}")
    return sorted(wrong)


def documents():
    """Where the code of recipes and documents is, and that code."""
    for path in sorted((ROOT / "recipes").glob("*.py")):
        code = path.read_text(encoding="utf-8")
        yield path.name, code
        for node in ast.walk(ast.parse(code)):  # code for processes of its own
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "import tfmtl2r" in node.value:
                yield f"{path.name}:{node.lineno}", node.value
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
            yield f"{path.name}:{number}", code


@pytest.mark.parametrize(("where", "code"), [pytest.param(*found, id=found[0]) for found in documents()])
def test_only_public_names(where, code):
    assert refused(code) == [], where


@pytest.mark.parametrize(("code", "wrong"), [
    ("from tfmtl2r._backend import keras", ["tfmtl2r._backend.keras"]),
    ("from tfmtl2r.methods.base import Method", ["tfmtl2r.methods.base.Method"]),
    ("from tfmtl2r.methods import _positive", ["tfmtl2r.methods._positive"]),
    ("import tfmtl2r\ntfmtl2r.expotr", ["tfmtl2r.expotr"]),
    ("import tfmtl2r as t\nt.pareto.front.costs([])", ["tfmtl2r.pareto.front", "tfmtl2r.pareto.front.costs"]),
    ("from tfmtl2r import methods\nmethods.Methd", ["tfmtl2r.methods.Methd"]),
    ("import tfmtl2r\ntfmtl2r.methods.get('mgda').weigh", []),
])  # fmt: skip
def test_the_test_finds_what_is_not_public(code, wrong):
    assert refused(code) == wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist_and_are_listed(package):
    module = importlib.import_module(package)
    names = getattr(module, "__all__", ())
    assert len(set(names)) == len(names)
    for path in (ROOT / package.replace(".", "/")).glob("*.py"):
        if path.stem in names and hasattr(module, "__getattr__"):
            # Importing the file puts its module in the place of a lazy name that is called the same.
            assert isinstance(getattr(module, path.stem), types.ModuleType), path.stem
    for name in names:
        assert getattr(module, name) is not None
        assert name in dir(module)


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match=r"module 'tfmtl2r\.methods' has no attribute 'Methd'"):
        tfmtl2r.methods.Methd  # noqa: B018
