"""Checks of losses: properties of every loss."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from tfmtl2r import losses
from tfmtl2r._backend import tf
from tfmtl2r.losses import Loss
from tfmtl2r.testing.checks import Check, Suite, close, finite, raises, require

SEED = (3, 4)
LABELS = np.array([[2, 0, 1, 0, 7], [0, 3, 7, 7, 7], [2, 2, 0, 0, 0]], np.float32)
SCORES = np.array([[0.3, -1.2, 0.8, 0.1, 9], [-0.4, 0.3, 9, 9, 9], [0.2, 0.9, -0.7, 0.5, 1.1]], np.float32)
VALID = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
PADDING = ((np.nan, np.nan), (0, -1e9), (1e9, 1e9), (-5, np.inf))
"""Labels and scores that may be at padded places."""
SUITE = Suite("loss", losses.get)


def check_loss(loss: Loss, *, only: str | Collection[str] | None = None) -> list[str]:
    """Checks the properties of all losses on a loss.

    Args:
        loss: a name, a mapping ``{"name": ..., **options}`` or a loss.
        only: names of the checks to run; by default all checks that apply.

    Returns:
        The names of the checks that were run.

    Raises:
        AssertionError: for the first check that fails; the message contains check, loss, input, expected and found
            result.

    >>> import dataclasses
    >>> from tfmtl2r.losses import Loss, mean_over_items
    >>> @dataclasses.dataclass(frozen=True)
    ... class Absolute(Loss):
    ...     listwise, relevance = False, False
    ...     def compute(self, labels, scores, known, weights, seed):
    ...         return mean_over_items(tf.abs(labels - scores), known, weights)
    ...     def counts(self, labels, known):
    ...         return tf.reduce_any(known, axis=1)
    >>> check_loss(Absolute(), only=["padding_has_no_influence", "better_scores_cost_less"])
    ['padding_has_no_influence', 'better_scores_cost_less']
    """
    return SUITE.run(loss, only)


def loss_checks(
    loss: Loss,
    expected_failures: Mapping[str, str] | None = None,
    *,
    only: str | Collection[str] | None = None,
    marks: Callable[[Check], Collection[Any]] | None = None,
) -> list[Any]:
    """The checks of a loss as parameters for pytest, with the same arguments as :func:`method_checks`."""
    return SUITE.parameters(loss, expected_failures, only, marks)


def with_gradient(
    loss: Loss, labels: Any, scores: Any, valid: Any, weights: Any = None, seed: Any = SEED
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value ``[B]``, weight ``[B]`` and the gradient ``[B, L]`` of the sum of the values for the scores."""
    scores = tf.constant(scores, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value, weight = loss.per_list(labels, scores, valid, weights, seed=seed)
        total = tf.reduce_sum(value)
    gradient = tape.gradient(total, scores, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value.numpy(), weight.numpy(), gradient.numpy()


def _masses(loss: Loss, labels: Any, weights: Any = 1.0) -> np.ndarray:
    """How much each list of real items counts, if it counts at all."""
    real = np.where(np.asarray(labels) >= 0, labels, 0).astype(np.float32)
    return loss.mass(tf.constant(real), tf.constant(np.broadcast_to(weights, real.shape).astype(np.float32))).numpy()


def _same(found: Any, expected: Any, given: str) -> None:
    for part, got, wanted in zip(("values", "weights", "gradient"), found, expected, strict=True):
        close(got, wanted, f"{given}, the {part}")


@SUITE.add()
def finite_and_not_negative(loss: Loss) -> None:
    """Values are at least 0, values and gradients are finite, and every list has a gradient."""
    value, weight, gradient = with_gradient(loss, LABELS, SCORES, VALID)
    require(value.shape == weight.shape == (3,), "three lists", "shapes (3,)", (value.shape, weight.shape))
    finite(value, "three lists")
    require((value >= 0).all(), "three lists", "values of at least 0", value)
    close(weight, _masses(loss, LABELS * VALID), "three lists, the weights")
    finite(gradient, "three lists, the gradient")
    require((gradient != 0).any(axis=1).all(), "three lists", "a gradient in each list", gradient)


@SUITE.add()
def padding_has_no_influence(loss: Loss) -> None:
    """Labels and scores at padded places change nothing, and get no gradient."""
    expected = with_gradient(loss, LABELS, SCORES, VALID)
    close(expected[2][~VALID], 0.0, "padding, its gradient")
    for label, score in PADDING:
        labels, scores = np.where(VALID, LABELS, label), np.where(VALID, SCORES, score)
        _same(with_gradient(loss, labels, scores, VALID), expected, f"labels {label} and scores {score} in padding")


@SUITE.add()
def length_of_padding_has_no_influence(loss: Loss) -> None:
    """Lists that are padded to a greater length have the same value and gradient."""
    more = ((0, 0), (0, 40))
    expected = with_gradient(loss, LABELS, SCORES, VALID)
    found = with_gradient(loss, np.pad(LABELS, more), np.pad(SCORES, more), np.pad(VALID, more))
    close(found[0], expected[0], "40 more padded places, the values", rtol=1e-5, atol=1e-6)
    close(found[2][:, :5], expected[2], "40 more padded places, the gradient", rtol=1e-4, atol=1e-5)


@SUITE.add()
def missing_label_is_padding(loss: Loss) -> None:
    """An item without a label counts as padding."""
    expected = with_gradient(loss, LABELS, SCORES, VALID)
    for missing in (np.nan, -1.0) if loss.relevance else (np.nan,):
        labels = np.where(VALID, LABELS, missing)
        _same(with_gradient(loss, labels, SCORES, np.ones_like(VALID)), expected, f"labels {missing} for padding")


@SUITE.add(when=lambda loss, promises: not loss.relevance)
def any_number_is_a_label(loss: Loss) -> None:
    """Negative labels count as labels if labels are not relevance."""
    value, weight, _ = with_gradient(loss, LABELS - 5, SCORES, VALID)
    close(weight, 1.0, "labels minus 5, the weights")
    finite(value, "labels minus 5")


@SUITE.add()
def list_that_does_not_count(loss: Loss) -> None:
    """Lists that do not count have weight 0 and no gradient, and do not influence the other lists."""
    given = "lists without a relevant item, a label, an item, and with NaN for scores before others"
    scores = np.vstack([SCORES[:1]] * 3 + [np.full((1, 5), np.nan), SCORES])
    labels = np.vstack([np.zeros((1, 5)), np.full((1, 5), np.nan), LABELS[:1], LABELS[:1], LABELS])
    valid = np.vstack([VALID[:1], VALID[:1], np.zeros((2, 5), bool), VALID])
    value, weight, gradient = with_gradient(loss, labels, scores, valid)
    absent = slice(0, 4) if loss.listwise and not loss.every_list else slice(1, 4)
    for part in (weight, value, gradient):
        close(part[absent], 0.0, given)
    close(weight[4:], _masses(loss, LABELS * VALID), f"{given}, the weights of the others")
    require((value[4:] > 0).all(), given, "values above 0 for the others", value[4:])
    finite(gradient, given)
    if not loss.needs_seed:
        alone = with_gradient(loss, LABELS, SCORES, VALID)
        close(value[4:], alone[0], f"{given}, the values of the others", rtol=1e-5)
        close(gradient[4:], alone[2], f"{given}, the gradient of the others", rtol=1e-4, atol=1e-6)


@SUITE.add()
def hard_cases_are_finite(loss: Loss) -> None:
    """Ties, equal labels, high grades, distant scores and lists of 1 or 200 places give finite numbers."""
    labels = np.array([[1, 0, 0, 2], [1, 1, 1, 1], [0, 0, 0, 0], [31, 0, 30, 1]] * 2, float)
    scores = np.repeat([[0.0], [1e4]], 4, axis=0) * np.array([[1.0, -1, 0.5, -0.3]])
    for length in (1, 4, 200):
        padding = ((0, 0), (0, max(0, length - 4)))
        y, s = np.pad(labels, padding)[:, :length], np.pad(scores, padding)[:, :length]
        value, _, gradient = with_gradient(loss, y, s, np.arange(length)[None] < np.full((8, 1), 4))
        finite(value, f"hard lists of {length}, the values")
        require((value >= 0).all(), f"hard lists of {length}", "values of at least 0", value)
        finite(gradient, f"hard lists of {length}, the gradient")


@SUITE.add()
def rows_as_lists_of_one(loss: Loss) -> None:
    """Plain rows are finite; a pointwise loss trains on each row that has a label."""
    given, valid = "three rows, the last without a label", np.ones((3, 1), bool)
    value, weight, gradient = with_gradient(loss, [[1.0], [0.0], [np.nan]], [[0.3], [-0.2], [1]], valid)
    finite(value, given)
    finite(gradient, given)
    if not loss.listwise:
        close(weight, [1, 1, 0], f"{given}, the weights")
        require((gradient[:2] != 0).all(), given, "a gradient for the first two", gradient)


@SUITE.add()
def scores_of_any_float_type(loss: Loss) -> None:
    """Scores of any float type are converted to float32."""
    for dtype in ("bfloat16", "float64"):
        scores = tf.cast(SCORES, dtype)
        value, weight = loss.per_list(LABELS, scores, VALID, seed=SEED)
        require(value.dtype == weight.dtype == tf.float32, f"scores of {dtype}", "float32", (value.dtype, weight.dtype))
        expected, _ = loss.per_list(LABELS, tf.cast(scores, tf.float32), VALID, seed=SEED)
        close(value, expected, f"scores of {dtype}")


@SUITE.add()
def graph_agrees_with_eager(loss: Loss) -> None:
    """A graph with unknown shapes agrees with eager code."""
    floats, flags = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None, None], tf.bool)
    traced = tf.function(loss.per_list, input_signature=[floats, floats, flags, floats])
    weights = np.linspace(0.5, 2, LABELS.size).reshape(LABELS.shape).astype(np.float32)
    for rows in (3, 2):
        args = LABELS[:rows], SCORES[:rows], VALID[:rows], weights[:rows]
        for found, wanted in zip(traced(*args), loss.per_list(*args), strict=True):
            close(found, wanted, f"a graph on {rows} lists", rtol=1e-5, atol=1e-6)


