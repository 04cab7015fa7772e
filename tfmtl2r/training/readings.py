"""What the labels and scores of a task mean: the target of its loss, and the value of a score in the label's unit.

A regression with label statistics (:func:`tfmtl2r.data.fit_tasks`) trains on ``z = (g(y) - mean) / sd``, where g is
the task's reversible transform, or the identity. An untrained score of 0 then is the mean of the label. The value of a
score s is the mean of ``g^-1(mean + sd s + e)``, where e runs over quantiles of the residuals ``g(y) - (mean + sd s)``
of the training split. The mean of a logarithm is not the logarithm of the mean, so that ``g^-1`` alone would be too low
(smearing; Duan 1983, https://doi.org/10.1080/01621459.1983.10478017). Before the residuals are known, they are 0.

A binary task may have a calibrator. Once it is fitted, its probability is the value of a score, whatever the loss is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r import losses as loss_registry
from tfmtl2r._backend import keras, tf
from tfmtl2r.losses.base import Loss, default_loss, gives_chances, reads_logits
from tfmtl2r.task import Task
from tfmtl2r.training.beside import stacked
from tfmtl2r.training.calibration import Calibration, Calibrations
from tfmtl2r.transforms import Reversible, of_task, quantile
from tfmtl2r.types import Tensor, TensorLike

RESIDUALS = 100
"""The number of quantiles of residuals."""
PART = 100_000
"""The largest number of items whose values are computed at once outside of a graph."""
LARGEST = 1e35
"""The largest value in the unit of a label; a sum of ``RESIDUALS`` such values is a float32."""


def loss_of(task: Task, has_lists: bool) -> Loss:
    """The loss of a task: its own loss, or the default of its kind.

    Args:
        task: the task.
        has_lists: whether batches contain lists.
    """
    return loss_registry.get(task.loss or default_loss(task.kind, has_lists))


class Reading:
    """Converts labels and scores of one task.

    Args:
        task: the task.
        loss: its loss.
        residuals: variable ``float32[RESIDUALS]``, quantiles of the residuals in the unit of the transformed label, or
            None.
        calibration: the calibration of a binary task, or None.

    >>> from tfmtl2r import losses
    >>> from tfmtl2r.task import LabelStatistics
    >>> task = Task("dwell", kind="regression", transform="log1p", statistics=LabelStatistics(2.0, 0.5))
    >>> reading = Reading(task, losses.get("mse"))
    >>> z = reading.target(tf.constant([0.0, 19.0]))
    >>> z.numpy().round(3).tolist(), reading.value(z).numpy().round(3).tolist()
    ([-4.0, 1.99...], [0.0, 19.0])
    """

    def __init__(self, task: Task, loss: Loss, residuals: Any = None, calibration: Calibration | None = None):
        transform = of_task(task) if task.kind == "regression" else None
        self.transform = transform if isinstance(transform, Reversible) else None
        self.statistics = task.statistics if loss.standardise and task.kind != "binary" else None
        self.task, self.loss, self.residuals, self.calibration = task, loss, residuals, calibration

    def target(self, labels: Any) -> Tensor:
        """What the loss compares scores with; NaN stays NaN."""
        labels = tf.convert_to_tensor(labels)
        if self.transform is not None:
            lowest = self.transform.lowest
            if np.isfinite(lowest):
                message = (f"task {self.task.name}: {type(self.transform).__name__} takes labels from {lowest:g} on; a "
                           "missing label is NaN")
                seen = tf.reduce_min(tf.where(tf.math.is_nan(labels), np.inf, labels))
                check = tf.debugging.assert_greater_equal(seen, tf.constant(lowest, labels.dtype), message=message)
                with tf.control_dependencies([] if check is None else [check]):
                    labels = tf.identity(labels)
            labels = self.transform.forward(labels)
        return labels if self.statistics is None else (labels - self.statistics.mean) / self.statistics.sd

    @property
    def columns(self) -> tuple[str, ...]:
        """The categorical features that values depend on beside scores."""
        return () if self.calibration is None else self.calibration.calibrator.reads

    @property
    def has_value(self) -> bool:
        """Whether scores have values now: the loss determines their level, or a calibrator is fitted."""
        return self.has_own_level or self._is_calibrated

    @property
    def has_chance(self) -> bool:
        """Whether the values of scores now are probabilities of a label of 1."""
        return self.task.kind == "binary" and (self._is_calibrated or gives_chances(self.loss))

    def value(self, scores: TensorLike, beside: Mapping[str, Any] | None = None) -> Tensor | None:
        """The value of scores in the label's unit.

        None if the loss leaves the level of the scores free, and no calibrator is fitted now.

        Args:
            scores: the scores of the task.
            beside: the scores by task that these are taken from, with :attr:`columns` beside them
                (:mod:`tfmtl2r.training.beside`). Values without columns do not need it.
        """
        return self.value_later(scores, beside) if self.has_value else None

    def value_later(self, scores: TensorLike, beside: Mapping[str, Any] | None = None) -> Tensor | None:
        """The value of scores, for graphs that outlive the fit of a calibrator.

        NaN until this fit if the loss leaves the level free. None if there is no calibrator to fit either.
        """
        linked = self.loss.value(scores)
        return self._calibrated(scores, None if linked is None else self._in_label_unit(linked), beside)

    def probability(self, scores: TensorLike, beside: Mapping[str, Any] | None = None) -> Tensor | None:
        """The value of scores as a probability of a label of 1, at most 1; None if it is none now."""
        return tf.minimum(self.value(scores, beside), 1.0) if self.has_chance else None

    def best_guess(self, scores: TensorLike, beside: Mapping[str, Any] | None = None) -> Tensor:
        """The value of scores, or the scores in its place, for metrics that read values.

        Scores of a loss that leaves their level free count as standardised labels if the loss reads such labels.
        """
        linked = self.loss.value(scores)
        if linked is None and self.statistics is None:  # such scores have no unit that leads back to the label's
            own = tf.convert_to_tensor(scores)
        else:
            own = self._in_label_unit(tf.convert_to_tensor(scores) if linked is None else linked)
        return self._calibrated(scores, own, beside)

    def _calibrated(self, scores: Any, own: Any, beside: Mapping[str, Any] | None) -> Any:
        if self.calibration is None:
            return own
        return self.calibration(scores, own, stacked(self.columns, beside))

    def transformed(self, scores: TensorLike) -> Tensor:
        """The value of scores in the unit of the transformed label, without residuals."""
        linked: Any = self.loss.value(scores)
        return linked if self.statistics is None else self.statistics.mean + self.statistics.sd * linked

    def _in_label_unit(self, linked: Any) -> Tensor:
        if self.statistics is not None:
            linked = self.statistics.mean + self.statistics.sd * linked
        if self.transform is None:
            return linked
        if self.residuals is None:
            return _inverse(self.transform, linked)
        return _smeared(self.transform, tf.convert_to_tensor(linked), tf.convert_to_tensor(self.residuals))

    @property
    def has_own_level(self) -> bool:
        """Whether the loss determines the level of the scores."""
        with tf.init_scope():  # this is also read while a signature or a step is traced
            return self.loss.value(tf.zeros([1])) is not None

    @property
    def has_level(self) -> bool:
        """Whether scores have values, at the latest when a calibrator is fitted."""
        return self.calibration is not None or self.has_own_level

    @property
    def has_probability(self) -> bool:
        """Whether the values are probabilities of a label of 1, at the latest when a calibrator is fitted."""
        return self.task.kind == "binary" and (self.calibration is not None or gives_chances(self.loss))

    @property
    def _is_calibrated(self) -> bool:
        return self.calibration is not None and self.calibration.is_fitted

    @property
    def level(self) -> float:
        """The score of the mean label for a binary task whose loss reads logits; otherwise 0."""
        if self.task.kind != "binary" or self.task.statistics is None or not reads_logits(self.loss):
            return 0.0
        rate = min(max(self.task.statistics.mean, 1e-4), 1 - 1e-4)
        return float(np.log(rate / (1 - rate)))


def _inverse(transform: Reversible, values: Tensor) -> Tensor:
    # The value of a score far from all labels may be infinite: LARGEST takes its place, so that the mean is finite.
    return tf.clip_by_value(transform.inverse(values), -LARGEST, LARGEST)


def _smeared(transform: Reversible, values: Any, residuals: Tensor) -> Any:
    """The mean of the inverse over residuals. All items of a split come in parts, since each item is 100 numbers."""
    if tf.is_symbolic_tensor(values) or tf.size(values) <= PART:
        return tf.reduce_mean(_inverse(transform, values[..., None] + residuals), axis=-1)
    flat = tf.reshape(values, [-1])
    parts = [_smeared(transform, flat[start:start + PART], residuals) for start in range(0, len(flat), PART)]
    return tf.reshape(tf.concat(parts, axis=0), values.shape)


class Smearing(keras.layers.Layer):
    """The residual quantiles of each task whose values need them, ``float32[RESIDUALS]``; 0 until they are fitted.

    Args:
        tasks: names of these tasks.
    """

    def __init__(self, tasks: Sequence[str], **kwargs: Any):
        super().__init__(dtype="float32", trainable=False, **kwargs)
        self.residuals = {task: self.add_weight(name=f"residuals_{number}", shape=(RESIDUALS,), initializer="zeros",
                                                trainable=False) for number, task in enumerate(tasks)}
        self.built = True

    def reset(self) -> None:
        """Sets all residuals to 0."""
        for residuals in self.residuals.values():
            residuals.assign(tf.zeros(residuals.shape))


def smearing_of(tasks: Sequence[Task]) -> Smearing | None:
    """The variables of residuals for these tasks; None if no task needs any."""
    names = [task.name for task in tasks if task.kind == "regression" and isinstance(of_task(task), Reversible)]
    return Smearing(names, name="smearing") if names else None


def readings_of(
    tasks: Sequence[Task], has_lists: bool, smearing: Smearing | None = None, calibrations: Calibrations | None = None
) -> dict[str, Reading]:
    """The reading of every task, by name."""
    residuals = {} if smearing is None else smearing.residuals
    fitted = {} if calibrations is None else calibrations.by_task
    return {task.name: Reading(task, loss_of(task, has_lists), residuals.get(task.name), fitted.get(task.name))
            for task in tasks}


def start_at_base_rates(
    architecture: Any, readings: Iterable[Reading], before: Sequence[Any] | None = None
) -> tuple[np.ndarray, ...]:
    """Sets an untrained network's biases to the base rates of its binary tasks, if these are fitted.

    Args:
        architecture: the network.
        readings: the readings of its tasks.
        before: the biases that an earlier call returned. If the network has other ones, it is no longer untrained, and
            stays as it is.

    Returns:
        All biases of the network.
    """
    levels = [reading.level for reading in readings]
    with tf.init_scope():
        biases = [variable for variable in architecture.variables if "bias" in variable.name]
        if any(levels) and (before is None or all(map(np.array_equal, before, map(np.array, biases)))):
            architecture.start_at(levels)
        return tuple(map(np.array, biases))


def residual_quantiles(
    reading: Reading, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray | None:
    """Quantiles of the residuals of a task, ``float64[RESIDUALS]``; None without a label or a value.

    Args:
        reading: the task's reading.
        labels: ``[N]`` in the label's unit; NaN is missing.
        scores: ``[N]``.
        weights: ``[N]``, importance of the items.
    """
    known = ~np.isnan(labels) & (weights > 0)
    if reading.transform is None or reading.loss.value(scores[:1]) is None or not known.any():
        return None
    wanted = reading.transform.apply(labels[known].astype(np.float64), {})
    found = np.asarray(reading.transformed(scores[known]), np.float64)
    shares = (np.arange(RESIDUALS) + 0.5) / RESIDUALS
    return quantile(wanted - found, shares.tolist(), weights[known].astype(np.float64))


def by_task(readings: Mapping[str, Reading], scores: Mapping[str, Any]) -> dict[str, Any]:
    """The values of scores, task by task, for the tasks that have values."""
    found = {task: readings[task].value(values, scores) for task, values in scores.items() if task in readings}
    return {task: value for task, value in found.items() if value is not None}
