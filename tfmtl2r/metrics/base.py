"""Base class of metrics: a value and a count per list, and a streaming form."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from tfmtl2r import ranking, returned
from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError, InputTypeError, not_defined
from tfmtl2r.task import KINDS
from tfmtl2r.types import Array, Labels, Mask, PerList, Scores, Tensor, TensorLike, Weights

EMPTY = ("skip", "zero", "one")


@dataclasses.dataclass(frozen=True)
class Metric:
    """Base class of all metrics. It cleans the input, so that a metric implements only :meth:`compute`.

    Items without a label are removed from the list before ranking. A list without a labelled item never counts.

    Class attributes:
        direction: ``"max"`` if higher values are better, ``"min"`` if lower values are better, empty if no side is
            better, as for a ratio that should be 1.
        relevance: True if labels are grades of relevance, where a negative label is missing; False if any number is a
            label.
        per_list_mean: True if the metric is a mean of ``per_list``; False for a metric over all items at once, such as
            AUC, which has only ``streaming`` and ``exact``.
        reads: ``"score"`` if the metric reads scores; ``"value"`` if it reads their values in the label's unit
            (:mod:`tfmtl2r.training.readings`), or the scores of a loss that leaves their level free; ``"level"`` if
            it reads values only, and ``"probability"`` if these must be probabilities of a binary label: a task without
            them is refused. By default, a metric of any number (``relevance = False``) reads values, and any other
            metric reads scores.
    """

    direction: ClassVar[str] = "max"
    relevance: ClassVar[bool] = True
    per_list_mean: ClassVar[bool] = True
    reads: ClassVar[Literal["score", "value", "level", "probability"]] = "score"

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "relevance" in vars(cls) and "reads" not in vars(cls):
            cls.reads = "score" if cls.relevance else "value"

    @property
    def name(self) -> str:
        """The name by which the metric is registered; the class's own while it is not."""
        from tfmtl2r import metrics  # the registry imports the files of metrics, which import this file

        return metrics.registry.find(type(self)) or type(self).__name__

    @property
    def label(self) -> str:
        """How the metric is written in logs and tables, such as ``"ndcg@5"``."""
        k = getattr(self, "k", None)
        return self.name if k is None else f"{self.name}@{k}"

    def conventions(self) -> dict[str, Any]:
        """The conventions that decide whether two values are comparable; results are stored together with them."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "k"}

    def trivial(self) -> Metric | float:
        """The value of a ranking that knows nothing: a number, or a metric that is evaluated with constant scores.

        ``stop_on`` compares the metric with it; by default the metric itself is evaluated with constant scores.
        """
        return self

    def perfect(self) -> Metric | float:
        """The best value: a number, or a metric that is evaluated with the labels as scores, by default itself."""
        return self

    def if_calibrated(self) -> Metric | None:
        """The metric of what a perfectly calibrated model with these scores would show, for reports; None without one.

        It is above 0 for a calibration error, since labels are random, and depends on the number of items.
        """
        return None

    # AutoGraph would convert all of TF-Ranking, and tracing would take ten times as long.
    @tf.autograph.experimental.do_not_convert
    def per_list(
        self, labels: TensorLike, scores: TensorLike, valid: TensorLike, weights: TensorLike | None = None
    ) -> tuple[PerList, PerList]:
        """The metric of every list; the metric of a data set is ``sum(value * counts) / sum(counts)``.

        Args:
            labels: float ``[B, L]``; NaN is missing, and so is a negative label if ``relevance`` is True.
            scores: ``[B, L]`` of any float type.
            valid: ``bool[B, L]``, False for padding.
            weights: importance of the items, ``[B, L]``, or None. The weights are relative within a list, as in
                :meth:`tfmtl2r.losses.Loss.per_list`: the list counts with the mean weight of its labelled items, and a
                metric that is a mean over items or pairs weights these inside the list. A metric of an order, such as
                NDCG, has no weights inside the list.

        Returns:
            ``(value, counts)``, both ``float32[B]``; value and counts are 0 for a list that does not count.

        Raises:
            ValueError: when a shape is not ``[B, L]``.
            TypeError: for a metric that is not a mean over lists.
        """
        if not self.per_list_mean:
            raise InputTypeError(f"{self.label} is one number over all items, not a mean over lists: use streaming or "
                                 "exact")
        labels, scores, known, weights = _clean(self, labels, scores, valid, weights)
        weights, mean = ranking.relative(weights, known)
        value, counts = self._computed(labels, scores, known, weights)
        counts *= mean
        return tf.where(counts > 0, value, 0.0), counts

    def _computed(self, labels: Labels, scores: Scores, known: Mask, weights: Weights) -> tuple[PerList, PerList]:
        """What :meth:`compute` returns, checked."""
        source, each = f"{type(self).__name__}.compute", "one number for each list, [B]"
        found = returned.pair(self.compute(labels, scores, known, weights), source, "(value, counts), [B] each")
        value, counts = (returned.tensor(part, labels.shape[:1], source, each) for part in found)
        return tf.cast(value, tf.float32), tf.cast(counts, tf.float32)

    def exact(self, labels: Array, scores: Array, weights: Array | None = None) -> float:
        """The metric over all items at once, on numpy arrays; for a metric that is not a mean over lists.

        Args:
            labels: any shape; missing where NaN, and where negative if ``relevance`` is True.
            scores: the same shape.
            weights: importance of the items, the same shape, or None.
        """
        raise not_defined(self, "exact")

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights) -> tuple[PerList, PerList]:
        """``(value, counts)`` of cleaned input: labels, scores and weights are 0 where not ``known``.

        Weights have a mean of 1 in each list, so the sum of the weights is the number of labelled items. The base class
        multiplies the counts by the mean of the given weights.

        This method is traced without AutoGraph: use ``tf.where``, not ``if``, on tensors.
        """
        raise not_defined(self, "compute")

    def streaming(self, name: str | None = None) -> keras.metrics.Metric:
        """A Keras metric that accumulates batches; its result is NaN until a list has counted.

        ``update_state(labels, scores, valid, weights=None)`` has the arguments of :meth:`per_list`. Weights are ``[B]``
        (per list) or ``[B, L]`` (per item); see :meth:`per_list` for what they mean.
        """
        return _Streaming(self, name or self.label)

    def validate(self, labels: np.ndarray) -> None:
        """Checks labels before evaluation, since a graph cannot raise errors.

        Args:
            labels: any shape; NaN and negative values are missing.

        Raises:
            ValueError: for a label above 31 where the gain is ``2^y - 1``.
        """
        if getattr(self, "gain", None) == "exp2":
            ranking.check_grades(np.asarray(labels, dtype=np.float64), self.label)


@dataclasses.dataclass(frozen=True)
class ItemMetric(Metric):
    """A mean over items: a list counts by its number of items, so plain rows ``[B, 1]`` work as well."""

    direction = "min"

    def per_item(self, labels: Labels, scores: Scores) -> Tensor:
        """The value of every item, ``float32[B, L]``."""
        raise not_defined(self, "per_item")

    def compute(self, labels: Labels, scores: Scores, known: Mask, weights: Weights) -> tuple[PerList, PerList]:
        each = tf.where(known, self.per_item(labels, scores), 0.0)
        counts = tf.reduce_sum(weights, axis=1)
        return tf.math.divide_no_nan(tf.reduce_sum(each * weights, axis=1), counts), counts


@dataclasses.dataclass(frozen=True)
class SummedMetric(Metric):
    """A metric over all items at once that is a function of sums over the items, so that batches add up.

    A subclass implements :meth:`sums` and :meth:`of_sums`. Calibration errors and R squared are such metrics.

    >>> class Bias(SummedMetric):
    ...     def sums(self, labels, scores, weights):
    ...         return {"scores": tf.reduce_sum(weights * scores), "labels": tf.reduce_sum(weights * labels)}
    ...     def of_sums(self, sums):
    ...         return sums["scores"] / sums["labels"]
    >>> Bias().exact([1.0, 0.0, 1.0, float("nan")], [0.5, 0.25, 0.75, 9.0])
    0.75
    """

    per_list_mean = False

    def sums(self, labels: Tensor, scores: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Sums over the items, by name, each of a shape that does not depend on the number of items.

        Args:
            labels: ``float32[N]``, 0 for an item that does not count.
            scores: ``float32[N]``, 0 for an item that does not count.
            weights: ``float32[N]``, 0 for an item that does not count.
        """
        raise not_defined(self, "sums")

    def of_sums(self, sums: dict[str, Tensor]) -> Tensor:
        """The metric as a scalar from the sums in float64; NaN while it is not defined."""
        raise not_defined(self, "of_sums")

    def streaming(self, name: str | None = None) -> keras.metrics.Metric:
        return _StreamingSums(self, name or self.label)

    def exact(self, labels: Array, scores: Array, weights: Array | None = None) -> float:
        weights = np.ones_like(labels, np.float32) if weights is None else weights
        labels, scores, weights = (np.ravel(np.asarray(x, np.float32))[:, None] for x in (labels, scores, weights))
        stream = self.streaming()
        stream.update_state(labels, scores, np.ones(labels.shape, bool), weights)
        return float(stream.result())


