"""Numbers that TensorBoard shows of gradients and gates: cosines, shares of the update, conflict rates, entropies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def of_gradients(weights: np.ndarray, gram: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lengths ``[T]`` of gradients, their cosines ``[T, T]`` and the share ``[T]`` of each task in the update.

    A number that is not defined, such as the cosine with a gradient of 0, is not finite.

    >>> lengths, cosines, shares = of_gradients(np.array([1.0, 1.0]), np.array([[9.0, -3.0], [-3.0, 1.0]]))
    >>> lengths.tolist(), cosines[0, 1].tolist(), shares.tolist()
    ([3.0, 1.0], -1.0, [0.75, 0.25])
    """
    lengths = np.sqrt(np.maximum(np.diag(gram), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.clip(gram / np.outer(lengths, lengths), -1, 1)
        return lengths, cosines, weights * lengths / np.sum(weights * lengths)


def of_layers(lengths: np.ndarray, paths: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The share of each task in the lengths of all tasks' gradients, layer by layer: names, and ``[layers, T]``.

    Args:
        lengths: the length of each task's gradient in each variable, ``[variables, T]``.
        paths: the path of each variable, such as ``trunk/dense_1/kernel``.

    >>> names, shares = of_layers(np.array([[3.0, 1.0], [4.0, 0.0]]), ["trunk/dense/kernel", "trunk/dense/bias"])
    >>> names, shares.round(2).tolist()
    (['trunk/dense'], [[0.83, 0.17]])
    """
    layers = [path.rpartition("/")[0] or path for path in paths]
    names = list(dict.fromkeys(layers))
    squares = np.zeros((len(names), lengths.shape[1]))
    np.add.at(squares, [names.index(layer) for layer in layers], lengths**2)
    whole = np.sqrt(squares)
    with np.errstate(invalid="ignore"):
        return names, whole / whole.sum(axis=1, keepdims=True)


def conflict_rates(cosines: np.ndarray) -> np.ndarray:
    """The share of the steps in which each pair of tasks has a cosine below 0, ``[T, T]``, from cosines ``[N, T, T]``.

    A step in which a pair has no cosine does not count. A pair without any is NaN.

    >>> conflict_rates(np.array([[[1.0, -0.5], [-0.5, 1.0]], [[1.0, 0.1], [0.1, 1.0]]])).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    known = np.isfinite(cosines)
    with np.errstate(invalid="ignore"):
        return np.sum(known & (cosines < 0), axis=0) / np.sum(known, axis=0)


def entropies(gates: np.ndarray) -> np.ndarray:
    """The entropy ``[T]`` of gates ``[T, E]`` of at least two experts: 1 reads all experts alike, 0 reads one alone.

    >>> entropies(np.array([[0.5, 0.5], [0.0, 1.0]])).tolist()
    [1.0, 0.0]
    """
    logs = np.log(np.where(gates > 0, gates, 1.0))
    return np.abs(np.sum(gates * logs, axis=1)) / np.log(gates.shape[1])
