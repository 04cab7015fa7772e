"""Sets of points in objective space: which points are Pareto optimal, how good a set is, and which point to choose.

``points`` is ``[N, T]``: N models, T objectives (losses or metrics). Objectives are minimised by default. ``maximise``
is a flag for all objectives, or one flag for each. The *costs* in formulas are the points, with maximised objectives
negated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.preferences import das_dennis, is_preference, scaled
from tfmtl2r.types import Array

Directions = bool | Sequence[bool]
MARGIN = 0.1
_R2_DIRECTIONS = 1000


def costs(points: Array, maximise: Directions = False) -> np.ndarray:
    """Points as costs to minimise, ``float64[N, T]``.

    Raises:
        ValueError: when points are not ``[N, T]``, a number is not finite, or the number of flags in ``maximise`` is
            not the number of objectives.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or 0 in points.shape:
        raise InputError(f"points must be [N, T], at least one point and one objective, got shape {points.shape}")
    if not np.isfinite(points).all():
        row = int(np.argmin(np.isfinite(points).all(axis=1)))
        raise InputError(f"point {row} is {points[row].tolist()}: every objective must be a finite number")
    return points * signs(maximise, points.shape[1])


def signs(maximise: Directions, count: int) -> np.ndarray:
    """Returns -1 for each maximised objective and 1 for each other objective, ``float64[T]``.

    Raises:
        ValueError: when the number of flags is not the number of objectives.
    """
    flags = np.asarray(maximise, bool)
    if flags.ndim > 1 or (flags.ndim == 1 and len(flags) != count):
        raise InputError(f"maximise must be one flag or one for each of {count} objectives, got {maximise!r}")
    return np.where(np.broadcast_to(flags, count), -1.0, 1.0)


