"""Shared-bottom: which task reaches which variable, items that do not see each other, padding that nobody sees."""

import numpy as np
import pytest

from tfmtl2r import Category, Dense, Schema, architectures
from tfmtl2r._backend import tf

TASKS = ("click", "buy", "like")
SIZES = np.array([5, 2, 1])
LENGTH = 5
VALID = tf.sequence_mask(SIZES, LENGTH)


def connected(**options):
    architecture = architectures.get("shared_bottom", **{"units": (6, 5), "head_units": (4,), **options})
    architecture.connect(TASKS, Schema([
        Dense("x", shape=(3,)), Dense("age", context=True), Category("brand", vocabulary=("a", "b", "c"), dim=2),
    ]))
    return architecture


@pytest.fixture
def features(rng):
    return {
        "x": tf.constant(rng.normal(size=(3, LENGTH, 3)), tf.float32),
        "age": tf.constant(rng.normal(size=3), tf.float32),
        "brand": tf.constant(rng.integers(0, 4, (3, LENGTH))),
    }


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"head_units": ()}, {"units": (), "head_units": (4, 4)}],
                         ids=str)
def test_groups_say_what_the_gradients_say(features, options):
    """For every variable (every slice of a stacked one): the tasks of its group are those whose scores reach it."""
    architecture = connected(activation="tanh", **options)
    groups = architecture.variable_groups()
    listed = [v.path for group in groups for v in group.variables]
    assert sorted(listed) == sorted(v.path for v in architecture.trainable_variables), "each variable in one group"
    with tf.GradientTape(persistent=True) as tape:
        scores = architecture(features, valid=VALID)
        totals = [tf.reduce_sum(scores[task] ** 2) for task in TASKS]
    for group in groups:
        for variable in group.variables:
            gradients = [
                tf.convert_to_tensor(tape.gradient(total, variable.value, unconnected_gradients="zero"))
                for total in totals
            ]
            reached = np.array(gradients) != 0
            if group.stacked:
                assert variable.shape[0] == len(group.tasks)
                by_slice = reached.reshape(len(TASKS), len(TASKS), -1).any(axis=2)
                np.testing.assert_array_equal(by_slice, np.eye(len(TASKS), dtype=bool), err_msg=variable.path)
            else:
                by_task = reached.reshape(len(TASKS), -1).any(axis=1)
                np.testing.assert_array_equal(np.flatnonzero(by_task), group.tasks, err_msg=variable.path)
    assert [group.shared for group in groups] == [True, False]


def test_scores_are_float32_per_item_and_task(features):
    architecture = connected()
    scores = architecture(features, valid=VALID)
    assert list(scores) == list(TASKS)
    assert all(s.shape == (3, LENGTH) and s.dtype == tf.float32 for s in scores.values())
    assert len({float(s[0, 0]) for s in scores.values()}) == 3, "heads start differently"


def test_heads_are_separate_networks(features):
    """Scores written out with NumPy, task by task."""
    architecture = connected()
    x = architecture.encoder(features, valid=VALID).numpy()
    for layer in architecture.trunk.dense:
        x = np.maximum(x @ layer.kernel.numpy() + layer.bias.numpy(), 0)
    scores = architecture(features, valid=VALID)
    (tower,), scorer = architecture.towers.dense, architecture.scorers
    for t, task in enumerate(TASKS):
        hidden = np.maximum(x @ tower.kernel[t].numpy() + tower.bias[t].numpy(), 0)
        expected = (hidden @ scorer.kernel[t].numpy() + scorer.bias[t].numpy())[..., 0]
        np.testing.assert_allclose(scores[task][VALID], expected[VALID], rtol=1e-4, atol=1e-6)


def test_padding_never_influences_real_items(features):
    architecture = connected(layer_norm=True)
    clean = architecture(features, valid=VALID)
    padding = ~VALID.numpy()
    dirty = {**features, "x": np.where(padding[..., None], np.nan, features["x"]).astype(np.float32),
             "brand": np.where(padding, 3, features["brand"])}
    for task, scores in architecture(dirty, valid=VALID).items():
        np.testing.assert_array_equal(scores[VALID], clean[task][VALID])
        assert np.isfinite(scores).all()


def test_permuted_items_get_permuted_scores(features, rng):
    architecture = connected()
    full = tf.ones([3, LENGTH], tf.bool)
    order = rng.permutation(LENGTH)
    permuted = {name: value if name == "age" else tf.gather(value, order, axis=1) for name, value in features.items()}
    scores = architecture(features, valid=full)
    for task, moved in architecture(permuted, valid=full).items():
        np.testing.assert_allclose(moved, tf.gather(scores[task], order, axis=1), atol=1e-6)


def test_plain_rows_score_as_lists_do(features):
    architecture = connected()
    scores = architecture(features, valid=VALID)
    rows = {"x": features["x"][:, 0], "age": features["age"], "brand": features["brand"][:, 0]}
    for task, row_scores in architecture(rows).items():
        assert row_scores.shape == (3,)
        np.testing.assert_allclose(row_scores, scores[task][:, 0], atol=1e-6)


def test_a_batch_of_no_lists(features):
    none = {name: value[:0] for name, value in features.items()}
    assert all(s.shape == (0, LENGTH) for s in connected()(none, valid=VALID[:0]).values())


def test_dropout_acts_in_training_only(features):
    architecture = connected(dropout=0.5, units=(64,))
    train = architecture(features, valid=VALID, training=True)
    evaluate = architecture(features, valid=VALID)
    assert any((train[task] != evaluate[task]).numpy().any() for task in TASKS)
    for task, again in architecture(features, valid=VALID).items():
        np.testing.assert_array_equal(again, evaluate[task])


def test_an_architecture_belongs_to_one_ranker():
    architecture = connected()
    with pytest.raises(ValueError, match=r"already belongs to a ranker with the tasks .*'click'.*make a new one"):
        architecture.connect(["other"], Schema([Dense("x")]))
