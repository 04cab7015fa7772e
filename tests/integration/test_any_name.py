"""A name is text: tasks, features and columns of any printable Unicode work from training to the served scores."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import batches, from_frame
from tfmtl2r.serving.check import METADATA
from tfmtl2r.serving.session import LoadedExport

NUMBERS = ["k", "item_ids", "blend_weights", "score", "valid", "preis (EUR)", "a/b", "a b", "A_B", "价格", "1"]
CATEGORIES = ["Product Type", "🛒", "self"]
TASKS = ["add to cart", "点击", "score"]


def table():
    random = np.random.default_rng(0)
    columns = {name: random.normal(size=12).astype(np.float32) for name in NUMBERS}
    columns |= {name: random.choice(["x y", "é"], 12) for name in CATEGORIES}
    columns |= {f"label of {task}": random.integers(0, 2, 12).astype(np.float32) for task in TASKS}
    return pd.DataFrame({**columns, "list id": np.repeat(["q 1", "q/2", "ü"], 4)})


@pytest.fixture(scope="module")
def trained():
    tasks = [Task(name, label=f"label of {name}", kind="binary", loss="bce", metrics=("ndcg@5",)) for name in TASKS]
    schema = Schema([Dense(name) for name in NUMBERS] + [Category(name, vocabulary=("x y", "é"), dim=2)
                                                         for name in CATEGORIES])
    lists = from_frame(table(), "list id")
    ranker = MultiTaskRanker({"name": "shared_bottom", "units": [2], "head_units": []}, tasks, schema)
    ranker.compile("adam", method="mgda")
    ranker.fit(batches(lists, tasks, schema, batch_size=2), verbose=0)
    return ranker, lists


@pytest.mark.slow
def test_from_training_to_the_export(trained, tmp_path):
    ranker, lists = trained
    ranker.save(tmp_path / "model.keras")
    frame = table()
    expected = ranker.predict(frame, list_id="list id")
    assert [name for name in expected if name.startswith("score_")] == [f"score_{task}" for task in TASKS]
    pd.testing.assert_frame_equal(tfmtl2r.load(tmp_path / "model.keras").predict(frame, list_id="list id"), expected)
    folder = tfmtl2r.export(ranker, tmp_path / "export", rows=lists)
    described = json.loads((folder / METADATA).read_text())
    outputs = {task["name"]: task["score"] for task in described["tasks"]}
    assert list(outputs) == TASKS
    request = {"list_size": np.int32([4, 4, 4])}
    for served, spec in described["inputs"].items():
        if served != "list_size":
            request[served] = frame[spec["feature"]].to_numpy().reshape(3, 4)
    ranked = {"k": np.int32([4, 4, 4]), "item_ids": np.arange(12).astype(str).astype(object).reshape(3, 4),
              "blend_weights": np.zeros((3, len(TASKS)), np.float32)}
    with LoadedExport(folder) as loaded:
        answer = loaded.run("serving_default", request)
        best = loaded.run("rank", {**request, **ranked})
    for task, output in outputs.items():
        np.testing.assert_allclose(answer[output].ravel(), expected[f"score_{task}"], atol=1e-5)
        order = best["ids"].astype(int)
        np.testing.assert_allclose(best[output], expected[f"score_{task}"].to_numpy()[order], atol=1e-5)


@pytest.mark.parametrize("architecture", ["aitm", "single_task", {"name": "watch_next", "position": ["Product Type"]}])
def test_no_architecture_makes_keras_names_of_tasks(architecture):
    """The architectures whose layers are named after tasks; the others name none."""
    schema = Schema([Dense("x"), Category("Product Type", vocabulary=("a",), dim=2)])
    tasks = [Task(name, kind="binary", loss="bce") for name in TASKS]
    ranker = MultiTaskRanker(architecture, tasks, schema)
    ranker.compile("adam")
    batch = {"x": np.ones((2, 2), np.float32), "Product Type": np.ones((2, 2), np.int32), "list_size": np.int32([2, 1])}
    ranker.prepare(batch)
    labels = {task.name: np.ones((2, 2), np.float32) for task in tasks}
    step = tf.function(ranker.train_step, autograph=False).get_concrete_function(
        tf.nest.map_structure(tf.constant, (batch, labels)))
    names = itertools.chain((v.path for v in ranker.variables), (layer.name for layer in ranker._flatten_layers()))
    assert all(name.isascii() and " " not in name for name in names)
    assert step.structured_outputs


def test_a_task_called_like_a_small_head_is_another_task():
    schema = Schema([Dense("x"), Category("c", vocabulary=("a",), dim=2)])
    ranker = MultiTaskRanker({"name": "shared_bottom", "small_heads": 0.5}, ["click", "click/small_head"], schema)
    ranker.compile("adam", run_eagerly=True)
    x = {"x": np.ones((2, 2), np.float32), "c": np.ones((2, 2), np.int32), "list_size": np.int32([2, 1])}
    y = {name: np.float32([[1, 0], [0, np.nan]]) for name in ("click", "click/small_head")}
    history = ranker.fit(x, y, verbose=0).history
    assert {"click_loss", "click/small_head_loss"} <= set(history)
    assert isinstance(ranker.optimizer, keras.optimizers.Adam)
