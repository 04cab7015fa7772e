"""An architecture that breaks one rule is caught by the check of that rule."""

import json

import numpy as np
import pytest

from tfmtl2r import architectures
from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Group
from tfmtl2r.architectures.shared_bottom import SharedBottom
from tfmtl2r.testing import check_architecture
from tfmtl2r.testing.architecture import SUITE

OPTIONS = {"units": [6], "head_units": [4], "activation": "tanh"}


class ReadsAnotherTask(SharedBottom):
    """The score of the last task also reads the private head of the first one."""

    def heads(self, cut, batch, training):
        scores = super().heads(cut, batch, training)
        first, *_, last = self.tasks
        return {**scores, last: scores[last] + 0.5 * scores[first]}


class GoesAroundTheCut(SharedBottom):
    """Heads read the trunk's output beside the cut, so that a method's weights do not reach that path."""

    def shared(self, batch, training):
        self.aside = super().shared(batch, training)
        return [tf.stop_gradient(x) + 0.0 * x for x in self.aside]

    def tower_inputs(self, cut, batch, training):
        return super().tower_inputs(cut, batch, training) + self.aside[0][None]


class ForgetsAVariable(SharedBottom):
    def lower_groups(self):
        return [Group(group.tasks, group.variables[1:]) for group in super().lower_groups()]


class MeanOverPlaces(SharedBottom):
    """Adds the mean of a feature over all places, padding included."""

    def heads(self, cut, batch, training):
        seen = tf.reduce_mean(batch.features["x"])
        return {task: values + seen for task, values in super().heads(cut, batch, training).items()}


class TrainsOnPadding(SharedBottom):
    """Its scores at padded places are not 0, and real items read them."""

    def heads(self, cut, batch, training):
        x = tf.reduce_sum(batch.features["x"], axis=[-2, -1], keepdims=True)[..., 0]
        return {task: values * (1.0 + 0.1 * tf.nn.tanh(x)) for task, values in
                super().heads(cut, batch, training).items()}


class FirstItemCounts(SharedBottom):
    def heads(self, cut, batch, training):
        scores = super().heads(cut, batch, training)
        return scores if batch.is_rows else {task: v - v[:, :1] for task, v in scores.items()}


class TwiceForRows(SharedBottom):
    def heads(self, cut, batch, training):
        scores = super().heads(cut, batch, training)
        return {task: 2.0 * v for task, v in scores.items()} if batch.is_rows else scores


class SameScores(SharedBottom):
    def heads(self, cut, batch, training):
        first = next(iter(super().heads(cut, batch, training).values()))
        return dict.fromkeys(self.tasks, first)


class HalfPrecision(SharedBottom):
    def heads(self, cut, batch, training):
        scores = super().heads(cut, batch, training)
        return {task: tf.cast(tf.cast(v, tf.bfloat16), tf.float32) for task, v in scores.items()}


class ScoresOfBfloat16(SharedBottom):
    def heads(self, cut, batch, training):
        return {task: tf.cast(v, self.compute_dtype) for task, v in super().heads(cut, batch, training).items()}


class Counts(SharedBottom):
    """Remembers how often it was called."""

    calls = 0

    def heads(self, cut, batch, training):
        self.calls += 1
        return {task: self.calls * v for task, v in super().heads(cut, batch, training).items()}


class InspectsBadly(SharedBottom):
    def inspect(self, batch):
        return {"gate": tf.ones([3, 2])}


class InspectsTheMean(SharedBottom):
    def inspect(self, batch):
        return {"mean": tf.reduce_mean(batch.features["x"])}


class ConnectsAgain(SharedBottom):
    def connect(self, *args, **options):
        self.tasks = ()
        super().connect(*args, **options)


class SaysNothingOfAWeight(SharedBottom):
    """Its scores depend on a number that no file contains."""

    def connect(self, *args, **options):
        super().connect(*args, **options)
        self.hidden_number = float(np.random.default_rng().normal())

    def heads(self, cut, batch, training):
        return {task: v + self.hidden_number for task, v in super().heads(cut, batch, training).items()}


class Opposite(SharedBottom):
    """In half the precision its scores, and so its gradients, have another sign."""

    def heads(self, cut, batch, training):
        sign = 1.0 if self.compute_dtype == "float32" else -1.0
        return {task: sign * v for task, v in super().heads(cut, batch, training).items()}


CASES = [
    (ReadsAnotherTask, "groups_match_gradients"),
    (ReadsAnotherTask, "groups_match_gradients_on_numbers"),
    (ForgetsAVariable, "groups_match_gradients"),
    (GoesAroundTheCut, "ones_are_the_plain_sum"),
    (GoesAroundTheCut, "ones_are_the_plain_sum_on_numbers"),
    (SameScores, "scores_are_float32_per_item"),
    (MeanOverPlaces, "padding_has_no_influence"),
    (TrainsOnPadding, "padding_trains_nothing"),
    (FirstItemCounts, "permuted_items_have_permuted_scores"),
    (TwiceForRows, "rows_are_lists_of_one"),
    (InspectsTheMean, "batch_of_no_lists"),
    (Counts, "evaluation_is_repeatable"),
    (InspectsBadly, "inspection_is_finite"),
    (ConnectsAgain, "belongs_to_one_ranker"),
    (ScoresOfBfloat16, "bfloat16_scores_are_close"),
    (Opposite, "bfloat16_trains_in_the_same_direction"),
    (HalfPrecision, "bfloat16_does_not_tie_items"),
    (HalfPrecision, "bfloat16_does_not_tie_items_in_training"),
    (SaysNothingOfAWeight, "file_rebuilds_it"),
]


@pytest.fixture
def registered():
    """Registers classes for one test."""
    names = []

    def register(cls):
        names.append(cls.__name__)
        architectures.register(cls.__name__)(cls)
        return {"name": cls.__name__, **OPTIONS}

    yield register
    for name in names:
        architectures.registry.unregister(name)


@pytest.mark.parametrize(("cls", "name"), CASES)
def test_the_named_check_catches_it(registered, cls, name):
    with pytest.raises(AssertionError, match=rf"{cls.__name__} fails {name}: given "):
        check_architecture(registered(cls), only=name)


def test_every_check_is_shown_to_fail():
    assert {name for _, name in CASES} == {check.name for check in SUITE.checks("shared_bottom")}


@pytest.mark.slow
def test_what_keeps_every_rule_passes(registered):
    class Mine(SharedBottom):
        """Another name for the same."""

    described = {**registered(Mine), "units": [16], "head_units": [16]}
    assert set(check_architecture(described)) == {name for _, name in CASES}
    only = "scores_are_float32_per_item"
    assert check_architecture(Mine, only=only) == check_architecture(Mine(**OPTIONS), only=only) == [only]
    assert keras.mixed_precision.dtype_policy().name == "float32"
    assert json.dumps(described)


def test_a_class_without_a_name_is_explained():
    with pytest.raises(ValueError, match="Counts"):
        check_architecture(Counts)
