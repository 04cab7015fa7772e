"""Stacked layers are separate layers, computed together; dropout is a function of the step."""

import re
from pathlib import Path

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r._backend import keras, tf
from tfmtl2r.layers import randomness
from tfmtl2r.layers.dense import StackedDense
from tfmtl2r.layers.dropout import Dropout
from tfmtl2r.layers.mlp import MLP

TASKS = 3


@pytest.mark.parametrize("shape", [(7, 5), (2, 4, 5)], ids=["rows", "lists"])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_stacked_dense_is_separate_dense_layers(rng, shape, activation):
    stacked = StackedDense(TASKS, 4, activation=activation)
    x = tf.constant(rng.normal(size=(TASKS, *shape)), tf.float32)
    y = stacked(x)
    assert y.shape == (TASKS, *shape[:-1], 4) == stacked.compute_output_shape(x.shape)
    stacked.bias.assign(rng.normal(size=stacked.bias.shape))
    y = stacked(x)
    for task in range(TASKS):
        dense = keras.layers.Dense(4, activation=activation)
        dense.build((None, 5))
        dense.set_weights([stacked.kernel[task].numpy(), stacked.bias[task, 0].numpy()])
        np.testing.assert_allclose(y[task], dense(x[task]), atol=1e-6)


def test_stacked_dense_starts_like_dense():
    """Glorot uniform for each slice, not for the stack as a whole."""
    stacked = StackedDense(TASKS, 30)
    stacked.build((TASKS, None, 70))
    limit = np.sqrt(6 / (70 + 30))
    for kernel in stacked.kernel.numpy():
        assert np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.05)
    assert not np.allclose(*stacked.kernel.numpy()[:2])


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_stacked_mlp_is_separate_mlps(rng, layer_norm):
    options = {"units": (6, 4), "activation": "gelu", "layer_norm": layer_norm}
    stacked = MLP(**options, stacked=TASKS)
    stacked.build((TASKS, None, 5))
    for variable in stacked.trainable_variables:
        assert variable.shape[0] == TASKS, f"{variable.path} is not one per network"
        variable.assign(variable + rng.normal(size=variable.shape))
    x = tf.constant(rng.normal(size=(TASKS, 2, 7, 5)), tf.float32)
    y = stacked(x)
    assert y.shape == stacked.compute_output_shape(x.shape)
    for task in range(TASKS):
        single = MLP(**options)
        single.build((None, 5))
        assert len(single.trainable_variables) == len(stacked.trainable_variables)
        for own, of_all in zip(single.trainable_variables, stacked.trainable_variables, strict=True):
            own.assign(tf.reshape(of_all[task], own.shape))
        np.testing.assert_allclose(y[task], single(x[task]), atol=2e-5)


def test_an_mlp_without_layers_passes_its_input_on():
    mlp = MLP(())
    mlp.build((None, 5))
    x = tf.ones([2, 5])
    np.testing.assert_array_equal(mlp(x), x)
    assert mlp.compute_output_shape((2, 5)) == (2, 5)
    with pytest.raises(ValueError, match="units must be positive widths"):
        MLP((4, 0))


def test_mixed_precision_computes_in_bfloat16_and_stores_float32():
    for mlp, shape in [(MLP((4,), layer_norm=True, dtype="mixed_bfloat16"), (2, 5)),
                       (MLP((4,), stacked=2, layer_norm=True, dtype="mixed_bfloat16"), (2, 3, 5))]:
        assert mlp(tf.ones(shape)).dtype == tf.bfloat16
        assert {v.dtype for v in mlp.trainable_variables} == {"float32"}


class TestDropout:
    x = tf.ones([50, 40])

    def draw(self, layer, step, seed=3):
        with randomness.scope(randomness.step_seed(seed, step)):
            return layer(self.x, training=True).numpy()

    def test_a_step_repeats_and_differs_from_others(self):
        layer = Dropout(0.4)
        first = self.draw(layer, 1)
        np.testing.assert_array_equal(self.draw(layer, 1), first)
        assert (self.draw(layer, 2) != first).any()
        assert (self.draw(layer, 1, seed=4) != first).any()

    def test_two_layers_of_a_step_differ(self):
        with randomness.scope(randomness.step_seed(0, 0)):
            one, two = (Dropout(0.4)(self.x, training=True) for _ in range(2))
        assert (one.numpy() != two.numpy()).any()

    def test_the_mean_is_kept(self):
        values = self.draw(Dropout(0.4), 1)
        np.testing.assert_allclose(np.unique(values), [0.0, 1 / 0.6], rtol=1e-6)
        np.testing.assert_allclose(values.mean(), 1.0, atol=0.05)

    def test_nothing_is_dropped_outside_training(self):
        np.testing.assert_array_equal(Dropout(0.4)(self.x), self.x)
        np.testing.assert_array_equal(Dropout(0.0)(self.x, training=True), self.x)

    def test_without_a_scope_it_follows_the_global_seed(self):
        layer = Dropout(0.4)
        draws = []
        for _ in range(2):
            tf.random.set_seed(5)
            draws.append(layer(self.x, training=True).numpy())
        np.testing.assert_array_equal(*draws)
        assert (layer(self.x, training=True).numpy() != draws[0]).any()

    @pytest.mark.parametrize("rate", [-0.1, 1.0])
    def test_rates_outside_0_1_are_refused(self, rate):
        with pytest.raises(ValueError, match="dropout rate must lie in"):
            Dropout(rate)

    def test_one_trace_serves_all_steps(self):
        layer = Dropout(0.4)

        @tf.function
        def drop(step):
            with randomness.scope(randomness.step_seed(3, step)):
                return layer(self.x, training=True)

        for step in (1, 2):
            np.testing.assert_array_equal(drop(tf.constant(step)), self.draw(layer, step))


def test_every_dense_layer_comes_from_the_factory():
    """Another kind of dense layer is an edit of one file; ``Scorers`` are the stacked layer in float32."""
    package = Path(tfmtl2r.__file__).parent
    made = re.compile(r"layers\.(Einsum)?Dense\(|^(?!\s*>>>).*StackedDense\(", re.MULTILINE)
    makers = {path.relative_to(package).as_posix() for path in package.rglob("*.py")
              if made.search(path.read_text(encoding="utf-8"))}
    assert makers == {"layers/dense.py"}
