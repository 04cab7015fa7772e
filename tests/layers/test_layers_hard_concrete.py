"""Hard concrete gates: their moments in closed form, one draw per step, refused options."""

import math

import numpy as np
import pytest

from tfmtl2r._backend import tf
from tfmtl2r.layers import randomness
from tfmtl2r.layers.hard_concrete import HardConcrete
from tfmtl2r.training.replicas import Replicas


@pytest.mark.parametrize(("options", "opened", "full", "test_gate"), [
    ({"start": 0.0}, 0.83182, 0.16818, 0.5),
    ({"start": -0.5, "beta": 1.0, "gamma": -1.0, "zeta": 3.0}, 0.64534, 0.37754, 0.51016),
])  # fmt: skip
def test_moments(options, opened, full, test_gate):
    gates = HardConcrete((200, 1000), penalty=0.1, **options)
    with randomness.scope(tf.constant([1, 2])):
        z = gates(training=True).numpy()
    assert z.min() >= 0
    assert z.max() <= 1
    error = 4 * math.sqrt(0.25 / z.size)
    assert abs((z > 0).mean() - opened) < error
    assert abs((z == 1).mean() - full) < error
    np.testing.assert_allclose(gates(), np.full(z.shape, test_gate), atol=1e-5)
    np.testing.assert_allclose(gates.probability_of_open(), np.full(z.shape, opened), atol=1e-5)
    (loss,) = gates.losses
    np.testing.assert_allclose(loss, 0.1 * opened * z.size, rtol=1e-4)


def test_one_draw_per_step():
    gates = HardConcrete((2, 3))
    draws = []
    for seed in (1, 1, 2):
        with randomness.scope(tf.constant([seed, 0])):
            draws.append(gates(training=True).numpy())
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_replicas_draw_the_same_gates(mirrored):
    """What all items share, items on other replicas share, too; what belongs to an item is drawn apart."""

    strategy = mirrored()
    with strategy.scope():
        gates = HardConcrete((2, 3))

    @tf.function
    def step():
        seed = randomness.step_seed(0, 1)
        with randomness.scope(Replicas().own_seed(seed), seed):
            return gates(training=True), tf.random.stateless_uniform([6], randomness.next_seed())

    (first, second), own = (strategy.experimental_local_results(part) for part in strategy.run(step))
    np.testing.assert_array_equal(first, second)
    assert (own[0] != own[1]).numpy().all()


def test_one_replica_draws_gates_and_dropout_apart():
    with randomness.scope(tf.constant([1, 2])):
        seeds = [randomness.next_seed(), randomness.next_common_seed()]
    assert (seeds[0] != seeds[1]).numpy().any()


def test_refused_options():
    with pytest.raises(ValueError, match="penalty must be 0 or more, not -1"):
        HardConcrete((1, 1), penalty=-1)
    with pytest.raises(ValueError, match="gamma < 0 and zeta > 1, got beta 1, gamma 0, zeta 2"):
        HardConcrete((1, 1), beta=1, gamma=0, zeta=2)
