"""Metrics of true relevance, estimated from biased clicks by inverse propensity weights.

A metric on clicks rewards a ranker that repeats the order in which the items were shown. Let ``w_i`` be the inverse
propensity of the place where item i was shown, and ``m_i`` the metric of the list if item i were its only relevant
item, for example its discount in DCG. The estimates are sums over the clicked items:

* ``ips = sum_i w_i m_i / number of lists``. Its expectation is the mean over lists of the sum of ``m_i`` over the
  relevant items, whatever the old order was.
* ``snips = sum_i w_i m_i / sum_i w_i`` is self-normalised: it is slightly biased, has less variance, and lies in the
  range of the metric.

A weight above ``1 / tau`` counts as ``1 / tau``, for less variance and some bias.

Sources: Joachims et al., WSDM 2017, https://arxiv.org/abs/1608.04468; Swaminathan and Joachims, The self-normalized
estimator for counterfactual learning, NIPS 2015,
https://papers.nips.cc/paper/5748-the-self-normalized-estimator-for-counterfactual-learning
"""

from __future__ import annotations

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.metrics.base import ItemMetric, Metric

_CHUNK = 512  # clicks per evaluation


def estimable(metric: Metric) -> bool:
    """Whether a metric has such estimates: a metric of the order of relevant items, with a value per list."""
    return metric.per_list_mean and metric.relevance and not isinstance(metric, ItemMetric)


def per_list(
    metric: Metric, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, lists: Lists
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Both estimates, as values of lists and their counts; an estimate is ``sum(value * count) / sum(count)``.

    Args:
        metric: an :func:`estimable` metric.
        labels: ``[N]``, the clicks, in the order of ``lists``; missing where NaN or negative.
        scores: ``[N]``.
        weights: ``[N]``, the inverse propensities.
        lists: lists, not plain rows.

    Returns:
        Values and counts of ``ips``, then of ``snips``, each ``float64[lists]``; values of lists with count 0 are NaN.
    """
    assert lists.offsets is not None
    clicked = np.flatnonzero((labels > 0) & (weights > 0))
    owner = np.searchsorted(lists.offsets, clicked, side="right") - 1
    values = np.zeros(len(clicked))
    for chunk in np.array_split(np.arange(len(clicked)), max(1, -(-len(clicked) // _CHUNK))):
        sizes, starts = lists.sizes[owner[chunk]], lists.offsets[owner[chunk]]
        place = np.arange(sizes.max(initial=1))
        valid = place < sizes[:, None]
        index = np.where(valid, starts[:, None] + place, 0)
        alone = np.where(labels[index] >= 0, 0.0, np.nan)
        alone[np.arange(len(chunk)), clicked[chunk] - starts] = labels[clicked[chunk]]
        values[chunk] = metric.per_list(alone, scores[index], valid)[0].numpy()
    total = np.bincount(owner, weights[clicked] * values, lists.num_lists)
    weight = np.bincount(owner, weights[clicked], lists.num_lists)
    known = np.logical_or.reduceat(labels >= 0, lists.offsets[:-1])
    with np.errstate(invalid="ignore"):
        return ((np.where(known, total, np.nan), known.astype(np.float64)), (total / weight, weight))
