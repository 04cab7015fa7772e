"""CTFM and GKD against numbers worked out by hand, NumPy, and the gradients that may and may not flow."""

import numpy as np
import pytest

from tfmtl2r._backend import tf
from tfmtl2r.layers import inspection
from tfmtl2r.layers.ctfm import CrossTaskFeatureMining
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.gkd import GlobalKnowledgeDistillation

TASKS, ITEMS, WIDTH = 3, 7, 5


@pytest.fixture
def x(rng):
    return tf.constant(rng.normal(size=(TASKS, ITEMS, WIDTH)), tf.float32)


def mining(rng, tasks=TASKS, width=WIDTH, **options):
    """All weights drawn, the task embedding as large as the rest."""
    layer = CrossTaskFeatureMining(**options)
    layer.build((tasks, None, width))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def distilling(rng, tasks=TASKS, width=WIDTH, **options):
    layer = GlobalKnowledgeDistillation(**options)
    layer.build((tasks, None, width))
    layer.set_weights([rng.normal(size=w.shape) * 0.5 for w in layer.get_weights()])
    return layer


def attended(layer, x):
    with inspection.scope() as seen:
        layer(x)
    return seen["attention"].numpy()


def copied(layer, **options):
    other = CrossTaskFeatureMining(**options)
    other.build((TASKS, None, WIDTH))
    other.set_weights(layer.get_weights())
    return other


