"""InterroGate and AdapMTL: golden values, limits, groups of tasks, penalties, and what is left of them in an export."""

import json

import numpy as np
import pytest
from architecture_problem import VALID, connected

from tfmtl2r import MultiTaskRanker, architectures
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers.pruning import ThresholdedMLP
from tfmtl2r.layers.unit_gates import TaskMix, UnitGates
from tfmtl2r.serving.check import METADATA
from tfmtl2r.serving.export import export
from tfmtl2r.testing.architecture import NUMBERS, SCHEMA, TASKS, make_features

LOGITS = [[[2.0, -1.0, 0.3]], [[-3.0, 0.2, -0.5]]]
PHI, PSI = [[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]], [[10.0, 20.0, 30.0]]


@pytest.fixture
def features(rng):
    return make_features(rng)


def test_golden_values_of_gates():
    gates = UnitGates(2, [3], penalty=2.0, target=0.3)
    gates.logits[0].assign(LOGITS)
    np.testing.assert_allclose(gates.rates(), [0.574727, 0.324934], atol=1e-6)
    np.testing.assert_allclose(gates.losses, [2 * 0.149830], atol=1e-6)
    z = gates.at(0)
    mixed = z * PHI + (1 - z) * PSI
    np.testing.assert_array_equal(mixed, [[[1, 20, 3]], [[10, 5, 30]]])
    mix = TaskMix(2)
    mix.logits.assign([0.0, 1.0])
    np.testing.assert_allclose(mix(mixed), [[7.579527, 9.034121, 22.738582]], rtol=1e-6)


def test_gates_learn_straight_through_and_stop_below_the_target():
    gates = UnitGates(2, [3], penalty=1.0, target=0.5)
    gates.logits[0].assign(LOGITS)
    with tf.GradientTape(persistent=True) as tape:
        z, penalty = gates.at(0), tf.add_n(gates.losses)
    logits = tf.constant(LOGITS)
    slope = tf.sigmoid(logits) * tf.sigmoid(-logits)
    np.testing.assert_allclose(tape.gradient(z, gates.logits[0].value), slope, atol=1e-7)
    np.testing.assert_allclose(tape.gradient(penalty, gates.logits[0].value)[0], slope[0] / 6, atol=1e-7)
    assert not tape.gradient(penalty, gates.logits[0].value)[1].numpy().any()  # the rate .325 is below the target
    assert UnitGates(2, [3], penalty=0.0, target=0.5).losses == []


def test_threshold_on_units_that_differ():
    """rms of (3, 4) is sqrt 12.5; a bias shrinks with its unit."""
    layer = ThresholdedMLP([2], "linear", start=0.0)
    layer.build((None, 2))
    layer.dense[0].set_weights([np.array([[3.0, 0.3], [4.0, 0.4]]), np.array([1.0, 1.0])])
    factor = 1 - 0.5 / 12.5**0.5
    np.testing.assert_allclose(layer(tf.ones([1, 2])), [[8 * factor, 0.0]], rtol=1e-6)
    layer.threshold.assign(-30.0)  # nothing is switched off
    np.testing.assert_allclose(layer(tf.ones([1, 2])), [[8.0, 1.7]], rtol=1e-6)


@pytest.mark.parametrize(("start", "twin"), [(50.0, "single_task"), (-50.0, "shared_bottom")])
def test_interrogate_lies_between_single_task_and_shared_bottom(features, start, twin):
    ours = connected("interrogate", schema=NUMBERS, start=start)
    other = connected(twin, schema=NUMBERS)
    own = [v for level in ours.levels for v in level.own.weights]
    common = [v for level in ours.levels for v in level.common.weights]
    for target, source in zip(other.weights, [*(own if start > 0 else common), *ours.towers.weights,
                                              *ours.scorers.weights], strict=True):
        target.assign(source)
    batch = Batch(features, valid=VALID)
    for task, scores in other(batch=batch).items():
        np.testing.assert_allclose(ours(batch=batch)[task], scores, atol=1e-6)


def test_adapmtl_without_thresholds_is_a_shared_bottom(features):
    ours, other = connected("adapmtl", start=-50.0), connected("shared_bottom")
    weights = [v for v in ours.weights if "threshold" not in v.path]
    for target, source in zip(other.weights, weights, strict=True):
        target.assign(source)
    batch = Batch(features, valid=VALID)
    for task, scores in other(batch=batch).items():
        np.testing.assert_allclose(ours(batch=batch)[task], scores, atol=1e-6)


