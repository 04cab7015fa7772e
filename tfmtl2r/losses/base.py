"""Base class of losses: one value and one weight per list."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from tfmtl2r import ranking, returned
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.task import KINDS
from tfmtl2r.types import Labels, Losses, Mask, PerList, Scores, Seed, Tensor, TensorLike, Weights

LARGEST_LABEL = 1e15
"""The largest magnitude of a label. Sums of squares of larger numbers are infinite in float32."""
TOO_LONG = ("compares all pairs of a list at once, and takes at most {} items in a list: cut longer lists "
            "(max_list_size), or choose another loss")


@dataclasses.dataclass(frozen=True)
class Loss:
    """Base class of all losses. It cleans the input, so that a loss implements only :meth:`compute`.

    ``per_list`` uses the items that are valid and have a label, in the lists that count (:meth:`counts`). For all other
    items :meth:`compute` receives a label and a score of 0 without gradient, and ``known`` is False. Padding, missing
    labels and lists that do not count therefore have no influence, whatever numbers they contain.

    Class attributes:
        listwise: True if the loss of an item depends on the other items of the list; False for a pointwise loss, which
            also works on plain rows (the caller reshapes them to ``[B, 1]``).
        needs_seed: True if the loss draws random numbers. Calls without ``seed`` then all use the same fixed seed.
        every_list: True if a list without a relevant item counts, too, as for a pointwise loss.
        relevance: True if labels are grades of relevance, where a negative label is missing; False if any number is a
            label.
        longest: the largest number of items in a list; None (the default) for lists of any length.
        numbers_per_pair: the largest number of float32 numbers that the loss and its gradient hold at a time for each
            pair of items; 0 (the default) if memory grows with the items, not with their pairs. See :meth:`memory`.
        grades: True if the gain is always ``2^y - 1``; see :meth:`exponential_gain`.
        standardise: True if shift and scale of the labels only shift and scale the best scores. The labels of a
            regression are then standardised (:mod:`tfmtl2r.training.readings`).
    """

    listwise: ClassVar[bool] = True
    every_list: ClassVar[bool] = False
    needs_seed: ClassVar[bool] = False
    relevance: ClassVar[bool] = True
    grades: ClassVar[bool] = False
    longest: ClassVar[int | None] = None
    numbers_per_pair: ClassVar[int] = 0
    standardise: ClassVar[bool] = False

    # AutoGraph would convert all of TF-Ranking, and tracing would take ten times as long.
    @tf.autograph.experimental.do_not_convert
    def per_list(
        self, labels: TensorLike, scores: TensorLike, valid: TensorLike, weights: TensorLike | None = None, *,
        propensity_weights: TensorLike | None = None, seed: Seed | None = None,
    ) -> tuple[PerList, PerList]:
        """The loss of every list.

        Args:
            labels: float ``[B, L]``; NaN is missing, and so is a negative label if ``relevance`` is True.
            scores: logits ``[B, L]`` of any float type; the loss is computed in float32.
            valid: ``bool[B, L]``, False for padding.
            weights: importance of the items, ``[B, L]``, or None. The weights are relative within a list: the loss of
                a pointwise loss is ``sum(w l) / sum(w)``, and the list counts with the mean of w. A constant weight
                does not change the loss.
            propensity_weights: ``[B, L]``, or None. They multiply the terms of the sum, as inverse propensities have
                to, and change neither its normalisation nor the weight of the list.
            seed: ``int32[2]`` for losses with ``needs_seed``; the others ignore it.

        Returns:
            ``(loss, weight)``, both ``float32[B]``. The loss is >= 0. The weight is the mean weight of the labelled
            items for a list that counts, and 1 without weights, times :meth:`mass`. A list that does not count, or
            whose weights are all 0, has weight 0, loss 0 and a gradient of exactly 0.

        Raises:
            ValueError: when a shape is not ``[B, L]``.
        """
        parts = {"labels": tf.cast(labels, tf.float32), "scores": tf.cast(scores, tf.float32),
                 "valid": tf.cast(valid, tf.bool)}
        given = {"weights": weights, "propensity_weights": propensity_weights}
        parts |= {name: tf.cast(value, tf.float32) for name, value in given.items() if value is not None}
        _check_shapes(type(self).__name__, parts)
        return self._per_list(parts, ranking.NO_SEED if seed is None else seed)

    def _per_list(self, parts: dict[str, Tensor], seed: Seed) -> tuple[PerList, PerList]:
        known = ranking.known(parts["labels"], parts["valid"], "graded" if self.relevance else "regression")
        labels = tf.where(known, parts["labels"], 0.0)
        counts = returned.tensor(self.counts(labels, known), labels.shape[:1], f"{type(self).__name__}.counts",
                                 "whether each list counts, [B]")
        weights, weight = None, tf.ones_like(labels[:, 0])
        if "weights" in parts:
            weights, weight = ranking.relative(parts["weights"], known)
            counts &= weight > 0
        known &= counts[:, None]
        labels = tf.where(known, labels, 0.0)
        scores = tf.where(known, parts["scores"], 0.0)
        if "propensity_weights" in parts:
            multiplied = tf.where(known, parts["propensity_weights"], 0.0)
            weights = multiplied if weights is None else weights * multiplied
        found = self.compute(labels, scores, known, weights, seed)
        found = returned.tensor(found, counts.shape, f"{type(self).__name__}.compute", "one loss for each list, [B]; "
                                "tfmtl2r.losses.mean_over_items reduces a loss for each item, [B, L]")
        loss = tf.maximum(tf.cast(found, tf.float32), 0.0)
        weight *= self.mass(labels, weights)
        return tf.where(counts, loss, 0.0), tf.where(counts, weight, 0.0)

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights | None, seed: Seed) -> PerList:
        """The loss ``float32[B]`` of cleaned input, which is 0 where not ``known``; ``weights`` may be None.

        Weights multiply the terms of the loss. Importance weights arrive here with a mean of 1 in each list, so a loss
        divides by the number of its terms, not by the sum of the weights.

        This method is traced without AutoGraph: use ``tf.where`` and ``tf.while_loop``, not ``if`` and ``for``, on
        tensors.
        """
        raise not_defined(self, "compute")

    def value(self, scores: TensorLike) -> Tensor | None:
        """The link function of the loss: converts scores to the unit of the label, for example to probabilities.

        Args:
            scores: logits, a float tensor of any shape.

        Returns:
            A tensor of the same shape. None, the default, means that the loss does not determine the level of the
            scores: a listwise loss determines only differences within a list.
        """
        return None

    def averaged(self, scores: Tensor) -> Tensor:
        """The scores whose value is the mean of the values of several scores, for a loss with a link.

        This is the mean for a linear link, the logit of the mean probability for the sigmoid, and ``log mean exp(s)``
        for an exponential. A loss with another link overrides this method.

        Args:
            scores: ``float32[members, ...]``.

        Raises:
            InputError: for another link.
        """
        if reads_logits(self):  # in logarithms, so that probabilities near 1 keep their differences
            return (tf.reduce_logsumexp(tf.math.log_sigmoid(scores), axis=0)
                    - tf.reduce_logsumexp(tf.math.log_sigmoid(-scores), axis=0))
        with tf.init_scope():
            linked: Any = self.value(tf.constant([-2.0, -1.0, 0.0, 1.0, 2.0]))
            value = linked.numpy()
        if np.allclose(value, value[2] * np.exp([-2.0, -1.0, 0.0, 1.0, 2.0]), rtol=1e-5):
            return tf.reduce_logsumexp(scores, axis=0) - tf.math.log(tf.cast(tf.shape(scores)[0], tf.float32))
        if not np.allclose(np.diff(value), value[1] - value[0], rtol=1e-5):
            raise InputError(f"{type(self).__name__} has a link that is neither linear, exponential nor the sigmoid: "
                             "define the method averaged of the loss, or train no ensemble")
        return tf.reduce_mean(scores, axis=0)

    def counts(self, labels: Labels, known: Mask) -> PerList:
        """Which lists count, ``bool[B]``: by default the lists with a relevant item (a label above 0), or, with
        ``every_list``, with any label."""
        return tf.reduce_any(known if self.every_list else known & (labels > 0), axis=1)

    def mass(self, labels: Labels, weights: Weights | None) -> PerList:
        """How much a list counts beside its mean importance, ``float32[B]``; by default 1.

        Args:
            labels: as for :meth:`compute`.
            weights: as for :meth:`compute`.
        """
        return tf.ones_like(labels[:, 0])

    def is_normalised(self) -> bool:
        """Whether the loss of a list is divided by the sum of its weights, so that a common factor has no effect."""
        return False

    def validate(self, labels: np.ndarray) -> None:
        """Checks labels before training; training itself checks the labels of every batch in the same way.

        Args:
            labels: any shape; NaN and negative values are missing.

        Raises:
            ValueError: for an infinite label, or one above :meth:`highest_label`.
        """
        labels = np.asarray(labels, dtype=np.float64)
        if np.isinf(labels).any():
            raise InputError(f"{type(self).__name__}: a label is infinite; use NaN for a missing label")
        highest, hint = self.highest_label()
        found = np.nanmax(labels if self.relevance else np.abs(labels), initial=-np.inf)
        if found > highest:
            raise InputError(f"{type(self).__name__} met a label of {found:g}, but {hint}")

    def check_length(self, longest: int) -> None:
        """Checks the number of items of the longest list before training.

        Raises:
            ValueError: for a longer list than the loss can take.
        """
        if self.longest is not None and longest > self.longest:
            raise InputError(f"a list has {longest} items, but {type(self).__name__} {TOO_LONG.format(self.longest)}")

    def memory(self, lists: int, length: int) -> int:
        """The bytes that the pairs of items take in a training step, at most.

        Args:
            lists: number of lists that are given to the loss together.
            length: number of items of the longest list.

        >>> Loss().memory(64, 10_000)  # grows with the items only
        0
        """
        return 4 * self.numbers_per_pair * self.pairs_at_once(lists, length)

    def pairs_at_once(self, lists: int, length: int) -> int:
        """The number of pairs that are in memory at a time: by default all pairs of all lists."""
        return lists * length**2

    def highest_label(self) -> tuple[float, str]:
        """The highest label that the loss can train on, and a hint for the error message.

        A regression takes as large negative labels.
        """
        if self.exponential_gain():
            return float(ranking.MAX_GRADE), (
                f"it uses the gain 2^label - 1: above {ranking.MAX_GRADE} a label is not a grade, and one item "
                "outweighs all others. Convert the labels to grades first, for example 0 to 4 by quantile or "
                "floor(log2(1 + count)), or choose a linear gain or a regression loss"
            )
        return LARGEST_LABEL, (f"sums of squares of labels above {LARGEST_LABEL:g} are infinite in float32: divide the "
                               "labels, or train on their logarithms; a missing label is NaN")

    def has_fixed_part(self) -> bool:
        """Whether propensity weights do not multiply a part of the loss, such as the anchor of a softmax."""
        return False

    def exponential_gain(self) -> bool:
        """Whether the loss, with its options, uses the gain ``2^y - 1``."""
        return self.grades or getattr(self, "lambda_weight", None) in ("dcg", "dcg_v2")


def default_loss(kind: str, lists: bool) -> str | dict[str, Any]:
    """The default loss of a task, as :func:`tfmtl2r.losses.get` takes it.

    Graded lists have the gains of NDCG as targets: measured at least as good as grades (``docs/benchmarks.md``).

    Args:
        kind: kind of the task: ``"binary"``, ``"graded"`` or ``"regression"``.
        lists: whether the data are lists rather than plain rows.

    Raises:
        ValueError: for an unknown kind.

    >>> default_loss("graded", lists=True), default_loss("binary", lists=False), default_loss("regression", lists=True)
    ({'name': 'softmax', 'gain': 'exp2'}, 'bce', 'mse')
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if lists and kind != "regression":
        return {"name": "softmax", "gain": "exp2"} if kind == "graded" else "softmax"
    return "bce" if kind == "binary" else "mse"


