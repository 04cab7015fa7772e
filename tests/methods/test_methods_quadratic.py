"""Methods with a preference end where it points: on two quadratics whose Pareto set and rays are known exactly.

``l1 = s1 |x - (1, 0)|^2`` and ``l2 = s2 |x + (1, 0)|^2``; the Pareto set is ``(t, 0)`` with t in [-1, 1], and
``r1 l1 = r2 l2`` there at ``t = (1 - q) / (1 + q)`` with ``q = sqrt(r2 s2 / (r1 s1))``.
"""

import functools

import numpy as np
import pytest

from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.methods.base import Signals
from tfmtl2r.methods.deciding import weigh

CENTRES = np.array([[1.0, 0.0], [-1.0, 0.0]])
START = (0.1, 0.8)
STEPS = 2000
PREFERENCES = [(0.5, 0.5), (0.8, 0.2), (0.2, 0.8)]
RAY_SCALARISATIONS = [
    ("weighted_chebyshev", {}), ("pbi", {}), ("soft_weighted_chebyshev", {"mu": 1e-5}),
    ("stch", {"mu": 1e-2, "warmup": 0}),
]


@functools.cache
def descent(name, **options):
    """A traced function ``(preference, scales) -> x``: normalised steps whose length decays."""
    return _descent(methods.get(name, **options))


def _descent(method):
    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec([2], tf.float64), tf.TensorSpec([2], tf.float64)]
    )
    def run(preference, scales):
        def step(k, x, state):
            offset = x[None, :] - CENTRES
            losses = scales * tf.reduce_sum(offset**2, axis=1)
            rows = 2.0 * scales[:, None] * offset
            signals = Signals(
                losses=losses, preference=preference, present=tf.ones([2], tf.bool),
                gram=tf.matmul(rows, rows, transpose_b=True), step=k, epoch=tf.zeros([], tf.int64),
                seed=tf.stack([0, tf.cast(k, tf.int32)]),
            )
            weights, state = weigh(method, signals, state)
            update = tf.linalg.matvec(rows, weights, transpose_a=True)
            length = 0.3 / (1.0 + tf.cast(k, tf.float64)) ** 0.6
            return k + 1, x - length * tf.math.divide_no_nan(update, tf.norm(update)), state

        state = {key: tf.constant(value) for key, value in method.initial_state(2).items()}
        start = (tf.zeros([], tf.int64), tf.constant(START, tf.float64), state)
        return tf.while_loop(lambda k, x, state: k < STEPS, step, start)[1]

    return run


def on_the_ray(preference, scales):
    (r1, r2), (s1, s2) = preference, scales
    q = np.sqrt(r2 * s2 / (r1 * s1))
    return (1 - q) / (1 + q)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
@pytest.mark.parametrize("preference", PREFERENCES)
@pytest.mark.parametrize(("name", "options"), RAY_SCALARISATIONS)
def test_ends_on_the_ray_of_the_preference(name, options, preference, scale):
    expected = on_the_ray(preference, (1, 1))
    if name == "stch":  # relative to its nadir, here the losses at the start
        nadir = ((np.array(START) - CENTRES) ** 2).sum(1)
        expected = on_the_ray(preference, 1 / nadir)
    x = descent(name, **options)(preference, (scale, scale)).numpy()
    np.testing.assert_allclose(x, [expected, 0], atol=0.03)


@pytest.mark.parametrize("preference", PREFERENCES)
@pytest.mark.parametrize(("name", "options"), RAY_SCALARISATIONS[:3])
def test_ends_on_the_ray_when_one_loss_is_ten_times_as_large(name, options, preference):
    x = descent(name, **options)(preference, (1.0, 10.0)).numpy()
    np.testing.assert_allclose(x, [on_the_ray(preference, (1, 10)), 0], atol=0.03)


@pytest.mark.parametrize("preference", PREFERENCES)
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 10.0)])
def test_linear_scalarisation_ends_at_the_weighted_mean_of_the_optima(preference, scales):
    pull = np.multiply(preference, scales)
    x = descent("linear_scalarization")(preference, scales).numpy()
    np.testing.assert_allclose(x, [(pull[0] - pull[1]) / pull.sum(), 0], atol=0.03)


def test_cosmos_lies_between_the_weighted_sum_and_the_ray():
    preference = (0.8, 0.2)
    ends = [descent("cosmos", lam=lam)(preference, (1.0, 1.0)).numpy()[0] for lam in (0.0, 1.0, 30.0)]
    np.testing.assert_allclose([ends[0], ends[2]], [0.6, 1 / 3], atol=0.03)
    assert ends[0] > ends[1] > ends[2]
