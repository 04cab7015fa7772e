"""One replica and two replicas are the same training: updates, losses, metrics, embedding tables, method state."""


import numpy as np
import pytest

from tfmtl2r import MultiTaskRanker, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.training import trackers
from tfmtl2r.training.replicas import Replicas

TOLERANCE = 1e-5


FIRST = ("linear_scalarization", "mgda", "pcgrad", "graddrop", "nash_mtl")


def runs():
    """The first method of every kind in each mode and some well-known ones; slow but for one, since tracing is long."""
    kinds, params = set(), []
    for name in methods.names():
        method = methods.get(name)
        for mode in method.modes if method.needs & {"gram", "rows"} else ("parameters",):
            kind = (method.needs, mode)
            if kind not in kinds or name in FIRST:
                fast = kind not in kinds and kind == ({"gram"}, "parameters")
                params.append(pytest.param(name, mode, marks=[] if fast else [pytest.mark.long]))
            kinds.add(kind)
    return params


@pytest.fixture(scope="module")
def strategies(mirrored):
    return tf.distribute.get_strategy(), mirrored()


@pytest.fixture
def gaps(problem):
    """A task that one replica lacks in the first batch of 8, and one that is absent from the whole last batch."""
    problem.y["grade"][:4] = np.nan
    problem.y["dwell"][24:] = np.nan
    return problem


def ranker(problem, strategy, method="linear_scalarization", mode="parameters", **options):
    """The same initial weights whatever the strategy; SGD, since Adam magnifies rounding in near-zero gradients."""
    keras.utils.set_random_seed(7)
    with strategy.scope():
        architecture = {"name": "shared_bottom", "units": [8, 6], "head_units": [4]}
        model = MultiTaskRanker(architecture, problem.tasks, problem.schema)
        model.compile(keras.optimizers.SGD(0.1), method=method, gradients=mode, **options)
    return model


def weights_of(model):
    """By position and path: Keras numbers the layers of a process, so that two models have other paths."""
    variables = model.trainable_variables + model.method_state.variables
    return {f"{i} {v.path}": np.array(v) for i, v in enumerate(variables)}


def assert_same(one, two):
    assert len(one) == len(two)
    for (name, value), other in zip(one.items(), two.values(), strict=True):
        np.testing.assert_allclose(other, value, atol=TOLERANCE, rtol=TOLERANCE, err_msg=name)


@pytest.mark.product
@pytest.mark.slow
@pytest.mark.parametrize(("method", "mode"), runs())
def test_every_method_makes_the_same_updates(gaps, strategies, method, mode):
    """29 lists in batches of 8: the last batch is 5, three lists on one replica and two on the other."""
    trained, logs = [], []
    for strategy in strategies:
        model = ranker(gaps, strategy, method, mode, train_metrics=False)
        start = weights_of(model)
        logs.append(model.fit(gaps.batches(), epochs=2, verbose=0).history)
        trained.append(weights_of(model))
    for (name, before), after in zip(start.items(), trained[1].values(), strict=True):
        if "method_state" not in name:
            assert np.abs(after - before).max() > 1e-3, name
    assert_same(*trained)
    assert logs[0].keys() == logs[1].keys() == {"loss", "click_loss", "grade_loss", "dwell_loss"}
    assert_same(*logs)


@pytest.mark.slow
def test_metrics_and_a_replica_without_lists(gaps, strategies):
    """Batches of 7: the last batch is a single list, and the second replica has nothing to do."""
    logs = []
    for strategy in strategies:
        model = ranker(gaps, strategy)
        history = model.fit(gaps.batches(7), epochs=2, verbose=0, validation_data=gaps.batches(7)).history
        evaluated = model.evaluate(gaps.batches(7), verbose=0, return_dict=True)
        logs.append({**history, **{f"evaluate_{name}": value for name, value in evaluated.items()}})
    assert logs[0].keys() == logs[1].keys()
    assert {"stop_on", "click_ndcg@3", "val_dwell_mse", "evaluate_grade_ndcg@3"} <= logs[0].keys()
    assert_same(*logs)


@pytest.mark.long
@pytest.mark.parametrize("method", ["mgda", "linear_scalarization"])
def test_a_loop_of_ones_own(gaps, strategies, method):
    """Without ``fit``: ``strategy.run(model.train_step)`` on a distributed data set, watched by telemetry."""
    results = []
    for strategy in strategies:
        model = ranker(gaps, strategy, method, train_metrics=False)
        with strategy.scope():
            telemetry = model.watch_gradients(every=1)
        model.prepare(gaps.batches())

        @tf.function(reduce_retracing=True, autograph=False)
        def step(batch, strategy=strategy, model=model):
            logs = strategy.run(model.train_step, (batch,))
            return tf.nest.map_structure(lambda value: tf.stack(strategy.experimental_local_results(value)), logs)

        for batch in strategy.experimental_distribute_dataset(gaps.batches()):
            logs = step(batch)
        for name, values in logs.items():
            np.testing.assert_array_equal(values, values[0], err_msg=f"{name} differs between replicas")
        seen = {name: getattr(telemetry, name).numpy() for name in ("weights", "gram", "lengths")}
        assert np.isfinite(seen["gram"]).all()
        results.append({**weights_of(model), **{name: values[0] for name, values in logs.items()}, **seen})
    assert_same(*results)


def test_a_collective_gets_reads_with_a_place():
    """The read of a float64 variable has no device. An operation after it has one."""
    seen = []

    class Two(Replicas):
        count = 2

        def __init__(self):
            pass

        def sum(self, tensors):
            seen.extend(tensor.op.type for tensor in tensors)
            return tensors

    streams = [keras.metrics.Mean(dtype="float64"), keras.metrics.Mean()]
    tf.function(lambda: [value for value, _ in trackers._results(streams, Two())]).get_concrete_function()
    assert set(seen) == {"Identity"}
