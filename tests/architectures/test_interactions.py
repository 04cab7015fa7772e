"""Features multiplied before the trunk: keras-rs' layers inside the encoder, of every architecture."""

import sys

import numpy as np
import pytest
from architecture_problem import VALID, check_gradients, connected

import tfmtl2r
from tfmtl2r import Category, Dense, MultiTaskRanker, Schema, architectures
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers import interactions
from tfmtl2r.layers.features import Encoder
from tfmtl2r.testing.architecture import NUMBERS, SCHEMA, TASKS, make_features

pytest.importorskip("keras_rs")

IDS = ("brand", "shop", "size")
WORDS = Schema([Dense("x", shape=(3,)), *(Category(name, vocabulary=("a", "b", "c"), dim=2) for name in IDS)])


@pytest.fixture
def features(rng):
    return make_features(rng)


@pytest.fixture
def words(features, rng):
    ids = {name: tf.constant(rng.integers(0, 4, (3, 5)), tf.int32) for name in IDS}
    return {"x": features["x"], **ids}


def encoders(schema, interaction):
    """The same embeddings without and with an interaction."""
    plain, crossed = Encoder(schema), Encoder(schema, interactions.described(interaction))
    for name, table in plain.embeddings.items():
        crossed.embeddings[name].set_weights(table.get_weights())
    return plain, crossed


@pytest.mark.parametrize("rank", [None, 2])
def test_crosses_are_those_of_the_paper(features, rng, rank):
    plain, crossed = encoders(SCHEMA, {"name": "cross", "layers": 2, "projection_dim": rank})
    for weight in crossed.interaction.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    x = plain(batch=Batch(features, valid=VALID)).numpy()
    value = x
    for cross in crossed.interaction.crosses:
        *down, kernel, bias = cross.get_weights()
        product = np.linalg.multi_dot([*down, kernel]) if down else kernel
        value = x * (value @ product + bias) + value
    assert crossed.fields == plain.fields
    np.testing.assert_allclose(crossed(batch=Batch(features, valid=VALID)), value, rtol=1e-4, atol=1e-5)


def test_dots_of_every_two_embeddings_follow(words):
    plain, crossed = encoders(WORDS, "dot")
    x = plain(batch=Batch(words, valid=VALID)).numpy()
    brand, shop, size = np.split(x[..., 3:], 3, axis=-1)
    products = np.stack([np.sum(a * b, axis=-1) for a, b in ((brand, shop), (brand, size), (shop, size))], axis=-1)
    assert crossed.fields == (3, 2, 2, 2, 3)
    assert crossed.width == 12
    np.testing.assert_allclose(crossed(batch=Batch(words, valid=VALID)), np.concatenate([x, products], -1), atol=1e-6)
    row = crossed(batch=Batch({name: value[:, 0] for name, value in words.items()}))
    firsts = np.flatnonzero(np.argwhere(VALID.numpy())[:, 1] == 0)
    np.testing.assert_allclose(row, crossed(batch=Batch(words, valid=VALID)).numpy()[firsts], atol=1e-6)


@pytest.mark.parametrize("name", ["single_task", pytest.param("mmoe", marks=pytest.mark.slow)])
def test_gradients_reach_the_crosses(features, rng, name):
    """Without categories, the crosses alone make the encoder trainable: the cut has to know."""
    options = {"interaction": "cross"}
    check_gradients(name, options, NUMBERS, features)


def test_dots_below_the_cut(words, rng):
    options = {"interaction": "dot"}
    check_gradients("shared_bottom", options, WORDS, words, groups=False)


def test_before_the_list_transformer(features):
    transformer = {"name": "transformer", "units": 4, "num_layers": 1, "num_heads": 1, "feedforward": 8}
    architecture = connected("shared_bottom", interaction="cross", encoder=transformer, activation="tanh")
    before = architecture(batch=Batch(features, valid=VALID))
    for weight in architecture.encoder.interaction.trainable_variables:
        weight.assign(weight + 0.5)
    assert (np.abs(architecture(batch=Batch(features, valid=VALID))["click"] - before["click"])[VALID] > 1e-5).all()


@pytest.mark.parametrize("mode", [pytest.param("parameters", marks=pytest.mark.slow), "features"])
def test_trained_and_saved(features, tmp_path, mode):
    model = MultiTaskRanker({"name": "shared_bottom", "units": [6], "head_units": [4],
                             "interaction": {"name": "cross", "layers": 1, "projection_dim": 2}}, TASKS, SCHEMA)
    model.compile("adam", method="mgda", gradients=mode, train_metrics=False)
    x = {**features, "list_size": tf.reduce_sum(tf.cast(VALID, tf.int32), axis=1)}
    y = {task: tf.cast(features["x"][..., i] > 0, tf.float32) for i, task in enumerate(TASKS)}
    crosses = model.architecture.encoder.interaction
    before = crosses.get_weights()
    model.fit(tf.data.Dataset.from_tensors((x, y)), verbose=0)
    for start, now in zip(before, crosses.get_weights(), strict=True):
        assert (start != now).any()
    model.save(tmp_path / "model.keras")
    again = tfmtl2r.load(tmp_path / "model.keras")
    for task, scores in model(x).items():
        np.testing.assert_allclose(again(x)[task], scores, atol=1e-6)


def test_without_keras_rs(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_rs", None)
    with pytest.raises(ImportError, match=r"pip install 'tfmtl2r\[interactions\]'"):
        connected("shared_bottom", interaction="cross")
    connected("shared_bottom")


def test_what_does_not_fit():
    for interaction, message in [
        ("crossed", "must be one of 'cross', 'dot', or None, not 'crossed'"),
        ({"name": "dot", "layers": 2}, "'dot' has no option layers; it accepts: none"),
        ({"name": "cross", "layers": 0}, "layers must be at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            architectures.get("mmoe", interaction=interaction)
    with pytest.raises(ValueError, match=r"two or more category features of the same width, got widths \[2\]"):
        connected("mmoe", interaction="dot")
    mixed = Schema([Category("a", vocabulary=("x",), dim=2), Category("b", vocabulary=("x",), dim=3)])
    with pytest.raises(ValueError, match=r"got widths \[2, 3\]"):
        connected("mmoe", schema=mixed, interaction="dot")
    with pytest.raises(ValueError, match="give encoder and interaction to the base"):
        architectures.get("dml", interaction="cross")
