"""Most tests run in a process of their own: what is tested is the state of a fresh interpreter's modules."""

import importlib.metadata
import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

from tfmtl2r import _keras2

CHECK = """
import sys
import tensorflow as tf
assert sys.modules["tensorflow"] is tf and type(tf).__name__ == "module", type(tf)
assert type(sys.modules["tensorflow.compat.v2"]).__name__ == "module"
assert tf.keras.__version__.startswith("3"), tf.keras.__version__
assert "TF_USE_LEGACY_KERAS" not in __import__("os").environ
assert not hasattr(tf, "estimator")
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    set_by_us = ("TF_USE_LEGACY_KERAS", "TF_CPP_MIN_LOG_LEVEL")
    clean = {key: value for key, value in os.environ.items() if key not in set_by_us}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**clean, **environment}, check=False
    )


def passes(code: str, **environment: str) -> subprocess.CompletedProcess:
    done = run(code, **environment)
    assert done.returncode == 0, done.stderr
    return done


def test_the_floors_are_those_of_the_package():
    declared = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {f"{name}>={floor}" for name, floor in _keras2.FLOORS.items()} <= {*declared}


def test_both_libraries_load_silently_and_tf_keras_stays_keras_3():
    done = passes(
        "import warnings; warnings.simplefilter('error')\n"
        "from tfmtl2r import _keras2\n"
        "ranking, recommenders = _keras2.ranking(), _keras2.recommenders()\n"
        "assert ranking is _keras2.ranking()\n"
        "assert ranking.keras.losses.SoftmaxLoss.__mro__[-2].__module__.startswith('tf_keras')\n"
        "assert _keras2.losses_impl().SoftmaxLoss and _keras2.metrics_impl().NDCGMetric\n"
        "assert recommenders.layers.factorized_top_k.BruteForce and recommenders.layers.loss\n"
        "assert recommenders.examples.movielens.sample_listwise and recommenders.experimental\n" + CHECK
    )
    assert done.stdout == ""
    assert done.stderr == ""


@pytest.mark.slow
def test_the_first_use_may_be_inside_a_graph():
    done = passes(
        "import warnings; warnings.simplefilter('error')\n"
        "from tfmtl2r import losses, metrics\nfrom tfmtl2r._backend import tf\n"
        "loss, metric = losses.get('approx_ndcg'), metrics.get('mrr')\n"
        "args = [[1.0, 0.0]], [[0.5, 0.1]], [[True, True]]\n"
        "print(*tf.function(lambda: (loss.per_list(*args)[1], metric.per_list(*args)[1]))())\n" + CHECK
    )
    assert done.stdout.count("[1.]") == 2
    assert done.stderr == ""


@pytest.mark.slow
def test_tensorflow_imported_before_is_left_alone():
    passes(
        "import tensorflow as before\nimport keras\nfrom tfmtl2r import _keras2\n_keras2.ranking()\n"
        "assert before.keras.__version__ == keras.__version__\nassert before.keras.layers.Dense is keras.layers.Dense\n"
        "import tensorflow\nassert tensorflow is before\n" + CHECK
    )


@pytest.mark.slow
def test_a_failed_import_by_the_user_leaves_no_trace_and_ours_works_after_it():
    passes(
        "try:\n    import tensorflow_ranking\n    raise SystemExit('a plain import works now: drop the bridge')\n"
        "except (ImportError, AttributeError):\n    pass\n"
        "from tfmtl2r import _keras2\n_keras2.losses_impl().SoftmaxLoss(name=None)\n" + CHECK
    )


def test_a_ready_import_is_used(monkeypatch):
    ready = types.ModuleType("tensorflow_ranking")
    monkeypatch.setattr(_keras2, "_loaded", {})
    monkeypatch.setitem(sys.modules, "tensorflow_ranking", ready)
    assert _keras2.ranking() is ready


@pytest.mark.slow
def test_originals_are_back_after_a_failure_and_a_second_try_works():
    passes(
        "import sys\nfrom tfmtl2r import _keras2\nsys.modules['tensorflow_ranking.python.losses'] = None\n"
        "original = _keras2._forget\n_keras2._forget = lambda module: None\n"
        "try:\n    _keras2.ranking()\n    raise SystemExit('should have failed')\nexcept ImportError:\n    pass\n"
        "_keras2._forget = original\n_keras2.ranking()\n" + CHECK
    )


@pytest.mark.slow
def test_threads_get_the_same_module():
    passes(
        "from concurrent.futures import ThreadPoolExecutor\nfrom tfmtl2r import _keras2\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    found = list(pool.map(lambda i: (_keras2.ranking, _keras2.recommenders)[i % 2](), range(16)))\n"
        "assert len({id(module) for module in found}) == 2\n" + CHECK
    )


@pytest.mark.parametrize(
    ("distribution", "version", "function", "expected"),
    [
        ("tensorflow-ranking", None, "ranking", "pip install 'tensorflow-ranking>=0.5.3'"),
        ("tensorflow-ranking", "0.5.2", "ranking", "tensorflow-ranking 0.5.2 is too old"),
        ("tf-keras", None, "losses_impl", "pip install 'tf-keras>=2.21'"),
        ("tensorflow-recommenders", "v0.7.2", "recommenders", "pip install 'tensorflow-recommenders>=0.7.3'"),
    ],
)
def test_a_missing_or_old_library_says_what_to_install(monkeypatch, distribution, version, function, expected):
    real = importlib.metadata.version

    def pretend(name):
        if name != distribution:
            return real(name)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(_keras2, "_loaded", {})
    monkeypatch.setattr(importlib.metadata, "version", pretend)
    with pytest.raises(ImportError) as error:
        getattr(_keras2, function)()
    assert expected in str(error.value)


@pytest.mark.slow
def test_the_legacy_switch_is_reported_and_the_bridge_works():
    done = run("from tfmtl2r import _keras2\n_keras2.losses_impl().SoftmaxLoss(name=None)\n", TF_USE_LEGACY_KERAS="1")
    assert done.returncode == 0, done.stderr
    assert "unset TF_USE_LEGACY_KERAS" in done.stderr
    assert "needs Keras 3" in done.stderr


def test_placeholder_stands_for_base_classes_calls_and_attributes():
    placeholder = _keras2._Placeholder

    class Derived(placeholder.Estimator.Deeper):
        pass

    assert Derived(1, option=2)(3).anything is placeholder
    assert not hasattr(placeholder, "__wrapped__")
