"""The list transformer as an architecture, and in front of others: sizes, one scorer for all, saving, training."""

import numpy as np
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task, architectures
from tfmtl2r._backend import keras, tf

TASKS = [Task("click", kind="binary"), Task("grade", kind="graded")]
SMALL = {"units": 8, "num_layers": 1, "num_heads": 2, "feedforward": 12, "dropout": 0.2}
SIZES = np.array([5, 2, 1, 4])


@pytest.fixture
def batch(rng):
    x = {"x": rng.normal(size=(4, 5, 3)).astype(np.float32), "list_size": SIZES.astype(np.int32)}
    y = {"click": rng.integers(0, 2, (4, 5)).astype(np.float32), "grade": rng.integers(0, 5, (4, 5)).astype(np.float32)}
    return x, y


def ranker(architecture):
    keras.utils.set_random_seed(3)
    return MultiTaskRanker(architecture, TASKS, Schema([Dense("x", shape=(3,))]))


def test_size_of_the_published_configuration():
    """132 inputs, width 128, 4 layers, one scorer: 810,497 parameters."""
    architecture = architectures.get("deepmtl2r", heads="shared")
    architecture.connect(["relevance", "quality"], Schema([Dense("features", shape=(132,))]))
    assert architecture.count_params() == 810_497
    assert architecture.list_context


def test_one_scorer_gives_one_ranking(batch):
    model = ranker({"name": "deepmtl2r", "heads": "shared", **SMALL})
    scores = model(batch[0])
    np.testing.assert_array_equal(scores["click"], scores["grade"])
    apart = ranker({"name": "deepmtl2r", **SMALL})(batch[0])
    assert np.abs(apart["click"] - apart["grade"]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [
    {"name": "deepmtl2r", **SMALL},
    {"name": "deepmtl2r", "heads": "shared", **SMALL},
    {"name": "mmoe", "num_experts": 2, "expert_units": [6], "head_units": [4],
     "encoder": {"name": "transformer", **SMALL}},
], ids=["per_task", "shared", "mmoe"])  # fmt: skip
def test_trains_and_comes_back(batch, tmp_path, architecture):
    x, y = batch
    model = ranker(architecture)
    model.compile(keras.optimizers.Adam(0.01), method="mgda")
    data = tf.data.Dataset.from_tensors((x, y)).repeat(8)
    history = model.fit(data, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    before, after = model(x), loaded(x)
    for task in ("click", "grade"):
        np.testing.assert_allclose(after[task], before[task], atol=1e-6)
    order = np.array([1, 0, 2, 3, 4])
    swapped = model({"x": x["x"][:, order], "list_size": SIZES.astype(np.int32)})
    np.testing.assert_allclose(swapped["click"][0], before["click"].numpy()[0, order], atol=1e-5)


def test_a_score_depends_on_the_list(batch):
    x, _ = batch
    model = ranker({"name": "shared_bottom", "encoder": {"name": "transformer", **SMALL}})
    moved = {**x, "x": x["x"] + np.eye(5, dtype=np.float32)[None, :, 4:5]}  # only the last item changes
    gap = np.abs(model(moved)["click"] - model(x)["click"])
    assert gap[0, :4].min() > 1e-6
    assert gap[1:3].max() == 0  # lists without a fifth item


def test_errors():
    with pytest.raises(ValueError, match="heads must be one of per_task, shared, not 'both'"):
        architectures.get("deepmtl2r", heads="both")
    with pytest.raises(ValueError, match="encoder must be 'transformer' or None, not 'lstm'"):
        architectures.get("mmoe", encoder="lstm")
