"""The ranker as a Keras citizen: fit, evaluate, save, resume, callbacks, precision."""

import subprocess
import sys

import numpy as np
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import from_frame

ARCHITECTURE = {"name": "shared_bottom", "units": [8, 6], "head_units": [4]}


def ranker(problem, method="linear_scalarization", optimizer=None, architecture=None, **options):
    model = MultiTaskRanker(dict(ARCHITECTURE, **(architecture or {})), problem.tasks, problem.schema)
    model.compile(optimizer or keras.optimizers.SGD(0.1), method=method, **options)
    return model


def weights_of(model):
    return [np.array(v) for v in model.trainable_variables]


def representatives():
    """The first method of every kind of machinery: what it needs, and whether it keeps a state."""
    kinds = {}
    for name in methods.names():
        method = methods.get(name)
        kinds.setdefault((method.needs, method.per_parameter, bool(method.initial_state(2, 2))), name)
    names = sorted({"linear_scalarization", *kinds.values()})
    fast = {"linear_scalarization", "cr_mogm"}  # an objective, and a Gram matrix with a state
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.product
@pytest.mark.long
@pytest.mark.parametrize("method", representatives())
@pytest.mark.parametrize("mode", ["parameters", "features"])
@pytest.mark.slow
def test_training_lowers_the_losses(problem, method, mode):
    built = methods.get(method)
    if built.needs & {"gram", "rows"} and mode not in built.modes:
        with pytest.raises(ValueError, match="cannot run with gradients='features', only with 'parameters'"):
            ranker(problem, method, gradients=mode)
        return
    model = ranker(problem, method, keras.optimizers.Adam(0.01), gradients=mode)
    before = model.evaluate(problem.batches(), verbose=0, return_dict=True)
    history = model.fit(problem.batches(), epochs=12, verbose=0, validation_data=problem.batches()).history
    after = model.evaluate(problem.batches(), verbose=0, return_dict=True)
    assert after["loss"] < before["loss"]
    logged = {"loss", "stop_on", "click_loss", "click_ndcg@3", "grade_ndcg@3", "dwell_mse", "val_click_ndcg@3"}
    assert logged <= set(history)
    np.testing.assert_allclose(history["val_click_ndcg@3"][-1], after["click_ndcg@3"], rtol=1e-6)


@pytest.mark.long
def test_fit_traces_once_whatever_the_batch_shapes(problem):
    model = ranker(problem, "mgda")
    traces = []
    step = model.train_step
    model.train_step = lambda data: traces.append(1) or step(data)
    model.fit(problem.batches(), epochs=2, verbose=0)
    assert len(traces) == 1


def test_evaluate_equals_metrics_on_predict(problem):
    from tfmtl2r import metrics

    model = ranker(problem)
    results = model.evaluate(problem.batches(), verbose=0, return_dict=True)
    scores = model.predict(problem.batches())
    valid = np.arange(7) < problem.x["list_size"][:, None]
    value, counts = metrics.get("ndcg@3").per_list(problem.y["click"], np.nan_to_num(scores["click"]), valid)
    np.testing.assert_allclose(results["click_ndcg@3"], np.average(value, weights=counts), rtol=1e-6)


class TestPredict:
    def test_layouts_hold_the_same_scores(self, problem):
        model = ranker(problem)
        padded = model.predict(problem.batches())["click"]
        ragged = model.predict(problem.batches(), layout="ragged")["click"]
        items = model.predict(problem.x, layout="items")["click"]
        sizes = problem.x["list_size"]
        assert [len(r) for r in ragged] == sizes.tolist()
        np.testing.assert_allclose(np.concatenate(ragged), items, rtol=1e-6)
        np.testing.assert_array_equal(np.isnan(padded), np.arange(sizes.max()) >= sizes[:, None])
        np.testing.assert_allclose(padded[~np.isnan(padded)], items, rtol=1e-6)

    def test_a_frame_comes_back_on_its_own_index(self, problem):
        import pandas as pd

        model = ranker(problem)
        expected = model.predict(problem.x, layout="items")["click"]
        real = np.arange(7) < problem.x["list_size"][:, None]
        where = np.argwhere(real)
        names = np.array([None, *"abcd"])
        frame = pd.DataFrame({
            "query": where[:, 0],
            "vector": list(problem.x["vector"][real]),
            "age": problem.x["age"][where[:, 0]],
            "brand": [name or "?" for name in names[problem.x["brand"][real]]],
        })
        shuffled = frame.sample(frac=1, random_state=0)
        scores = model.predict(shuffled, list_id="query")
        assert list(scores.columns) == ["score_click", "score_grade", "score_dwell", "value_dwell"]
        np.testing.assert_allclose(scores["score_click"].sort_index(), expected, atol=1e-5)
        lists = from_frame(frame, "query")
        np.testing.assert_allclose(model.predict(lists, 4)["click"], expected, atol=1e-5)
        assert [len(one) for one in model.predict(lists, layout="ragged")["click"]] == problem.x["list_size"].tolist()

    def test_bad_requests(self, problem):
        model = ranker(problem)
        with pytest.raises(ValueError, match="layout must be one of"):
            model.predict(problem.x, layout="wide")
        with pytest.raises(ValueError, match="list_id names a column of a DataFrame"):
            model.predict(problem.x, list_id="query")


