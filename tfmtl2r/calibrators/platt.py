"""Platt scaling: a logistic regression of the label on the score."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.calibrators.base import Calibrator, chances
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

CARD = Card(
    title="Platt scaling",
    paper="Platt, Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods, "
    "Advances in Large Margin Classifiers, 1999; Lin et al., A note on Platt's probabilistic outputs for support "
    "vector machines, 2007, https://doi.org/10.1007/s10994-007-5018-6",
    aliases=("sigmoid", "logistic"),
    note="two numbers; right for little data, and wherever the log-odds are nearly linear in the score",
)
__all__ = ["Platt"]
_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Platt(Calibrator):
    """``p = sigmoid(a s + b)``, by the maximum likelihood of smoothed labels.

    With n1 and n0 as the weights of positives and negatives, a positive has the target ``(n1 + 1) / (n1 + 2)``, and a
    negative ``1 / (n0 + 2)``, so that separable scores have a finite fit. Newton's method with backtracking starts at
    ``a = 0, b = log((n1 + 1) / (n0 + 1))``. Scores that do not vary give ``a = 0``. A fit with ``a <= 0`` is refused,
    since it would turn the order of the scores.

    >>> Platt().fit([-1.0, 1.0], [0.0, 1.0]).round(6).tolist()  # a = log 2, b = 0
    [0.693147, 0.0]

    Source: see ``CARD``.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """a and b."""
        return (2,)

    def solve(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        negatives, positives = chances(labels, weights)
        targets = labels * (positives + 1) / (positives + 2) + (1 - labels) / (negatives + 2)
        # The fit is that of the scores themselves: standardising makes it exact for scores far from 0.
        centre = np.average(scores, weights=weights)
        scale = np.sqrt(np.average((scores - centre) ** 2, weights=weights))
        if scale <= 1e-12 * abs(centre):
            rate = np.average(targets, weights=weights)
            return np.array([0.0, np.log(rate / (1 - rate))])
        start = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
        slope, level = _newton((scores - centre) / scale, targets, weights, start)
        return np.array([slope / scale, level - slope * centre / scale])

    def refusal(self, fitted: np.ndarray) -> str:
        return "" if fitted[0] > 0 else f"higher scores do not have more positive labels (a = {fitted[0]:.4g})"

    def apply(self, scores: Any, fitted: Any, columns: Any = None) -> Tensor:
        return tf.sigmoid(fitted[0] * scores + fitted[1])

    def apply_rows(self, scores: Any, fitted: Any, rows: Any) -> Tensor:
        return tf.sigmoid(tf.gather(fitted[:, 0], rows) * scores + tf.gather(fitted[:, 1], rows))


def _newton(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The minimum of ``sum w (softplus(z) - t z)`` with ``z = a s + b``."""
    inputs = np.stack([scores, np.ones_like(scores)], axis=1)

    def loss(at: np.ndarray) -> float:
        logits = inputs @ at
        return float(weights @ (np.logaddexp(0.0, logits) - targets * logits))

    best, value = start, loss(start)
    for _ in range(_STEPS):
        found = 1 / (1 + np.exp(-np.clip(inputs @ best, -700, 700)))
        gradient = inputs.T @ (weights * (found - targets))
        curvature = (inputs * (weights * found * (1 - found))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-12 * weights.sum() * np.eye(2), gradient)
        size = 1.0
        while (new := loss(best - size * step)) > value - 1e-4 * size * (gradient @ step) and size > 1e-10:
            size /= 2
        if not new < value:
            break
        best, value = best - size * step, new
    return best