def test_two_tasks_by_hand():
    layer = CrossTaskFeatureMining()
    layer.build((2, None, 2))
    layer.set_weights([np.zeros((2, 1, 2)), *[np.eye(2), np.zeros(2)] * 3])
    x = tf.constant([[[1.0, 0.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(attended(layer, x), [[0.669762, 0.330238], [0.330238, 0.669762]], atol=1e-6)
    np.testing.assert_allclose(layer(x)[:, 0], [[1.669762, 0.330238], [0.330238, 1.669762]], atol=1e-6)


def test_mining_written_out(x, rng):
    """Per item, with a task embedding that the residual does not see."""
    layer = mining(rng)
    e, wq, bq, wk, bk, wv, bv = layer.get_weights()
    encoded = np.array(x) + e
    q, k, v = (np.maximum(encoded @ w + b, 0) for w, b in ((wq, bq), (wk, bk), (wv, bv)))
    scores = np.exp(np.einsum("tnd,jnd->ntj", q, k) / np.sqrt(WIDTH))
    weights = scores / scores.sum(axis=2, keepdims=True)
    expected = np.array(x) + np.einsum("ntj,jnd->tnd", weights, v)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(attended(layer, x), weights.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(attended(layer, x).sum(axis=1), 1.0, rtol=1e-6)
    assert (layer(x) - x >= 0).numpy().all(), "values are never negative"


def test_without_values_mining_passes_on(x, rng):
    layer = mining(rng)
    layer.value.set_weights([np.zeros((WIDTH, WIDTH)), np.zeros(WIDTH)])
    np.testing.assert_array_equal(layer(x), x)


def test_one_task_attends_to_itself(rng):
    layer = mining(rng, tasks=1)
    assert attended(layer, tf.ones([1, 4, WIDTH])) == 1.0


def test_stop_gradient_changes_no_value_and_cuts_the_other_tasks(x, rng):
    stopped = mining(rng)
    flowing = copied(stopped, stop_gradient=False)
    np.testing.assert_array_equal(stopped(x), flowing(x))
    for layer, apart in ((stopped, True), (flowing, False)):
        for task in range(TASKS):
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(x)
                loss = tf.reduce_sum(layer(x)[task] ** 2)
            reached = np.abs(tape.gradient(loss, x)).max(axis=(1, 2)) > 0
            assert reached[task]
            others = np.delete(reached, task)
            assert not others.any() if apart else others.all()
            embedded = np.abs(tape.gradient(loss, layer.task_embedding.value)).max(axis=(1, 2)) > 0
            np.testing.assert_array_equal(embedded, np.arange(TASKS) == task if apart else np.ones(TASKS, bool))
            for weight in layer.shared_weights:
                assert np.abs(tape.gradient(loss, weight.value)).max() > 0, weight.path


def test_gradients_are_those_of_the_formula(x, rng):
    """Of all weights and inputs, against the formula as one would write it down."""
    layer = mining(rng)
    variables = [w.value for w in layer.trainable_weights]

    def formula(x):
        encoded = x + layer.task_embedding
        fixed = tf.stop_gradient(encoded)
        q, k, v = (tf.nn.relu(f(z)) for f, z in ((layer.query, encoded), (layer.key, fixed), (layer.value, fixed)))
        weights = tf.nn.softmax(tf.einsum("tnd,jnd->ntj", q, k) / WIDTH**0.5)
        return x + tf.einsum("ntj,jnd->tnd", weights, v)

    gradients = []
    for function in (layer, formula):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(function(x)))
        gradients.append(tape.gradient(loss, [x, *variables]))
    for ours, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=1e-5)


def test_no_weight_leads_to_what_is_read_above_the_cut(x, rng):
    """Projections belong below: above it, only the own input and the own row of the embedding are left."""
    layer = mining(rng)
    with tf.GradientTape() as tape:
        branches = [Branch(tf.stop_gradient(tensor), TASKS) for tensor in layer.below(x)]
        loss = tf.reduce_sum(layer.above(x, branches) ** 2)
    gradients = tape.gradient(loss, [w.value for w in layer.shared_weights])
    assert gradients == [None] * 6


def test_compared_slices(rng):
    """Reading by comparison: values, and the tasks' gradients from their factors."""
    tensor = tf.constant(rng.normal(size=(4, ITEMS, WIDTH)), tf.float32)
    queries = tf.constant(rng.normal(size=(TASKS, ITEMS, WIDTH)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensor)
        branch = Branch(tensor, TASKS, tape.watch)
        tap = branch.compare(queries)
        losses = tf.unstack(tf.reduce_sum(tf.sin(tap), axis=[1, 2]))
        total = tf.add_n(losses)
    np.testing.assert_allclose(tap, np.einsum("tnd,end->tne", queries, tensor), rtol=1e-4, atol=1e-5)
    cotangents = tape.gradient(total, tap)
    rows = np.array([tape.gradient(loss, tensor) for loss in losses])
    flat = rows.reshape(TASKS, -1)
    np.testing.assert_allclose(branch.gram(cotangents), flat @ flat.T, rtol=1e-4, atol=1e-4)
    for task in range(TASKS):
        np.testing.assert_allclose(branch.of_task(cotangents, task), rows[task], rtol=1e-4, atol=1e-5)
    weights = np.array([0.5, 0.0, 2.0], np.float32)
    expected = np.tensordot(weights, rows, 1)
    np.testing.assert_allclose(branch.weighted(cotangents, weights), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [mining, distilling])
def test_permuted_tasks(x, rng, make):
    """Tasks in another order, with all that belongs to them, give the outputs in that order."""
    layer = make(rng)
    order = rng.permutation(TASKS)
    other = make(rng)
    weights = []
    for w in layer.get_weights():
        w = w[order] if w.ndim == 3 else w
        if w.ndim == 3 and w.shape[1] == TASKS * WIDTH:  # reads the concatenation of all tasks
            w = w.reshape(TASKS, TASKS, WIDTH, WIDTH)[:, order].reshape(w.shape)
        weights.append(w)
    other.set_weights(weights)
    np.testing.assert_allclose(other(tf.gather(x, order)), tf.gather(layer(x), order), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gate_layers", [1, 3])
def test_numbers_of_parameters(rng, gate_layers):
    t, d = TASKS, WIDTH
    assert mining(rng).count_params() == t * d + 3 * (d**2 + d)
    each = (t * d * d + d) + (2 * d * d + d) + (gate_layers - 1) * (d * d + d) + d
    assert distilling(rng, gate_layers=gate_layers).count_params() == t * each


@pytest.mark.parametrize(("residual", "expected"), [(False, [1.5, 1.5]), (True, [2.5, 3.5])])
def test_distilled_by_hand(residual, expected):
    """z = 3 and a = 1/2 for both towers; h = 1 and 2."""
    layer = GlobalKnowledgeDistillation(residual=residual)
    layer.build((2, None, 1))
    layer.knowledge.set_weights([np.ones((2, 2, 1)), np.zeros((2, 1, 1))])
    layer.gate.set_weights([np.zeros((2, 2, 1)), np.zeros((2, 1, 1))])
    layer.readout.assign(np.ones((2, 1, 1)))
    np.testing.assert_allclose(layer(tf.constant([[[1.0]], [[2.0]]]))[:, 0, 0], expected)


@pytest.mark.parametrize("gate_layers", [1, 2])
def test_distilling_written_out(x, rng, gate_layers):
    layer = distilling(rng, gate_layers=gate_layers)
    everything = np.concatenate(list(x), axis=1)
    outputs = layer(x).numpy()
    for task in range(TASKS):
        z = np.maximum(everything @ layer.knowledge.kernel[task].numpy() + layer.knowledge.bias[task].numpy(), 0)
        a = np.concatenate([x[task], z], axis=1)
        for dense in layer.gate_hidden.dense:
            a = np.maximum(a @ dense.kernel[task].numpy() + dense.bias[task].numpy(), 0)
        a = 1 / (1 + np.exp(-(a @ layer.gate.kernel[task].numpy() + layer.gate.bias[task].numpy())))
        np.testing.assert_allclose(outputs[task], (a * z) @ layer.readout[task].numpy(), rtol=1e-4, atol=1e-5)


def test_a_task_distils_without_touching_the_others(x, rng):
    layer = distilling(rng, gate_layers=2)
    for task in range(TASKS):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x)[task] ** 2)
        for value in (x, *[w.value for w in layer.trainable_weights]):
            reached = np.abs(tape.gradient(loss, value)).max(axis=(1, 2)) > 0
            np.testing.assert_array_equal(reached, np.arange(TASKS) == task)


def test_gradient_to_the_own_tower_flows_through_the_gate_only(x, rng):
    layer = distilling(rng)
    kernel, bias = layer.gate.get_weights()
    kernel[:, :WIDTH] = 0  # the gate reads z, and h no more
    layer.gate.set_weights([kernel, bias])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) ** 2)
    np.testing.assert_array_equal(tape.gradient(loss, x), tf.zeros_like(x))


@pytest.mark.parametrize("make", [mining, distilling])
def test_dropout_acts_in_training_only(x, rng, make):
    layer = make(rng, dropout=0.5)
    assert (layer(x, training=True) != layer(x)).numpy().any()
    np.testing.assert_array_equal(layer(x), layer(x))


@pytest.mark.parametrize("make", [CrossTaskFeatureMining, GlobalKnowledgeDistillation])
def test_bfloat16(x, make):
    layer = make(dtype="mixed_bfloat16")
    outputs = layer(tf.cast(x, tf.bfloat16))
    assert outputs.dtype == (tf.bfloat16 if make is CrossTaskFeatureMining else tf.float32), "GKD's are scores"
    assert {w.dtype for w in layer.trainable_weights} == {"float32"}
    np.testing.assert_array_equal(np.isfinite(tf.cast(outputs, tf.float32)), True)


def test_a_gate_has_a_layer():
    with pytest.raises(ValueError, match="at least one layer, not 0"):
        GlobalKnowledgeDistillation(gate_layers=0)
