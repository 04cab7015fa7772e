"""Files of strangers are data: a hostile one is an error in one line, never a traceback and never code."""

import json
import zipfile

import keras
import numpy as np
import pytest

from tfmtl2r import architectures, cli, datasets, losses, methods, plugins
from tfmtl2r.data.store.manifest import Manifest
from tfmtl2r.errors import DamagedError, InputError, UserError
from tfmtl2r.reading import check, file_within, stored_arrays
from tfmtl2r.runs.card import RunCard
from tfmtl2r.serving.load import load
from tfmtl2r.settings import Settings, files
from tfmtl2r.sweeps import manifest

DEEP = 100_000
CARD = {
    "name": "a", "config": {"name": "a"}, "data": {"test": {"fingerprint": "f"}}, "format": 2, "plugins": [],
    "results": {"test": {"click": {"auc": {"value": 0.5, "direction": "max"}}}}, "history": {"loss": [1.0]},
    "curve": [{"preference": [1.0], "test": {"click": {"auc": 0.5}}}], "served": {"points": []},
    "slices": {"test": {"device": {"of": "lists", "slices": {"tv": {"results": {"click": {"auc": {"value": 1}}}}}}}},
    "teacher": {}, "blend": {}, "step_ms": 1.0, "peak_memory_mb": 2.0, "versions": {"python": "3"}, "identity": "",
}
STORE = {"format": 1, "preparation": "p", "settings": {}, "tasks": [], "schema": {"features": []}, "splits": {"train": {
    "is_rows": False, "lists": 1, "columns": ["q"], "context": [], "list_id": "q", "source": [], "sizes": "s.bin",
    "ids": None, "slots": [["x", "price", "item", "float32", []]], "shards": [], "files": []}}}
SWEEP = {"format": 2, "versions": {}, "threads": 1, "runs": [{"name": "a"}]}
READERS = {"run.json": (CARD, RunCard.load), "manifest.json": (STORE, Manifest.open),
           "sweep.json": (SWEEP, manifest.read)}
VALUES = [None, True, 7, -1, 1e308, "x", "../x", "/etc/passwd", [], [None], [[[]]], {}, {"a": 1}, {"a": {"b": []}}]


