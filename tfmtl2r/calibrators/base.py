"""Base class of calibrators: a function from raw scores to probabilities, with a few fitted numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.types import Tensor


class NotCalibratedError(InputError):
    """Labels and scores give no calibration that could be used; the message says why."""


@dataclasses.dataclass(frozen=True)
class Calibrator:
    """Base class of all calibrators.

    A calibrator is fitted after training on the validation split, and is part of the ranker and its exports. It must
    not change the order of scores.

    >>> from tfmtl2r import calibrators
    >>> platt = calibrators.get("platt")
    >>> fitted = platt.fit([-1.0, 1.0], [0.0, 1.0])
    >>> platt.apply(np.float32([0.0, 1.0]), np.float32(fitted)).numpy().astype(float).round(3).tolist()
    [0.5, 0.667]
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the fitted numbers. They are empty, ``()``, if nothing is fitted and the loss decides."""
        return ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The categorical features that the probability depends on beside the score; by default none."""
        return ()

    def fit(self, scores: Any, labels: Any, weights: Any = None, columns: Any = None) -> np.ndarray:
        """Fits the numbers.

        Args:
            scores: raw scores, ``[N]``.
            labels: ``[N]``, 0 or 1, or probabilities; missing where NaN or negative; above 1 counts as 1.
            weights: ``[N]``, importance of the items, or None.
            columns: ``[N, C]``, the ids of the items in :attr:`reads`; None for a calibrator without columns.

        Returns:
            ``float64`` of :attr:`shape`, as :meth:`apply` reads them.

        Raises:
            NotCalibratedError: for fewer than two labels, labels of one class only, or a fit that cannot be used.
        """
        scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
        weights = np.ones(scores.shape) if weights is None else np.asarray(weights, np.float64)
        if not scores.shape == labels.shape == weights.shape or scores.ndim != 1:
            raise InputError(f"{type(self).__name__}: scores, labels and weights must be [N], not {scores.shape}, "
                             f"{labels.shape} and {weights.shape}")
        known = (labels >= 0) & (weights > 0)
        scores, labels, weights = scores[known], np.minimum(labels[known], 1.0), weights[known]
        if not np.isfinite(scores).all():
            raise InputError(f"{type(self).__name__}: a score is not finite")
        if len(labels) < 2:
            raise NotCalibratedError(f"there are {len(labels)} labels, and a calibration needs two or more")
        if not (labels > 0).any() or not (labels < 1).any():
            raise NotCalibratedError(f"all {len(labels)} labels are {labels[0]:g}")
        fitted = self.solve(scores, labels, weights)
        if reason := self.refusal(fitted):
            raise NotCalibratedError(reason)
        return fitted

    def solve(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The fitted numbers of cleaned input, each ``float64[N]``: labels in [0, 1], weights above 0."""
        raise not_defined(self, "solve")

    def refusal(self, fitted: np.ndarray) -> str:
        """Why fitted numbers cannot be used; an empty text if they can."""
        return ""

    def apply(self, scores: Any, fitted: Any, columns: Any = None) -> Tensor:
        """Probabilities of scores of any shape, inside the graph.

        Args:
            scores: ``float32[...]``.
            fitted: ``float32`` of :attr:`shape`.
            columns: ``float32[..., C]``, the ids in :attr:`reads`; leading axes of the scores may be missing. None
                for a calibrator without columns.
        """
        raise not_defined(self, "apply")

    def apply_rows(self, scores: Any, fitted: Any, rows: Any) -> Tensor:
        """Probabilities of scores of which each has its own fit. By default, all fits are applied to each score.

        Args:
            scores: ``float32[...]``.
            fitted: ``float32[R, *shape]``.
            rows: ``int32[...]``, the row of each score.
        """
        every = tf.stack([self.apply(scores, fitted[row]) for row in range(fitted.shape[0])], axis=-1)
        return tf.gather(every, rows, axis=-1, batch_dims=len(scores.shape))


def chances(labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weights of the negatives and of the positives; a soft label counts on both sides."""
    return float(weights @ (1 - labels)), float(weights @ labels)
