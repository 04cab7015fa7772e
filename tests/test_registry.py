"""Discovery by file name, cards read as text, construction, description, third-party entry points."""

import dataclasses
import importlib
import importlib.metadata
import sys
import textwrap

import pytest

from tfmtl2r import architectures, losses, methods, metrics
from tfmtl2r.registry import Card, Registry

PACKAGE = "figures_for_registry_tests"
CIRCLE = """
    import dataclasses
    from tfmtl2r.registry import Card

    __all__ = ["Circle"]
    CARD = Card(title="Circle", paper="Euclid -300", aliases=("disc", "ring"), promises=("round",), note="No corners.")

    @dataclasses.dataclass(frozen=True)
    class Circle:
        radius: float = 1.0
        centre: tuple[float, ...] = (0.0, 0.0)
"""
SQUARE = """
    raise RuntimeError("imported although nobody asked for it")
    CARD = Card(title="Square")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An importable package with a circle, a square whose import fails, and a private helper."""
    package = tmp_path / PACKAGE
    package.mkdir()
    for name, text in {"__init__": "", "circle": CIRCLE, "square": SQUARE, "_helper": "no_card = True"}.items():
        (package / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def figures(folder):
    return Registry(PACKAGE, "figure")


def test_a_public_file_is_a_name_and_listing_imports_none(figures):
    assert figures.names() == ["circle", "square"]
    assert figures.card("circle") == Card("Circle", "Euclid -300", ("disc", "ring"), ("round",), "No corners.")
    assert figures.card("square").title == "Square"
    assert figures.aliases() == {"disc": "circle", "ring": "circle"}
    assert f"{PACKAGE}.circle" not in sys.modules


def test_get_by_name_and_alias(figures):
    circle = figures.get("circle", radius=2.0)
    assert (type(circle).__name__, circle.radius, circle.centre) == ("Circle", 2.0, (0.0, 0.0))
    assert type(figures.get("disc")) is type(circle)
    assert figures.get(circle) is circle
    assert figures.resolve("ring") == "circle"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("circel", "no figure is called 'circel'; did you mean 'circle'"),
        ("xyz", "no figure is called 'xyz'. Known: circle, square"),
    ],
)
def test_an_unknown_name_proposes_the_nearest(figures, wrong, message):
    with pytest.raises(ValueError, match=message):
        figures.get(wrong)


def test_unknown_options_are_named_with_the_known_ones(figures):
    with pytest.raises(TypeError, match="figure 'circle' has no option colour, size; it accepts: radius, centre"):
        figures.get("disc", size=1, colour="red")
    with pytest.raises(TypeError, match=r"\['radius'\] were given with a ready figure"):
        figures.get(figures.get("circle"), radius=2.0)


def test_options_have_types_and_defaults(figures):
    assert [(o.name, o.annotation, o.default) for o in figures.options("circle")] == [
        ("radius", float, 1.0), ("centre", tuple[float, ...], (0.0, 0.0)),
    ]


def test_describe_and_get_are_inverse(figures):
    described = figures.describe(figures.get("disc", centre=(1.0, 2.0)))
    assert described == {"name": "circle", "centre": [1.0, 2.0]}
    again = figures.get(described)
    assert list(again.centre) == [1.0, 2.0]
    assert figures.describe(again) == described
    by_class = figures.constructor("circle")(radius=3.0)
    assert figures.describe(by_class) == {"name": "circle", "radius": 3.0, "centre": [0.0, 0.0]}


def test_an_object_of_ones_own_cannot_be_described(figures):
    @dataclasses.dataclass
    class Blob:
        size: int = 1

    with pytest.raises(ValueError, match=f"Blob cannot be saved by name: register .* entry-point group '{PACKAGE}'"):
        figures.describe(Blob())


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1", "triangle.py: no CARD"), ("CARD = 3", "literal"), ("CARD = Card('Triangle')", "literal")],
)
def test_a_public_file_without_a_proper_card_is_an_error(folder, figures, text, message):
    (folder / "triangle.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        figures.card("triangle")


def test_a_third_party_package_joins_through_an_entry_point(figures, folder, monkeypatch):
    (folder.parent / "their_figures.py").write_text(
        "from tfmtl2r.registry import Card\nCARD = Card(title='Hexagon', aliases=('honeycomb',))\n"
        "class Hexagon:\n    def __init__(self, side: int = 6):\n        self.side = side\n"
    )
    point = importlib.metadata.EntryPoint("hexagon", "their_figures:Hexagon", PACKAGE)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == PACKAGE else [])
    try:
        assert figures.names() == ["circle", "hexagon", "square"]
        assert figures.card("hexagon").title == "Hexagon"
        assert figures.get("honeycomb", side=2).side == 2
        assert figures.describe(figures.get("hexagon", side=2)) == {"name": "hexagon", "side": 2}
    finally:
        sys.modules.pop("their_figures", None)


@pytest.mark.parametrize("package", [architectures, losses, methods, metrics], ids=lambda p: p.__name__)
def test_every_registered_thing_can_be_found_and_built(package):
    registry = package.registry
    aliases = [alias for name in registry.names() for alias in registry.card(name).aliases]
    assert len({*aliases, *registry.names()}) == len(aliases) + len(registry.names()), "two things share a name"
    for name in registry.names():
        assert package.card(name).title
        thing = package.get(name)
        assert registry.describe(thing) == {"name": name}
        assert type(package.get(registry.describe(thing))) is type(thing)
