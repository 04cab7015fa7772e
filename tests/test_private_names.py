"""The private names of TensorFlow, Keras and Python that the package uses. Test ``test_x`` is about the name ``_x``.

After a new version of a library, the test that fails names what is gone. A new use of a private name needs a test here.
"""

import ast
import importlib
import pkgutil
import sys
from pathlib import Path

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import _keras2
from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError

FOLDER = Path(tfmtl2r.__file__).parent
DOCUMENTED = {"_exit", "_replace"}
"""Names that Python documents: of ``os`` and of named tuples."""
PRIVATE_MODULES = ("keras.src.", "tensorflow.core.", "tensorflow.python.", "tensorflow_ranking.python.")


def is_private(name):
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__")


def names_in(tree):
    """Names that a module defines, private attributes that it reads, and private modules that it imports."""
    defined, read, modules = set(), set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                defined.add(name)
            case ast.Assign(targets=targets):
                defined |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.Attribute(attr=name, ctx=ast.Store()):
                defined.add(name)
            case ast.Attribute(attr=name):
                read.add(name)
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=name), *_]):
                read.add(name)
            case ast.ImportFrom(module=name) | ast.Constant(value=name):
                if isinstance(name, str) and name.startswith(PRIVATE_MODULES) and " " not in name:
                    modules.add("." + name.rpartition(".")[0] if isinstance(node, ast.Constant) else "." + name)
    return defined, set(filter(is_private, read)), modules


def overridden():
    """Private names of classes of the package that a class of another library, from which they derive, has too."""
    for module in pkgutil.walk_packages(tfmtl2r.__path__, "tfmtl2r."):
        importlib.import_module(module.name)
    waiting, found = [keras.Layer, keras.optimizers.Optimizer, keras.callbacks.Callback, keras.Loss], set()
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if cls.__module__.startswith("tfmtl2r."):
            others = [base for base in cls.__mro__ if not base.__module__.startswith("tfmtl2r")]
            found |= {name for name in vars(cls) if is_private(name) and any(name in vars(base) for base in others)}
    return found - {"_abc_impl"}


@pytest.mark.slow
def test_every_private_name_has_its_test():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FOLDER.rglob("*.py")]
    defined, read, modules = (set().union(*sets) for sets in zip(*map(names_in, trees), strict=True))
    used = (read - defined - DOCUMENTED) | overridden() | {name.replace(".", "_") for name in modules}
    assert {"_flatten_layers", "_maybe_symbolic_build", "_keras_src_backend_common"} <= used
    missing = sorted(f"test{name}" for name in used if f"test{name}" not in globals())
    assert not missing, f"private names of libraries without a test here: {missing}"


@pytest.fixture
def dense():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    return layer


