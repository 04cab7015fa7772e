"""Checks of metrics: properties of every metric."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from tfmtl2r import metrics
from tfmtl2r._backend import tf
from tfmtl2r.metrics.base import Metric, evaluate
from tfmtl2r.testing.checks import Check, Suite, close, finite, raises, require

LABELS = np.array([[2, 0, 1, 0, 7], [0, 3, 7, 7, 7], [1, 1, 0, 0, 0], [0, 0, 0, 0, 7]], np.float32)
SCORES = np.array([[0.3, -1.2, 0.8, 0.1, 9], [-0.4, 1.5, 9, 9, 9], [2, 0.9, -7, 0.5, 3], [1, 2, 3, 4, 9]], np.float32)
VALID = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], bool)
BATCH = (LABELS, SCORES, VALID)
SUITE = Suite("metric", metrics.get)


def check_metric(metric: Metric, *, only: str | Collection[str] | None = None) -> list[str]:
    """Checks the properties of all metrics on a metric.

    Args:
        metric: a name such as ``"ndcg@5"``, a mapping ``{"name": ..., **options}`` or a metric.
        only: names of the checks to run; by default all checks that apply.

    Returns:
        The names of the checks that were run.

    Raises:
        AssertionError: for the first check that fails; the message contains check, metric, input, expected and found
            result.

    >>> check_metric("ndcg@5", only="padding_has_no_influence")
    ['padding_has_no_influence']
    """
    return SUITE.run(metric, only)


def metric_checks(
    metric: Metric,
    expected_failures: Mapping[str, str] | None = None,
    *,
    only: str | Collection[str] | None = None,
    marks: Callable[[Check], Collection[Any]] | None = None,
) -> list[Any]:
    """The checks of a metric as parameters for pytest, with the same arguments as :func:`method_checks`."""
    return SUITE.parameters(metric, expected_failures, only, marks)


def streamed(metric: Metric, *batches: Any) -> float:
    """The metric of several batches ``(labels, scores, valid[, weights])``."""
    stream = metric.streaming()
    for batch in batches:
        stream.update_state(*batch)
    return float(stream.result())


def _with(metric: Metric, **options: Any) -> Any:
    """The metric with other values of its options; unknown options are ignored."""
    known = {field.name for field in dataclasses.fields(metric)} & set(options)
    return dataclasses.replace(metric, **{key: options[key] for key in known})


def _is_list_mean(metric: Metric, promises: Collection[str]) -> bool:
    return metric.per_list_mean


@SUITE.add()
def finite_and_repeatable(metric: Metric) -> None:
    """The value is finite, and the same each time."""
    first = streamed(metric, BATCH)
    finite(first, "four lists")
    close(streamed(metric, BATCH), first, "four lists twice")


@SUITE.add(when=_is_list_mean)
def streaming_agrees_with_per_list(metric: Metric) -> None:
    """The streamed value is the mean of the values of the lists, weighted by their counts."""
    value, counts = (x.numpy().astype(float) for x in metric.per_list(*BATCH))
    finite(value, "four lists")
    close(value[counts == 0], 0.0, "lists that do not count")
    close(streamed(metric, BATCH), (value * counts).sum() / counts.sum(), "four lists", rtol=1e-6)


@SUITE.add()
def batches_add_up(metric: Metric) -> None:
    """Two batches give the value of all lists in one batch."""
    halves = [tuple(x[rows] for x in BATCH) for rows in (slice(0, 2), slice(2, 4))]
    close(streamed(metric, *halves), streamed(metric, BATCH), "four lists in two batches", rtol=1e-6)


@SUITE.add()
def padding_has_no_influence(metric: Metric) -> None:
    """Labels and scores at padded places, and the length of the padding, change nothing."""
    expected = streamed(metric, BATCH)
    for label, score in ((np.nan, np.nan), (0, -1e9), (1e9, 1e9), (-5, np.inf)):
        labels, scores = np.where(VALID, LABELS, label), np.where(VALID, SCORES, score)
        close(streamed(metric, (labels, scores, VALID)), expected, f"labels {label} and scores {score} in padding")
    longer = tuple(np.pad(x, ((0, 0), (0, 30))) for x in BATCH)
    close(streamed(metric, longer), expected, "30 more padded places", rtol=1e-6)


@SUITE.add()
def missing_label_is_padding(metric: Metric) -> None:
    """An item without a label counts as padding."""
    expected = streamed(metric, BATCH)
    for missing in (np.nan, -1.0) if metric.relevance else (np.nan,):
        everywhere = np.where(VALID, LABELS, missing), SCORES, np.ones_like(VALID)
        close(streamed(metric, everywhere), expected, f"labels {missing} for padding", rtol=1e-6)


@SUITE.add(when=_is_list_mean)
def list_without_labels_never_counts(metric: Metric) -> None:
    """A list without a labelled item has value 0 and count 0, whatever the option ``empty``."""
    metric = _with(metric, empty="one")
    for given, labels, valid in (
        ("lists without a label", np.full_like(LABELS, np.nan), VALID),
        ("lists without an item", LABELS, np.zeros_like(VALID)),
    ):
        value, counts = metric.per_list(labels, SCORES, valid)
        close(value, 0.0, f"{given}, the values")
        close(counts, 0.0, f"{given}, the counts")


@SUITE.add()
def nothing_seen_is_no_number(metric: Metric) -> None:
    """The value is NaN before anything counts, and after a reset."""
    close(streamed(metric), np.nan, "no batch")
    stream = metric.streaming()
    stream.update_state(LABELS, SCORES, np.zeros_like(VALID))
    close(float(stream.result()), np.nan, "lists without an item")
    stream.update_state(*BATCH)
    stream.reset_state()
    close(float(stream.result()), np.nan, "a reset")


@SUITE.add(when=lambda metric, promises: metric.direction != "")
def better_scores_have_the_better_value(metric: Metric) -> None:
    """Scores in the order of the labels have the better value, in the declared direction."""
    labels, valid = np.array([[2.0, 1.0, 1.0, 0.0, 0.0]]), np.ones((1, 5), bool)
    metric = _with(metric, k=2)
    good, bad = (streamed(metric, (labels, scores, valid)) for scores in (labels, labels[:, ::-1]))
    require(metric.direction in ("max", "min"), "its direction", "max or min", metric.direction)
    better = good > bad if metric.direction == "max" else good < bad
    require(better, "scores in the order of the labels", f"a better value than {bad} ({metric.direction})", good)


@SUITE.add()
def list_weights(metric: Metric) -> None:
    """Weights of lists are relative: ones change nothing, zeros remove lists. Weights may also be given per item."""
    metric = _with(metric, k=2)
    ones = streamed(metric, (*BATCH, np.ones(4)))
    close(ones, streamed(metric, BATCH), "weights of 1", rtol=1e-6)
    only = streamed(metric, (*BATCH, np.array([1.0, 0, 0, 0])))
    close(only, streamed(metric, tuple(x[:1] for x in BATCH)), "weight 1 for the first list alone", rtol=1e-6)
    uneven = np.array([1.0, 2.0, 5.0, 0.5])
    weighted = streamed(metric, (*BATCH, uneven))
    require(not np.isclose(weighted, ones, rtol=1e-4), "weights (1, 2, 5, .5)", f"another value than {ones}", weighted)
    per_item = np.where(VALID, uneven[:, None], np.nan)
    close(streamed(metric, (*BATCH, per_item)), weighted, "the same weights on items, NaN in padding", rtol=1e-6)


@SUITE.add()
def streams_inside_a_graph(metric: Metric) -> None:
    """A graph with unknown shapes streams the same value, under the given name."""
    stream = metric.streaming("some_name")
    require(stream.name == "some_name", "streaming('some_name')", "that name", stream.name)
    floats, flags = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None, None], tf.bool)
    traced = tf.function(stream.update_state, input_signature=[floats, floats, flags])
    traced(*(x[:3] for x in BATCH))
    traced(*(x[3:, :4] for x in BATCH))
    close(float(stream.result()), streamed(metric, BATCH), "a graph with unknown shapes", rtol=1e-6)


@SUITE.add()
def scores_of_bfloat16(metric: Metric) -> None:
    """Scores may be bfloat16."""
    finite(streamed(metric, (LABELS, tf.cast(SCORES, tf.bfloat16), VALID)), "scores of bfloat16")


@SUITE.add()
def rows_as_lists_of_one(metric: Metric) -> None:
    """Plain rows have a finite value, or no value if no list of one counts."""
    rows = [[1.0], [0.0], [np.nan]], [[0.3], [-0.2], [1.0]], np.ones((3, 1), bool)
    value = streamed(metric, rows)
    counts = metric.per_list(*rows)[1].numpy().any() if metric.per_list_mean else True
    expected = "a finite number" if counts else "NaN, since no list counts"
    require(np.isfinite(value) if counts else np.isnan(value), "three rows", expected, value)


@SUITE.add()
def description_rebuilds_it(metric: Metric) -> None:
    """The metric's description, which files contain, gives an equal metric; conventions can be written as JSON."""
    described = json.loads(json.dumps(metrics.registry.describe(metric)))
    require(metrics.get(described) == metric, f"the description {described}", metric, metrics.get(described))
    require(metrics.card(described["name"]).title, "the card", "a title", "none")
    json.dumps(metric.conventions())


@SUITE.add(when=_is_list_mean)
def evaluate_marks_what_does_not_count(metric: Metric) -> None:
    """``tfmtl2r.metrics.base.evaluate`` returns an array, NaN for lists that do not count."""
    found, counts = evaluate(metric, *BATCH), metric.per_list(*BATCH)[1].numpy()
    require(isinstance(found, np.ndarray), "four lists", "an array", type(found))
    close(np.isnan(found), counts == 0, "four lists, which have no number")


@SUITE.add(when=_is_list_mean)
def wrong_shapes_are_refused(metric: Metric) -> None:
    """Labels with another shape than the scores raise an error that contains both shapes."""
    raises(ValueError, lambda: metric.per_list(LABELS[:, 0], SCORES, VALID), "labels of one column",
           "labels must be [B, L] like scores (4, 5), not (4,)")