RELOAD = """
import sys, numpy as np
import tfmtl2r
model = tfmtl2r.load(sys.argv[1])
x = dict(np.load(sys.argv[2]))
np.savez(sys.argv[3], **model.predict(x))
"""


@pytest.mark.long
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_save_and_load_in_a_new_process(problem, tmp_path, policy):
    keras.mixed_precision.set_global_policy(policy)
    model = ranker(problem, "pcgrad", keras.optimizers.Adam(0.01), architecture={"layer_norm": True})
    model.fit(problem.batches(), epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "x.npz", **problem.x)
    files = [str(tmp_path / name) for name in ("model.keras", "x.npz", "scores.npz")]
    subprocess.run([sys.executable, "-c", RELOAD, *files], check=True)
    loaded = np.load(tmp_path / "scores.npz")
    for task, scores in model.predict(problem.x).items():
        np.testing.assert_allclose(loaded[task], scores, atol=1e-6)


@pytest.mark.product
@pytest.mark.parametrize("method", representatives())
@pytest.mark.long
def test_resuming_gives_the_same_next_steps(problem, tmp_path, method):
    """Dropout, the method's randomness and state, the optimizer: all as if training had not stopped."""
    options = {"architecture": {"dropout": 0.3}}
    straight = ranker(problem, method, keras.optimizers.Adam(0.01), **options)
    straight.fit(problem.batches(), epochs=1, verbose=0)
    straight.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    for model in (straight, resumed):
        model.fit(problem.batches(), epochs=1, verbose=0)
    for ours, theirs in zip(weights_of(resumed), weights_of(straight), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)
    assert int(resumed.method_state.epoch) == 2


@pytest.mark.long
def test_mixed_precision_trains_with_float32_variables_and_scores(problem):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    for mode in ("parameters", "features"):
        model = ranker(problem, "mgda", keras.optimizers.Adam(0.01), gradients=mode)
        history = model.fit(problem.batches(), epochs=10, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
        assert model(problem.x)["click"].dtype == tf.float32
        assert {v.dtype for v in model.trainable_variables} == {"float32"}
    keras.mixed_precision.set_global_policy("mixed_float16")
    with pytest.raises(ValueError, match="use mixed_bfloat16"):
        ranker(problem)


@pytest.mark.slow
def test_steps_per_execution_changes_nothing_but_speed(problem):
    results = []
    for steps in (1, 4):
        keras.utils.set_random_seed(3)
        model = ranker(problem, "mgda", steps_per_execution=steps)
        model.fit(problem.batches(), epochs=2, verbose=0)
        results.append(weights_of(model))
    for one, four in zip(*results, strict=True):
        np.testing.assert_allclose(one, four, atol=1e-6)


@pytest.mark.slow
def test_callbacks_watch_a_task_or_all(problem, tmp_path):
    model = ranker(problem)
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_click_ndcg@3", mode="max", save_best_only=True
    )
    stop = keras.callbacks.EarlyStopping(monitor="val_stop_on", mode="max", patience=1, min_delta=10)
    history = model.fit(problem.batches(), validation_data=problem.batches(), epochs=6, verbose=0,
                        callbacks=[checkpoint, stop]).history
    assert len(history["loss"]) == 2  # nothing improves by 10: stopped after one epoch of patience
    best = keras.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_allclose(
        best.evaluate(problem.batches(), verbose=0, return_dict=True)["click_ndcg@3"],
        max(history["val_click_ndcg@3"]), rtol=1e-6,
    )


