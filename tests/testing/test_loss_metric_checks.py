"""A loss or metric that breaks one rule is caught by the check of that rule."""

import dataclasses
import itertools

import numpy as np
import pytest

from tfmtl2r import metrics
from tfmtl2r._backend import tf
from tfmtl2r.losses.base import Loss, mean_over_items
from tfmtl2r.metrics.base import Metric
from tfmtl2r.testing import check_loss, check_metric, loss, metric

UNREGISTERED = {"description_rebuilds_it"}
COUNTER = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Absolute(Loss):
    """Keeps every rule; subclasses break one each."""

    listwise = False
    relevance = False

    def compute(self, labels, scores, known, weights, seed):
        return mean_over_items(tf.abs(labels - scores), known, weights)

    def counts(self, labels, known):
        return tf.reduce_any(known, axis=1)


class Raw(Absolute):
    """Does without the clean input of the base."""

    def per_list(self, labels, scores, valid, weights=None, *, seed=None):
        labels, scores = tf.cast(labels, tf.float32), tf.cast(scores, tf.float32)
        weights = tf.ones_like(scores) if weights is None else tf.cast(weights, tf.float32)
        return tf.reduce_mean(weights * tf.abs(labels - scores), 1), tf.ones_like(scores[:, 0])


class MeanOverPlaces(Absolute):
    """Sums of real items over the padded length."""

    def compute(self, labels, scores, known, weights, seed):
        weights = tf.cast(known, tf.float32) if weights is None else weights
        return tf.reduce_mean(weights * tf.abs(labels - scores), axis=1)


class Negative(Absolute):
    def per_list(self, *args, **kwargs):
        value, weight = super().per_list(*args, **kwargs)
        return value - 1.0, weight


class Exponential(Absolute):
    def compute(self, labels, scores, known, weights, seed):
        return mean_over_items(tf.exp(scores**2), known, weights)


class Backwards(Absolute):
    def compute(self, labels, scores, known, weights, seed):
        return mean_over_items(tf.abs(labels + scores), known, weights)


class WithoutWeights(Absolute):
    def compute(self, labels, scores, known, weights, seed):
        return super().compute(labels, scores, known, None, seed)


class SumOfWeights(Absolute):
    """Divides by the sum of the weights a second time."""

    def compute(self, labels, scores, known, weights, seed):
        value = super().compute(labels, scores, known, weights, seed)
        return value if weights is None else value / mean_over_items(weights, known, None)


class Draws(Absolute):
    def compute(self, labels, scores, known, weights, seed):
        return next(COUNTER) * super().compute(labels, scores, known, weights, seed)


class KeepsTheirPrecision(Absolute):
    def per_list(self, labels, scores, valid, weights=None, *, seed=None):
        value, weight = super().per_list(labels, scores, valid, weights, seed=seed)
        return tf.cast(value, scores.dtype), tf.cast(weight, scores.dtype)


class CountsPositives(Absolute):
    def counts(self, labels, known):
        return tf.reduce_any(known & (labels > 0), axis=1)


class FallingLink(Absolute):
    def value(self, scores):
        return -scores


class AcceptsAnyLabel(Absolute):
    def validate(self, labels):
        pass


class SeesTheLabelsOfOthers(Absolute):
    def compute(self, labels, scores, known, weights, seed):
        return super().compute(labels, scores, known, weights, seed) * tf.cast(tf.shape(labels)[0], tf.float32)


LOSSES = [
    (Negative(), "finite_and_not_negative"),
    (Raw(), "padding_has_no_influence"),
    (MeanOverPlaces(), "length_of_padding_has_no_influence"),
    (Raw(), "missing_label_is_padding"),
    (CountsPositives(), "any_number_is_a_label"),
    (Raw(), "list_that_does_not_count"),
    (SeesTheLabelsOfOthers(), "list_that_does_not_count"),
    (Exponential(), "hard_cases_are_finite"),
    (CountsPositives(), "rows_as_lists_of_one"),
    (KeepsTheirPrecision(), "scores_of_any_float_type"),
    (Draws(), "graph_agrees_with_eager"),
    (Draws(), "seed_settles_randomness"),
    (WithoutWeights(), "weights_are_relative"),
    (SumOfWeights(), "propensity_weights_multiply_terms"),
    (Backwards(), "better_scores_cost_less"),
    (FallingLink(), "link_keeps_the_order"),
    (AcceptsAnyLabel(), "labels_are_checked_before_training"),
]