class Touches:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def places(value, path=()):
    """The path of every value in plain data."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))


def replaced(content, path, value):
    new = json.loads(json.dumps(content))
    inner = new
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return new


def _error(read, folder):
    """The message of a refusal; empty if the folder can be read. Any other error fails the test."""
    try:
        read(folder)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_any_value_in_any_place_is_read_or_refused(tmp_path, name):
    content, read = READERS[name]
    path = tmp_path / name
    path.write_text(json.dumps(content))
    read(tmp_path)
    refused = 0
    for place in places(content):
        for value in VALUES:
            path.write_text(json.dumps(replaced(content, place, value)))
            refused += bool(error := _error(read, tmp_path))
            assert not error or str(tmp_path) in error or "plug-in" in error, (place, value, error)
    assert refused > 3 * len([*places(content)])


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("text", [
    "", "{", "\x00", "7", "null", '"x"', "[]", "[" * DEEP + "]" * DEEP, '{"format": ' * DEEP + "1" + "}" * DEEP,
    '{"format": ' + "9" * 5000 + "}", '{"format": 1e999}', '{"format": NaN}', '{"format": true}', b"\xff\xfe{",
], ids=range(14))  # fmt: skip
def test_what_is_no_such_file(tmp_path, name, text):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=name):
        READERS[name][1](tmp_path)


@pytest.mark.parametrize("text", [
    "a = " + "[" * DEEP + "]" * DEEP, "a = " + "9" * 5000, "a = 1\na = 2", "a = {b = " * 3000 + "1" + "}" * 3000,
    "\x00",
], ids=range(5))
def test_what_is_no_experiment(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.toml").write_text(text)
    with pytest.raises(InputError, match=r"e\.toml is not TOML"):
        files.load("e.toml")
    assert cli.main(["train", "e.toml"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(InputError, match=r"pyproject\.toml is not TOML"):
        plugins.of_folder(tmp_path)


@pytest.mark.parametrize("tree", [
    {"name": "../a"}, {"name": ["a"]}, {"training": 7}, {"tasks": {"a": 1}},
    {"training": {"epochs": -1}}, {"training": {"epochs": "many"}}, {"tasks": [[[]]]}, {"features": [{"name": {}}]},
    {"tasks": [{"name": "a\x00b"}]}, {"sweep": []},
], ids=str)
def test_what_is_no_setting(tree):
    with pytest.raises(UserError):
        Settings.of({"name": "a", "data": {"name": "synthetic_mslr"}, **tree})


@pytest.mark.parametrize("get", [methods.get, losses.get, architectures.get, datasets.get])
@pytest.mark.parametrize("name", ["../../x", "os.system", "__import__", "a/b", "base", "a\x00b"])
def test_a_name_never_imports_what_is_not_registered(get, name):
    with pytest.raises(UserError):
        get(name)


def test_objects_are_never_unpickled(tmp_path):
    touched = tmp_path / "touched"
    objects = np.array([Touches(touched)], object)
    np.savez(tmp_path / "a.npz", good=np.ones(2), bad=objects)
    with stored_arrays(tmp_path / "a.npz", "train again") as arrays:
        assert arrays["good"].tolist() == [1, 1]
    np.save(tmp_path / "plain.npy", np.ones(2))
    (tmp_path / "text.npz").write_bytes(b"not an archive")
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:  # an array of 2^60 numbers, says its header
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976,)}\n"
        archive.writestr("bad.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    for name in ("a.npz", "plain.npy", "text.npz", "large.npz"):
        with pytest.raises(DamagedError, match=rf"{name} is damaged \(.*\): train again"), \
                stored_arrays(tmp_path / name, "train again") as arrays:
            np.asarray(arrays["bad"])
    np.save(tmp_path / "ids.npy", objects)
    from tfmtl2r.data.store.split import _ids

    with pytest.raises(DamagedError, match=r"ids.npy is damaged .*: make the store again"):
        _ids(tmp_path / "ids.npy")
    assert not touched.exists()


@pytest.mark.parametrize("name", ["../a", "/a", "a/b", "..", "", "a\\b", "C:a", "a\x00", 7, None])
def test_a_name_in_a_file_stays_in_its_folder(tmp_path, name):
    with pytest.raises(DamagedError, match="the name of a file outside of it"):
        file_within(tmp_path, name)
    for part in ("sizes", "ids"):
        if name is not None or part == "sizes":
            (tmp_path / "manifest.json").write_text(json.dumps(replaced(STORE, ("splits", "train", part), name)))
            with pytest.raises(DamagedError):
                Manifest.open(tmp_path)


def test_a_keras_file_with_code_is_refused(tmp_path):
    touched = str(tmp_path / "touched")
    code = keras.layers.Lambda(lambda x: open(touched, "w") and x, output_shape=(1,))  # noqa: SIM115
    keras.Sequential([keras.Input((1,)), code]).save(tmp_path / "a.keras")
    (tmp_path / "touched").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="safe_mode"):
        load(tmp_path / "a.keras")
    assert not (tmp_path / "touched").exists()


def test_a_keras_file_names_no_function_of_python(tmp_path):
    """Classes outside of Keras and of what is registered are not imported."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    config["config"]["layers"][1] |= {"module": "subprocess", "class_name": "Popen", "config": {"args": ["true"]},
                                      "registered_name": "subprocess>Popen"}
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as archive:
        for name, value in content.items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else value)
    with pytest.raises((TypeError, ValueError), match="Popen"):
        load(tmp_path / "b.keras")


def test_a_shape_names_the_place():
    check({"a": [{"b": 1}]}, {"a": [{"b": (int, float)}]})
    for value, shape, message in [
        ({"a": [{"b": "x"}]}, {"a": [{"b": int}]}, r"^a\[0\]\.b must be an integer, not 'x'"),
        ({"a": {"k": {"b": []}}}, {"a": {"*": {"b": dict}}}, r"^a\.k\.b must be a table, not \[\]"),
        (True, int, "the content must be an integer"), ([], dict, "must be a table"),
    ]:
        with pytest.raises(InputError, match=message):
            check(value, shape)