@SUITE.add()
def seed_settles_randomness(loss: Loss) -> None:
    """The same seed gives the same numbers. Another seed changes them if the loss declares ``needs_seed``."""
    labels, scores = np.where(LABELS > 1, 1.0, LABELS), np.round(SCORES)
    first, second = (with_gradient(loss, labels, scores, VALID, seed=SEED) for _ in range(2))
    _same(second, first, "the same seed twice")
    changed = not np.array_equal(first[0], with_gradient(loss, labels, scores, VALID, seed=(9, 9))[0])
    expected = "other values" if loss.needs_seed else "the same values, since needs_seed is False"
    require(changed == loss.needs_seed, "another seed", expected, "other values" if changed else "the same values")


@SUITE.add()
def weights_are_relative(loss: Loss) -> None:
    """A constant weight changes only how much a list counts; uneven weights change the value; zeros leave nothing."""
    value, _, gradient = with_gradient(loss, LABELS, SCORES, VALID)
    for constant in (1.0, 10.0):
        given = f"weights of {constant:g}, NaN in padding"
        found = with_gradient(loss, LABELS, SCORES, VALID, np.where(VALID, constant, np.nan))
        close(found[0], value, f"{given}, the values", rtol=1e-5)
        close(found[1], constant * _masses(loss, LABELS * VALID), f"{given}, the weights of the lists")
        close(found[2], gradient, f"{given}, the gradient", rtol=1e-4, atol=1e-6)
    each = np.where(LABELS > 1, 3.0, 1.0)
    uneven = with_gradient(loss, LABELS, SCORES, VALID, each)
    require(not np.allclose(uneven[0][:2], value[:2]), "weights of 3 above label 1", f"not {value[:2]}", uneven[0][:2])
    means = (each * VALID).sum(axis=1) / VALID.sum(axis=1)
    relative = _masses(loss, LABELS * VALID, each / means[:, None])
    close(uneven[1], means * relative, "weights of 3 above label 1, the weights of the lists", rtol=1e-6)
    none = with_gradient(loss, LABELS, SCORES, VALID, np.zeros_like(SCORES))
    for part, zeros in zip(("values", "weights of the lists", "gradient"), none, strict=True):
        close(zeros, 0.0, f"weights of 0, the {part}")


