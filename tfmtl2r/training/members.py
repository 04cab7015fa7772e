"""Scores of several members as one: the arithmetic of merged rankers and of ensembles.

Where the loss determines the level of the scores, the value of the merged score is the mean of the members' values (of
a regression, in the unit of the standardised label). Elsewhere only the order within a list is known, so that the
scores of each member are standardised within the list, ``(s - mean) / sd`` over the real items, and averaged.
"""

from __future__ import annotations

from collections.abc import Mapping

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.layers.numbers import standardised
from tfmtl2r.training.readings import Reading
from tfmtl2r.types import Mask, TaskScores, Tensor


def uncertainty_of(task: str) -> str:
    """The key of the members' standard deviation of a task's values, beside the scores by task."""
    return f"\0uncertainty {task}"  # no task has such a name


def logit_of(mean: Tensor, mean_against: Tensor) -> Tensor:
    """The logit of a mean probability.

    Args:
        mean: mean of the members' probabilities p.
        mean_against: mean of ``1 - p``.
    """
    return tf.math.log(tf.maximum(mean, 1e-30)) - tf.math.log(tf.maximum(mean_against, 1e-30))


def deviation(values: Tensor) -> Tensor:
    """The standard deviation over the members (divisor: their number), ``[members, ...]`` to ``[...]``.

    >>> deviation(tf.constant([0.9, 0.6, 0.3])).numpy().round(4)
    np.float32(0.2449)
    """
    return tf.math.reduce_std(values, axis=0)


def check(readings: Mapping[str, Reading], members: int, has_lists: bool) -> None:
    """Refuses members whose scores cannot be merged.

    Raises:
        InputError: for plain rows and a loss that leaves the level free: there is nothing to standardise within. Also
            for a loss whose link has no known mean.
    """
    for name, reading in readings.items():
        if members > 1 and reading.has_own_level:
            with tf.init_scope():
                reading.loss.averaged(tf.zeros([members, 1]))
        if members > 1 and not has_lists and not reading.has_own_level:
            raise InputError(f"task {name!r}: its loss leaves the level of the scores free, and without lists there is "
                             "nothing to standardise them within: members cannot be merged; choose a loss with a "
                             f"level, such as {'mse' if reading.task.kind == 'regression' else 'bce'!r}")


def merge(readings: Mapping[str, Reading], scores: TaskScores, members: int, valid: Mask | None) -> TaskScores:
    """The merged scores of an ensemble, and for several members :func:`uncertainty_of` of the tasks with values.

    Args:
        readings: the reading of every task, which all members share.
        scores: task -> ``float32[members, B, L]``; the columns that values depend on, ``float32[B, L]``, beside them.
        members: number of members.
        valid: ``bool[B, L]``; None for plain rows.
    """
    merged: TaskScores = {}
    for name, reading in readings.items():
        each = scores[name]
        if members == 1:
            merged[name] = each[0]
            continue
        if reading.has_own_level:
            merged[name] = reading.loss.averaged(each)
        else:
            assert valid is not None  # check refuses plain rows
            each = standardised(each, valid)
            merged[name] = tf.reduce_mean(each, axis=0)
        values = reading.value_later(each, scores) if reading.has_level else None
        if values is not None:
            merged[uncertainty_of(name)] = deviation(values)
    return merged
