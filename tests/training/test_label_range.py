"""Labels that a loss cannot train on stop ``fit`` before a weight moves; missing labels and padding never do."""

import numpy as np
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task, losses
from tfmtl2r._backend import keras, tf

LISTS, LENGTH = 4, 5
SIZES = np.array([5, 3, 5, 2], np.int32)
REAL = np.arange(LENGTH) < SIZES[:, None]

OUT_OF_RANGE = [
    ("lambda_loss", 200.0, "from 0 to 31 .*Convert the labels to grades first"),
    ("approx_ndcg", 200.0, "from 0 to 31 .*Convert the labels to grades first"),
    ("ordinal", 9.0, "from 0 to 4 .*levels is 4; set it to the highest grade"),
    ("pwiser", 3.0, "from 0 to 2 .*2 .click and conversion"),
    ("softmax", np.inf, r"from 0 to 1e\+15 .*divide the labels"),
    ("softmax", 1e30, r"from 0 to 1e\+15 .*divide the labels"),
]


def model(*loss_names, kind="graded", method="ls", strategy=None):
    with (strategy or tf.distribute.get_strategy()).scope():
        tasks = [Task(f"t{i}", kind=kind, loss=name, metrics=()) for i, name in enumerate(loss_names)]
        architecture = {"name": "shared_bottom", "units": [4], "head_units": []}
        ranker = MultiTaskRanker(architecture, tasks, Schema([Dense("x", shape=(3,))]))
        ranker.compile(keras.optimizers.SGD(0.1), method=method, train_metrics=False)
    return ranker


def data(*labels):
    x = {"x": np.random.default_rng(0).normal(size=(LISTS, LENGTH, 3)).astype(np.float32), "list_size": SIZES}
    return tf.data.Dataset.from_tensors((x, {f"t{i}": y.astype(np.float32) for i, y in enumerate(labels)}))


def grades(highest=2.0):
    """0, 1 and the highest in every list; what is missing or padded carries numbers that would be out of range."""
    labels = np.tile([highest, 0.0, 1.0, np.nan, -300.0], (LISTS, 1))
    return np.where(REAL, labels, 999.0)


def with_label(value):
    labels = grades()
    labels[2, 4] = value
    return labels


@pytest.mark.product
@pytest.mark.parametrize(("loss", "label", "message"), [
    case if case[0] in ("ordinal", "softmax") else pytest.param(*case, marks=pytest.mark.slow) for case in OUT_OF_RANGE
])
def test_fit_stops_before_a_weight_moves(loss, label, message):
    ranker = model(loss)
    before = ranker.get_weights()
    name = type(losses.get(loss)).__name__
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} of task t0: labels go {message}"):
        ranker.fit(data(with_label(label)), verbose=0)
    for ours, theirs in zip(ranker.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_labels_at_the_limit_missing_ones_and_padding_pass():
    names, limits = ("ordinal", "ordinal", "pwiser", "approx_ndcg", "bce"), (4, 1, 2, 31, 200)
    ranker = model(*names)
    history = ranker.fit(data(*map(grades, limits)), verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(np.isfinite(weight).all() for weight in ranker.get_weights())


def test_tasks_of_one_loss_are_told_apart_by_their_order():
    ranker = model("ordinal", "ordinal", "ordinal", method="mgda")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"task t0, t1, t2: [\s\S]*\[2 7 2\]"):
        ranker.fit(data(grades(), with_label(7.0), grades()), verbose=0)


@pytest.mark.parametrize("label", [np.inf, -np.inf, 1e30, -1e30])
def test_any_number_of_a_sensible_size_is_a_label_of_a_regression(label):
    ranker = model("mse", kind="regression")
    ranker.fit(data(np.where(REAL, grades(1e6), -np.inf)), verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="MSE of task t0: labels go from -1e\\+15 to 1e\\+15"):
        ranker.fit(data(with_label(label)), verbose=0)


def test_evaluate_checks_too():
    ranker = model("ordinal")
    with pytest.raises(tf.errors.InvalidArgumentError, match="set it to the highest grade"):
        ranker.evaluate(data(with_label(5.0)), verbose=0)


@pytest.mark.long
def test_one_replica_with_a_bad_label_stops_both(mirrored):
    """And leaves the weights as they were and the strategy in working order."""
    ranker = model("ordinal", strategy=mirrored())
    ranker.fit(data(grades()).unbatch().batch(LISTS), verbose=0)
    before = ranker.get_weights()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"task t0: [\s\S]*x:\].*\[9\]"):
        ranker.fit(data(with_label(9.0)).unbatch().batch(LISTS), verbose=0)
    for ours, theirs in zip(ranker.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.isfinite(ranker.fit(data(grades()).unbatch().batch(LISTS), verbose=0).history["loss"][0])


def test_validate_has_the_same_numbers():
    """What is said before training and in it is one declaration."""
    for name in losses.names():
        loss = losses.get(name)
        highest, hint = loss.highest_label()
        loss.validate(np.array([min(highest, 1e30), np.nan, -1.0]))
        if highest < np.inf:
            with pytest.raises(ValueError, match=rf"{type(loss).__name__} met a label of .* but ") as error:
                loss.validate(np.array([highest + 0.5]))
            assert hint in str(error.value)
