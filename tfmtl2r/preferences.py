"""Scales, checks, draws and spreads preferences: the importance of each of T tasks, >= 0, of sum 1.

Checked preferences and grids ``[N, T]`` are NumPy arrays. Preferences that a graph draws or receives are tensors. Only
the functions that return tensors import TensorFlow.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean
from tfmtl2r.task import Task
from tfmtl2r.types import Array

__all__ = [
    "above_zero", "asked", "by_angle", "checked_preference", "corners", "das_dennis", "drawn", "from_file", "grid",
    "has_ray", "is_preference", "leaning", "low_discrepancy", "normalised", "per_list", "scaled", "suited",
    "usual_grid",
]

FLOOR = 1e-3
"""Smallest importance, before scaling, for methods that divide by it."""


def scaled(preferences: Array) -> np.ndarray:
    """Preferences ``[..., T]`` scaled to sum 1.

    >>> scaled([1, 3]).tolist(), scaled([[1, 1], [0, 2]]).tolist()
    ([0.25, 0.75], [[0.5, 0.5], [0.0, 1.0]])
    """
    values = np.asarray(preferences, np.float64)
    return values / np.apply_along_axis(math.fsum, -1, values)[..., None]


def is_preference(preference: Array) -> bool:
    """Whether these numbers can be scaled to a preference: finite, >= 0 and not all 0."""
    values = np.asarray(preference, np.float64)
    return bool(np.isfinite(values).all() and (values >= 0).all() and 0 < values.sum() < math.inf)


def in_order(preference: Array | Mapping[str, float], tasks: Sequence[Task]) -> Any:
    """The numbers of a preference in the order of the tasks; numbers without names stay as they are.

    Raises:
        ValueError: if names are not exactly those of the tasks.
    """
    if not isinstance(preference, Mapping):
        return preference
    names = [task.name for task in tasks]
    if {*names} != {*preference}:
        raise InputError(f"preference must have one number for each of {', '.join(names)}; it has "
                         f"{', '.join(map(str, preference)) or 'none'}")
    return [preference[name] for name in names]


def asked(texts: Sequence[str], names: Sequence[str]) -> list[float]:
    """The preference of a command line: a number for each task in order, or ``TASK=NUMBER``, where other tasks have 0.

    Raises:
        ValueError: for a text that is neither, another number of numbers, or a name that is unknown or comes twice.

    >>> asked(["dwell=1"], ["click", "dwell"]), asked(["a=.8,b=.2"], "ab"), asked(["1", "3"], "ab")
    ([0.0, 1.0], [0.8, 0.2], [1.0, 3.0])
    """
    parts = [part.rpartition("=") for part in ",".join(texts).split(",")]
    try:
        numbers, given = [float(number) for *_, number in parts], [name.strip() for name, equals, _ in parts if equals]
    except ValueError:
        numbers, given = [], []
    if len(numbers) != (len(given) or len(names)) or len({*given}) < len(given):
        raise InputError(f"--preference must be one number for each of {', '.join(names)}, in this order, or such as "
                         f"{names[0]}=0.8,{names[-1]}=0.2, not {' '.join(texts)!r}")
    if unknown := [name for name in given if name not in names]:
        raise InputError(f"--preference names {unknown[0]!r}, which is no task here{did_you_mean(unknown[0], names)}; "
                         f"the tasks are {', '.join(names)}")
    return [dict(zip(given, numbers, strict=True)).get(name, 0.0) for name in names] if given else numbers


def normalised(preference: Array | Mapping[str, float], tasks: Sequence[Task]) -> np.ndarray:
    """A preference for a ranker, scaled to sum 1.

    Args:
        preference: importance of each task, in the order of the tasks or by name.
        tasks: tasks of the ranker.

    Raises:
        ValueError: for a wrong length or other names, a number that is negative or not finite, or all zeros.

    >>> normalised({"like": 3, "click": 1}, [Task("click"), Task("like")]).tolist()
    [0.25, 0.75]
    """
    names = ", ".join(task.name for task in tasks)
    values = np.asarray(in_order(preference, tasks), np.float64)
    if values.shape != (len(tasks),):
        raise InputError(f"a preference needs one number per task ({names}), got {preference!r}")
    if not is_preference(values):
        raise InputError(f"a preference must be finite, >= 0 and not all 0 (tasks {names}), got {preference!r}")
    return scaled(values)


def checked_preference(
    preference: Array | Mapping[str, float], tasks: Sequence[Task], method: Any, conditioned: bool = False
) -> np.ndarray:
    """A preference that a ranker can be trained for, scaled to sum 1.

    Args:
        preference: importance of each task, in the order of the tasks or by name.
        tasks: tasks of the ranker.
        method: a :class:`tfmtl2r.methods.Method`.
        conditioned: whether the ranker has the preference as an input.

    Raises:
        ValueError: for a wrong length, a number that is negative or not finite, or all zeros. Also for unequal
            importance or a conditioned ranker, if the method does not use the preference.
    """
    if conditioned and not method.takes_preference:
        raise InputError(f"a conditioned ranker learns what the preference means from the method, but "
                         f"{type(method).__name__} has no preference; choose one that takes it, such as "
                         "linear_scalarization or stch")
    values = normalised(preference, tasks)
    names = ", ".join(task.name for task in tasks)
    if method.positive_preference and (values == 0).any():
        raise InputError(f"{type(method).__name__} divides by the preference: the preference of every task ({names}) "
                         f"must be above 0, got {preference!r}")
    if not method.takes_preference and np.ptp(values) > 1e-9:
        raise InputError(f"{type(method).__name__} has no preference: it would ignore the importance "
                         f"{values.round(4).tolist()} of {names}; make all task weights equal or choose another method")
    return values


def drawn(num_tasks: int, concentration: float, seed: Any, num: Any = None) -> Any:
    """A random preference, a tensor ``float32[T]``, from a symmetric Dirichlet distribution; no entry is 0.

    Args:
        num_tasks: T.
        concentration: 1 is uniform on the simplex; smaller values favour its corners.
        seed: ``int32[2]``, a stateless seed.
        num: number of preferences, which are the rows of the result; None for one.
    """
    from tfmtl2r._backend import tf

    gamma = tf.random.stateless_gamma([num_tasks] if num is None else [num, num_tasks], seed, concentration)
    return _scaled_rows(_scaled_rows(gamma) + FLOOR)  # all draws of a tiny concentration may be 0


def per_list(given: Any, default: Any, num_lists: Any) -> Any:
    """The preference of every list of a batch, a tensor ``float32[B, T]``, each row of sum 1.

    Invalid rows (negative, not finite or all 0) are replaced by the default, since a server must answer every request.

    Args:
        given: ``[B, T]``, the preferences in the batch; None if the batch has none.
        default: ``float32[T]``, sum 1.
        num_lists: B.
    """
    from tfmtl2r._backend import tf

    default = tf.cast(default, tf.float32)
    if given is None:
        return tf.tile(default[None], [num_lists, 1])
    given = tf.cast(given, tf.float32)
    total = tf.reduce_sum(given, axis=1, keepdims=True)
    sound = tf.reduce_all(tf.math.is_finite(given) & (given >= 0), axis=1, keepdims=True)
    sound &= tf.math.is_finite(total) & (total > 0)
    return tf.where(sound, _scaled_rows(tf.where(sound, given, 0.0)), default)


def _scaled_rows(preferences: Any) -> Any:
    """:func:`scaled` for tensors; zeros stay zeros."""
    from tfmtl2r._backend import tf

    return tf.math.divide_no_nan(preferences, tf.reduce_sum(preferences, axis=-1, keepdims=True))


def by_angle(count: int, ends: Array = ((0.0, 1.0), (1.0, 0.0))) -> np.ndarray:
    """Preferences of two tasks whose rays are evenly spaced by angle between two ends in loss space.

    The ray of a preference p has the direction ``1 / p``. Let ``ends`` be the losses of the two single-task models. A
    ray between them can meet the Pareto front; a ray outside cannot.

    Args:
        count: number of preferences. If all losses of ``ends`` are positive, the first and the last ray go through the
            ends. If an end lies on an axis, all rays lie strictly between the ends, since a ray along an axis has no
            preference above 0 for both tasks.
        ends: losses ``(loss_1, loss_2)`` of the model trained for task 1 alone, then of the model trained for task 2
            alone.

    Raises:
        ValueError: for a count below 1, negative losses, or ends on the same ray.

    >>> by_angle(3).round(3).tolist()
    [[0.707, 0.293], [0.5, 0.5], [0.293, 0.707]]
    >>> by_angle(3, ends=[(1, 3), (2, 1)]).round(3).tolist()
    [[0.75, 0.25], [0.536, 0.464], [0.333, 0.667]]
    """
    ends = np.asarray(ends, np.float64)
    if count < 1:
        raise InputError(f"a grid needs at least 1 preference, not {count}")
    if ends.shape != (2, 2) or not np.isfinite(ends).all() or (ends < 0).any() or not ends.any(axis=1).all():
        raise InputError(f"ends must be the losses of two tasks at two models, >= 0, got {ends.tolist()}")
    first, last = np.arctan2(ends[:, 1], ends[:, 0])
    if np.isclose(first, last, rtol=0, atol=1e-9):
        raise InputError(f"both ends lie on the same ray: {ends.tolist()}; the tasks do not conflict in these losses")
    on_axis = (ends == 0).any()
    places = (np.arange(1, count + 1) / (count + 1) if on_axis else np.linspace(0, 1, count) if count > 1
              else np.array([0.5]))
    angles = first + places * (last - first)
    inverse = np.stack([np.sin(angles), np.cos(angles)], axis=1)  # 1 / p is along (cos, sin)
    return scaled(inverse)


def das_dennis(tasks: int, divisions: int) -> np.ndarray:
    """The simplex lattice: all preferences whose entries are multiples of ``1 / divisions``.

    Args:
        tasks: T.
        divisions: H. The lattice has ``C(H + T - 1, T - 1)`` preferences, including the corners.

    Raises:
        ValueError: for fewer than 1 task or division.

    Source: Das and Dennis, Normal-Boundary Intersection, 1998, https://doi.org/10.1137/S1052623496307510.

    >>> das_dennis(2, 2).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    >>> len(das_dennis(5, 4)) == math.comb(8, 4)
    True
    """
    if tasks < 1 or divisions < 1:
        raise InputError(f"a lattice needs at least 1 task and 1 division, not {tasks} and {divisions}")
    bars = itertools.combinations(range(divisions + tasks - 1), tasks - 1)
    walls = np.array([(-1, *bar, divisions + tasks - 1) for bar in bars], np.float64)
    return (np.diff(walls, axis=1) - 1)[::-1] / divisions


def low_discrepancy(tasks: int, count: int) -> np.ndarray:
    """Any number of preferences, spread evenly over the simplex, without zeros.

    The additive recurrence ``frac(1/2 + n a)`` for n = 1, 2, ..., with ``a_i = phi^-i`` and ``phi^T = phi + 1``, gives
    points of the unit cube of T - 1 dimensions. The gaps between the sorted coordinates of a point are a preference;
    this maps the cube evenly onto the simplex. A short grid equals the first rows of a longer grid.

    Args:
        tasks: T.
        count: number of preferences.

    Raises:
        ValueError: for fewer than 1 task or preference.

    Source: Roberts, The unreasonable effectiveness of quasirandom sequences, 2018,
    https://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences/; gaps: Devroye, Non-Uniform
    Random Variate Generation, 1986, chapter V.

    >>> low_discrepancy(3, 2).round(3).tolist()
    [[0.07, 0.185, 0.745], [0.01, 0.63, 0.36]]
    """
    if tasks < 1 or count < 1:
        raise InputError(f"a grid needs at least 1 task and 1 preference, not {tasks} and {count}")
    phi = 2.0
    for _ in range(64):
        phi = (1 + phi) ** (1 / tasks)
    steps = phi ** -np.arange(1.0, tasks)
    cube = np.sort((0.5 + np.outer(np.arange(1, count + 1), steps)) % 1, axis=1)
    walls = np.concatenate([np.zeros((count, 1)), cube, np.ones((count, 1))], axis=1)
    return np.diff(walls, axis=1)


def from_file(path: str | Path, tasks: int) -> np.ndarray:
    """Reads preferences from a text file: one per line, numbers separated by commas or blanks, ``#`` for comments.

    Args:
        path: path of the file.
        tasks: T.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: for a line that is not a preference of T tasks, or a file without preferences.
    """
    path = Path(path)
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        cells = [c for cell in next(csv.reader([line.split("#", 1)[0]]), []) for c in cell.split()]
        if not cells:
            continue
        try:
            row = [float(cell) for cell in cells]
        except ValueError:
            raise InputError(f"{path}, line {number}: expected {tasks} numbers, got {line!r}") from None
        if len(row) != tasks or not is_preference(row):
            raise InputError(f"{path}, line {number}: expected {tasks} numbers >= 0, not all 0, got {line!r}")
        rows.append(row)
    if not rows:
        raise InputError(f"{path} holds no preference")
    return scaled(rows)


def above_zero(preferences: Array, floor: float = FLOOR) -> np.ndarray:
    """Raises every entry to at least ``floor``, then scales each row to sum 1; for methods that divide by preferences.

    >>> above_zero([[0.0, 1.0]]).round(6).tolist()
    [[0.000999, 0.999001]]
    """
    return scaled(np.maximum(np.asarray(preferences, np.float64), floor))


def suited(preferences: Array, method: Any) -> np.ndarray:
    """Preferences in the form that a method requires: :func:`above_zero` if the method divides by the preference.

    Args:
        preferences: ``[N, T]``.
        method: a :class:`tfmtl2r.methods.Method`.
    """
    return above_zero(preferences) if method.positive_preference else np.asarray(preferences, np.float64)


def has_ray(preference: Sequence[float]) -> bool:
    """Whether a preference has a ray: every share is above ``FLOOR``, which is what :func:`above_zero` makes of a 0.

    >>> has_ray([0.2, 0.8]), has_ray([0.0, 1.0]), has_ray(above_zero([[0.0, 1.0]])[0]), has_ray(())
    (True, False, False, False)
    """
    return len(preference) > 0 and bool(min(preference) > FLOOR * (1 + 1e-6) * sum(preference))


def leaning(tasks: int, more: float) -> np.ndarray:
    """Equal importance, then one preference per task in which this task has more importance.

    This task has ``(1 - more) / T + more``, and every other task has ``(1 - more) / T``.

    Args:
        tasks: T.
        more: additional importance, from 0 to 1.

    >>> leaning(2, 0.6).round(3).tolist()
    [[0.5, 0.5], [0.8, 0.2], [0.2, 0.8]]
    """
    equal = np.full((1, tasks), 1 / tasks)
    return np.concatenate([equal, (1 - more) * equal + more * np.eye(tasks)])


def corners(tasks: int) -> np.ndarray:
    """Equal importance, the corners (0.8 for one task), and the means of both: the grid of the served utility.

    Args:
        tasks: T; the grid has ``2 T + 1`` rows, or one row for a single task.

    >>> corners(2).round(3).tolist()
    [[0.5, 0.5], [0.8, 0.2], [0.2, 0.8], [0.65, 0.35], [0.35, 0.65]]
    """
    if tasks == 1:
        return np.ones((1, 1))
    ends = np.where(np.eye(tasks) > 0, 0.8, 0.2 / (tasks - 1))
    return np.concatenate([np.full((1, tasks), 1 / tasks), ends, (ends + 1 / tasks) / 2])


def usual_grid(tasks: int) -> np.ndarray:
    """The default grid of 11 preferences: evenly spaced for two tasks, otherwise equal importance and 10 others.

    >>> usual_grid(2)[:3].tolist(), usual_grid(3)[:2].round(3).tolist()
    ([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2]], [[0.333, 0.333, 0.333], [0.07, 0.185, 0.745]])
    """
    return das_dennis(2, 10) if tasks == 2 else np.concatenate([leaning(tasks, 0)[:1], low_discrepancy(tasks, 10)])


def grid(spec: str, tasks: int, ends: Array | None = None) -> np.ndarray:
    """The grid for a specification from the command line.

    Args:
        spec: ``"angle:N"`` (two tasks), ``"lattice:H"``, ``"spread:N"`` or a file; :func:`usual_grid` if empty.
        tasks: T.
        ends: the ends of ``angle``, see :func:`by_angle`.

    Raises:
        ValueError: for another specification, or ``angle`` with a number of tasks that is not 2.

    >>> grid("lattice:1", 2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not spec:
        return usual_grid(tasks)
    kind, colon, number = spec.partition(":")
    if kind not in ("angle", "lattice", "spread") or not colon:
        if Path(spec).is_file():
            return from_file(spec, tasks)
        raise InputError(f"preferences {spec!r}: expected angle:N, lattice:H, spread:N, or a file with one per line")
    if not number.isdecimal():
        raise InputError(f"preferences {spec!r}: expected a whole number after the colon")
    if kind == "angle":
        if tasks != 2:
            raise InputError(f"angle:N is for 2 tasks, but there are {tasks}: use lattice:H or spread:N")
        return by_angle(int(number), ends) if ends is not None else by_angle(int(number))
    return das_dennis(tasks, int(number)) if kind == "lattice" else low_discrepancy(tasks, int(number))