def test_a_threshold_starts_within_reach():
    """A quarter of the weights of the smallest layer: units fade out within a thousand steps or so."""
    layer = ThresholdedMLP([64, 32])
    layer.build((None, 136))
    assert float(tf.sigmoid(layer.threshold)) == pytest.approx(np.sqrt(2 / 200) / 4)
    factors = layer.factors()[0].numpy()
    assert 0.6 < factors.mean() < 0.8


def test_thresholds_rest_once_enough_units_are_off():
    ours = connected("adapmtl", sparsity=0.5, decay=0.1, start=-5.0)
    variables = [ours.trunk.threshold, ours.towers.threshold]

    def gradients():
        with tf.GradientTape() as tape:
            penalty = tf.add_n(ours.losses)
        return tape.gradient(penalty, [v.value for v in variables])

    assert not bool(ours.reached())
    np.testing.assert_allclose(gradients()[0], -0.5)
    assert float(ours.losses[0]) == pytest.approx(0.05 * 25)
    for variable in variables:
        variable.assign(tf.fill(variable.shape, 5.0))  # above all weights
    assert bool(ours.reached())
    assert not any(np.any(gradient) for gradient in gradients())


def changed(name, **options):
    """A ranker whose gates and thresholds have switched off about half of the units."""
    keras.utils.set_random_seed(4)
    ranker = MultiTaskRanker({"name": name, "units": [12, 10], "head_units": [6], **options}, TASKS, SCHEMA)
    if name == "adapmtl":
        trunk, towers = ranker.architecture.trunk, ranker.architecture.towers
        for part in (trunk, towers):
            part.threshold.assign(tf.fill(part.threshold.shape, -1.1))  # .25
            for layer in part.dense:
                layer.bias.assign(tf.random.stateless_normal(layer.bias.shape, [1, 2]))
    return ranker


CASES = [("interrogate", {}), ("interrogate", {"start": 3.0}), ("interrogate", {"start": -3.0}),
         ("interrogate", {"units": [8]}), ("adapmtl", {}), ("adapmtl", {"head_units": []})]


@pytest.mark.product
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_what_is_left_has_the_same_scores(features, name, options):
    ranker = changed(name, **options)
    batch = ranker.batch({**features, "list_size": tf.reduce_sum(tf.cast(VALID, tf.int32), 1)})
    expected = ranker.architecture(batch=batch)
    left = ranker.architecture.prune()
    assert all(kept <= of for kept, of in left.values())
    for task, scores in ranker.architecture(batch=batch).items():
        np.testing.assert_allclose(scores, expected[task], atol=1e-6)
    if options.get("start") == -3.0:  # every unit is shared, and no own unit is left
        assert left == {"level_1": (12, 48), "level_2": (10, 40)}
    elif options.get("start") == 3.0:  # no shared unit is read
        assert left == {"level_1": (36, 48), "level_2": (30, 40)}
    else:
        assert any(kept < of for kept, of in left.values())


def test_a_trunk_that_is_off_keeps_a_unit_of_each_layer(features):
    ranker = changed("adapmtl")
    ranker.architecture.trunk.threshold.assign(tf.fill(ranker.architecture.trunk.threshold.shape, 10.0))
    batch = ranker.batch({**features, "list_size": tf.reduce_sum(tf.cast(VALID, tf.int32), 1)})
    expected = ranker.architecture(batch=batch)
    assert ranker.architecture.prune()["trunk"] == (2, 22)
    for task, scores in ranker.architecture(batch=batch).items():
        np.testing.assert_allclose(scores, expected[task], atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", ["interrogate", "adapmtl"])
def test_an_export_contains_the_units_that_are_left(tmp_path, name):
    """The export is compared with the ranker before it is published."""
    ranker = changed(name)
    before = [np.array(v) for v in ranker.architecture.variables]
    folder = export(ranker, tmp_path / name)
    left = json.loads((folder / METADATA).read_text())["units"]
    assert sum(kept for kept, _ in left.values()) < sum(of for _, of in left.values())
    stored = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    numbers = sum(np.prod(shape) for key, shape in stored.get_variable_to_shape_map().items() if "OBJECT" not in key)
    assert numbers < ranker.architecture.count_params()
    for now, then in zip(ranker.architecture.variables, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("interrogate", {"units": ()}, "at least one level"), ("interrogate", {"target": 1.5}, "target is a share"),
    ("interrogate", {"penalty": -1.0}, "penalty on own units must be 0 or more"),
    ("adapmtl", {"sparsity": 1.0}, "sparsity is a share of units, from 0 to below 1"),
    ("adapmtl", {"start": 0.5}, "start below 0"), ("adapmtl", {"activation": "sigmoid"}, "does not map 0 to 0"),
])
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        architectures.get(name, **options)
