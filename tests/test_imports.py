"""Listing and helping are quick: no heavy library is loaded; and importing TensorFlow through us is quiet."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfmtl2r

HEAVY = ("tensorflow", "keras", "tf_keras", "pandas", "matplotlib", "tyro")
CODE = """
import sys, time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
print("seconds", seconds)
print("loaded", [name for name in {heavy} if name in sys.modules])
"""
LIGHT = {
    "package": "import tfmtl2r; dir(tfmtl2r); tfmtl2r.__version__; tfmtl2r.Task('click'); tfmtl2r.Dense('price')",
    "names": "from tfmtl2r.registry import Registry; r = Registry('tfmtl2r.methods', 'method'); r.card(r.names()[0])",
    "help": "from tfmtl2r import cli; assert cli.main(['--help']) == 0",
    "module": "import runpy; sys.argv = ['tfmtl2r', '--help']\n"
              "try:\n    runpy.run_module('tfmtl2r.cli', run_name='__main__')\n"
              "except SystemExit as stop:\n    assert not stop.code",
}


def run(code):
    # As a user starts it: what this process has set for its own TensorFlow is not passed on.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=environment
    )


@pytest.mark.parametrize("what", LIGHT)
def test_no_heavy_library_is_loaded(what):
    done = run(CODE.format(statement=LIGHT[what], heavy=HEAVY))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *printed, seconds, loaded = done.stdout.strip().split("\n")
    assert loaded == "loaded []", loaded
    assert float(seconds.split()[1]) < 2.0  # some hundredths on an idle machine
    print(what, seconds)
    if what in ("help", "module"):
        assert printed[0].startswith("usage: tfmtl2r COMMAND")
    else:
        assert not printed


@pytest.mark.slow
@pytest.mark.parametrize("code", [
    "from tfmtl2r._backend import tf, keras; import tfmtl2r; tfmtl2r.MultiTaskRanker; print(tf.__version__)",
    "import tfmtl2r, keras; import tensorflow as tf; print(tf.__version__)",
    "import tfmtl2r; import tensorflow as tf; tfmtl2r.MultiTaskRanker; print(tf.__version__)",
])
def test_tensorflow_comes_quietly(code):
    """Whoever imports it after tfmtl2r, in whichever order."""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.split()) == 1


FAKE = """
import importlib.util, sys, types, zipfile
saving = "types.SimpleNamespace(get_custom_objects=lambda: known)"
with zipfile.ZipFile("fake.zip", "w") as file:
    file.writestr("keras.py", f"import sys, types; known = {{}}; saving = {saving}; print('loud', file=sys.stderr)")
    file.writestr("other.py", "there = True")
sys.path.insert(0, "fake.zip")
"""


@pytest.mark.parametrize("code", [
    "import tfmtl2r; assert importlib.util.find_spec('keras').loader; import keras; assert len(keras.known) >= 3",
    "import tfmtl2r, keras, other; assert other.there and 'zipimporter' in repr(keras.__loader__)",
    "import tfmtl2r, keras, importlib; importlib.reload(keras); assert len(keras.known) >= 3",
    "import keras, tfmtl2r; assert len(keras.known) >= 3",
    "sys.modules['keras'] = None; import tfmtl2r",
    "sys.stderr = None; import tfmtl2r, keras; assert len(keras.known) >= 3",
])
def test_the_hook_on_imports_disturbs_no_other(code, tmp_path):
    """Keras from an archive whose loader other modules share; asked for before it is imported; blocked; reloaded."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", FAKE + code], cwd=tmp_path, capture_output=True, text=True,
                          env={**environment, "PYTHONPATH": str(Path(tfmtl2r.__file__).parents[1])})
    assert done.returncode == 0, done.stderr
    assert ("loud" in done.stderr) == code.startswith("import keras")


def test_another_keras_backend_is_a_clear_error(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    done = run("import tfmtl2r.layers.features")
    assert done.returncode != 0
    assert "KERAS_BACKEND is 'numpy': unset KERAS_BACKEND or set it to 'tensorflow'" in done.stderr


POSIX_ONLY = ("fcntl", "resource", "pwd", "grp", "termios")
ALL_MODULES = f"""
import importlib, pkgutil, sys
for name in {POSIX_ONLY}:
    sys.modules[name] = None  # an import of it fails, as on Windows
import tfmtl2r
for module in pkgutil.walk_packages(tfmtl2r.__path__, "tfmtl2r."):
    importlib.import_module(module.name)
    print(module.name)
"""


@pytest.mark.slow
def test_every_module_imports_without_what_only_posix_has():
    done = run(ALL_MODULES)
    assert done.returncode == 0, done.stderr
    assert {"tfmtl2r.cli", "tfmtl2r.runs.card", "tfmtl2r.sweeps.sweep", "tfmtl2r.serving.configs"} <= set(
        done.stdout.split())