@dataclasses.dataclass(frozen=True)
class First(Metric):
    """The label of the item of highest score; keeps every rule."""

    def compute(self, labels, scores, known, weights):
        best = tf.argmax(tf.where(known, scores, -np.inf), axis=1)
        return tf.gather(labels, best, batch_dims=1), tf.cast(tf.reduce_any(known, axis=1), tf.float32)


class LooksAtPadding(First):
    def per_list(self, labels, scores, valid, weights=None):
        labels, scores = tf.cast(labels, tf.float32), tf.cast(scores, tf.float32)
        return super().per_list(labels, scores, tf.ones_like(valid, tf.bool))


class SharesAmongPlaces(First):
    def compute(self, labels, scores, known, weights):
        value, counts = super().compute(labels, scores, known, weights)
        return value / tf.cast(tf.shape(labels)[1], tf.float32), counts


class Infinite(First):
    def compute(self, labels, scores, known, weights):
        value, counts = super().compute(labels, scores, known, weights)
        return value / 0.0, counts


class LowerIsBetter(First):
    direction = "min"


class CountsEverything(First):
    def per_list(self, labels, scores, valid, weights=None):
        value, counts = super().per_list(labels, scores, valid, weights)
        return value, tf.ones_like(counts)


class StreamsAnother(First):
    def streaming(self, name=None):
        return metrics.get("mrr").streaming(name)


class NotANumber(First):
    def compute(self, labels, scores, known, weights):
        value, counts = super().compute(labels, scores, known, weights)
        return value * np.nan, counts


class SeesTheBatch(First):
    def compute(self, labels, scores, known, weights):
        value, counts = super().compute(labels, scores, known, weights)
        return value * tf.cast(tf.shape(labels)[0], tf.float32), counts


class NaNForRows(First):
    def compute(self, labels, scores, known, weights):
        value, counts = super().compute(labels, scores, known, weights)
        return tf.where(tf.shape(labels)[1] == 1, np.nan, value), counts


class InFloat32Only(First):
    def per_list(self, labels, scores, valid, weights=None):
        return super().per_list(labels, tf.convert_to_tensor(scores, tf.float32), valid, weights)


class Stream:
    """A stream that keeps the mean of the last batch; see the rules that it breaks below."""

    def __init__(self, thing, name):
        self.inner, self.name = Metric.streaming(thing), "always_the_same"

    def update_state(self, labels, scores, valid, weights=None):
        self.inner.reset_state()
        self.inner.update_state(labels, scores, valid)

    def result(self):
        return tf.where(tf.math.is_nan(self.inner.result()), 0.0, self.inner.result())

    def reset_state(self):
        self.inner.reset_state()


class LastBatch(First):
    def streaming(self, name=None):
        return Stream(self, name)


METRICS = [
    (Infinite(), "finite_and_repeatable"),
    (StreamsAnother(), "streaming_agrees_with_per_list"),
    (LastBatch(), "batches_add_up"),
    (LooksAtPadding(), "padding_has_no_influence"),
    (SharesAmongPlaces(), "padding_has_no_influence"),
    (LooksAtPadding(), "missing_label_is_padding"),
    (CountsEverything(), "list_without_labels_never_counts"),
    (LastBatch(), "nothing_seen_is_no_number"),
    (LowerIsBetter(), "better_scores_have_the_better_value"),
    (LastBatch(), "list_weights"),
    (LastBatch(), "streams_inside_a_graph"),
    (InFloat32Only(), "scores_of_bfloat16"),
    (NaNForRows(), "rows_as_lists_of_one"),
    (NotANumber(), "evaluate_marks_what_does_not_count"),
]


@pytest.mark.parametrize(("thing", "name"), LOSSES + METRICS)
def test_the_named_check_catches_it(thing, name):
    check = check_loss if isinstance(thing, Loss) else check_metric
    with pytest.raises(AssertionError, match=rf"{type(thing).__name__}\(\) fails {name}: "):
        check(thing, only=name)


@pytest.mark.parametrize(("right", "suite"), [(Absolute(), loss.SUITE), (First(), metric.SUITE)])
def test_what_keeps_every_rule_passes(right, suite):
    names = {check.name for check in suite.checks(right)} - UNREGISTERED
    assert set(suite.run(right, names)) == names
    with pytest.raises(AssertionError, match="fails description_rebuilds_it: InputError"):
        suite.run(right, "description_rebuilds_it")
