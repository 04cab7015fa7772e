"""Plug-in files: imported only when named, remembered with their hash, missed and refused by name."""

import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from tfmtl2r import Experiment, cli, methods, plugins
from tfmtl2r.commands import _options, train
from tfmtl2r.runs.card import RunCard
from tfmtl2r.settings import files

LOUD = """
    import dataclasses
    import tfmtl2r
    from tfmtl2r.methods.base import GramMethod, count_present
    from tfmtl2r.registry import Card

    {before}
    @tfmtl2r.methods.register("{name}", card=Card("Loudest gradient", aliases=("shouting",)))
    @dataclasses.dataclass(frozen=True)
    class PCGrad(GramMethod):
        volume: float = 1.0

        def weigh(self, signals, state):
            return self.volume * count_present(signals, signals.gram.dtype) * signals.preference, state
"""


def plugin(path, name="loudest", before=""):
    path.write_text(textwrap.dedent(LOUD).replace("{name}", name).replace("{before}", before))
    return path


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    """What a test imports is forgotten after it."""
    monkeypatch.setattr(plugins, "_LOADED", {})
    yield
    for name in ("loudest", "other"):
        methods.registry.unregister(name)


def test_a_file_called_pcgrad_is_never_the_built_in(tmp_path):
    """Its class is called PCGrad too; only the registered name counts."""
    plugins.load(plugin(tmp_path / "pcgrad.py"))
    own = methods.get("loudest", volume=2.0)
    assert methods.registry.describe(own) == {"name": "loudest", "volume": 2.0}
    assert methods.registry.describe(methods.get("pcgrad")) == {"name": "pcgrad"}
    assert type(own) is not type(methods.get("pcgrad"))
    assert type(own).__name__ == "PCGrad"
    origin = methods.registry.origin("shouting")
    assert (origin.kind, origin.where) == ("file", str(tmp_path / "pcgrad.py"))
    assert origin.sha256 == hashlib.sha256((tmp_path / "pcgrad.py").read_bytes()).hexdigest()


def test_two_files_of_one_name_are_refused(tmp_path):
    plugins.load(plugin(tmp_path / "first.py"))
    with pytest.raises(ValueError, match=r"plug-in .*second.py, line 8: InputError: the method 'loudest' exists twice: "
                       r"file .*first.py and file .*second.py"):
        plugins.load(plugin(tmp_path / "second.py"))
    assert methods.registry.origin("loudest").where == str(tmp_path / "first.py")
    with pytest.raises(ValueError, match="the method 'mgda' exists twice: built-in mgda and file"):
        plugins.load(plugin(tmp_path / "third.py", "mgda"))


