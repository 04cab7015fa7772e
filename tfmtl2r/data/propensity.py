"""Inverse-propensity weights, which correct the position bias of logged clicks.

Users only click items that they look at: ``P(click at place k) = p_k r``, where ``p_k`` is the propensity of place k
(the probability of a look) and r is the relevance of the item. If each click has the weight ``1 / p_k``, its
expectation is r at every place (Joachims et al. 2017, https://arxiv.org/abs/1608.04468). Estimate the propensities
from a power law (:func:`power_law`), from randomised rankings (:func:`click_ratios`), from swapped pairs
(:func:`swap_ratios`) or from ordinary logs (:func:`regression_em`, :func:`tfmtl2r.data.dual_learning`). Add a column of
weights (:func:`with_click_weights`), and name the column in ``batches``. These weights enter losses only, and estimates
of metrics that are asked for (:func:`tfmtl2r.evaluation.evaluate`). Weights that say how important items are enter
metrics as well, and are another column::

    lists = with_click_weights(lists, "click", power_law(50, eta=0.8), position="position")
    data = batches(lists, tasks, schema, propensity_weights={"click": "click_weight"})

Losses that are sums over clicked items become unbiased, up to clipping. An example is softmax on lists with one click;
with more clicks, it is nearly unbiased. Pairwise losses weight a pair by its clicked item, which corrects the place of
this item but not of the other item. Pointwise losses treat an item without click as a negative, even if nobody looked
at it, and stay biased.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from tfmtl2r.data.columns import label_values
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.text_cells import MISSING
from tfmtl2r.errors import InputError
from tfmtl2r.task import Task


def power_law(places: int, eta: float = 1.0) -> np.ndarray:
    """Propensities ``p_k = k^-eta`` of the places 1 .. K, ``float64[K]``.

    Args:
        places: number of places K.
        eta: speed of the decay; with 0, users look at all places equally.

    Raises:
        ValueError: for less than one place, or an eta that is not a finite number >= 0.

    >>> power_law(3).round(3).tolist()
    [1.0, 0.5, 0.333]
    """
    if places < 1:
        raise InputError(f"places must be at least 1, not {places}")
    if not (math.isfinite(eta) and eta >= 0):
        raise InputError(f"eta must be a finite number of 0 or more, not {eta!r}")
    return np.arange(1, places + 1, dtype=np.float64) ** -eta


def click_ratios(lists: Lists, label: str, position: str | None = None) -> np.ndarray:
    """Propensities ``p_k = (clicks per item at place k) / (clicks per item at place 1)``, ``float64[K]``.

    The items must have been shown **in random order**, so that they are equally relevant at every place. On lists that
    a ranker ordered, the ratios would confuse relevance with attention.

    Args:
        lists: randomised lists.
        label: the column of clicks, 0 or 1; missing values (NaN or negative) do not count.
        position: the column of places, counted from 1; None uses an item's place in its list.

    Returns:
        One propensity per place, up to the last place with an item. It is 1 at place 1, and can be above 1 by chance.

    Raises:
        ValueError: for a missing column, a place that is not a whole number from 1, a place without items before the
            last place, or no click at place 1.

    >>> lists = Lists({"click": np.array([1, 0, 1, 1])}, offsets=np.array([0, 2, 4]))
    >>> click_ratios(lists, "click").tolist()
    [1.0, 0.5]
    """
    clicks = label_values(lists, Task("click", label=label, kind="binary"))
    known = clicks >= 0
    places = _places(lists, position)[known] - 1
    shown = np.bincount(places)
    if (shown == 0).any():
        place = int((shown == 0).argmax()) + 1
        raise InputError(f"no item with a known label {label!r} was shown at place {place}: its propensity cannot be "
                         "estimated; give more lists, or use power_law")
    rates = np.bincount(places, weights=clicks[known]) / shown
    if not len(rates) or rates[0] == 0:
        raise InputError(f"label {label!r} has no click at place 1, which the other places are compared with; give "
                         "more lists, or use power_law")
    return rates / rates[0]


def swap_ratios(lists: Lists, label: str, item: str, position: str | None = None) -> np.ndarray:
    """Propensities from items that were shown at place 1 and at place k, ``float64[K]``, 1 at place 1.

    ``p_k / p_1 = sum_i m_i r_ik / sum_i m_i r_i1``: ``r_ik`` is the share of clicks of item i at place k, and ``m_i``
    the smaller one of its two numbers of appearances. After swaps of the items at places 1 and k at random, this is the
    number of clicks at k divided by the number of clicks at 1.

    Args:
        lists: logged lists.
        label: the column of clicks, 0 or 1; missing values (NaN or negative) do not count.
        item: the column with the id of what was shown. If the relevance of an item depends on the query, the id must
            contain the query. A row without an id does not count.
        position: the column of places, counted from 1; None uses an item's place in its list.

    Raises:
        ValueError: for a missing column, a place that is not a whole number from 1, or a place without a click for
            items that were also clicked at place 1.

    Source: Joachims et al., WSDM 2017, https://arxiv.org/abs/1608.04468

    >>> columns = {"click": np.array([1, 0, 1, 1]), "item": np.array(["a", "b", "b", "a"])}
    >>> swap_ratios(Lists(columns, offsets=np.array([0, 2, 4])), "click", "item").tolist()
    [1.0, 0.5]
    """
    clicks, places = clicks_and_places(lists, label, position)
    ids, there = _ids(lists, item)
    known = (clicks >= 0) & there
    items = np.unique(ids[known], return_inverse=True)[1]
    places, last = places[known] - 1, int(places[known].max(initial=1))
    cells = items * last + places
    shown = np.bincount(cells, minlength=(items.max(initial=0) + 1) * last).reshape(-1, last)
    clicked = np.bincount(cells, weights=clicks[known], minlength=shown.size).reshape(-1, last)
    rates = clicked / np.maximum(shown, 1)
    both = np.minimum(shown, shown[:, :1])
    at, first = (both * rates).sum(axis=0), (both * rates[:, :1]).sum(axis=0)
    if first[0] == 0:
        raise InputError(f"label {label!r} has no click at place 1, which the other places are compared with")
    if (first == 0).any():
        raise InputError(f"no item with a click at place 1 was also shown at place {int((first == 0).argmax()) + 1}: "
                         "its propensity cannot be estimated from swaps; give more lists, or use regression_em")
    return at / first


def posteriors(clicks: np.ndarray, propensities: np.ndarray, relevance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a click, or its absence, says about an item under ``P(click) = p r``.

    Args:
        clicks: 0 or 1, any shape.
        propensities: the probability p of a look at each item's place, in [0, 1].
        relevance: the probability r of a click after a look, in [0, 1].

    Returns:
        ``P(relevant | click) = c + (1 - c) r (1 - p) / (1 - p r)`` and ``P(looked at | click) = c + (1 - c) p (1 - r) /
        (1 - p r)``.

    >>> relevant, examined = posteriors(np.array([1, 0]), np.array([1.0, 0.5]), np.array([0.5, 0.5]))
    >>> relevant.round(4).tolist(), examined.round(4).tolist()
    ([1.0, 0.3333], [1.0, 0.3333])
    """
    neither = np.maximum(1.0 - propensities * relevance, np.finfo(np.float64).tiny)
    missed = 1.0 - clicks
    return (clicks + missed * relevance * (1.0 - propensities) / neither,
            clicks + missed * propensities * (1.0 - relevance) / neither)