def reads_logits(loss: Loss) -> bool:
    """Whether the link of a loss is the sigmoid: the value of a score is then the probability of a label of 1.

    Squared error, whose link is the identity, fits the score itself to the label: the sigmoid of such a score has no
    meaning.
    """
    with tf.init_scope():  # this function is also called while a step is traced
        scores = tf.constant([-30.0, -1.0, 0.0, 2.0, 30.0])
        value = loss.value(scores)
        return value is not None and bool(np.allclose(value.numpy(), tf.sigmoid(scores), rtol=1e-6, atol=0.0))


def gives_chances(loss: Loss) -> bool:
    """Whether the values of a loss are never negative, so that they can be probabilities of a label of 1."""
    with tf.init_scope():
        value = loss.value(tf.constant([-30.0, -1.0, 0.0, 2.0]))
        return value is not None and bool(tf.reduce_all(value >= 0))


def has_order(labels: Labels, known: Mask) -> Tensor:
    """Which lists have two items with different labels, ``bool[B]``: only these lists have a pair to order."""
    highest = tf.reduce_max(tf.where(known, labels, -np.inf), axis=1)
    lowest = tf.reduce_min(tf.where(known, labels, np.inf), axis=1)
    return highest > lowest


def mean_over_items(losses: Losses, known: Mask, weights: Weights | None) -> Tensor:
    """Sum of weight times loss over the labelled items, divided by their number, ``float32[B]``."""
    losses = losses if weights is None else losses * weights
    count = tf.reduce_sum(tf.cast(known, tf.float32), axis=1)
    return tf.math.divide_no_nan(tf.reduce_sum(tf.where(known, losses, 0.0), axis=1), count)