def non_dominated(points: Array, maximise: Directions = False) -> np.ndarray:
    """Marks the Pareto optimal points.

    A point is Pareto optimal if no other point is at least as good in every objective and better in one.

    Args:
        points: ``[N, T]``.
        maximise: a flag for all objectives, or one flag for each.

    Returns:
        ``bool[N]``; equal points do not dominate each other.

    Raises:
        ValueError: see :func:`costs`.

    >>> non_dominated([[1, 4], [2, 2], [3, 3], [4, 1]]).tolist()
    [True, True, False, True]
    >>> non_dominated([[1, 4], [2, 2], [3, 3], [4, 1]], maximise=True).tolist()
    [True, False, True, True]
    """
    return np.asarray(moocore.is_nondominated(costs(points, maximise), keep_weakly=True), bool)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A reference point and the rule that it came from. Both are stored with every number that depends on them.

    Args:
        point: ``T`` values, in the units of the objectives.
        rule: description of the rule in words.
    """

    point: tuple[float, ...]
    rule: str = "given"


def reference_point(points: Array, maximise: Directions = False, margin: float = MARGIN) -> Reference:
    """The worst value of each objective over all compared points, moved outward by a share of its range.

    Hypervolumes are comparable only with the same reference point, so pass the points of *all* sets to compare. Without
    the margin, the ends of a front would add no volume. If all values of an objective are equal, its reference is moved
    by ``margin`` itself.

    Args:
        points: ``[N, T]``, the points of all methods and seeds.
        maximise: a flag for all objectives, or one flag for each.
        margin: share of the range, above 0.

    Raises:
        ValueError: for a margin that is not above 0; see also :func:`costs`.

    Source: Ishibuchi, Imada, Setoguchi and Nojima, How to Specify a Reference Point in Hypervolume Calculation for
    Fair Performance Comparison, 2018, https://doi.org/10.1162/evco_a_00226.

    >>> reference_point([[0, 4], [10, 2]]).point
    (11.0, 4.2)
    """
    if not margin > 0:
        raise InputError(f"margin must be above 0, not {margin}")
    values = costs(points, maximise)
    worst, spread = values.max(axis=0), np.ptp(values, axis=0)
    point = (worst + margin * np.where(spread > 0, spread, 1.0)) * signs(maximise, values.shape[1])
    return Reference(tuple(map(float, point)), f"worst of all {len(values)} compared points + {margin:g} of the range")


def ideal_point(points: Array, maximise: Directions = False) -> tuple[float, ...]:
    """The best value of each objective.

    Args:
        points: ``[N, T]``.
        maximise: a flag for all objectives, or one flag for each.

    Raises:
        ValueError: see :func:`costs`.

    >>> ideal_point([[0.0, 4.0], [10.0, 2.0]], maximise=[False, True])
    (0.0, 4.0)
    """
    values = costs(points, maximise)
    return tuple(map(float, values.min(axis=0) * signs(maximise, values.shape[1])))


def hypervolume(points: Array, reference: Array | Reference, maximise: Directions = False) -> float:
    """The volume between a set of points and a reference point; larger is better.

    A point that is not better than the reference in every objective adds nothing.

    Args:
        points: ``[N, T]``.
        reference: ``T`` values worse than the points of interest, or a :class:`Reference`.
        maximise: a flag for all objectives, or one flag for each.

    Raises:
        ValueError: when the reference is not ``T`` finite values; see also :func:`costs`.

    Source: Zitzler and Thiele, Multiobjective optimization using evolutionary algorithms, 1998,
    https://doi.org/10.1007/BFb0056872.

    >>> hypervolume([[1, 2], [2, 1]], [3, 3])
    3.0
    >>> hypervolume([[0.75, 0.5]], [0, 1], maximise=[True, False])
    0.375
    """
    values = costs(points, maximise)
    point = reference.point if isinstance(reference, Reference) else reference
    limit = _vector(point, values.shape[1], "reference")
    return float(moocore.hypervolume(values, limit * signs(maximise, values.shape[1])))


def r2(points: Array, ideal: Array, maximise: Directions = False) -> float:
    """The R2 indicator: the Chebyshev cost of the best point, averaged over all preferences; smaller is better.

    ``R2 = E_w min_n max_t w_t |c_nt - ideal_t|`` with w uniform on the simplex. The expectation is exact for two
    objectives. For more objectives it is the mean over a Das-Dennis lattice of at least 1,000 preferences.

    Args:
        points: ``[N, T]``.
        ideal: ``T`` values at least as good as every point, for example the values of single-task runs.
        maximise: a flag for all objectives, or one flag for each.

    Raises:
        ValueError: when a point is better than the ideal; see also :func:`costs`.

    Source: Hansen and Jaszkiewicz, Evaluating the quality of approximations to the non-dominated set, 1998; exact form:
    Schäpermeier and Kerschke, 2025, as in https://multi-objective.github.io/moocore/python/.

    >>> round(r2([[1, 1]], [0, 0]), 9)  # E max(w, 1 - w)
    0.75
    """
    values = costs(points, maximise)
    tasks = values.shape[1]
    best = _vector(ideal, tasks, "ideal") * signs(maximise, tasks)
    if (values < best).any():
        row, axis = map(int, np.argwhere(values < best)[0])
        raise InputError(f"point {row} is better than the ideal in objective {axis}: an ideal must bound all points")
    if tasks == 2:
        return float(moocore.r2_exact(values, best))
    divisions = 1
    while (weights := das_dennis(tasks, divisions)).shape[0] < _R2_DIRECTIONS and tasks > 1:
        divisions += 1
    return float(np.mean([(w * (values - best)).max(axis=1).min() for w in weights]))


def max_weighted_loss(losses: Array, preference: Array) -> np.ndarray:
    """``max_t p_t loss_t`` with the preference scaled to sum 1; the objective of Chebyshev methods.

    Args:
        losses: ``[..., T]``.
        preference: ``[T]``.

    >>> max_weighted_loss([[1.0, 3.0]], [3, 1]).tolist()
    [0.75]
    """
    losses = np.asarray(losses, np.float64)
    return (losses * _importance(preference, losses.shape[-1])).max(axis=-1)


def preference_error(losses: Array, preference: Array) -> np.ndarray:
    """The angle between the losses and the ray of the preference, in radians.

    On the ray, ``p_t loss_t`` is the same for all tasks. The direction of the ray is therefore ``1 / p``.

    Args:
        losses: ``[..., T]``, >= 0 and not all 0.
        preference: ``[T]``, above 0.

    Raises:
        ValueError: when a loss is negative, all losses are 0, or an entry of the preference is 0.

    >>> preference_error([[3.0, 1.0], [1.0, 1.0]], [1, 3]).round(4).tolist()
    [0.0, 0.4636]
    """
    losses = np.asarray(losses, np.float64)
    weights = _importance(preference, losses.shape[-1])
    if (weights == 0).any():
        raise InputError(f"a preference of 0 has no ray, got {np.asarray(preference).tolist()}")
    if not (losses >= 0).all() or not losses.any(axis=-1).all():
        raise InputError("losses must be >= 0 and not all 0, since only such losses have an angle to a ray")
    ray, unit = 1 / weights, losses / np.linalg.norm(losses, axis=-1, keepdims=True)
    ray /= np.linalg.norm(ray)
    # 2 atan2 is accurate near 0, where arccos loses half of its digits
    return 2 * np.arctan2(np.linalg.norm(unit - ray, axis=-1), np.linalg.norm(unit + ray, axis=-1))


def knee(points: Array, maximise: Directions = False) -> int:
    """The knee of a front, where it bulges most: leaving this point costs one objective more than another gains.

    Costs are scaled to 0 (best on the front) and 1 (worst on the front). The knee is the point of the front farthest
    below the plane through the T unit points. This is the point with the smallest sum of scaled costs.

    Args:
        points: ``[N, T]``; dominated points are never chosen.
        maximise: a flag for all objectives, or one flag for each.

    Returns:
        The row of the point.

    Source: Das, On characterizing the "knee" of the Pareto curve based on Normal-Boundary Intersection, 1999,
    https://doi.org/10.1007/BF01195985.

    >>> knee([[0, 10], [1, 2], [6, 1], [10, 0], [10, 10]])
    1
    """
    scaled, rows = _scaled_front(points, maximise)
    return int(rows[np.argmin(scaled.sum(axis=1))])


def nearest(points: Array, preference: Array, maximise: Directions = False) -> int:
    """The point of the front that fits a preference best: it minimises the maximum weighted cost.

    ``argmin_n max_t p_t c_nt``, with costs scaled as in :func:`knee`. The smallest ``sum_t p_t c_nt`` decides between
    ties, and after that the smallest ``sum_t c_nt``.

    Args:
        points: ``[N, T]``; dominated points are never chosen.
        preference: importance of each objective, >= 0.
        maximise: a flag for all objectives, or one flag for each.

    Returns:
        The row of the point.

    Source: Wierzbicki, The use of reference objectives in multiobjective optimization, 1980,
    https://doi.org/10.1007/978-3-642-48782-8_32.

    >>> front = [[0, 10], [1, 2], [6, 1], [10, 0]]
    >>> nearest(front, [1, 1]), nearest(front, [1, 0]), nearest(front, [1, 9])
    (1, 0, 2)
    """
    scaled, rows = _scaled_front(points, maximise)
    weighted = scaled * _importance(preference, scaled.shape[1])
    order = np.lexsort((scaled.sum(axis=1), weighted.sum(axis=1), weighted.max(axis=1)))
    return int(rows[order[0]])


def bands(fronts: Sequence[Any], levels: Sequence[float] = (0, 50, 100), maximise: Directions = False) -> list[Any]:
    """Exact attainment surfaces: what a given percentage of the fronts attains, with one front per seed.

    A front attains a place in objective space if one of its points is at least as good in every objective. At least one
    front attains the surface of level 0 (the best case), half of the fronts attain level 50, and all attain level 100.

    Args:
        fronts: ``[N_s, 2]`` or ``[N_s, 3]`` for each seed s.
        levels: percentages.
        maximise: a flag for all objectives, or one flag for each.

    Returns:
        For each level, the corners ``[M, T]`` of its surface, ordered by the first objective.

    Raises:
        ValueError: when there are not 2 or 3 objectives; see also :func:`costs`.

    Source: Grunert da Fonseca, Fonseca and Hall, Inferential performance assessment of stochastic optimisers and the
    attainment function, 2001, https://doi.org/10.1007/3-540-44719-9_15.

    >>> best, worst = bands([[[0, 2], [2, 0]], [[1, 1]]], levels=(0, 100))
    >>> best.tolist(), worst.tolist()
    ([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]], [[1.0, 2.0], [2.0, 1.0]])
    """
    values = [costs(front, maximise) for front in fronts]
    if not values or values[0].shape[1] not in (2, 3):
        raise InputError("bands need at least one front with 2 or 3 objectives")
    tasks = values[0].shape[1]
    sets = np.repeat(np.arange(len(values)), [len(front) for front in values])
    found = moocore.eaf(np.concatenate(values), sets, percentiles=sorted(map(float, levels)))
    surfaces = []
    for level in levels:
        corners = found[np.isclose(found[:, -1], level)][:, :-1]
        corners = corners[np.lexsort(corners.T[::-1])] * signs(maximise, tasks)
        surfaces.append(corners[np.argsort(corners[:, 0], kind="stable")])
    return surfaces


def indicators(points: Array, reference: Reference, ideal: Array, maximise: Directions = False) -> dict[str, Any]:
    """Quality indicators of a set of points, together with the reference and ideal points that they depend on.

    Args:
        points: ``[N, T]``.
        reference: the reference point of all compared sets; see :func:`reference_point`.
        ideal: ``T`` values at least as good as every compared point.
        maximise: a flag for all objectives, or one flag for each.

    Returns:
        ``points`` and ``non_dominated`` (counts), ``hypervolume``, ``share`` (hypervolume divided by the volume of the
        box between ideal and reference), ``r2``, ``reference``, ``reference_rule``, ``ideal``.

    Raises:
        ValueError: when the reference is not worse than the ideal in every objective; see also :func:`costs`.
    """
    volume = hypervolume(points, reference, maximise)
    best = _vector(ideal, len(reference.point), "ideal")
    sides = (np.array(reference.point) - best) * signs(maximise, len(best))
    if not (sides > 0).all():
        axis = int(np.argmin(sides > 0))
        raise InputError(f"the reference point {list(reference.point)} must be worse than the ideal {best.tolist()} in "
                         f"every objective, but objective {axis} ({reference.point[axis]:g}) is not: set a worse one")
    box = float(np.prod(sides))
    return {
        "points": len(points), "non_dominated": int(non_dominated(points, maximise).sum()), "hypervolume": volume,
        "share": volume / box, "r2": r2(points, best, maximise), "reference": list(reference.point),
        "reference_rule": reference.rule, "ideal": best.tolist(),
    }


def _scaled_front(points: Array, maximise: Directions) -> tuple[np.ndarray, np.ndarray]:
    values = costs(points, maximise)
    rows = np.flatnonzero(non_dominated(points, maximise))
    front = values[rows]
    spread = np.ptp(front, axis=0)
    return (front - front.min(axis=0)) / np.where(spread > 0, spread, 1.0), rows


def _importance(preference: Array, count: int) -> np.ndarray:
    weights = _vector(preference, count, "preference")
    if not is_preference(weights):
        raise InputError(f"a preference must be >= 0 and not all 0, got {weights.tolist()}")
    return scaled(weights)


def _vector(values: Array, count: int, what: str) -> np.ndarray:
    vector = np.asarray(values, np.float64)
    if vector.shape != (count,) or not np.isfinite(vector).all():
        raise InputError(f"{what} must be {count} finite numbers, one per objective, got {vector.tolist()}")
    return vector
