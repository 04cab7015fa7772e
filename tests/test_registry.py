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
    CARD = Card(title="Circle", paper="Euclid -300", aliases=("disc", "ring"), promises=("stationary",), note="Round.")

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
    assert figures.card("circle") == Card("Circle", "Euclid -300", ("disc", "ring"), ("stationary",), "Round.")
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
    for look in (figures.card, figures.options, figures.origin):
        with pytest.raises(ValueError, match=message):
            look(wrong)


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
    assert figures.describe(by_class) == {"name": "circle", "radius": 3.0} == figures.describe(
        figures.get("circle", radius=3.0))
    assert figures.describe(dataclasses.replace(by_class, centre=(1.0, 0.0))) == {
        "name": "circle", "radius": 3.0, "centre": [1.0, 0.0]}


def test_an_object_of_ones_own_cannot_be_described(figures):
    @dataclasses.dataclass
    class Blob:
        size: int = 1

    with pytest.raises(ValueError, match=rf'Blob \(file .*test_registry.py\) is no registered figure, .* put '
                       rf'@tfmtl2r.{PACKAGE}.register\("name"\) above the class'):
        figures.describe(Blob())


def test_a_file_of_the_same_name_elsewhere_is_another_thing(figures, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "circle.py").write_text(textwrap.dedent(CIRCLE))
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    try:
        own = importlib.import_module("circle").Circle
        with pytest.raises(ValueError, match=r"Circle .* is no registered figure"):
            figures.describe(own(radius=2.0))
        figures.register("own_circle")(own)
        assert figures.describe(own(radius=2.0)) == {"name": "own_circle", "radius": 2.0}
        assert type(figures.get("own_circle")) is own
        assert type(figures.get("circle")) is not own
    finally:
        sys.modules.pop("circle", None)


def test_a_subclass_is_not_what_it_inherits_from(figures):
    class Ellipse(figures.constructor("circle")):
        pass

    with pytest.raises(ValueError, match=r"Ellipse .* is no registered figure"):
        figures.describe(Ellipse())


def test_options_that_are_no_plain_data_are_refused_with_a_reason(figures):
    with pytest.raises(ValueError, match="Circle has the option radius=<built-in function abs>, which cannot be saved"):
        figures.describe(figures.get("circle", radius=abs))


class TestRegister:
    """Classes that a script registers."""

    def test_it_is_found_built_and_described(self, figures):
        @figures.register("star", card=Card("Star", aliases=("asterisk",)))
        class Star:
            def __init__(self, points: int = 5):
                self.points = points

        assert "star" in figures.names()
        assert figures.card("asterisk").title == "Star"
        assert figures.describe(figures.get("asterisk", points=6)) == {"name": "star", "points": 6}
        origin = figures.origin("star")
        assert (origin.kind, origin.where) == ("file", __file__)
        assert len(origin.sha256) == 64

    def test_the_title_is_the_first_line_of_the_docstring(self, figures):
        @figures.register("star")
        class Star:
            """Five points.

            More text.
            """

        assert figures.card("star") == Card("Five points.")

    def test_two_things_of_one_name_are_refused(self, figures):
        def first():
            @figures.register("star")
            class Star:
                pass

        def second():
            @figures.register("star")
            class Star:
                pass

        first()
        first()  # the same class of the same file, as after a reload
        with pytest.raises(ValueError, match=r"the figure 'star' exists twice: file .*test_registry.py and file "
                           r".*test_registry.py; rename one"):
            second()

    @pytest.mark.parametrize(
        ("name", "card", "message"),
        [
            ("circle", None, "the figure 'circle' exists twice: built-in circle and file .*test_registry"),
            ("disc", None, "the figure name 'disc' stands for two things: .*'circle'.*; rename one"),
            ("star", Card("Star", aliases=("ring",)), "'ring' stands for two things: 'circle'.* and 'star'"),
            ("star", Card("Star", aliases=("square",)), "the figure name 'square' stands for two things"),
            ("a b", None, "expects a name of letters, digits and underscores"),
            ("ndcg@5", None, "expects a name of letters"),
        ],
    )
    def test_taken_and_impossible_names(self, figures, name, card, message):
        with pytest.raises(ValueError, match=message):
            figures.register(name, card=card)(type("Star", (), {"__module__": __name__}))
        assert figures.names() == ["circle", "square"]

    def test_one_class_has_one_name(self, figures):
        star = figures.register("star")(type("Star", (), {"__module__": __name__}))
        with pytest.raises(ValueError, match="Star is called 'star' already"):
            figures.register("asterisk")(star)
        with pytest.raises(ValueError, match="Circle is called 'circle' already"):
            figures.register("round")(figures.constructor("circle"))

    def test_without_a_name(self, figures):
        with pytest.raises(ValueError, match=r"register expects a name .*@tfmtl2r.*register\(\"my_"):
            figures.register(type("Star", (), {}))

    def test_options_of_a_base_class_of_ones_own(self, figures):
        class Angular:
            def __init__(self, corners: int = 4, **kwargs):
                self.corners = corners

        @figures.register("star")
        class Star(Angular):
            def __init__(self, points: int = 5, **kwargs):
                super().__init__(**kwargs)
                self.points = points

        assert [o.name for o in figures.options("star")] == ["points", "corners"]
        assert figures.describe(figures.get("star", corners=3)) == {"name": "star", "corners": 3}


    def test_a_dataclass_with_a_constructor_of_its_own_keeps_inherited_options(self, figures):
        @figures.register("star")
        class Star(figures.constructor("circle")):
            def __init__(self, points=5, **kwargs):
                super().__init__(**kwargs)
                object.__setattr__(self, "points", points)

        assert [o.name for o in figures.options("star")] == ["points", "radius", "centre"]
        described = {"name": "star", "points": 6, "radius": 3.0}
        assert figures.describe(figures.get(described)) == described

    def test_values_without_a_name_are_refused(self, figures):
        with pytest.raises(TypeError, match=r"Star takes \*args, whose values no file could repeat"):
            @figures.register("star")
            class Star:
                def __init__(self, *args):
                    self.args = args