def ndcg_gains(labels: Labels, known: Mask, k: int | None = None, gain: str = "exp2") -> Tensor:
    """Gains divided by the highest DCG@k of the list, ``float32[B, L]``: NDCG@k is their sum times discounts."""
    worth = ranking.gains(labels, gain)
    best = tf.reduce_sum(worth * ranking.expected_discount(labels, known, k), axis=1, keepdims=True)
    return tf.math.divide_no_nan(worth, best)


def list_weight(labels: Labels, weights: Weights | None) -> PerList | float:
    """The weight of a list, for losses that are not sums over items: its mean item weight, weighted by label."""
    if weights is None:
        return 1.0
    return tf.math.divide_no_nan(tf.reduce_sum(weights * labels, axis=1), tf.reduce_sum(labels, axis=1))


def from_top(scores: Scores, known: Mask) -> Tensor:
    """Scores minus the highest score of their list, for losses that depend only on differences.

    This keeps float32 accurate, and keeps real scores above the fixed low logits that TF-Ranking gives to masked items.
    """
    top = tf.reduce_max(tf.where(known, scores, tf.float32.min), axis=1, keepdims=True)
    return tf.where(known, scores - tf.stop_gradient(top), 0.0)


def positive(loss: Loss, *names: str) -> None:
    """Checks that these options of a loss are above 0.

    Raises:
        ValueError: if an option is not above 0; the message contains the option and its value.
    """
    for name in names:
        value = getattr(loss, name)
        if value is not None and not value > 0:
            raise InputError(f"{type(loss).__name__}: {name} must be above 0, not {value!r}")


def _check_shapes(name: str, parts: dict[str, Tensor]) -> None:
    expected = parts["scores"].shape
    for part, value in parts.items():
        if value.shape.rank != 2 or not value.shape.is_compatible_with(expected):
            hint = "; give the items of a list its weight, weights[:, None] * ones [B, L]" if "weights" in part else ""
            shape = tuple(value.shape)
            raise InputError(f"{name}: {part} must be [B, L] like scores {tuple(expected)}, not {shape}{hint}")