def evaluate(metric: Metric, labels: TensorLike, scores: TensorLike, valid: TensorLike) -> np.ndarray:
    """The metric of every list, for reports.

    Args:
        metric: a metric that is a mean over lists.
        labels: float ``[B, L]``.
        scores: float ``[B, L]``.
        valid: ``bool[B, L]``.

    Returns:
        ``float32[B]``, NaN for lists that do not count.

    Raises:
        TypeError: for a metric that is not a mean over lists.

    >>> from tfmtl2r.metrics import get
    >>> evaluate(get("mrr"), [[0.0, 1.0], [0.0, 0.0]], [[2.0, 1.0], [2.0, 1.0]], np.ones((2, 2), bool)).tolist()
    [0.5, nan]
    """
    value, counts = metric.per_list(labels, scores, valid)
    return np.where(counts.numpy() > 0, value.numpy(), np.nan)


def default_names(kind: str, lists: bool) -> tuple[str, ...]:
    """The default metrics of a task.

    Args:
        kind: kind of the task: ``"binary"``, ``"graded"`` or ``"regression"``.
        lists: whether the data are lists rather than plain rows.

    Raises:
        ValueError: for an unknown kind.

    >>> default_names("binary", lists=True), default_names("binary", lists=False), default_names("graded", lists=False)
    (('ndcg@5', 'auc'), ('auc', 'log_loss'), ('mse',))
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if kind == "regression" or (kind == "graded" and not lists):
        return ("mse",)
    if kind == "graded":
        return ("ndcg@5",)
    return ("ndcg@5", "auc") if lists else ("auc", "log_loss")


def check_cutoff(metric: Metric) -> None:
    """Checks the option ``k``.

    Raises:
        ValueError: unless it is None or a whole number >= 1.
    """
    k = metric.k  # type: ignore[attr-defined]
    if k is not None and not (isinstance(k, int) and k >= 1):
        raise InputError(f"{metric.name}: k must be a whole number >= 1 or None, not {k!r}")


def check_empty(metric: Metric) -> None:
    """Checks the option ``empty``.

    Raises:
        ValueError: unless it is ``"skip"``, ``"zero"`` or ``"one"``.
    """
    empty = metric.empty  # type: ignore[attr-defined]
    if empty not in EMPTY:
        raise InputError(f"{metric.name}: empty must be one of {', '.join(EMPTY)}, not {empty!r}")


def with_empty(value: PerList, relevant: Mask, known: Mask, empty: str) -> tuple[PerList, PerList]:
    """Applies the convention for lists that have labels, but no relevant item.

    Args:
        value: ``float32[B]``.
        relevant: ``bool[B, L]``.
        known: ``bool[B, L]``, items with a label.
        empty: ``"skip"``: the list does not count; ``"zero"`` or ``"one"``: it counts with that value.

    Returns:
        ``(value, counts)``, both ``float32[B]``.
    """
    has = tf.reduce_any(relevant, axis=1)
    counts = has if empty == "skip" else tf.reduce_any(known, axis=1)
    return tf.where(has, value, 1.0 if empty == "one" else 0.0), tf.cast(counts, tf.float32)


def _clean(
    metric: Metric, labels: TensorLike, scores: TensorLike, valid: TensorLike, weights: TensorLike | None
) -> tuple[Labels, Scores, Mask, Weights]:
    parts = {"labels": tf.cast(labels, tf.float32), "scores": tf.cast(scores, tf.float32),
             "valid": tf.cast(valid, tf.bool)}
    parts["weights"] = tf.ones_like(parts["labels"]) if weights is None else tf.cast(weights, tf.float32)
    expected = parts["scores"].shape
    for part, value in parts.items():
        if value.shape.rank != 2 or not value.shape.is_compatible_with(expected):
            raise InputError(f"{metric.label}: {part} must be [B, L] like scores {tuple(expected)}, not "
                             f"{tuple(value.shape)}")
    known = ranking.known(parts["labels"], parts["valid"], "graded" if metric.relevance else "regression")
    clean = {name: tf.where(known, parts[name], 0.0) for name in ("labels", "scores", "weights")}
    return clean["labels"], clean["scores"], known, clean["weights"]


def _per_item(weights: Weights | None, scores: Scores) -> Weights | None:
    """Weights per list, ``[B]``, as weights of their items, ``[B, L]``; returns other weights unchanged."""
    if weights is None or len(weights.shape) == 2:
        return weights
    return tf.cast(weights, tf.float32)[:, None] * tf.ones_like(scores, tf.float32)


def _traced_once(metric: Metric) -> Callable[..., tuple[PerList, PerList]]:
    """``metric.per_list``, traced once for all tasks, steps and rankers with an equal metric.

    A metric that may change, or that cannot be compared, is traced at each place of a graph.
    """
    fixed = vars(type(metric)).get("__dataclass_params__")
    if fixed is None or not fixed.frozen:
        return metric.per_list
    try:
        return _function_of(metric)
    except TypeError:  # an option without a hash, such as a list
        return metric.per_list


@functools.lru_cache(64)
def _function_of(metric: Metric) -> Any:
    return tf.function(metric.per_list, autograph=False, reduce_retracing=True)


class _Streaming(keras.metrics.Metric):
    """The mean of a per-list metric, kept as two sums.

    The sums are float64, since float32 cannot count beyond 16.8 million.
    """

    def __init__(self, metric: Metric, name: str):
        super().__init__(name=name)
        self.metric = metric
        self.total = self.add_weight(name="total", shape=(), initializer="zeros", dtype="float64")
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", dtype="float64")

    def update_state(self, labels: Labels, scores: Scores, valid: Mask, weights: Weights | None = None) -> None:
        """Adds a batch; see :meth:`Metric.streaming`."""
        per_list = self.metric.per_list if tf.executing_eagerly() else _traced_once(self.metric)
        value, counts = per_list(labels, scores, valid, _per_item(weights, scores))
        value, counts = tf.cast(value, tf.float64), tf.cast(counts, tf.float64)
        self.total.assign_add(tf.reduce_sum(value * counts))
        self.count.assign_add(tf.reduce_sum(counts))

    def result(self) -> Tensor:
        """The mean so far, NaN if no list has counted."""
        count = tf.convert_to_tensor(self.count)
        mean = tf.math.divide_no_nan(tf.convert_to_tensor(self.total), count)
        return tf.cast(tf.where(count > 0, mean, np.nan), tf.float32)


class _StreamingSums(keras.metrics.Metric):
    """A metric of sums, which are kept in float64."""

    def __init__(self, metric: SummedMetric, name: str):
        super().__init__(name=name)
        self.metric = metric
        with tf.init_scope():
            shapes = {key: value.shape for key, value in metric.sums(*[tf.zeros([1])] * 3).items()}
        self.sums = {key: self.add_weight(name=key, shape=shape, initializer="zeros", dtype="float64")
                     for key, shape in shapes.items()}

    def update_state(self, labels: Labels, scores: Scores, valid: Mask, weights: Weights | None = None) -> None:
        """Adds a batch; weights are ``[B]`` (per list) or ``[B, L]`` (per item)."""
        labels, scores, _, weights = _clean(self.metric, labels, scores, valid, _per_item(weights, scores))
        for key, value in self.metric.sums(*(tf.reshape(x, [-1]) for x in (labels, scores, weights))).items():
            self.sums[key].assign_add(tf.cast(value, tf.float64))

    def result(self) -> Tensor:
        """The metric so far."""
        return tf.cast(self.metric.of_sums({key: value.value for key, value in self.sums.items()}), tf.float32)
