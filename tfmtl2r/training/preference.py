"""How important the tasks are: checked, and drawn at random for a ranker that reads the preference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.batch import PREFERENCE, Batch
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Method
from tfmtl2r.task import Task

LEAST = 1e-3
"""Smallest importance of a drawn preference: ratio methods divide by it."""


def checked_preference(
    preference: Any, tasks: Sequence[Task], method: Method, conditioned: bool = False
) -> np.ndarray:
    """A preference normalised to sum 1.

    Args:
        preference: importance of each task.
        tasks: of the ranker.
        method: the balancing method.
        conditioned: whether the ranker reads the preference.

    Raises:
        ValueError: for a wrong length, a number that is not finite or below 0, all zeros, or, with a method that treats
            tasks alike, unequal importance or a conditioned ranker.
    """
    if conditioned and not method.takes_preference:
        raise InputError(f"a conditioned ranker learns what the preference means from the method, but "
                         f"{type(method).__name__} has no preference; choose one that takes it, such as "
                         "linear_scalarization or stch")
    values = normalised(preference, tasks)
    names = ", ".join(task.name for task in tasks)
    if method.positive_preference and (values == 0).any():
        raise InputError(f"{type(method).__name__} divides by the preference: that of every task ({names}) must be "
                         f"above 0, got {preference!r}")
    if not method.takes_preference and np.ptp(values) > 1e-9:
        raise InputError(f"{type(method).__name__} has no preference: it would ignore the importance "
                         f"{values.round(4).tolist()} of {names}; make all task weights equal or choose another method")
    return values


def normalised(preference: Any, tasks: Sequence[Task]) -> np.ndarray:
    """A preference scaled to sum 1, whatever the method.

    Args:
        preference: importance of each task.
        tasks: of the ranker.

    Raises:
        ValueError: for a wrong length, a number that is not finite or below 0, or all zeros.
    """
    values = np.asarray(preference, np.float64)
    names = ", ".join(task.name for task in tasks)
    if values.shape != (len(tasks),):
        raise InputError(f"a preference needs one number per task ({names}), got {preference!r}")
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise InputError(f"a preference must be finite, >= 0 and not all 0 (tasks {names}), got {preference!r}")
    return values / math.fsum(values)


def drawn(batch: Batch, num_tasks: int, concentration: float, seed: Any) -> Any:
    """The preference of a training step, from a symmetric Dirichlet distribution, ``float32[T]``, sum 1; no entry is 0.

    Args:
        batch: of the step.
        num_tasks: T.
        concentration: 1 is uniform on the simplex; smaller ones favour its corners.
        seed: ``int32[2]``, stateless.

    Raises:
        ValueError: when the batch has a preference of its own, which the ranker would read, but not be trained for.
    """
    if PREFERENCE in batch.features:
        raise InputError(f"a training batch has {PREFERENCE!r}, but a conditioned ranker draws the preference that it "
                         "reads and is trained for; leave it out of training data")
    gamma = tf.random.stateless_gamma([num_tasks], seed, concentration)
    # A tiny concentration may draw zeros only.
    share = tf.math.divide_no_nan(gamma, tf.reduce_sum(gamma)) + LEAST
    return share / tf.reduce_sum(share)


def preference_of(batch: Batch, default: Any) -> Any:
    """What a conditioned ranker reads for every list (or plain row): the batch's own preference, or the default.

    Takes the preference out of the batch's features.

    Args:
        batch: may hold ``preference``, ``float32[B, T]``.
        default: T numbers, sum 1.

    Returns:
        ``float32[B, T]``, each row of sum 1.
    """
    default = tf.cast(default, tf.float32)
    given = batch.features.pop(PREFERENCE, None)
    if given is not None:
        return usable(tf.cast(given, tf.float32), default)
    lists = tf.shape(next(iter(batch.features.values())) if batch.list_size is None else batch.list_size)[0]
    return tf.tile(default[None], [lists, 1])


def usable(preference: Any, default: Any) -> Any:
    """Preferences of requests, ``float32[B, T]``, scaled to sum 1; a row that is none is replaced by the default.

    A row is none when a number in it is not finite or below 0, or all are 0: a server must answer something, and what
    it answers then is documented.

    Args:
        preference: ``float32[B, T]``.
        default: ``float32[T]``, sum 1.
    """
    total = tf.reduce_sum(preference, axis=1, keepdims=True)
    sound = tf.reduce_all(tf.math.is_finite(preference) & (preference >= 0), axis=1, keepdims=True)
    sound &= tf.math.is_finite(total) & (total > 0)
    return tf.where(sound, tf.math.divide_no_nan(tf.where(sound, preference, 0.0), total), default)
