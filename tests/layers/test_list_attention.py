"""Attention over a list: what it computes, that it never looks at padding, what positions change."""

import numpy as np
import pytest

from tfmtl2r import Dense, Schema
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers.features import ListEncoder
from tfmtl2r.layers.list_attention import ListAttention, ListTransformer

VALID = tf.constant([[True] * 5, [True, True, False, False, False]])


@pytest.fixture
def x(rng):
    return tf.constant(rng.normal(size=(2, 5, 6)), tf.float32)


def transformer(**options):
    keras.utils.set_random_seed(1)
    layer = ListTransformer(**{"units": 8, "num_layers": 2, "num_heads": 2, "feedforward": 16, **options})
    layer.build((None, None, 6))
    return layer


def test_attention_written_out(x):
    layer = ListAttention(2)
    layer.build((None, None, 6))
    kernel, bias = layer.inputs.kernel.numpy(), layer.inputs.bias.numpy()
    projected = x.numpy()[1, :2] @ kernel + bias
    query, key, value = (projected[:, i * 6:(i + 1) * 6].reshape(2, 2, 3) for i in range(3))
    mixed = []
    for head in range(2):
        logits = query[:, head] @ key[:, head].T / np.sqrt(3)
        weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        mixed.append(weights @ value[:, head])
    expected = np.concatenate(mixed, 1) @ layer.outputs.kernel.numpy() + layer.outputs.bias.numpy()
    np.testing.assert_allclose(layer(x, VALID)[1, :2], expected, rtol=1e-5, atol=1e-6)


def test_as_keras_attention_with_the_same_weights(x):
    ours, theirs = ListAttention(2), keras.layers.MultiHeadAttention(2, 3)
    ours.build((None, None, 6))
    theirs.build(x.shape, x.shape)
    kernels = np.split(ours.inputs.kernel.numpy(), 3, 1)
    weights = [w for k in kernels for w in (k.reshape(6, 2, 3), np.zeros((2, 3)))]
    theirs.set_weights([*weights, ours.outputs.kernel.numpy().reshape(2, 3, 6), np.zeros(6)])
    mask = VALID[:, None, :] & VALID[:, :, None]
    np.testing.assert_allclose(ours(x, VALID)[VALID], theirs(x, x, attention_mask=mask)[VALID], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("positions", ["none", "fixed", "learned"])
def test_padding_is_never_seen(x, positions):
    layer = transformer(positions=positions)
    before = layer(x, VALID)[VALID]
    for junk in (0.0, 1e6, -3.0, float("nan")):
        other = tf.where(VALID[:, :, None], x, junk)
        np.testing.assert_allclose(layer(other, VALID)[VALID], before, rtol=1e-6, atol=1e-6)
    short = layer(x[1:, :2], VALID[1:, :2])
    np.testing.assert_allclose(before[5:], short[0], rtol=1e-5, atol=1e-6)


def test_order_matters_with_positions_only(x):
    order = [3, 1, 4, 0, 2]
    valid = tf.ones([2, 5], tf.bool)
    for positions, same in (("none", True), ("fixed", False), ("learned", False)):
        layer = transformer(positions=positions)
        permuted = layer(tf.gather(x, order, axis=1), valid)
        gap = np.abs(permuted - tf.gather(layer(x, valid), order, axis=1)).max()
        assert (gap < 1e-5) == same, (positions, gap)


def test_items_of_other_lists_and_of_the_own(x):
    layer = transformer()
    with tf.GradientTape() as tape:
        tape.watch(x)
        first = tf.reduce_sum(layer(x, VALID)[0, 0] ** 2)
    gradient = tape.gradient(first, x).numpy()
    assert (np.abs(gradient[0]).sum(1) > 0).all(), "every item of the list matters"
    assert (gradient[1] == 0).all(), "no other list does"


def test_sinusoids():
    layer = transformer(positions="fixed", units=4)
    expected = [[np.sin(p), np.cos(p), np.sin(p / 100), np.cos(p / 100)] for p in range(3)]
    np.testing.assert_allclose(layer._placed(tf.zeros([1, 3, 4]))[0], expected, atol=1e-6)


def test_learned_places_beyond_the_table_share_the_last(x):
    layer = transformer(positions="learned", max_positions=3)
    added = layer._placed(tf.zeros([1, 5, 8]))[0].numpy()
    assert (added[3] == added[2]).all()
    assert (added[4] == added[2]).all()
    assert np.abs(added[1] - added[2]).max() > 0


def test_latent_cross(x):
    plain, crossed = transformer(), transformer(latent_cross=True)
    crossed.set_weights(plain.get_weights())
    alone = plain.project(x)
    np.testing.assert_allclose(crossed(x, VALID), alone * (1 + plain(x, VALID)), rtol=1e-5, atol=1e-6)


def test_an_empty_list_is_finite(x):
    scores = transformer()(x, tf.constant([[True] * 5, [False] * 5]))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(("options", "message"), [
    ({"positions": "rope"}, "positions must be one of none, fixed, learned, not 'rope'"),
    ({"num_heads": 3}, "num_heads must divide the width 8, got 3"),
    ({"num_layers": 0}, "at least one layer"),
])  # fmt: skip
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        transformer(**options)


def test_plain_rows_are_refused():
    encoder = ListEncoder(Schema([Dense("x")]), {"units": 4, "num_heads": 1})
    with pytest.raises(ValueError, match="needs lists"):
        encoder(batch=Batch({"x": tf.ones([3])}))
