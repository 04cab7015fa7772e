"""Funnels read scores as probabilities: which tasks they refuse, and what ESMM's towers learn."""

import numpy as np
import pytest
from architecture_problem import VALID, connected, small

from tfmtl2r import MultiTaskRanker, Task, architectures
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.testing.architecture import LENGTH, NUMBERS, SCHEMA, make_features

BCE = Task("click", kind="binary", loss="bce", metrics=())


def fit(architecture, tasks, rng, **options):
    model = MultiTaskRanker({"name": architecture, **small(architecture), **options}, tasks, SCHEMA)
    model.compile("adam", train_metrics=False)
    x = {**make_features(rng), "list_size": tf.reduce_sum(tf.cast(VALID, tf.int32), axis=1)}
    labels = {task.name: tf.constant(rng.integers(0, 2, (3, LENGTH)), tf.float32) for task in tasks}
    data = tf.data.Dataset.from_tensors((x, labels))
    model.prepare(data)
    return model.train_step(next(iter(data)))


@pytest.mark.parametrize("name", ["esmm", "aitm"])
@pytest.mark.parametrize(("task", "what"), [
    (Task("buy", kind="binary", metrics=()), "'buy' is binary with the loss Softmax"),
    (Task("buy", kind="regression", metrics=()), "'buy' is regression with the loss MSE"),
    (Task("buy", kind="graded", loss="bce", metrics=()), "'buy' is graded with the loss BCE"),
    (Task("buy", kind="binary", loss={"name": "ordinal", "levels": 2}, metrics=()), "with the loss Ordinal"),
])
def test_a_funnel_refuses_scores_that_are_no_probabilities(rng, name, task, what):
    with pytest.raises(ValueError, match=rf'{what}, but .*make it Task\("buy", kind="binary", loss="bce"\)'.replace(
            '"buy"', "'buy'")):
        fit(name, [BCE, task], rng)


@pytest.mark.parametrize(("name", "loss", "options"), [
    ("esmm", "bce", {}), ("aitm", {"name": "ordinal", "levels": 1}, {}), ("aitm", "softmax", {"calibrator": 0.0}),
])
def test_what_a_funnel_accepts(rng, name, loss, options):
    """Any calibrated loss; AITM without its calibrator compares no probabilities."""
    logs = fit(name, [BCE, Task("buy", kind="binary", loss=loss, metrics=())], rng, **options)
    assert np.isfinite(float(logs["loss"]))


def test_only_funnels_ask_for_probabilities():
    asking = {name for name in architectures.names() if architectures.get(name).needs_probabilities}
    assert asking == {"esmm", "aitm"}


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_conversions_are_learnt_by_the_chance_of_a_click(rng, label):
    """d loss / d pCVR = pCTR d loss / d pCTCVR, with pCTR = 0.6 and one impression, by hand."""
    esmm = connected("esmm", tasks=("click", "buy"), schema=NUMBERS)
    esmm.early[1].kernel.assign(tf.zeros_like(esmm.early[1].kernel))
    click = 0.6
    esmm.early[1].bias.assign(tf.fill([1, 1, 1], np.log(click / (1 - click))))
    one = {key: value[:1, :1] if key == "x" else value[:1] for key, value in make_features(rng).items()}
    bias = esmm.last[1].bias
    bias.assign(tf.fill([1, 1, 1], 0.3))
    with tf.GradientTape() as tape:
        score = esmm(batch=Batch(one, valid=tf.ones([1, 1], tf.bool)))["buy"][0, 0]
        loss = tf.nn.sigmoid_cross_entropy_with_logits(label, score)
    both = float(tf.sigmoid(score))
    convert = both / click
    assert 0.05 < convert < 0.95
    by_product = -label / both + (1 - label) / (1 - both)  # d loss / d pCTCVR
    by_conversion = click * by_product
    # The bias moves pCVR by pCVR (1 - pCVR).
    np.testing.assert_allclose(
        tape.gradient(loss, bias.value)[0, 0, 0], by_conversion * convert * (1 - convert), rtol=1e-4
    )
