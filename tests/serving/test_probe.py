"""Exports in a program without Python: C++ ``LoadSavedModel`` with XLA switched off, as in the server's binary."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from serving_problem import SCHEMA, asked, looked_up, make_ranker, predicted
from tensorflow.core.framework import tensor_pb2

from tfmtl2r._backend import tf
from tfmtl2r.serving.differences import differences
from tfmtl2r.serving.examples import merged, requests
from tfmtl2r.serving.parsing import list_messages
from tfmtl2r.serving.session import quiet

COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")]


@pytest.fixture(scope="module")
def probe(request, tmp_path_factory):
    program = tmp_path_factory.mktemp("probe") / "probe"
    folder = tf.sysconfig.get_lib()
    # The loader registers its kernels when the library is loaded: nothing names them, so the linker would drop it.
    libraries = [f"-L{folder}", "-Wl,--no-as-needed", "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2",
                 f"-Wl,-rpath,{folder}"]
    command = [COMPILER, "-O1", "-w", *tf.sysconfig.get_compile_flags(), str(request.path.with_name("probe.cc")),
               *libraries, "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    def run(export, inputs, where, signature="serving_default"):
        for side in ("in", "out"):
            (where / side).mkdir()
        for name, value in inputs.items():
            (where / "in" / name).write_bytes(tf.make_tensor_proto(value).SerializeToString())
        done = subprocess.run([program, export, signature, where], capture_output=True, text=True, check=False)
        files = sorted((where / "out").iterdir())
        outputs = {path.name: tf.make_ndarray(tensor_pb2.TensorProto.FromString(path.read_bytes())) for path in files}
        return done, outputs

    return run


def test_scores_are_those_of_predict(probe, exported, tmp_path):
    request = merged(requests(SCHEMA, seed=3))
    done, answer = probe(exported.folder, request, tmp_path)
    assert done.returncode == 0, done.stderr
    expected = exported.run(request)
    assert set(answer) == set(expected)
    for name, value in answer.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-5)
    for task, scores in predicted(exported.ranker, request).items():
        found = answer[f"score_{task}"][answer["valid"]]
        np.testing.assert_allclose(found, scores[answer["valid"]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("signature", ["predict_elwc", "rank"])
def test_other_signatures(probe, exported, tmp_path, signature):
    request = asked()
    if signature == "predict_elwc":
        request = {"inputs": np.array([m.SerializeToString() for m in list_messages(request, SCHEMA, {})], object)}
    names = exported.loaded.meta_graph.signature_def[signature].inputs
    request = {name: request[name] for name in names}
    done, answer = probe(exported.folder, request, tmp_path, signature)
    assert done.returncode == 0, done.stderr
    assert not list(differences("the probe", "the session loader", answer, exported.run(request, signature), 1e-5))


def test_a_bad_request_is_an_error_and_no_crash(probe, exported, tmp_path):
    request = {**requests(SCHEMA)[0], "vector": np.zeros([2, 3, 3], np.float32)}
    done, answer = probe(exported.folder, request, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(("run: INVALID_ARGUMENT", "\t"))
    assert not answer


def test_it_sees_what_python_does_not(probe, tmp_path):
    """The way of saving that opens in Python and not in the server; and a graph that must be compiled."""
    ranker = make_ranker()
    module = tf.Module()
    module.model = ranker.architecture  # the ranker itself refuses to be saved in this way
    request = looked_up(ranker, requests(SCHEMA)[0])
    ranker(request)
    serve = tf.function(lambda: ranker(request, training=False), autograph=False)
    with quiet():
        tf.saved_model.save(module, str(tmp_path / "broken"), signatures=serve.get_concrete_function())
    done, _ = probe(tmp_path / "broken", {}, tmp_path)
    assert done.returncode == 1
    # The server may miss a dense layer first, which is read, or a table, from which rows are gathered.
    assert re.search(r"Could not find variable|NOT_FOUND: Resource \S+/embeddings/\S+ does not exist", done.stderr)

    compiled = tf.Module()
    compiled.serve = tf.function(lambda x: {"y": tf.function(lambda x: x * 2.0, jit_compile=True)(x)}, autograph=False)
    concrete = compiled.serve.get_concrete_function(tf.TensorSpec([None], tf.float32, "x"))
    with quiet():
        tf.saved_model.save(compiled, str(tmp_path / "compiled"), signatures=concrete)
    (tmp_path / "again").mkdir()
    done, _ = probe(tmp_path / "compiled", {"x": np.ones(2, np.float32)}, tmp_path / "again")
    assert done.returncode == 1
    assert "XLA" in done.stderr