@dataclasses.dataclass(frozen=True)
class Propensities:
    """Propensities that were estimated from logs, and how far they can be trusted.

    Args:
        values: ``float64[K]``, the propensity of each place, 1 at place 1.
        items: number of different items.
        moved: number of items that were seen at two or more places. Only these items tell places apart.
        losses: the mean negative log likelihood of a click before each iteration.
    """

    values: np.ndarray
    items: int
    moved: int
    losses: tuple[float, ...]


def regression_em(
    lists: Lists, label: str, relevance: Sequence[str] | Callable[[np.ndarray], np.ndarray], *,
    position: str | None = None, item: str | None = None, iterations: int = 50, rate: float = 1.0,
    start: np.ndarray | None = None,
) -> Propensities:
    """Propensities from ordinary logs, where the relevance of an item is a function of its features.

    EM for ``P(click at place k) = p_k sigmoid(s(x))`` repeats two steps: the :func:`posteriors` of every item with a
    known label; then s is fitted to ``P(relevant | click)``, and ``p_k`` moves to the mean of ``P(looked at | click)``
    at place k.

    Args:
        lists: logged lists.
        label: the column of clicks, 0 or 1; missing values (NaN or negative) do not count.
        relevance: columns of numbers, from which a logistic regression computes s. Alternatively a function of the
            targets, ``float64[N]`` in [0, 1] for the N items with a known label, that fits a model of your own to them
            and returns its logits s, ``float64[N]``. The first targets are the clicks.
        position: the column of places, counted from 1; None uses an item's place in its list.
        item: the column with the ids of items, for the report ``moved``, in which a row without an id does not count.
            By default, items with equal numbers in ``relevance`` are the same item; with a function, every row is an
            item of its own.
        iterations: number of iterations.
        rate: share a of the new value in ``p_k <- (1 - a) p_k + a mean``.
        start: propensities to start with, one per place; by default 1/k.

    Returns:
        The propensities, divided by the propensity of place 1, since the clicks determine only ratios.

    Raises:
        ValueError: for a missing column, a label that is missing everywhere, a place that is not a whole number from 1
            or has no item, a column without numbers, or a rate outside (0, 1].

    Source: Wang et al., Position bias estimation for unbiased learning to rank in personal search, WSDM 2018,
    https://doi.org/10.1145/3159652.3159732

    Differs from the paper: a logistic regression on soft targets, in place of boosted trees on sampled labels.
    """
    if not 0.0 < rate <= 1.0:
        raise InputError(f"rate must lie in (0, 1], not {rate}")
    clicks, places = clicks_and_places(lists, label, position)
    known = clicks >= 0
    clicks, places = clicks[known].astype(np.float64), places[known] - 1
    if not len(clicks):
        raise InputError(f"label {label!r} is missing in all rows: propensities are estimated from clicks, 0 or 1")
    shown = np.bincount(places)
    if (shown == 0).any():
        raise InputError(f"no item with a known label {label!r} was shown at place {int((shown == 0).argmax()) + 1}: "
                         "its propensity cannot be estimated")
    columns = None if callable(relevance) else feature_numbers(lists, relevance)[known]
    fit = relevance if callable(relevance) else _Logistic(columns)
    theta = 1.0 / np.arange(1, len(shown) + 1) if start is None else np.array(start, np.float64)
    if theta.shape != shown.shape or not ((theta >= 0) & (theta <= 1)).all():
        raise InputError(f"start must be {len(shown)} numbers in [0, 1], one per place, not {theta!r}")
    gamma, losses = _sigmoid(fit(clicks)), []
    for _ in range(iterations):
        losses.append(_click_loss(clicks, theta[places] * gamma))
        relevant, examined = posteriors(clicks, theta[places], gamma)
        theta = (1.0 - rate) * theta + rate * np.bincount(places, weights=examined) / shown
        gamma = _sigmoid(fit(relevant))
    names = np.arange(len(clicks)) if columns is None else np.unique(columns, axis=0, return_inverse=True)[1].ravel()
    if item is not None:
        ids, there = (values[known] for values in _ids(lists, item))
        names, places = np.unique(ids[there], return_inverse=True)[1], places[there]
    items, moved = seen_at(names, places)
    if theta[0] == 0:
        raise InputError(f"label {label!r} has no click at place 1, which the other places are compared with")
    return Propensities(theta / theta[0], items, moved, tuple(losses))