@SUITE.add()
def propensity_weights_multiply_terms(loss: Loss) -> None:
    """Propensity weights multiply value and gradient, and do not change how much a list counts.

    A loss with a fixed part grows by the same amount from weights of 1 to 2 as from 2 to 3. In a loss that is divided
    by their sum, equal weights have no effect, and uneven weights have one.
    """
    value, _, gradient = with_gradient(loss, LABELS, SCORES, VALID)

    def times(factor: Any) -> tuple[Any, Any]:
        scores = tf.constant(SCORES)
        with tf.GradientTape() as tape:
            tape.watch(scores)
            found = loss.per_list(LABELS, scores, VALID, propensity_weights=np.where(VALID, factor, np.nan), seed=SEED)
        masses = _masses(loss, LABELS * VALID, factor)
        close(found[1], masses, f"propensity weights of {factor}, the weights of the lists")
        return found[0].numpy(), tape.gradient(found[0], scores).numpy()

    values, gradients = times(2.0)
    expected = 2 * value, 2 * gradient
    if loss.is_normalised():
        expected = value, gradient
        uneven, _ = times(np.where(LABELS > 1, 3.0, 1.0))
        require(not np.allclose(uneven, value), "uneven propensity weights, the values", f"not {value}", uneven)
    elif loss.has_fixed_part():
        expected = 2 * values - value, 2 * gradients - gradient
        values, gradients = times(3.0)
        require(not np.allclose(values, value), "propensity weights of 3, the values", f"not {value}", values)
    close(values, expected[0], "propensity weights, the values", rtol=1e-5)
    close(gradients, expected[1], "propensity weights, the gradient", rtol=1e-4, atol=1e-6)


