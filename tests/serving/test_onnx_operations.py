"""Operations that tf2onnx lacks or converts inaccurately: every value of a score has the same number in ONNX."""

import numpy as np
import pytest

from tfmtl2r import Task, losses, transforms
from tfmtl2r._backend import tf
from tfmtl2r.serving.onnx_operations import handlers
from tfmtl2r.task import LabelStatistics
from tfmtl2r.training.readings import RESIDUALS, Reading

onnxruntime = pytest.importorskip("onnxruntime")
tf2onnx = pytest.importorskip("tf2onnx")
X = np.float32([-100, -3, -1e-3, -1e-7, 0, 1e-9, 1e-7, 1e-3, 0.5, 3, 20, 80, 100, np.inf, np.nan])
OPTIONS = {"clip": {"upper": 5.0}, "winsorise": {"edges": [0.0, 5.0]}}


def values_of(name):
    """The function from scores to values of a regression with a transform."""
    task = Task("y", kind="regression", transform={"name": name, **OPTIONS.get(name, {})},
                statistics=LabelStatistics(2.0, 0.5))
    return Reading(task, losses.get("mse"), np.linspace(-1, 1, RESIDUALS, dtype=np.float32)).value


def test_every_reading_of_scores_converts():
    kinds = [name for name in transforms.names() if transforms.registry.constructor(name).reversible]
    functions = {"expm1": tf.math.expm1, **{f"{name}_value": values_of(name) for name in kinds}}
    assert "log1p_value" in functions
    graph = tf.function(lambda x: {name: function(x) for name, function in functions.items()},
                        input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    model, _ = tf2onnx.convert.from_function(graph, graph.input_signature, custom_op_handlers=handlers({}))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip([one.name for one in session.get_outputs()], session.run(None, {"x": X}), strict=True))
    for name, expected in graph(tf.constant(X)).items():
        np.testing.assert_allclose(found[name], expected, rtol=2e-6, err_msg=name)
