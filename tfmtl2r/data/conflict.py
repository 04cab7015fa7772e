"""Rows with a primary and an auxiliary label that cooperate or conflict, as in the DRGrad paper."""

from __future__ import annotations

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.data.synthetic import generator
from tfmtl2r.errors import InputError

MIXES = ("literal", "orthogonal")
REFERENCE_ROWS = 20_000


def conflict_rows(
    rows: int, *, cosine: float, seed: int, split: str, mix: str = "orthogonal", signals: int = 6, dim: int = 32
) -> Lists:
    """Makes rows with two binary labels.

    Feature i = 0..signals-1 is ``x_i = exp(u R) + u' R'^(i/2 + 1)`` with ``u, u' ~ U(0, 1)`` for each row. ``R, R'``
    are whole numbers from 1 to i + 2 that the seed determines. The other features are N(0, 1) noise. The first response
    is the sum over i of ``10 (4 x_i^2 / |x^2| + 5 exp(x_i / |x|) + 6 sin(x_i) + eps)``, where norms are over the signal
    features of a row and ``eps ~ N(0.01, 0.002)`` (mean, variance). A label is 1 if its response is above the median.

    ``mix`` defines the second response:

    - ``literal``, as printed in the paper: ``cos(theta)`` times the first response per feature, plus another eps. Only
      the sign of the cosine has an effect: the labels agree, or disagree, in almost all rows.
    - ``orthogonal``: ``cos(theta) z_1 + sin(theta) z_2``. ``z_1`` is the standardised first response; ``z_2`` is the
      standardised response of the same number of other signal features. The conflict is gradual.

    Means, deviations and medians come from a reference sample of the same seed, so that all splits have the same
    functions.

    Args:
        rows: number of rows N.
        cosine: cos(theta), from -1 (conflict) to 1 (cooperation).
        seed: seed of all random numbers.
        split: ``train``, ``vali`` or ``test``; splits have different rows of the same functions.
        mix: ``"orthogonal"`` or ``"literal"``.
        signals: number of signal features of one draw; ``orthogonal`` has two draws.
        dim: length of the feature vector, including noise.

    Returns:
        columns ``features`` ``float32[N, dim]``, ``label_1`` and ``label_2`` ``float32[N]`` of 0 and 1.

    Raises:
        ValueError: for a number out of its range or an unknown mix.

    Source: Liu et al. 2025, Direct Routing Gradient, https://arxiv.org/abs/2510.09643. The paper does not specify the
    axis of the norms, the distribution of the other features and the thresholds of the labels; these are our choices.
    The orthogonal mix is ours.

    >>> conflict_rows(4, cosine=-0.5, seed=0, split="train").columns["features"].shape
    (4, 32)
    """
    if not -1.0 <= cosine <= 1.0:
        raise InputError(f"cosine must lie in [-1, 1], not {cosine}")
    if mix not in MIXES:
        raise InputError(f"mix must be one of {', '.join(map(repr, MIXES))}, not {mix!r}")
    draws = 2 if mix == "orthogonal" else 1
    if not 1 <= signals * draws <= dim:
        raise InputError(f"{draws} x {signals} signal features need 1 to {dim} (dim) in all")
    parameters = generator(seed, "parameters")
    scales = [_scales(signals, parameters) for _ in range(draws)]
    random = generator(seed, split)
    drawn = [_signal(scale, rows, random) for scale in scales]
    known, new = (
        _responses(sample, cosine, mix, source)
        for sample, source in (([_signal(scale, REFERENCE_ROWS, parameters) for scale in scales], parameters),
                               (drawn, random))
    )
    if mix == "orthogonal":
        mean, deviation = known.mean(axis=1, keepdims=True), known.std(axis=1, keepdims=True)
        sine = np.sqrt(1.0 - cosine**2)
        turn = np.array([[1.0, 0.0], [cosine, sine]])
        known, new = (turn @ ((response - mean) / deviation) for response in (known, new))
    labels = new > np.median(known, axis=1, keepdims=True)
    noise = random.standard_normal((rows, dim - draws * signals))
    features = np.concatenate([*drawn, noise], axis=1)
    return Lists({
        "features": features.astype(np.float32),
        "label_1": labels[0].astype(np.float32), "label_2": labels[1].astype(np.float32),
    })


def _scales(signals: int, random: np.random.Generator) -> np.ndarray:
    """R and R' for every feature, ``[2, signals]``."""
    return np.stack([random.integers(1, i + 3, 2) for i in range(signals)], axis=1).astype(np.float64)


def _signal(scales: np.ndarray, rows: int, random: np.random.Generator) -> np.ndarray:
    uniform, other = random.random((2, rows, scales.shape[1]))
    powers = np.arange(scales.shape[1]) / 2 + 1
    return np.exp(uniform * scales[0]) + other * scales[1] ** powers


def _responses(drawn: list[np.ndarray], cosine: float, mix: str, random: np.random.Generator) -> np.ndarray:
    """The two responses before they are mixed, ``[2, N]``."""
    terms = [_terms(x, random) for x in drawn]
    if mix == "literal":
        terms.append(cosine * terms[0] + _noise(terms[0].shape, random))
    return np.stack([term.sum(axis=1) for term in terms])


def _terms(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The first response per feature."""
    squares = x**2 / np.linalg.norm(x**2, axis=1, keepdims=True)
    scaled = x / np.linalg.norm(x, axis=1, keepdims=True)
    return 10 * (4 * squares + 5 * np.exp(scaled) + 6 * np.sin(x) + _noise(x.shape, random))


def _noise(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    return 0.01 + np.sqrt(0.002) * random.standard_normal(shape)
