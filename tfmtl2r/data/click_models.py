"""Click models: how users who read a list from the top click, for simulated clicks on graded lists and for estimates.

Arrays are ``[B, L]``: lists in the order in which their items were shown, padded where ``valid`` is False. An item's
*attraction* is the probability of a click after a look. The models differ in where users look:

* :class:`PositionBased`: the place alone decides (Richardson et al., WWW 2007; Craswell et al., WSDM 2008,
  https://doi.org/10.1145/1341531.1341545).
* :class:`TrustBiased`: as before, but users also click what they trust because of its place (Agarwal et al., WWW 2019,
  https://doi.org/10.1145/3308558.3313697).
* :class:`Cascade`: down to the first click (Craswell et al. 2008).
* :class:`DynamicBayes`: down to a click that satisfies the user (Chapelle and Zhang, WWW 2009,
  https://doi.org/10.1145/1526709.1526711).

:func:`simulate_clicks` adds clicks to lists with grades, so that a ranker that was trained on biased clicks can be
compared with what the grades say::

    lists = simulate_clicks(graded, "label", PositionBased(power_law(50)), seed=1, order="old_score")
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfmtl2r.data.columns import label_values
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.propensity import posteriors
from tfmtl2r.errors import InputError
from tfmtl2r.task import Task

_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class ClickModel:
    """Base class of click models."""

    def chances(self, attraction: np.ndarray) -> np.ndarray:
        """The probability of a click on each item, ``float64[B, L]``."""
        raise NotImplementedError

    def log_likelihood(self, clicks: np.ndarray, attraction: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """The log probability of the clicks of each list, ``float64[B]``.

        Args:
            clicks: 0 or 1; NaN where nobody can have clicked.
            attraction: probabilities in [0, 1].
            valid: False for padding; all True by default.
        """
        raise NotImplementedError

    def simulate(self, attraction: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Draws the clicks of one session per list, ``float64[B, L]``: 0, 1, or NaN for an item that nobody saw."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class PositionBased(ClickModel):
    """``P(click on item i at place k) = p_k a_i``; clicks are independent of each other.

    Args:
        propensities: ``p_k``, the probability of a look at the places 1 .. K, in [0, 1].

    >>> model = PositionBased((1.0, 0.5, 0.25))
    >>> model.chances(np.array([[0.6, 0.4, 0.8]])).tolist()
    [[0.6, 0.2, 0.2]]
    """

    propensities: Any

    def chances(self, attraction: np.ndarray) -> np.ndarray:
        propensities = np.asarray(self.propensities, np.float64)
        if attraction.shape[-1] > len(propensities):
            raise InputError(f"a list has {attraction.shape[-1]} items, but there are propensities for "
                             f"{len(propensities)} places; give more")
        chances: np.ndarray = propensities[: attraction.shape[-1]] * attraction
        return chances

    def log_likelihood(self, clicks: np.ndarray, attraction: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        chances = np.clip(self.chances(attraction), _TINY, 1 - _TINY)
        each = np.where(clicks > 0, np.log(chances), np.log1p(-chances))
        return np.where(_seen(clicks, valid), each, 0.0).sum(axis=-1)

    def simulate(self, attraction: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return (random.random(attraction.shape) < self.chances(attraction)).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class TrustBiased(PositionBased):
    """``P(click on item i at place k) = p_k (t_k a_i + u_k (1 - a_i))``: users also click items that they need not.

    Args:
        propensities: ``p_k``, as for :class:`PositionBased`.
        trusted: ``t_k``, the probability of a click on a seen item that the user wants.
        distrusted: ``u_k < t_k``, the probability of a click on a seen item that the user does not want.

    Raises:
        ValueError: unless trusted is above distrusted at every place.

    >>> model = TrustBiased((1.0, 0.6, 0.3), (0.98, 0.9, 0.8), (0.65, 0.45, 0.3))
    >>> model.chances(np.array([[0.7, 0.2, 0.5]])).round(3).tolist()
    [[0.881, 0.324, 0.165]]
    """

    trusted: Any = ()
    distrusted: Any = ()

    def __post_init__(self) -> None:
        trusted, distrusted = (np.asarray(one, np.float64) for one in (self.trusted, self.distrusted))
        if not trusted.shape == distrusted.shape == np.shape(self.propensities) or not (trusted > distrusted).all():
            raise InputError("trusted and distrusted need one probability per place, and trusted the higher one; got "
                             f"{self.trusted!r} and {self.distrusted!r}")

    def chances(self, attraction: np.ndarray) -> np.ndarray:
        length = attraction.shape[-1]
        wanted = super().chances(np.ones(length)) * np.asarray(self.trusted)[:length]
        unwanted = super().chances(np.ones(length)) * np.asarray(self.distrusted)[:length]
        chances: np.ndarray = wanted * attraction + unwanted * (1.0 - attraction)
        return chances

    def corrected(self, clicks: np.ndarray) -> np.ndarray:
        """``(c - p_k u_k) / (p_k (t_k - u_k))``, whose expectation is the attraction; it may be negative or above 1.

        Args:
            clicks: 0 or 1, in the order in which the items were shown.

        Source: Vardasbi et al., CIKM 2020, https://doi.org/10.1145/3340531.3412031
        """
        length = clicks.shape[-1]
        high, low = self.chances(np.ones(length)), self.chances(np.zeros(length))
        found: np.ndarray = (clicks - low) / (high - low)
        return found


@dataclasses.dataclass(frozen=True)
class DynamicBayes(ClickModel):
    """Users look at the next item with probability ``continuation``, unless a click has satisfied them.

    ``P(look at k + 1) = P(look at k) continuation (1 - a_k s_k)``, and ``P(click at k) = P(look at k) a_k``.

    Args:
        satisfaction: s, the probability that a click satisfies: a number, or an array that broadcasts to ``[B, L]``.
        continuation: probability of going on after an item that did not satisfy.

    >>> model = DynamicBayes(satisfaction=np.array([0.6, 0.4, 0.5]), continuation=0.9)
    >>> model.chances(np.array([[0.3, 0.5, 0.2]])).round(6).tolist()
    [[0.3, 0.369, 0.106272]]
    """

    satisfaction: Any = 0.7
    continuation: float = 0.9

    def chances(self, attraction: np.ndarray) -> np.ndarray:
        going_on = self.continuation * (1.0 - attraction * self.satisfaction)
        looks = np.cumprod(np.concatenate([np.ones_like(going_on[..., :1]), going_on[..., :-1]], axis=-1), axis=-1)
        chances: np.ndarray = looks * attraction
        return chances

    def log_likelihood(self, clicks: np.ndarray, attraction: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        satisfaction = np.broadcast_to(self.satisfaction, attraction.shape)
        seen = _seen(clicks, valid)
        looking, stopped = np.ones(len(clicks)), np.zeros(len(clicks))  # joint with the clicks so far
        for k in range(clicks.shape[1]):
            clicked = clicks[:, k] > 0
            here = looking * np.where(clicked, attraction[:, k], 1.0 - attraction[:, k])
            on = here * np.where(clicked, 1.0 - satisfaction[:, k], 1.0) * self.continuation
            after = np.where(clicked, 0.0, stopped) + here - on
            looking, stopped = np.where(seen[:, k], on, looking), np.where(seen[:, k], after, stopped)
        with np.errstate(divide="ignore"):
            return np.log(looking + stopped)

    def simulate(self, attraction: np.ndarray, random: np.random.Generator) -> np.ndarray:
        satisfaction = np.broadcast_to(self.satisfaction, attraction.shape)
        draws = random.random((3, *attraction.shape))
        clicks, looking = np.zeros(attraction.shape), np.ones(len(attraction), bool)
        for k in range(attraction.shape[1]):
            clicks[:, k] = looking & (draws[0, :, k] < attraction[:, k])
            satisfied = (clicks[:, k] > 0) & (draws[1, :, k] < satisfaction[:, k])
            looking &= ~satisfied & (draws[2, :, k] < self.continuation)
        return clicks


@dataclasses.dataclass(frozen=True)
class Cascade(DynamicBayes):
    """Users read down to their first click: ``P(click at k) = a_k prod_{j<k} (1 - a_j)``.

    The list ends there. Nobody saw the later items, so their labels are missing (NaN), not negative.

    >>> Cascade().chances(np.array([[0.3, 0.5, 0.2]])).round(4).tolist()
    [[0.3, 0.35, 0.07]]
    """

    satisfaction: Any = dataclasses.field(default=1.0, init=False)
    continuation: float = dataclasses.field(default=1.0, init=False)

    def simulate(self, attraction: np.ndarray, random: np.random.Generator) -> np.ndarray:
        clicks = super().simulate(attraction, random)
        after = np.cumsum(clicks, axis=1) - clicks > 0
        return np.where(after, np.nan, clicks)


@dataclasses.dataclass(frozen=True)
class PositionBasedFit:
    """A position-based model that EM fitted.

    Args:
        propensities: ``float64[K]``, as EM found them. The clicks determine only ratios: divide by the first one.
        attraction: ``float64[items]``.
        items: the ids of the items, sorted, in the order of ``attraction``.
        losses: the negative log likelihood before the first iteration and after each one.
    """

    propensities: np.ndarray
    attraction: np.ndarray
    items: np.ndarray
    losses: tuple[float, ...]


def fit_position_based(
    items: np.ndarray, clicks: np.ndarray, iterations: int = 50, valid: np.ndarray | None = None
) -> PositionBasedFit:
    """Fits a propensity per place and an attraction per item by EM. Both updates use the values before the iteration.

    An item that was seen at one place only does not tell this place from its attraction.

    Args:
        items: ids of the shown items, ``[B, L]``.
        clicks: 0 or 1, ``[B, L]``; NaN is missing.
        iterations: number of iterations; all values start at 1/2.
        valid: False for padding; all True by default.
    """
    ids, item = np.unique(items, return_inverse=True)
    seen = _seen(clicks, valid)
    item, place = item.reshape(items.shape)[seen], np.broadcast_to(np.arange(items.shape[1]), items.shape)[seen]
    clicked = clicks[seen].astype(np.float64)
    theta, gamma = np.full(items.shape[1], 0.5), np.full(len(ids), 0.5)
    losses = []
    for iteration in range(iterations + 1):
        chances = np.clip(theta[place] * gamma[item], _TINY, 1 - _TINY)
        losses.append(float(-np.where(clicked > 0, np.log(chances), np.log1p(-chances)).sum()))
        if iteration < iterations:
            relevant, examined = posteriors(clicked, theta[place], gamma[item])
            theta, gamma = (np.bincount(index, values, len(old)) / np.maximum(np.bincount(index, minlength=len(old)), 1)
                            for index, values, old in ((place, examined, theta), (item, relevant, gamma)))
    return PositionBasedFit(theta, gamma, ids, tuple(losses))


def fit_cascade(
    items: np.ndarray, clicks: np.ndarray, prior: tuple[float, float] = (0.0, 0.0), valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The attractions of a cascade: an item's clicks divided by how often it stood no lower than the first click.

    Args:
        items: ids of the shown items, ``[B, L]``.
        clicks: 0 or 1, ``[B, L]``; NaN is missing.
        prior: clicks and looks that are added to those of every item.
        valid: False for padding; all True by default.

    Returns:
        The ids of the items, sorted, and their attractions, NaN for an item that nobody looked at.
    """
    ids, item = np.unique(items, return_inverse=True)
    clicked = np.nan_to_num(clicks) > 0
    looked = _seen(clicks, valid) & (np.cumsum(clicked, axis=1) - clicked == 0)
    index = item.reshape(items.shape)[looked]
    count = np.bincount(index, minlength=len(ids)) + prior[1]
    with np.errstate(invalid="ignore"):
        return ids, (np.bincount(index, clicked[looked], len(ids)) + prior[0]) / count


