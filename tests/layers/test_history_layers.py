"""Attention over histories and a causal transformer: values and gradients by hand, padding, empty histories."""

import numpy as np
import pytest

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers.history_transformer import HistoryTransformer
from tfmtl2r.layers.pooling import weighted_sum
from tfmtl2r.layers.target_attention import Dice, DotAttention, TargetAttention

H = np.array([[[1, 0], [0, 1], [1, 1]]], np.float32)
Q = np.array([[1, 2]], np.float32)


def same(values):
    return values


def attention(**options):
    layer = TargetAttention(2, units=(2,), **options)
    first, last = layer.hidden[0], np.array([[1.0], [-0.5]])
    layer.kernel.assign(np.stack([np.arange(1, 9) / 10, -0.4 + 0.05 * np.arange(8)], axis=1))
    layer.bias.assign([0.1, -0.1])
    first.set_weights([last, np.array([0.2])])
    return layer


def pooled(layer, h=H, q=Q, mask=None):
    h, q = tf.constant(h), tf.constant(q)
    with tf.GradientTape() as tape:
        tape.watch([h, q])
        weights = layer(h, q, tf.ones(h.shape[:2], tf.bool) if mask is None else mask, repeated=same)
        value = weighted_sum(h, weights)
        total = tf.reduce_sum(value * [[1.0, -1.0]])
    gradients = [np.zeros(x.shape) if g is None else g.numpy()
                 for x, g in zip((h, q), tape.gradient(total, [h, q]), strict=True)]
    return weights.numpy(), value.numpy(), *gradients


@pytest.mark.parametrize(("layer", "weights", "value"), [
    (lambda: DotAttention(2, scale=False), (0.090030573, 0.244728471, 0.665240956), (0.755271529, 0.909969427)),
    (lambda: DotAttention(2), (0.140029245, 0.283995410, 0.575975345), (0.716004590, 0.859970755)),
    (lambda: DotAttention(2, normaliser="none"), (1, 2, 3), (4, 5)),
    (lambda: attention(), (1.077621587, 1.110818741, 1.130677558), (2.208299145, 2.241496299)),
    (lambda: attention(normaliser="softmax", scale=False), (0.323808717, 0.334738662, 0.341452621),
     (0.665261338, 0.676191283)),
    (lambda: attention(normaliser="softmax"), (0.326586015, 0.334342960, 0.339071024), (0.665657040, 0.673413985)),
    (lambda: attention(normaliser="sigmoid"), (0.681786395, 0.686857280, 0.689869606), (1.371656001, 1.376726886)),
    (lambda: attention(activation="prelu"), (3.2375, 4.1375, 4.6625), (7.9, 8.8)),
])  # fmt: skip
def test_weights_by_hand(layer, weights, value):
    """Two padded rows with any content change neither value nor gradient; without rows, everything is 0."""
    layer = layer()
    found = pooled(layer)
    np.testing.assert_allclose(found[0][0], weights, atol=2e-6)
    np.testing.assert_allclose(found[1][0], value, atol=4e-6)
    longer = np.concatenate([H, np.full((1, 2, 2), 7, np.float32)], axis=1)
    padded = pooled(layer, longer, mask=tf.constant([[True, True, True, False, False]]))
    for mine, other in zip(found[1:], padded[1:], strict=True):
        np.testing.assert_allclose(other[:, :3], mine, atol=1e-6)
    np.testing.assert_array_equal(padded[2][:, 3:], 0)
    nothing = pooled(layer, longer, mask=tf.zeros([1, 5], tf.bool))
    for part in nothing:
        np.testing.assert_array_equal(part, 0)


@pytest.mark.parametrize(("layer", "rows", "candidate"), [
    (lambda: DotAttention(2, scale=False),
     ((0.193988687, 0.117885654), (0.037858980, -0.658467453), (0.768152333, -0.459418201)),
     (0.206869491, -0.103958114)),
    (lambda: attention(),
     ((1.115958670, -0.990650201), (1.087728261, -1.155099639), (1.130677558, -1.130677558)),
     (0.061781617, 0.002729132)),
    (lambda: attention(normaliser="softmax", scale=False),
     ((0.336358281, -0.295338813), (0.327093867, -0.349399181), (0.341516056, -0.341340295)),
     (0.020242221, 0.000823293)),
])  # fmt: skip
def test_gradients_by_hand(layer, rows, candidate):
    _, _, h, q = pooled(layer())
    np.testing.assert_allclose(h[0], rows, atol=2e-6)
    np.testing.assert_allclose(q[0], candidate, atol=2e-6)


def test_one_row():
    one = H[:, 1:2]
    np.testing.assert_allclose(pooled(attention(), one)[1], [[0, 1.110818741]], atol=1e-6)
    np.testing.assert_allclose(pooled(attention(normaliser="softmax"), one)[1], [[0, 1]])


def test_a_history_per_list_is_that_of_its_items():
    layer = attention(activation="sigmoid")
    rows, items = np.concatenate([H, H[:, ::-1] * 2]), np.array([0, 0, 1])
    candidates = np.array([[1, 2], [0, 3], [2, 1]], np.float32)
    mask = tf.constant([[True, True, True], [True, False, False]])
    per_list = layer(tf.constant(rows), candidates, mask, repeated=lambda values: tf.gather(values, items))
    per_item = layer(tf.constant(rows[items]), candidates, tf.gather(mask, items), repeated=same)
    np.testing.assert_allclose(per_list, per_item, rtol=1e-6)