def seen_at(names: np.ndarray, places: np.ndarray) -> tuple[int, int]:
    """The number of different items, and of items that were seen at two or more places.

    Args:
        names: ``int64[N]``, the number of each item.
        places: ``int64[N]``.
    """
    seen = np.unique(np.stack([names, places]), axis=1)[0]
    return len(np.unique(names)), int((np.bincount(seen) > 1).sum())


class _Logistic:
    """A logistic regression with a small ridge, which goes on from its last weights."""

    def __init__(self, columns: np.ndarray | None):
        assert columns is not None
        spread = columns.std(axis=0)
        scaled = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        self.inputs = np.concatenate([scaled, np.ones([len(scaled), 1])], axis=1)
        self.weights = np.zeros(self.inputs.shape[1])

    def __call__(self, targets: np.ndarray) -> np.ndarray:
        """Newton steps towards the best weights for the targets; the logits."""
        ridge = 1e-6 * len(targets) * np.eye(len(self.weights))
        for _ in range(5):
            chances = _sigmoid(self.inputs @ self.weights)
            slope = self.inputs.T @ (chances - targets) + ridge @ self.weights
            curve = (self.inputs * (chances * (1 - chances))[:, None]).T @ self.inputs + ridge
            self.weights -= np.linalg.solve(curve, slope)
        return self.inputs @ self.weights


def feature_numbers(lists: Lists, names: Sequence[str]) -> np.ndarray:
    """Columns of numbers, ``float64[N, F]``, with 0 for missing values."""
    if isinstance(names, str) or not names:
        raise InputError(f"relevance must be names of columns, such as ['price'], or a function, not {names!r}")
    for name in names:
        if lists.column(name).dtype.kind not in "iufb":
            raise InputError(f"column {name!r}: the regression reads numbers, got {lists.column(name).dtype}; encode "
                             "it, or give a function that fits a model of your own")
    parts = [np.asarray(lists.column(name), np.float64).reshape(lists.num_items, -1) for name in names]
    return np.nan_to_num(np.concatenate(parts, axis=1))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64)))