@pytest.mark.parametrize("package", [architectures, losses, methods, metrics], ids=lambda p: p.__name__)
def test_only_what_has_the_base_class_belongs_to_a_kind(package):
    kind = package.registry.kind
    article = "an" if package is architectures else "a"
    with pytest.raises(TypeError, match=f"expected {article} {kind}, its name or"):
        package.get(object())
    with pytest.raises(TypeError, match=f"expected {article} {kind} or its name, got the class dict: call it first"):
        package.get(dict)
    with pytest.raises(ValueError, match=f"^{article} {kind} is described by"):
        package.get({"option": 1})
    with pytest.raises(TypeError, match=f"Blob is no {kind}: it is not a subclass of"):
        package.register("blob")(type("Blob", (), {"__module__": __name__}))
    others = [other for other in (losses, methods, metrics) if other is not package]
    with pytest.raises(TypeError, match="expected a"):
        package.get(others[0].get(others[0].names()[0]))


def test_an_option_that_is_needed_is_named():
    with pytest.raises(TypeError, match=r"method 'every' needs the option method: write it as \{name = .every"):
        methods.get("every")


def test_files_in_a_sub_folder_are_reached_by_name_but_not_listed(figures, folder):
    (folder / "around").mkdir()
    (folder / "around" / "__init__.py").write_text("")
    (folder / "around" / "base.py").write_text("")
    (folder / "around" / "frame.py").write_text(
        "from tfmtl2r.registry import Card\n__all__ = ['Frame']\nCARD = Card(title='Frame')\nclass Frame: pass\n")
    assert figures.names() == ["circle", "square"]
    assert figures.describe(figures.get("frame")) == {"name": "frame"}
    assert figures.card("frame").title == "Frame"


def test_names_of_earlier_versions(folder):
    figures = Registry(PACKAGE, "figure", formerly={"_round.Circle": "circle"})
    assert figures.describe(figures.get({"name": "_round.Circle", "radius": 2.0})) == {"name": "circle", "radius": 2.0}
    with pytest.raises(ValueError, match=r"no figure is called '_round.Square'"):
        figures.get("_round.Square")


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1", "triangle.py: no CARD"), ("CARD = 3", "literal"), ("CARD = Card('Triangle')", "literal")],
)
def test_a_public_file_without_a_proper_card_is_an_error(folder, figures, text, message):
    (folder / "triangle.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        figures.card("triangle")
    assert ("triangle" in figures.names()) == ("CARD" in text)


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


@pytest.mark.parametrize("name", ["circle", "disc"])
def test_an_installed_package_never_replaces_a_built_in(figures, folder, monkeypatch, name):
    (folder.parent / "their_figures.py").write_text("class Circle: pass\n")
    point = importlib.metadata.EntryPoint(name, "their_figures:Circle", PACKAGE)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == PACKAGE else [])
    with pytest.raises(ValueError, match=f"the figure (name )?'{name}' (exists twice|stands for two)") as caught:
        figures.get(name)
    assert "built-in circle" in str(caught.value)
    assert "package their_figures" in str(caught.value)


def test_a_package_without_its_module_is_named(figures, monkeypatch):
    point = importlib.metadata.EntryPoint("hexagon", "lost_module:Hexagon", PACKAGE)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == PACKAGE else [])
    assert figures.card("hexagon").note.startswith("broken: ")
    assert figures.resolve("disc") == "circle"  # a broken package blocks nothing else
    with pytest.raises(ValueError, match=r"lost_module of package lost_module cannot be imported: .*reinstall"):
        figures.get("hexagon")


@pytest.mark.parametrize("package", [architectures, losses, methods, metrics], ids=lambda p: p.__name__)
def test_every_registered_thing_can_be_found_and_built(package):
    registry = package.registry
    assert {registry.origin(name).kind for name in registry.names()} == {"built-in"}
    aliases = [alias for name in registry.names() for alias in registry.card(name).aliases]
    assert len({*aliases, *registry.names()}) == len(aliases) + len(registry.names()), "two things share a name"
    for name in registry.names():
        assert package.card(name).title
        thing = package.get(name)
        assert registry.describe(thing) == {"name": name}
        assert type(package.get(registry.describe(thing))) is type(thing)
