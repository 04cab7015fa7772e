"""A small linear program over the probability simplex, by the tableau simplex method."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling
from tfmtl2r.types import Tensor

_PRICE = 1e6  # of a violated constraint, in units of the largest gain
_ROUNDING = 1e-11
_LEAST_GAIN = 1e-9  # above the rounding errors of the price


class LinearProgram(NamedTuple):
    """Result of :func:`linear_program`.

    Args:
        solution: ``float64[T]`` on the simplex. It is the point of least violation if no point satisfies all
            constraints.
        settled: ``bool``, whether the optimum was reached before the iteration cap.
    """

    solution: Tensor
    settled: Tensor


def linear_program(gain: Tensor, rows: Tensor, least: Tensor, present: Tensor) -> LinearProgram:
    """Solves ``max gain' x`` with ``rows x >= least`` over the probability simplex.

    One slack t, which every constraint may use at a high price, makes the program feasible: ``max gain' x - 1e6 t``
    with ``rows x + t >= least``. The first basis needs no first phase. Bland's rule prevents cycles.

    Shapes: ``gain`` ``[T]``, ``rows`` ``[k, T]``, ``least`` ``[k]`` and ``present`` ``bool[T]``; T and k known when
    traced. Absent entries are 0.

    >>> linear_program([1., 3.], [[2., -1.]], [0.], [True, True]).solution.numpy().round(4).tolist()
    [0.3333, 0.6667]
    """
    gain, rows, least = (tf.cast(part, tf.float64) for part in (gain, rows, least))
    present = tf.cast(present, tf.bool)
    tasks, limits = gain.shape[0], least.shape[0]
    gain = _scaled(tf.where(present, gain, 0.0)[None])[0][0]
    rows, scale = _scaled(tf.where(present, rows, 0.0))
    margins = rows - (least / scale)[:, None]
    margins = tf.where(present, margins, -np.inf)
    start = tf.cast(tf.argmax(tf.reduce_min(margins, axis=0)), tf.int32)
    # Columns: x, t, the surplus of each constraint, the right-hand side. Rows: constraints, sum of x.
    table = tf.concat([-rows, -tf.ones([limits, 1], tf.float64), tf.eye(limits, dtype=tf.float64),
                       -(least / scale)[:, None]], axis=1)
    sum_of_x = tf.concat([tf.cast(present, tf.float64), tf.zeros([1 + limits], tf.float64), [1.0]], axis=0)
    table = tf.concat([table, sum_of_x[None]], axis=0)
    basis = tf.concat([tasks + 1 + tf.range(limits), [start]], axis=0)
    table = _pivoted(table, limits, start)
    worst = tf.argmin(table[:limits, -1], output_type=tf.int32)
    violated = table[worst, -1] < 0
    table = tf.where(violated, _pivoted(table, worst, tasks), table)
    basis = tf.where(violated & (tf.range(limits + 1) == worst), tasks, basis)
    prices = tf.concat([gain, [-_PRICE], tf.zeros([limits], tf.float64)], axis=0)
    usable = tf.concat([present, tf.ones([1 + limits], tf.bool)], axis=0)

    def gains(table: Tensor, basis: Tensor) -> Tensor:
        """The gain of every column that may enter the basis."""
        given_up = tf.linalg.matvec(table[:, :-1], tf.gather(prices, basis), transpose_a=True)
        return tf.where(usable, prices - given_up, 0.0)

    def step(count: Tensor, table: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        entering = tf.argmax(gains(table, basis) > _LEAST_GAIN, output_type=tf.int32)  # the first one
        column = tf.gather(table, entering, axis=1)
        ratios = tf.where(column > _ROUNDING, table[:, -1] / tf.where(column > _ROUNDING, column, 1.0), np.inf)
        ties = ratios <= tf.reduce_min(ratios) + _ROUNDING
        leaving = tf.argmin(tf.where(ties, basis, tasks + limits + 2), output_type=tf.int32)
        return count + 1, _pivoted(table, leaving, entering), tf.tensor_scatter_nd_update(
            basis, leaving[None, None], entering[None])

    # Bland's rule ends by itself, unless rounding makes it cycle.
    most = 20 * (tasks + 1)

    def goes_on(count: Tensor, table: Tensor, basis: Tensor) -> Tensor:
        return (count < most) & tf.reduce_any(gains(table, basis) > _LEAST_GAIN)

    count, table, basis = tf.while_loop(goes_on, step, (tf.constant(0), table, basis))
    settled = count < most
    settling.report(settled, count)
    solution = tf.scatter_nd(basis[:, None], tf.maximum(table[:, -1], 0.0), [tasks + 1 + limits])[:tasks]
    return LinearProgram(tf.math.divide_no_nan(solution, tf.reduce_sum(solution)), settled)


def _scaled(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows divided by their largest absolute entry, and these entries; rows of zeros stay."""
    scale = tf.reduce_max(tf.abs(rows), axis=1)
    scale = tf.where(scale > 0, scale, 1.0)
    return rows / scale[:, None], scale


def _pivoted(table: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The table after a step of Gauss and Jordan: the column becomes 1 in the row, and 0 in the other rows."""
    pivot = table[row] / table[row, column]
    others = tf.range(table.shape[0])[:, None] != row
    return tf.where(others, table - tf.gather(table, column, axis=1)[:, None] * pivot, pivot)