def test_a_file_is_imported_once_and_again_when_it_has_changed(tmp_path, capsys):
    path = plugin(tmp_path / "parts.py", before="print('imported')")
    first, = plugins.load("parts.py", folder=tmp_path)
    assert plugins.load(path) == [first]
    assert capsys.readouterr().out == "imported\n"
    assert (first.path, first.name) == ("parts.py", "parts.py")
    plugin(path, before="print('changed')")
    second, = plugins.load(path)
    assert capsys.readouterr().out == "changed\n"
    assert first.sha256 != second.sha256
    assert plugins.loaded() == [second]
    assert methods.registry.origin("loudest").sha256 == second.sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nimport nothing_of_this_name", r"plug-in bad.py, line 2: ModuleNotFoundError: No module named 'nothing_of"),
        ("x = (", r"plug-in bad.py, line 1: SyntaxError: '\(' was never closed"),
        ("def f():\n    raise ValueError('no')\n\nf()", r"plug-in bad.py, line 2: ValueError: no"),
        ("raise SystemExit(3)", "plug-in bad.py, line 1: SystemExit: 3"),
    ],
)
def test_a_file_that_fails_is_told_with_line_and_cause(tmp_path, monkeypatch, capsys, text, message):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        plugins.load("bad.py", folder=tmp_path)
    assert plugins.loaded() == []
    monkeypatch.chdir(tmp_path)
    assert cli.main(["list", "--plugins", "bad.py"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("tfmtl2r list: plug-in bad.py, line ")


class TestCommandLine:
    def test_the_flag_is_read_anywhere_and_repeatedly(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        plugin(tmp_path / "a.py")
        (tmp_path / "b.py").write_text("print('b')")
        (tmp_path / "c.py").write_text("print('c')")
        assert cli.main(["--plugins", "b.py,c.py", "list", "methods", "--plugins=a.py"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("b\nc\n")
        assert "loudest" in out
        assert [p.path for p in plugins.loaded()] == ["b.py", "c.py", "a.py"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["list", "--plugins"], "--plugins expects the path"),
            (["list", "--plugins", "--markdown"], "--plugins expects the path"),
            (["list", "--plugins", "none.py"], "plug-in none.py: .*none.py does not exist"),
            (["list", "--plugins", "text.txt"], "expected a Python file"),
        ],
    )
    def test_what_cannot_be_imported(self, tmp_path, monkeypatch, capsys, arguments, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "text.txt").write_text("")
        assert cli.main(arguments) == 1
        assert re.search(message, capsys.readouterr().err)

    def test_pyproject(self, tmp_path, monkeypatch, capsys):
        (tmp_path / "parts").mkdir()
        plugin(tmp_path / "parts" / "own.py")
        (tmp_path / "pyproject.toml").write_text('[tool.tfmtl2r]\nplugins = ["parts/own.py"]\n')
        monkeypatch.chdir(tmp_path)
        assert cli.main(["list", "methods"]) == 0
        assert "loudest" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("text", "message"),
        [('[tool.tfmtl2r]\nplugins = "a.py"', "must be a list of paths, not 'a.py'"),
         ("[tool", "pyproject.toml is not TOML: ")],
    )
    def test_a_pyproject_that_cannot_be_read(self, tmp_path, text, message):
        (tmp_path / "pyproject.toml").write_text(text)
        with pytest.raises(ValueError, match=message):
            plugins.of_folder(tmp_path)

    def test_list_shows_where_things_come_from(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("COLUMNS", "1000")
        assert cli.main(["list", "--plugins", str(plugin(tmp_path / "own.py"))]) == 0
        row = next(line for line in capsys.readouterr().out.splitlines() if "loudest" in line)
        assert f"file {tmp_path / 'own.py'}" in row
        assert "Loudest gradient" in row
        assert "shouting" in row


class TestRunCard:
    def test_it_remembers_name_and_hash(self, tmp_path):
        own, = plugins.load(plugin(tmp_path / "own.py"))
        card = RunCard("one", {})
        assert card.plugins == [{"name": "own.py", "sha256": own.sha256}]
        card.save(tmp_path / "one")
        assert RunCard.load(tmp_path / "one").plugins == card.plugins

    def test_a_card_alone_imports_nothing_and_names_the_flag(self, tmp_path, monkeypatch):
        plugins.load(plugin(tmp_path / "own.py"))
        RunCard("one", {}).save(tmp_path / "one")
        monkeypatch.setattr(plugins, "_LOADED", {})
        monkeypatch.chdir(tmp_path)
        with pytest.raises(plugins.PluginError, match=r"the run 'one' used the plug-in own.py, which is not imported: "
                           r"add --plugins own.py"):
            RunCard.load(tmp_path / "one")
        assert plugins.loaded() == []

    def test_settings_of_such_a_run_are_not_used_either(self, tmp_path, monkeypatch):
        plugins.load(plugin(tmp_path / "own.py"))
        RunCard("one", {}).save(tmp_path / "one")
        files.save(Experiment("one", method="loudest").tree(), tmp_path / "one" / files.FILE)
        for loaded, message in (({}, "is not imported: add --plugins own.py"), (None, "but the file now has the hash")):
            if loaded is None:
                plugins.load(plugin(tmp_path / "own.py", before="x = 1"))
            else:
                monkeypatch.setattr(plugins, "_LOADED", loaded)
            with pytest.raises(plugins.PluginError, match=message):
                _options.parse(train.COMMAND, ["--like", "one", "--directory", str(tmp_path)])

    def test_a_file_that_has_changed_is_refused_with_both_hashes(self, tmp_path):
        before, = plugins.load(plugin(tmp_path / "own.py"))
        RunCard("one", {}).save(tmp_path / "one")
        after, = plugins.load(plugin(tmp_path / "own.py", before="x = 1"))
        with pytest.raises(plugins.PluginError, match=rf"own.py with the hash {before.sha256[:12]}, but the file now "
                           rf"has the hash {after.sha256[:12]}"):
            RunCard.load(tmp_path / "one")

    def test_a_card_of_an_earlier_version_needs_none(self, tmp_path):
        (tmp_path / "run.json").write_text(json.dumps({"name": "old", "config": {}}))
        plugins.load(plugin(tmp_path / "own.py"))
        assert RunCard.load(tmp_path).plugins == []


@pytest.mark.slow
def test_what_the_main_program_registered_is_no_file_for_other_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent("""
        import tfmtl2r
        from tfmtl2r import plugins

        @tfmtl2r.methods.register("loudest")
        class Loudest(tfmtl2r.methods.Scalarisation):
            pass

        try:
            plugins.files(tfmtl2r.methods.registry.extensions("loudest"))
        except ValueError as error:
            print(error)
    """))
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}).stdout
    assert told.startswith("the method 'loudest' is registered by the main program, which other processes cannot")


def test_files_for_other_processes(tmp_path, monkeypatch):
    plugins.load(plugin(tmp_path / "own.py"))
    extensions = methods.registry.extensions({"name": "every", "method": {"name": "shouting"}})
    assert extensions == [{"registry": "tfmtl2r.methods", "name": "loudest", "kind": "file", "where": "own.py"}]
    assert plugins.files(extensions) == ([str(tmp_path / "own.py")], [])
    monkeypatch.setattr(plugins, "_LOADED", {})
    assert plugins.files(extensions) == ([], [str(tmp_path / "own.py")])
    plugins.load(tmp_path / "own.py", remember=False)
    assert plugins.remembered() == []
    plugins.expect(extensions)
    methods.registry.unregister("loudest")
    with pytest.raises(plugins.PluginError, match=r"the method 'loudest' is missing: it came from the file own.py; "
                       r"import it first: --plugins own.py"):
        plugins.expect(extensions)
    with pytest.raises(ValueError, match="'os' is no registry of tfmtl2r"):
        plugins.expect([{**extensions[0], "registry": "os"}])