def test_further_inputs_change_the_weights():
    layer = TargetAttention(2, sides=1, units=(3,))
    found = [layer(tf.constant(H), Q, tf.ones([1, 3], tf.bool), repeated=same,
                   sides=tf.constant(side)[None, :, None]).numpy() for side in ([1.0, 1.0, 1.0], [2.0, 1.0, 1.0])]
    changed = ~np.isclose(*found)
    assert changed.tolist() == [[True, False, False]]


@pytest.mark.parametrize(("alpha", "expected"), [
    (0.0, ((-0.227102520, 0), (0.772897480, 1), (0, 3.091589922))),
    (0.25, ((-0.420326890, 0), (0.829673110, 1.25), (0, 3.318692442))),
])
def test_dice_by_hand(alpha, expected):
    """Padding does not enter the statistics; at inference the statistics are the moving ones."""
    layer, z = Dice(), np.array([[[-1, 0], [1, 2], [0, 4], [99, -99]]], np.float32)
    layer.build(z.shape)
    layer.alpha.assign([alpha, alpha])
    mask = tf.constant([[True, True, True, False]])
    np.testing.assert_allclose(layer(tf.constant(z), mask, training=True)[0, :3], expected, atol=1e-5)
    assert not np.allclose(layer(tf.constant(z), mask, training=False)[0, :3], expected, atol=1e-3)


ITEMS = np.array([[1, 0, -1, 0.5], [0, 1, 0.5, -1]], np.float32)
POSITIONS = np.array([[-0.1, 0.1, 0.2, 0], [0.2, 0, -0.1, 0.1], [0.1, -0.1, 0, 0.2]])  # from the newest


def transformer(heads=1, residual="normalised", length=3):
    layer = HistoryTransformer(4, length, heads=heads, residual=residual)
    layer.positions.assign(POSITIONS[:length])
    i, j = np.indices((4, 4))
    kernels = {"query": ((i + 2 * j) % 5) / 10 - 0.2, "key": ((2 * i + j) % 5) / 10 - 0.2,
               "value": ((i + j) % 3) / 5 - 0.2, "up": ((3 * i + j) % 4) / 5 - 0.3, "down": ((i + 3 * j) % 4) / 5 - 0.3}
    for name, kernel in kernels.items():
        getattr(layer.blocks[0], name).set_weights([kernel, np.full(4, 0.1 if name == "up" else 0.0)])
    return layer


def states(layer, rows=ITEMS, padding=0):
    rows = np.concatenate([rows, np.zeros((padding, 4), np.float32)])[None]
    return layer(tf.constant(rows), tf.sequence_mask([rows.shape[1] - padding], rows.shape[1])).numpy()[0]


@pytest.mark.parametrize(("heads", "residual", "second", "last"), [
    (1, "normalised", (0.934502289, 1.033114016, -1.232428256, -0.735188048),
     (-0.380269102, 1.331018532, 0.427903429, -1.378652859)),
    (2, "normalised", (0.934502289, 1.033114016, -1.232428256, -0.735188048),
     (-0.475326583, 1.392525930, 0.382325063, -1.299524410)),
    (1, "raw", None, (-0.341224783, 1.282571977, 0.476825082, -1.418172275)),
])
def test_a_block_by_hand(heads, residual, second, last):
    found = states(transformer(heads, residual))
    if second:
        np.testing.assert_allclose(found[0], second, atol=1e-5)
    np.testing.assert_allclose(found[1], last, atol=1e-5)


def test_states_of_a_history():
    """Causal; padding and one row alone as by hand; nothing for an empty history; gradients by hand."""
    layer = transformer()
    whole = states(layer)
    np.testing.assert_allclose(states(layer, padding=3)[:2], whole, atol=1e-6)
    np.testing.assert_array_equal(states(layer, padding=3)[2:], 0)
    np.testing.assert_allclose(states(layer, ITEMS[1:])[0], (0.305446341, 1.434375439, -0.460167257, -1.279654523),
                               atol=1e-5)
    np.testing.assert_array_equal(states(layer, ITEMS[:0], padding=2), 0)
    changed = states(layer, np.stack([ITEMS[0], ITEMS[0]]))
    np.testing.assert_allclose(changed[0], whole[0], atol=1e-6)

    rows = tf.constant(ITEMS[None])
    with tf.GradientTape() as tape:
        tape.watch(rows)
        total = tf.reduce_sum(layer(rows, tf.ones([1, 2], tf.bool))[0, 1] * [1.0, -1.0, 2.0, 0.5])
    scaled = tape.gradient(total, rows)[0] / 2  # the rows are multiplied by sqrt(4)
    np.testing.assert_allclose(scaled[0], (0.128566307, -0.189500543, 0.033177748, 0.122984839), atol=1e-5)
    np.testing.assert_allclose(scaled[1], (0.292902590, -0.796003271, 0.762723253, -0.087982188), atol=1e-5)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: TargetAttention(2, activation="tanh"), "activation must be one of sigmoid, relu, prelu, dice, not 'tanh'"),
    (lambda: DotAttention(2, normaliser="max"), "normaliser must be one of none, softmax, sigmoid"),
    (lambda: HistoryTransformer(4, 3, heads=3), "must be a multiple of the number of heads, 3"),
    (lambda: HistoryTransformer(4, 3, residual="no"), "residual must be one of raw, normalised"),
])
def test_options_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_dropout_only_in_training():
    keras.utils.set_random_seed(0)
    layer = HistoryTransformer(4, 3, dropout=0.5)
    rows, mask = tf.constant(ITEMS[None]), tf.ones([1, 2], tf.bool)
    np.testing.assert_array_equal(layer(rows, mask), layer(rows, mask))
    assert not np.allclose(layer(rows, mask, training=True), layer(rows, mask))