@pytest.fixture(scope="module")
def called():
    """What Keras gives to its private methods during training: the name of the argument -> its value."""
    given = {}

    class Model(keras.Sequential):
        def _maybe_symbolic_build(self, iterator=None, data_batch=None):
            given.update({"iterator": iterator} if data_batch is None else {"data_batch": data_batch})
            super()._maybe_symbolic_build(iterator, data_batch)

        def _flatten_metrics_in_order(self, logs):
            given["logs"] = logs
            return ["mine"]

    model = Model([keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    rows = np.ones([4, 3], np.float32)
    model.fit(rows, rows[:, :1], batch_size=2, verbose=0)
    given["returned"] = [model.train_on_batch(rows, rows[:, :1]), model.evaluate(rows, rows[:, :1], verbose=0)]
    return given


def test_maybe_symbolic_build(called):
    assert len(called["data_batch"]) == 3


def test_get_iterator(called):
    assert [part.shape.as_list() for part in called["iterator"]._get_iterator().element_spec] == [[None, 3], [None, 1]]


def test_flatten_metrics_in_order(called):
    assert list(called["logs"]) == ["loss"]
    assert called["returned"] == [["mine"]] * 2


def test_flatten_layers(dense):
    assert list(keras.layers.TimeDistributed(dense)._flatten_layers())[1:] == [dense]


def test_trainable_variables(dense):
    dense.kernel.trainable = False  # the list keeps it
    assert [id(v) for v in dense._trainable_variables] == [id(v) for v in (dense.kernel, dense.bias)]
    optimizer = keras.optimizers.SGD()
    optimizer.build([dense.bias])
    assert [id(v) for v in optimizer._trainable_variables] == [id(dense.bias)]


def test_tracker(dense):
    layer = keras.layers.Layer()
    layer.part = dense
    layer._tracker.untrack(dense)
    assert list(layer._flatten_layers()) == [layer]


def test_trackable_children(tmp_path):
    class Refuses(keras.Sequential):
        def _trackable_children(self, save_type="checkpoint", **kwargs):
            if save_type == "savedmodel":
                raise ValueError("asked")
            return super()._trackable_children(save_type, **kwargs)

    with pytest.raises(ValueError, match="asked"):
        tf.saved_model.save(Refuses([keras.layers.Dense(1)]), str(tmp_path))


@pytest.fixture
def adam(dense):
    optimizer = keras.optimizers.Adam()
    optimizer.build([dense.kernel, dense.bias])
    return optimizer


def test_get_variable_index(adam, dense):
    assert [adam._get_variable_index(v) for v in (dense.bias, dense.kernel)] == [1, 0]


def test_momentums(adam):
    assert [v.shape for v in adam._momentums] == [(3, 2), (2,)]


def test_velocities(adam):
    assert [v.shape for v in adam._velocities] == [(3, 2), (2,)]


def test_clip_gradients(dense):
    class Halves(keras.optimizers.SGD):
        def _clip_gradients(self, grads):
            return [gradient / 2 for gradient in grads]

    optimizer = Halves(1.0)
    optimizer.apply([tf.ones([2])], [dense.bias])
    np.testing.assert_allclose(dense.bias, [-0.5, -0.5])


def test_accumulators(dense):
    optimizer = keras.optimizers.Adagrad(initial_accumulator_value=0.5)
    optimizer.build([dense.bias])
    optimizer.apply([tf.ones([2])])
    np.testing.assert_allclose(optimizer._accumulators[0], [1.5, 1.5])


def test_keras_call_info_injected():
    """Keras adds lines to the errors of layers, except to those of the package."""
    class Failing(keras.layers.Layer):
        kind = ValueError

        def call(self, x):
            raise self.kind("one line")

    messages = []
    for kind in (ValueError, InputError):
        layer = Failing()
        layer.kind = kind
        with pytest.raises(kind) as error:
            layer(np.zeros((1, 1)))
        messages.append(str(error.value))
    assert "Failing.call()" in messages[0]
    assert messages[1] == "one line"


def test_inputs():
    numbers = tf.data.Dataset.range(3)
    assert numbers.batch(2)._inputs() == [numbers]


@pytest.fixture
def distributed(mirrored):
    return mirrored().experimental_distribute_dataset(tf.data.Dataset.range(4).batch(2))


def test_original_dataset(distributed):
    assert distributed._original_dataset.cardinality() == 2


def test_value_specs(distributed):
    assert [spec.dtype for spec in iter(distributed).element_spec._value_specs] == [tf.int64] * 2


def test_make_callable_from_options():
    from tensorflow.core.protobuf import config_pb2

    with tf.Graph().as_default():
        given = tf.compat.v1.placeholder(tf.float32, [None], "given")
        doubled = tf.identity(2 * given, "doubled")
        with tf.compat.v1.Session() as session:
            call = session._make_callable_from_options(
                config_pb2.CallableOptions(feed=[given.name], fetch=[doubled.name]))
            np.testing.assert_array_equal(call(np.ones(2, np.float32))[0], [2, 2])


def test_tensorflow_core_protobuf():
    from tensorflow.core.protobuf import config_pb2, saved_model_pb2

    assert hasattr(config_pb2, "CallableOptions")
    assert hasattr(saved_model_pb2.SavedModel(), "meta_graphs")


def test_keras_src_backend_common(tmp_path):
    from keras.src.backend.common import global_state

    seen = []

    class Asks(keras.Sequential):
        def get_config(self):
            seen.append(global_state.get_global_attribute("use_legacy_config", False))
            return super().get_config()

    Asks([keras.Input([1]), keras.layers.Dense(1)]).save(tmp_path / "model.h5")
    assert seen
    assert all(seen)


def test_tensorflow_ranking_python():
    assert _keras2.losses_impl().SoftmaxLoss(name="softmax").name == "softmax"
    assert _keras2.metrics_impl().MRRMetric(name="mrr", topn=None).name == "mrr"


def test_initializing(tmp_path, monkeypatch):
    (tmp_path / "being_imported.py").write_text("during = __spec__._initializing")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("being_imported")
    assert module.during
    assert not getattr(module.__spec__, "_initializing", False)
    del sys.modules["being_imported"]
