"""Methods that promise a point of the Pareto front: they end on its ray, at every scale of the losses."""

import numpy as np
import pytest
from test_methods_quadratic import RAY_SCALARISATIONS

from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Signals
from tfmtl2r.methods.deciding import weigh

CENTRES = tf.constant([[1.0, 0.0], [-1.0, 0.0]], tf.float64)
STEPS = 300


def descend(name):
    """Compiled: minimises ``s_t ||x - c_t||^2`` from (.3, .8) with unit steps that shrink; returns the end."""
    method = methods.get(name)
    initial = {key: tf.constant(value) for key, value in method.initial_state(2, 2).items()}

    @tf.function(autograph=False)
    def run(scales, preference):
        def step(k, x, *state):
            away = x[None] - CENTRES
            rows = 2.0 * scales[:, None] * away
            signals = Signals(
                losses=scales * tf.reduce_sum(away**2, axis=1), preference=preference,
                present=tf.constant([True, True]), gram=tf.matmul(rows, rows, transpose_b=True), step=k,
            )
            weights, after = weigh(method, signals, dict(zip(initial, state, strict=True)))
            update = tf.linalg.matvec(rows, weights, transpose_a=True)
            size = 0.2 / (1.0 + 0.05 * tf.cast(k, tf.float64))
            return k + 1, x - size * update / tf.maximum(tf.norm(update), 1e-300), *(after[key] for key in initial)

        start = (tf.constant(0, tf.int64), tf.constant([0.3, 0.8], tf.float64), *initial.values())
        return tf.while_loop(lambda k, *_: k < STEPS, step, start)[1]

    return run


def test_every_method_that_promises_its_ray_is_tested():
    """The others: test_methods_quadratic.py."""
    promising = {name for name in methods.names() if "ends_on_the_ray" in methods.card(name).promises}
    assert promising == {"epo", "wc_mgda", *(name for name, _ in RAY_SCALARISATIONS)}


@pytest.mark.parametrize("name", ["epo", "wc_mgda"])
def test_ends_where_preference_times_loss_is_equal(name):
    run = descend(name)
    for preference in ([0.5, 0.5], [0.8, 0.2], [0.2, 0.8]):
        for scales in ([1e-3, 1e-3], [1.0, 1.0], [10.0, 10.0], [1.0, 10.0]):
            ratio = np.sqrt(preference[1] * scales[1] / (preference[0] * scales[0]))
            end = run(tf.constant(scales, tf.float64), tf.constant(preference, tf.float64)).numpy()
            expected = [(1 - ratio) / (1 + ratio), 0.0]
            np.testing.assert_allclose(end, expected, atol=0.03, err_msg=f"{preference} {scales}")
