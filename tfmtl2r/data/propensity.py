"""Inverse-propensity weights, which correct the position bias of logged clicks.

Users only click items that they look at: ``P(click at place k) = p_k r``, where ``p_k`` is the propensity of place k
(the probability of a look) and r is the relevance of the item. If each click has the weight ``1 / p_k``, its
expectation is r at every place (Joachims et al. 2017, https://arxiv.org/abs/1608.04468). Estimate the propensities
from a power law (:func:`power_law`) or from randomised rankings (:func:`click_ratios`), add a column of weights
(:func:`with_click_weights`), and name the column in ``batches``. These weights enter losses only. Weights that say how
important items are enter metrics as well, and are another column::

    lists = with_click_weights(lists, "click", power_law(50, eta=0.8), position="position")
    data = batches(lists, tasks, schema, propensity_weights={"click": "click_weight"})

Losses that are sums over clicked items become unbiased, up to clipping. An example is softmax on lists with one click;
with more clicks, it is nearly unbiased. Pairwise losses weight a pair by its clicked item, which corrects the place of
this item but not of the other item. Pointwise losses treat an item without click as a negative, even if nobody looked
at it, and stay biased.
"""

from __future__ import annotations

import math

import numpy as np

from tfmtl2r.data.columns import label_values
from tfmtl2r.data.lists import Lists
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