def attractions(grades: np.ndarray, noise: float = 0.1, top: float | None = None) -> np.ndarray:
    """Attractions of graded items: ``noise + (1 - noise) (2^grade - 1) / (2^top - 1)``.

    Args:
        grades: any shape; missing grades (NaN or negative) count as 0.
        noise: attraction of an item of grade 0.
        top: the highest grade; by default the highest one that is given.

    Source: Ai et al., SIGIR 2018, https://arxiv.org/abs/1804.05938

    >>> attractions(np.array([0.0, 1.0, 2.0]), noise=0.1).round(2).tolist()
    [0.1, 0.4, 1.0]
    """
    if not 0.0 <= noise < 1.0:
        raise InputError(f"noise must lie in [0, 1), not {noise}")
    grades = np.maximum(np.nan_to_num(grades), 0.0)
    top = float(grades.max(initial=0.0)) if top is None else top
    worth = (2.0**grades - 1.0) / max(2.0**top - 1.0, _TINY)
    return noise + (1.0 - noise) * np.minimum(worth, 1.0)


def simulate_clicks(
    lists: Lists, label: str, model: ClickModel, *, seed: int = 0, order: str | None = None, noise: float = 0.1,
    column: str = "click", position: str = "position",
) -> Lists:
    """Adds one session of clicks, and the places at which the items were shown, to lists with grades.

    Args:
        lists: graded lists. For several sessions of a list, repeat it with :meth:`Lists.select`.
        label: the column of grades, which :func:`attractions` turns into probabilities.
        model: the click model.
        seed: seed of the clicks.
        order: a column with the scores of the old ranker that showed the items, the highest one first; by default the
            items were shown in the order of the list.
        noise: attraction of an item of grade 0.
        column: name of the new column of clicks; NaN for an item that nobody saw.
        position: name of the new column of places, counted from 1.

    Raises:
        ValueError: for plain rows, a missing column, or a new column that exists.
    """
    if lists.offsets is None:
        raise InputError("clicks are simulated in lists, but these are plain rows: give a list id")
    for name in (column, position):
        if name in lists.columns:
            raise InputError(f"the table has a column {name!r} already; choose another name")
    owner = np.repeat(np.arange(lists.num_lists), lists.sizes)
    old = np.arange(lists.num_items) if order is None else -np.asarray(lists.column(order), np.float64)
    shown = np.lexsort([old, owner])  # items in the order in which they were shown
    place = np.empty(lists.num_items, np.int64)
    place[shown] = np.arange(lists.num_items) - np.repeat(lists.offsets[:-1], lists.sizes)
    worth = attractions(label_values(lists, Task("grade", label=label)), noise)
    padded = np.zeros([lists.num_lists, int(lists.sizes.max())])
    padded[owner, place] = worth
    clicks = model.simulate(padded, np.random.default_rng(seed))[owner, place]
    return lists.with_column(column, clicks.astype(np.float32)).with_column(position, place + 1)


def _seen(clicks: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """The items whose clicks are known."""
    known: np.ndarray = ~np.isnan(np.asarray(clicks, np.float64))
    return known if valid is None else known & valid