def _click_loss(clicks: np.ndarray, chances: np.ndarray) -> float:
    chances = np.clip(chances, 1e-12, 1 - 1e-12)
    return float(-np.mean(clicks * np.log(chances) + (1 - clicks) * np.log1p(-chances)))


def _ids(lists: Lists, item: str) -> tuple[np.ndarray, np.ndarray]:
    """The ids of items, and which rows have one, ``bool[N]``."""
    ids = lists.identities(item)
    if ids.dtype.kind in "OU":
        ids = ids.astype(str)
        return ids, ~np.isin(ids, MISSING)
    return ids, (ids == ids) & ((ids != -1) | (ids.dtype.kind == "f"))


def clicks_and_places(lists: Lists, label: str, position: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The clicks, missing where negative, and the places of all items."""
    clicks = label_values(lists, Task("click", label=label, kind="binary"))
    return np.nan_to_num(clicks, nan=-1.0), _places(lists, position)


def with_click_weights(
    lists: Lists,
    label: str,
    propensities: np.ndarray,
    *,
    position: str | None = None,
    clip: float | None = 10.0,
    column: str | None = None,
) -> Lists:
    """Adds a column of weights: ``min(1 / p_k, clip)`` for an item clicked at place k, and 1 for any other item.

    Args:
        lists: logged lists.
        label: the column of clicks, 0 or 1.
        propensities: ``p_k`` of the places 1 .. K, for example from :func:`power_law` or :func:`click_ratios`.
        position: the column of places, counted from 1; None uses an item's place in its list.
        clip: the largest weight. Clipping reduces variance, but causes bias at places with small propensity. None does
            not clip.
        column: name of the new column; ``<label>_weight`` by default.

    Raises:
        ValueError: for a missing column, a propensity that is not a finite number >= 0, a clip below 1, a place without
            a propensity, a click at a place of propensity 0 without clip, or a column that exists.

    >>> lists = Lists({"click": np.array([0, 1, 1])}, offsets=np.array([0, 3]))
    >>> with_click_weights(lists, "click", power_law(3)).columns["click_weight"].tolist()
    [1.0, 2.0, 3.0]
    """
    propensities = np.asarray(propensities, np.float64)
    if propensities.ndim != 1 or not (np.isfinite(propensities) & (propensities >= 0)).all():
        raise InputError(f"propensities must be finite numbers of 0 or more, one per place, not {propensities!r}")
    if clip is not None and not clip >= 1:
        raise InputError(f"clip must be at least 1, or None, not {clip!r}")
    column = column or f"{label}_weight"
    if column in lists.columns:
        raise InputError(f"the table has a column {column!r} already; choose another with column=...")
    clicked = label_values(lists, Task("click", label=label, kind="binary")) > 0
    places = _places(lists, position)
    if len(places) and places.max() > len(propensities):
        item = int(places.argmax())
        raise InputError(f"{lists.place(item)} was shown at place {places[item]}, but there are propensities for "
                         f"{len(propensities)} places; give more")
    chances = propensities[places - 1]
    if clip is None and (clicked & (chances == 0)).any():
        item = int((clicked & (chances == 0)).argmax())
        raise InputError(f"{lists.place(item)} was clicked at place {places[item]}, whose propensity is 0: its weight "
                         "would be infinite; set clip")
    with np.errstate(divide="ignore"):
        weights = np.where(clicked, np.minimum(1.0 / chances, np.inf if clip is None else clip), 1.0)
    return lists.with_column(column, weights.astype(np.float32))


def _places(lists: Lists, position: str | None) -> np.ndarray:
    """The place of every item, ``int64[N]`` from 1."""
    if position is None:
        if lists.offsets is None:
            raise InputError("plain rows have no places: name the column that holds them, position=...")
        return np.arange(lists.num_items) - np.repeat(lists.offsets[:-1], lists.sizes) + 1
    values = lists.column(position)
    if values.dtype.kind not in "iuf":
        raise InputError(f"column {position!r}: places are whole numbers from 1, got {values.dtype}")
    wrong = ~((values >= 1) & (values == np.floor(values)))
    if wrong.any():
        item = int(wrong.argmax())
        raise InputError(f"column {position!r}: places are whole numbers from 1, got {values[item].item()!r} in "
                         f"{lists.place(item)}")
    return values.astype(np.int64)