@pytest.mark.slow
def test_plain_rows(problem, rng):
    x = {"a": rng.normal(size=64).astype(np.float32), "v": rng.normal(size=(64, 3)).astype(np.float32)}
    y = {"buy": (x["a"] > 0).astype(np.float32), "price": x["v"][:, 0]}
    tasks = [Task("buy", kind="binary"), Task("price", kind="regression")]
    for method in ("linear_scalarization", "mgda"):
        model = MultiTaskRanker("shared_bottom", tasks)  # features are read off the data
        model.compile(keras.optimizers.Adam(0.01), method=method)
        before = model.fit(x, y, batch_size=16, verbose=0, epochs=15).history["loss"]
        assert before[-1] < before[0]
        assert model.predict(x)["buy"].shape == (64,)
        assert model.evaluate(x, y, verbose=0, return_dict=True)["buy_auc"] > 0.9


class TestPreference:
    @pytest.mark.slow
    def test_task_weights_are_the_default_and_can_change_between_steps(self, problem):
        problem.tasks = tuple(Task(**{**vars(t), "weight": w}) for t, w in zip(problem.tasks, (2, 1, 1), strict=True))
        model = ranker(problem)
        np.testing.assert_allclose(model.method_state.preference, [0.5, 0.25, 0.25])
        telemetry = model.watch_gradients(1)
        model.fit(problem.batches(), verbose=0)
        np.testing.assert_allclose(telemetry.weights, [1.5, 0.75, 0.75], rtol=1e-6)
        model.set_preference([0, 1, 1])
        model.fit(problem.batches(), verbose=0)
        np.testing.assert_allclose(telemetry.weights, [0, 1.5, 1.5], rtol=1e-6)

    @pytest.mark.parametrize(
        ("preference", "message"),
        [([1, 2], "one number per task"), ([1, -1, 1], ">= 0"), ([0, 0, 0], "not all 0"), ([1, np.nan, 1], "finite")],
    )
    def test_bad_preferences(self, problem, preference, message):
        with pytest.raises(ValueError, match=message):
            ranker(problem, preference=preference)

    def test_a_method_without_preference_refuses_one(self, problem):
        with pytest.raises(ValueError, match="MGDA has no preference"):
            ranker(problem, "mgda", preference=[2, 1, 1])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["features", "parameters"])
@pytest.mark.parametrize("method", ["linear_scalarization", "mgda"])
def test_telemetry_samples_the_gradients(problem, method, mode):
    model = ranker(problem, method, gradients=mode)
    telemetry = model.watch_gradients(4)
    model.fit(problem.batches(), verbose=0)
    gram = telemetry.gram.numpy()
    assert np.isfinite(gram).all()
    assert np.linalg.eigvalsh(gram).min() > -1e-6 * np.trace(gram)
    lengths = telemetry.lengths.numpy()
    if (method, mode) == ("mgda", "parameters"):
        shared = [v for group in model.architecture.groups() if group.shared for v in group.variables]
        assert lengths.shape == (len(shared), 3)
        np.testing.assert_allclose(np.sum(lengths**2, axis=0), np.diag(gram), rtol=1e-4)
    else:
        assert lengths.shape == (0, 3)


def test_names_of_tasks_and_shapes_are_checked():
    with pytest.raises(ValueError, match="two tasks are called 'a'"):
        MultiTaskRanker("shared_bottom", ["a", "a"])
    with pytest.raises(ValueError, match="does not know its features yet"):
        MultiTaskRanker("shared_bottom", ["a"])({"x": tf.ones([2, 3]), "list_size": tf.constant([3, 2])})


@pytest.mark.slow
def test_a_task_that_never_occurs_has_no_loss(problem):
    problem.y["grade"] = np.full_like(problem.y["grade"], np.nan)
    model = ranker(problem)
    logs = model.fit(problem.batches(), epochs=1, verbose=0, validation_data=problem.batches()).history
    for prefix in ("", "val_"):
        assert np.isnan(logs[f"{prefix}grade_loss"]).all()
        np.testing.assert_allclose(
            logs[f"{prefix}loss"], logs[f"{prefix}click_loss"][0] + logs[f"{prefix}dwell_loss"][0], rtol=1e-5)


def test_several_rankers_are_no_ranker_that_is_traced_again(caplog):
    """TensorFlow warns about a function that it traces again and again; it knows functions by their code."""
    x = {"x": np.ones((2, 3), np.float32), "list_size": np.array([3, 2], np.int32)}
    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    try:
        for _ in range(7):
            MultiTaskRanker({"name": "shared_bottom", "units": [2]}, ["click"], Schema([Dense("x")])).predict(x)
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.text == ""
