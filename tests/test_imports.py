"""Listing and helping are quick: no heavy library is loaded; and importing TensorFlow through us is quiet."""

import os
import subprocess
import sys

import pytest

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


def test_every_module_imports_without_what_only_posix_has():
    done = run(ALL_MODULES)
    assert done.returncode == 0, done.stderr
    assert {"tfmtl2r.cli", "tfmtl2r.runs.card", "tfmtl2r.sweeps.sweep", "tfmtl2r.serving.configs"} <= set(
        done.stdout.split())