@SUITE.add()
def better_scores_cost_less(loss: Loss) -> None:
    """Scores in the order of the labels cost less than scores in the opposite order."""
    labels, valid = np.array([[3.0, 2.0, 1.0, 0.0]]), np.ones((1, 4), bool)
    good, bad = (float(loss.per_list(labels, scores, valid, seed=SEED)[0][0]) for scores in (labels, labels[:, ::-1]))
    require(good < bad, "scores in the order of the labels", f"less than {bad}", good)


@SUITE.add()
def link_keeps_the_order(loss: Loss) -> None:
    """The link ``value(scores)`` is None, or finite and higher for a higher score."""
    scores = tf.constant([[-3.0, -0.5, 0.0, 2.0]])
    value = loss.value(scores)
    if value is not None:
        require(value.shape == scores.shape, "scores [1, 4]", "values [1, 4]", value.shape)
        finite(value, "scores from -3 to 2")
        require((np.diff(value.numpy()) > 0).all(), "rising scores", "rising values", value.numpy())


@SUITE.add()
def description_rebuilds_it(loss: Loss) -> None:
    """The loss's description, which files contain, gives an equal loss."""
    described = json.loads(json.dumps(losses.registry.describe(loss)))
    require(losses.get(described) == loss, f"the description {described}", loss, losses.get(described))


@SUITE.add()
def wrong_shapes_are_refused(loss: Loss) -> None:
    """Labels, valid and weights with another shape than the scores raise an error that contains both shapes."""
    for wrong in ("labels", "valid", "weights"):
        parts = {"labels": LABELS, "scores": SCORES, "valid": VALID, "weights": np.ones_like(SCORES)}
        parts[wrong] = parts[wrong][:, 0]
        message = f"{wrong} must be [B, L] like scores (3, 5), not (3,)"
        raises(ValueError, functools.partial(loss.per_list, **parts), f"{wrong} of one column", message)


@SUITE.add()
def labels_are_checked_before_training(loss: Loss) -> None:
    """``validate`` refuses infinite labels, and labels above the loss's highest label."""
    loss.validate(np.array([[0.0, 2.0, np.nan, -1.0]]))
    raises(ValueError, lambda: loss.validate(np.array([np.inf])), "an infinite label", "a label is infinite")
    if loss.highest_label()[0] < 250:
        raises(ValueError, lambda: loss.validate(np.array([1.0, 250.0])), "a label of 250", "a label of 250")
    else:
        loss.validate(np.array([1.0, 250.0]))
