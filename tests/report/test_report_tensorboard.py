"""What arrives in TensorBoard's files."""

import json
import logging

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.report import hparams
from tfmtl2r.report.histories import MOST, History
from tfmtl2r.report.tensorboard import TensorBoard


def data(rng):
    x = {"a": rng.normal(size=(48, 4)).astype(np.float32), "list_size": np.full(48, 4, np.int32)}
    y = {"up": (x["a"] > 0).astype(np.float32), "up_again": (x["a"] > 0).astype(np.float32),
         "down": (x["a"] < 0).astype(np.float32)}
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


def series(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {tag: [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
            for tag in events.Tags()["tensors"] if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"}


def history(folder, tag):
    """What the page reads: the last tensor of a history, and what it is."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 1})
    events.Reload()
    metadata = events.SummaryMetadata(f"tfmtl2r/{tag}")
    assert (metadata.plugin_data.plugin_name, metadata.data_class) == ("tfmtl2r", 2)
    return tf.make_ndarray(events.Tensors(f"tfmtl2r/{tag}")[-1].tensor_proto), json.loads(metadata.plugin_data.content)


@pytest.mark.parametrize(("method", "steps"), [
    pytest.param("linear_scalarization", 1, marks=pytest.mark.slow), pytest.param("mgda", 1, marks=pytest.mark.slow),
    ("mgda", 3),
])
def test_losses_metrics_weights_and_conflicts(tmp_path, rng, method, steps):
    batches = data(rng)
    tasks = [Task(name, kind="binary", metrics=("ndcg@2",)) for name in ("up", "up_again", "down")]
    schema = Schema([Dense("a")])
    model = MultiTaskRanker({"name": "shared_bottom", "units": [8], "head_units": []}, tasks, schema)
    kernel = model.architecture.scorers.kernel
    kernel.assign(np.repeat(kernel.numpy()[:1], 3, axis=0))  # equal heads: what differs is what the tasks want
    model.compile(keras.optimizers.SGD(0.01), method=method, steps_per_execution=steps)
    model.fit(batches, validation_data=batches, epochs=2, verbose=0,
              callbacks=[TensorBoard(tmp_path, every=3, alone={"up": 0.5})])
    train, validation = series(tmp_path / "train"), series(tmp_path / "validation")
    for run in (train, validation):
        assert {"up/loss", "up/ndcg@2", "up_again/ndcg@2", "down/loss", "all/loss", "all/stop_on"} <= set(run)
        assert [step for step, _ in run["up_again/ndcg@2"]] == [0, 1]
    # 6 steps an epoch: samples after steps 3, 6, 9, 12.
    assert [step for step, _ in train["weights/up"]] == [3, 6, 9, 12]
    assert all(value > 0 for _, value in train["gradient_norm/down"])
    assert all(value > 0.99 for _, value in train["gradient_cosine/up/up_again"])  # the same goal
    assert all(value < 0 for _, value in train["gradient_cosine/up/down"])  # opposite goals
    found, about = history(tmp_path / "train", "cosine")
    assert about == {"kind": "matrix", "labels": [["up", "up_again", "down"]] * 2, "unit": "step"}
    assert found[:, 0].tolist() == [3, 6, 9, 12]
    assert found[:, 3].tolist() == pytest.approx([value for _, value in train["gradient_cosine/up/down"]])
    shares = history(tmp_path / "train", "share")[0][:, 1:]
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert len(pictures(tmp_path / "train", "cosine")) == 1
    if method == "mgda":  # exact gradients: 6 steps, of one layer
        found, about = history(tmp_path / "train", "layers")
        assert about["labels"][1] == ["up", "up_again", "down"]
        assert found.shape == (4, 1 + 3 * len(about["labels"][0]))
        assert found[:, 1:].reshape(4, -1, 3).sum(axis=2) == pytest.approx(1, abs=1e-5)
    assert [value for _, value in train["conflict_rate/up/down"]] == [1, 1]
    assert [value for _, value in train["conflict_rate/up/up_again"]] == [0, 0]
    losses = [value for _, value in validation["up/loss"]]
    assert [value for _, value in validation["loss_ratio/up"]] == pytest.approx([2 * loss for loss in losses])
    assert history(tmp_path / "train", "loss_ratio")[1] == {"kind": "lines", "labels": [["up"]], "unit": "epoch"}
    assert ("solver/rounds" in train) == ("solver/unsettled_so_far" in train) == (method == "mgda")
    if method == "mgda":
        assert all(value >= 1 for _, value in train["solver/rounds"])
        assert history(tmp_path / "train", "solver")[0].shape == history(tmp_path / "train", "unsettled")[0].shape
    assert "multiplier/up" not in train
    total = sum(train[f"weights/{task.name}"][0][1] for task in tasks)
    np.testing.assert_allclose(total, 3, rtol=1e-5)


@pytest.mark.parametrize(("method", "least"), [
    pytest.param({"name": "nmt", "bounds": (0.01, float("inf")), "stage_epochs": 0}, 1e-3, marks=pytest.mark.slow),
    ({"name": "pcd", "tau": 3.0}, 1e-3), ("linear_scalarization", None),
])
def test_multipliers_of_methods_and_of_floors(tmp_path, rng, method, least):
    """A method shows its own in every sample. Without, those that a training with floors logs are shown."""
    class Floors(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["down_multiplier"] = 0.25 * (epoch + 1)

    tasks = [Task(name, kind="binary", metrics=()) for name in ("up", "down")]
    model = MultiTaskRanker({"name": "shared_bottom", "units": [4], "head_units": []}, tasks, Schema([Dense("a")]))
    model.compile(keras.optimizers.SGD(0.01), method=method, run_eagerly=True)
    model.fit(data(rng).take(2), epochs=2, verbose=0, callbacks=[Floors(), TensorBoard(tmp_path, every=1)])
    train = series(tmp_path / "train")
    found, about = history(tmp_path / "train", "multiplier")
    assert about["kind"] == "lines"
    if least is None:
        assert about["labels"] == [["down"]]
        assert found.tolist() == [[0, 0.25], [1, 0.5]]
        assert train["multiplier/down"] == [(0, 0.25), (1, 0.5)]
    else:
        assert about["labels"] == [["up", "down"]]
        assert found.shape == (4, 3)
        assert found[:, 1:].max() > least
        np.testing.assert_allclose([value for _, value in train["multiplier/down"]], found[:, 2])


@pytest.mark.slow
def test_a_second_fit_continues_the_curves(tmp_path, rng):
    batches = data(rng)
    model = MultiTaskRanker({"name": "shared_bottom", "units": [8]}, [Task("up", kind="binary")])
    model.compile(keras.optimizers.SGD(0.01))
    for _ in range(2):
        model.fit(batches, verbose=0, callbacks=[TensorBoard(tmp_path, every=4)])
    assert [step for step, _ in series(tmp_path / "train")["weights/up"]] == [4, 8, 12]


@pytest.mark.slow
def test_gates_of_a_sample_are_shown(tmp_path, rng):
    batches = data(rng)
    tasks = [Task(name, kind="binary", metrics=("ndcg@2",)) for name in ("up", "up_again", "down")]
    mmoe = {"name": "mmoe", "num_experts": 2, "expert_units": [4], "head_units": []}
    model = MultiTaskRanker(mmoe, tasks, Schema([Dense("a")]), conditioned=1.0)
    model.compile(keras.optimizers.SGD(0.1))
    sample, _ = next(iter(batches))
    model.fit(batches, verbose=0, callbacks=[TensorBoard(tmp_path, every=4, sample=sample)])
    train = series(tmp_path / "train")
    for task in range(3):
        gates = [train[f"inside/gates/{tasks[task].name}/expert {expert}"][0][1] for expert in range(2)]
        assert min(gates) > 0
        np.testing.assert_allclose(sum(gates), 1, atol=1e-5)
        entropy = train[f"gate_entropy/gates/{tasks[task].name}"][0][1]
        np.testing.assert_allclose(entropy, -sum(gate * np.log2(gate) for gate in gates), rtol=1e-4)
    found, about = history(tmp_path / "train", "inside/gates")
    assert about == {"kind": "gates", "labels": [["up", "up_again", "down"], ["expert 0", "expert 1"]],
                     "unit": "epoch"}
    assert found.shape == (1, 7)
    assert len(pictures(tmp_path / "train", "inside/gates")) == 1


def pictures(folder, tag):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return [tf.io.decode_png(one.tensor_proto.string_val[2]).shape for one in events.Tensors(tag)]


@pytest.mark.slow
def test_dead_experts_and_tasks_in_command_are_told_once(tmp_path, rng, caplog):
    batches = data(rng)
    tasks = [Task(name, kind="binary", metrics=(), weight=weight) for name, weight in (("up", 1000.0), ("down", 1.0))]
    model = MultiTaskRanker({"name": "mmoe", "num_experts": 3, "expert_units": [4], "head_units": []}, tasks,
                            Schema([Dense("a")]))
    kernel = model.architecture.gates.logits
    kernel.bias.assign(np.tile([[0.0, 0.0, -40.0]], (2, 1)).reshape(kernel.bias.shape))
    model.compile(keras.optimizers.SGD(1e-4), method="linear_scalarization")
    sample, _ = next(iter(batches))
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        model.fit(batches, epochs=3, verbose=0, callbacks=[TensorBoard(tmp_path, every=2, sample=sample)])
    told = [record.getMessage() for record in caplog.records]
    assert told == ["expert 2 of gates is dead: no task gives it more than 1 % of its weight",
                    "up takes 95 % of the update and more: give it less weight, or choose a method that balances "
                    "gradients"]


def test_a_history_keeps_its_first_point_and_the_order():
    kept = History("shares", [["a"]])
    for step in range(2000):
        kept.add(step, np.array([step / 2]))
    steps = kept.tensor()[:, 0]
    assert MOST / 2 <= len(steps) <= MOST
    assert (steps[0], len({*np.diff(steps)})) == (0, 1)
    assert (kept.tensor()[:, 1] == steps / 2).all()


def test_names_of_any_unicode_are_read_back(tmp_path, rng):
    """Tags are the tasks' own names, also where they contain what graphs, paths and pages treat specially."""
    names = ["kauf/korb", "korb", "kauf", "korb/kauf", "加入 购物车", 'sté "%s" <b> 🛒', "{0}\\n..", "é"]
    x = {"a": rng.normal(size=(4, 3)).astype(np.float32), "list_size": np.full(4, 3, np.int32)}
    y = {name: (rng.random((4, 3)) < 0.5).astype(np.float32) for name in names}
    tasks = [Task(name, kind="binary", loss="bce", metrics=("ndcg@2",)) for name in names]
    model = MultiTaskRanker({"name": "shared_bottom", "units": [2], "head_units": []}, tasks, Schema([Dense("a")]))
    model.compile("sgd", method="mgda", run_eagerly=True)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    history = model.fit(batches, validation_data=batches, verbose=0, callbacks=[TensorBoard(tmp_path, every=1)]).history
    results = {name: {"ndcg@2": {"value": place / 10}} for place, name in enumerate(names)}
    hparams.write(tmp_path, {"name": "ラン 1", "preference": dict.fromkeys(names, 0.5)}, results)
    train, validation, test = (series(tmp_path / run) for run in ("train", "validation", "results"))
    for place, name in enumerate(names):
        assert train[f"{name}/loss"] == [(0, pytest.approx(history[f"{name}_loss"][0], rel=1e-5))]
        assert validation[f"{name}/ndcg@2"] == [(0, pytest.approx(history[f"val_{name}_ndcg@2"][0], rel=1e-5))]
        assert test[f"test/{name}/ndcg@2"] == [(0, pytest.approx(place / 10))]
        assert len(train[f"weights/{name}"]) == 1
    # A pair of names has a tag of its own, although "kauf" + "korb/kauf" is "kauf/korb" + "kauf".
    pairs = [tag for tag in train if tag.startswith("gradient_cosine/")]
    assert len(pairs) == len(names) * (len(names) - 1) // 2
    assert all(len(train[tag]) == 1 for tag in pairs)
