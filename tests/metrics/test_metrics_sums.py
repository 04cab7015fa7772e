"""A metric over all items that is a function of sums."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfmtl2r import metrics, testing


@dataclasses.dataclass(frozen=True)
class NormalisedEntropy(metrics.SummedMetric):
    """Log loss over the log loss of the base rate (He et al. 2014), of logits."""

    direction = "min"

    def sums(self, labels, scores, weights):
        positive = tf.cast(labels > 0, tf.float32)
        loss = tf.nn.sigmoid_cross_entropy_with_logits(positive, scores)
        return {"loss": tf.reduce_sum(weights * loss), "positive": tf.reduce_sum(weights * positive),
                "both": tf.stack([tf.reduce_sum(weights), tf.reduce_sum(weights * (1.0 - positive))])}

    def of_sums(self, sums):
        total, rate = sums["both"][0], sums["positive"] / sums["both"][0]
        return sums["loss"] / total / -(rate * tf.math.log(rate) + (1 - rate) * tf.math.log(1 - rate))


@pytest.fixture
def entropy():
    metrics.register("normalised_entropy_of_the_test")(NormalisedEntropy)
    yield NormalisedEntropy()
    metrics.registry.unregister("normalised_entropy_of_the_test")


def test_it_passes_the_checks_of_metrics(entropy):
    assert testing.check_metric(entropy)


def test_the_value_is_that_of_the_formula_with_weights_of_items_and_lists(entropy, rng):
    labels, scores = (rng.random((6, 4)) > 0.6).astype(float), rng.normal(size=(6, 4))
    labels[0, 1] = np.nan
    valid = rng.random((6, 4)) > 0.2
    for weights in (rng.random((6, 4)), rng.random(6)):
        stream = entropy.streaming()
        for rows in (slice(0, 1), slice(1, 6)):
            stream.update_state(labels[rows], scores[rows], valid[rows], weights[rows])
        each = np.broadcast_to(weights if weights.ndim == 2 else weights[:, None], (6, 4))
        keep = valid & ~np.isnan(labels)
        y, p, w = labels[keep], 1 / (1 + np.exp(-scores[keep])), each[keep]
        rate = np.average(y, weights=w)
        loss = np.average(-(y * np.log(p) + (1 - y) * np.log(1 - p)), weights=w)
        expected = loss / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
        np.testing.assert_allclose(float(stream.result()), expected, rtol=1e-5)


def test_exact_reads_any_shape_and_per_list_is_refused(entropy, rng):
    labels, scores = (rng.random((5, 3)) > 0.5).astype(float), rng.normal(size=(5, 3))
    stream = entropy.streaming()
    stream.update_state(labels, scores, np.ones((5, 3), bool))
    assert entropy.exact(labels, scores) == pytest.approx(float(stream.result()), rel=1e-6)
    with pytest.raises(TypeError, match="one number over all items"):
        entropy.per_list(labels, scores, np.ones((5, 3), bool))


@pytest.mark.parametrize(("facts", "reads"), [
    ({}, "score"), ({"relevance": True}, "score"), ({"relevance": False}, "value"),
    ({"relevance": False, "reads": "score"}, "score"), ({"reads": "value"}, "value"),
])
def test_a_metric_of_any_number_reads_values_in_the_unit_of_the_label(facts, reads):
    """Such as R squared, which must not compare standardised scores with seconds."""
    made = type("Made", (metrics.SummedMetric,), facts)
    assert made.reads == type("Inherits", (made,), {}).reads == reads
