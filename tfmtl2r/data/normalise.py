"""Recipes for the normalisation of a feature vector, which are fitted on the training split and applied in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.features.dense import Dense

RECIPES = ("zscore", "log1p", "signed_log1p", "quantile_clip", "rank_gauss", "allrank")
DEFAULT = ("signed_log1p", "rank_gauss")
"""Recipes of vectors in LETOR's format that nobody declared."""
_BY_COMPONENT = ("log1p", "allrank")
# Numbers of features as in LETOR, counted from 1; allRank's script counts from 0.
_ALLRANK_PLAIN = (6, 7, 8, 9, 10, 16, 20, 58, 59, 63, 76, 80, 86, *range(96, 106), 122, 123, 128, 130, 131)
_ALLRANK_NEGATED = (*range(111, 122), 124, 125)


def checked_recipes(recipes: str | Sequence[str]) -> tuple[str, ...]:
    """Returns names of recipes as a tuple.

    Raises:
        ValueError: for an unknown name, no name, or a name that occurs twice.
    """
    found = (recipes,) if isinstance(recipes, str) else tuple(recipes)
    if not found or not set(found) <= set(RECIPES) or len(set(found)) < len(found):
        raise InputError(f"normalise must be one of {', '.join(RECIPES)}, or a list of them, not {recipes!r}")
    if len(set(found) & set(_BY_COMPONENT)) > 1:
        raise InputError(f"normalise has {' and '.join(_BY_COMPONENT)}, which both choose a transform for each "
                         "component: leave one of them out")
    return found


def normalised(
    train: Lists, recipe: str | Sequence[str] = DEFAULT, name: str = "features", **options: Any
) -> Dense:
    """Returns a feature vector with a recipe for its normalisation, which :func:`tfmtl2r.data.fit_schema` fits.

    Every recipe applies the transform below, and then (x - mean) / std of the training split.

    =================  ===========================================================================================
    ``zscore``         no transform
    ``log1p``          log(1 + x), for components that are never negative in the training split
    ``signed_log1p``   sign(x) log(1 + abs(x)), for all components (DASALC)
    ``quantile_clip``  clips x to the .001 and .999 quantiles of the training split
    ``rank_gauss``     the normal quantile of the mid-rank in the training split, which is not standardised again
    ``allrank``        allRank's script for MSLR: log(x + .01), and log(.01 - x) for LMIR features, if the signs of all
                       training values allow it; no transform for the ratios and other features that it lists
    =================  ===========================================================================================

    Args:
        train: the training split.
        recipe: name of a recipe in the table; several names give a copy of the vector for each.
        name: the column, ``[N, D]``.
        **options: other options of :class:`tfmtl2r.Dense`, such as ``within_list``.

    Raises:
        ValueError: for an unknown recipe, or a column without vectors.

    Source: Qin et al., Are Neural Rankers still Outperformed by Gradient Boosted Decision Trees?, ICLR 2021
    (``signed_log1p``); https://github.com/allegro/allRank (``allrank``).
    Differs from the authors' code: allRank checks the signs on all three splits, and leaves a negated feature negated.

    >>> train = Lists({"features": np.array([[1.0, -2.0], [3.0, 5.0]])})
    >>> normalised(train, "log1p").transform
    ('log1p', 'none')
    """
    values = train.column(name)
    if values.ndim != 2:
        raise InputError(f"feature {name!r}: expected a vector per item, got the shape {values.shape[1:]}")
    shape = values.shape[1:]
    first, *others = sorted(checked_recipes(recipe), key=lambda one: one not in _BY_COMPONENT)
    transform: Any = "none" if first == "zscore" else first
    if first == "log1p":
        transform = tuple(np.where((values >= 0).all(0), "log1p", "none").tolist())
    elif first == "allrank":
        transform = _allrank(values)
    copies = tuple("none" if one == "zscore" else one for one in others)
    return Dense(name, shape, transform=transform, copies=copies, **options)


def _allrank(values: np.ndarray) -> tuple[str, ...]:
    numbers = np.arange(1, values.shape[1] + 1)
    negated = np.isin(numbers, _ALLRANK_NEGATED)
    possible = np.where(negated, (values <= 0).all(0), (values >= 0).all(0)) & ~np.isin(numbers, _ALLRANK_PLAIN)
    return tuple(np.where(possible, np.where(negated, "log_negative", "log"), "none").tolist())
