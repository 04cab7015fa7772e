"""Propensities by dual learning: a ranker and an examination model correct each other.

Let s be the scores of the items of a list, and e the logits of their places. Both are read by a softmax over the list,
and a click at place k has in the loss of one the weight that the other gives:

* ranking loss ``-sum_k c_k exp(e_1 - e_k) log softmax(s)_k``,
* examination loss ``-sum_k c_k exp(s_1 - s_k) log softmax(e)_k``.

Weights are relative to the item at place 1, and have no gradient. The propensity of place k is ``exp(e_k - e_1)``.

Source: Ai et al., Unbiased Learning to Rank with Unbiased Propensity Estimation, SIGIR 2018,
https://arxiv.org/abs/1804.05938
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.data.propensity import Propensities, clicks_and_places, feature_numbers, seen_at
from tfmtl2r.errors import InputError


def dual_loss(
    logits: np.ndarray, others: np.ndarray, clicks: np.ndarray, starts: np.ndarray, firsts: np.ndarray,
    clip: float = np.inf,
) -> tuple[float, np.ndarray]:
    """The sum over lists of one of the two losses, and its gradient for ``logits``, ``float64[N]``.

    Args:
        logits: ``float64[N]``, the scores (or the logits of places) that the loss trains, list by list.
        others: ``float64[N]``, the logits of places (or the scores), which give the weights.
        clicks: ``[N]``, 0 or 1.
        starts: the index of the first item of each list.
        firsts: the index of the item of each list with which weights are relative, such as the item at place 1.
        clip: the largest weight.

    >>> s, e, c = np.array([1.0, 0, -1, 0.5]), np.array([0.0, -0.5, -1, -1.5]), np.array([0, 1, 0, 1])
    >>> zero = np.array([0])
    >>> round(dual_loss(s, e, c, zero, zero)[0], 6), round(dual_loss(e, s, c, zero, zero)[0], 6)
    (8.46633, 7.270533)
    """
    sizes = np.diff([*starts, len(logits)])
    weights = clicks * np.minimum(np.exp(np.repeat(others[firsts], sizes) - others), clip)
    top = np.repeat(np.maximum.reduceat(logits, starts), sizes)
    total = np.repeat(np.add.reduceat(np.exp(logits - top), starts), sizes)
    logs = logits - top - np.log(total)
    mass = np.repeat(np.add.reduceat(weights, starts), sizes)
    return float(-(weights * logs).sum()), np.exp(logs) * mass - weights


def dual_learning(
    lists: Lists, label: str, relevance: Sequence[str], *, position: str | None = None, iterations: int = 100,
    rate: float = 0.3, clip: float = 100.0,
) -> Propensities:
    """Propensities from ordinary logs, where the score of an item is a linear function of its features.

    Both losses are minimised together with AdaGrad, on all lists at a time.

    Args:
        lists: logged lists.
        label: the column of clicks, 0 or 1; missing values (NaN or negative) count as no click.
        relevance: columns of numbers.
        position: the column of places, counted from 1; None uses an item's place in its list.
        iterations: number of steps.
        rate: learning rate.
        clip: the largest weight of a click.

    Returns:
        The propensities, 1 at place 1; ``losses`` are examination losses, each divided by the number of lists.

    Raises:
        ValueError: for plain rows, a missing column, a list without an item at place 1, a place without items, no click
            at all, or a column without numbers.
    """
    if lists.offsets is None:
        raise InputError("dual learning compares the items of a list, but the data are plain rows")
    clicks, places = clicks_and_places(lists, label, position)
    clicks, places, starts = (clicks > 0).astype(np.float64), places - 1, lists.offsets[:-1]
    first = np.where(places == 0, np.arange(len(places)), len(places))
    firsts = np.minimum.reduceat(first, starts)
    if (firsts == len(places)).any():
        row = int(starts[(firsts == len(places)).argmax()])
        raise InputError(f"the list of {lists.place(row)} has no item at place 1, to which weights are relative")
    shown = np.bincount(places)
    if (shown == 0).any():
        raise InputError(f"no item was shown at place {int((shown == 0).argmax()) + 1}: its propensity cannot be "
                         "estimated")
    if not clicks.any():
        raise InputError(f"label {label!r} has no click: propensities are estimated from clicks, 0 or 1")
    columns = feature_numbers(lists, relevance)
    spread = columns.std(axis=0)
    inputs = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    weights, places_logits = np.zeros(inputs.shape[1]), np.zeros(len(shown))
    sums, losses = [np.full(weights.shape, 1e-8), np.full(places_logits.shape, 1e-8)], []
    for _ in range(iterations):
        scores, examined = inputs @ weights, places_logits[places]
        _, slope = dual_loss(scores, examined, clicks, starts, firsts, clip)
        loss, place_slope = dual_loss(examined, scores, clicks, starts, firsts, clip)
        losses.append(loss / lists.num_lists)
        slopes = [inputs.T @ slope / lists.num_lists, np.bincount(places, place_slope) / lists.num_lists]
        for number, (values, each) in enumerate(zip((weights, places_logits), slopes, strict=True)):
            sums[number] += each**2
            values -= rate * each / np.sqrt(sums[number])
    items, moved = seen_at(np.unique(columns, axis=0, return_inverse=True)[1].ravel(), places)
    return Propensities(np.exp(places_logits - places_logits[0]), items, moved, tuple(losses))
