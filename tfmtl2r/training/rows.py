"""Per-task gradients of one shared variable, kept as rows.

A dense variable has one matrix ``[T, n]``. The gradient of an embedding table stays sparse: it has rows for the ids of
the batch only, and duplicate ids are merged once for all tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.types import Gram, Rows, Tensor

MOST_BYTES = 2**30
"""Largest size of the dense gradients of one embedding table, over all tasks."""


@dataclasses.dataclass(frozen=True)
class DenseRows:
    """Rows of a dense variable.

    Args:
        matrix: ``float32[T, n]``.
        shape: the variable's shape.
    """

    matrix: Any
    shape: Any

    def gradient(self, flat: Tensor) -> Any:
        """A vector ``[n]`` as a gradient of the variable."""
        return tf.reshape(flat, self.shape)


@dataclasses.dataclass(frozen=True)
class SparseRows:
    """Rows of an embedding table.

    Args:
        ids: ``[U]``, distinct row numbers of the table.
        matrix: ``float32[T, U * d]``.
        shape: the table's shape.
        name: the table's name.
    """

    ids: Any
    matrix: Any
    shape: Any
    name: str

    def gradient(self, flat: Tensor) -> Any:
        """A vector ``[U * d]`` as a gradient of the table."""
        return tf.IndexedSlices(tf.reshape(flat, [-1, self.shape[-1]]), self.ids, tf.constant(self.shape.as_list()))


def stack(gradients: list[list[Any]], variables: list[Any], replicas: Replicas) -> list[DenseRows | SparseRows]:
    """Rows of every variable, summed over replicas.

    Args:
        gradients: per task, the gradient of its loss for each variable; None if the loss does not depend on it.
        variables: the variables.
        replicas: the replicas to sum over. The losses of the replicas sum to one global loss.
    """
    rows: list[DenseRows | SparseRows | None] = [None] * len(variables)
    dense: dict[int, Any] = {}
    for index, variable in enumerate(variables):
        per_task = [task[index] for task in gradients]
        shape = tf.TensorShape(variable.shape)
        if any(isinstance(g, tf.IndexedSlices) for g in per_task):
            rows[index] = _merge(per_task, variable, replicas)
        else:
            zeros = tf.zeros([shape.num_elements()])
            flat = [zeros if g is None else tf.cast(tf.reshape(g, [-1]), tf.float32) for g in per_task]
            dense[index] = tf.stack(flat)
    summed = replicas.sum(list(dense.values())) if dense else []
    for index, matrix in zip(dense, summed, strict=True):
        rows[index] = DenseRows(matrix, tf.TensorShape(variables[index].shape))
    return [row for row in rows if row is not None]


def _merge(per_task: list[Any], table: Any, replicas: Replicas) -> SparseRows:
    """Merges duplicate ids once for all tasks.

    The backward passes of all tasks run through the same lookups, since the engine passes zeros for tasks that do not
    use a lookup. The ids and their order are therefore the same for all tasks. Duplicates must be merged before any
    square is taken.
    """
    if any(not isinstance(g, tf.IndexedSlices) for g in per_task):
        raise InputError("an embedding table got a sparse gradient from some tasks and another kind from others; read "
                         "it only through lookups that every task shares")
    shape = tf.TensorShape(table.shape)
    tasks, width = len(per_task), shape[-1]
    values = tf.concat([tf.cast(tf.reshape(g.values, [-1, width]), tf.float32) for g in per_task], axis=1)
    ids, values = replicas.gather_rows(tf.reshape(per_task[0].indices, [-1]), values)
    distinct, segment = tf.unique(ids)
    merged = tf.math.unsorted_segment_sum(values, segment, tf.size(distinct))  # [U, T * d]
    merged = tf.transpose(tf.reshape(merged, [-1, tasks, width]), [1, 0, 2])
    return SparseRows(distinct, tf.reshape(merged, [tasks, -1]), shape, table.name)


def lengths(rows: Sequence[DenseRows | SparseRows]) -> Tensor:
    """The length of each task's gradient in each variable, ``[variables, T]``."""
    return tf.stack([tf.sqrt(tf.reduce_sum(tf.square(row.matrix), axis=1)) for row in rows])


def densified(rows: list[DenseRows | SparseRows]) -> list[DenseRows | SparseRows]:
    """Rows over whole embedding tables, for methods that store a number per parameter.

    Raises:
        ValueError: for a table whose rows would take more than 1 GiB.
    """
    dense: list[DenseRows | SparseRows] = []
    for row in rows:
        if isinstance(row, SparseRows):
            tasks, (size, width) = row.matrix.shape[0], row.shape
            refuse_huge(row.name, row.shape, tasks)
            values = tf.transpose(tf.reshape(row.matrix, [tasks, -1, width]), [1, 0, 2])
            table = tf.scatter_nd(row.ids[:, None], values, tf.cast([size, tasks, width], row.ids.dtype))
            row = DenseRows(tf.reshape(tf.transpose(table, [1, 0, 2]), [tasks, size * width]), row.shape)
        dense.append(row)
    return dense


def refuse_huge(name: str, shape: Any, tasks: int) -> None:
    """Refuses a table that is too large to store a number per task and parameter.

    Raises:
        ValueError: if these numbers take more than 1 GiB.
    """
    size, width = shape
    number = 4 * tasks * size * width
    if number > MOST_BYTES:
        raise InputError(
            f"the method stores a number per task and parameter: for the {size:,} x {width} embedding table "
            f"{name!r} and {tasks} tasks these take {number / 2**30:.1f} GiB, more than {MOST_BYTES / 2**30:.0f}. Use "
            "a method that reads the rows of the batch only, such as 'mgda' or 'pcgrad', or a smaller table"
        )


def aligned(first: list[Any], second: list[Any]) -> tuple[list[Any], list[Any]]:
    """Extends two sets of rows of the same variables to the same ids of every embedding table."""
    pairs = [_same_ids(a, b) if isinstance(a, SparseRows) else (a, b) for a, b in zip(first, second, strict=True)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _same_ids(first: SparseRows, second: SparseRows) -> tuple[SparseRows, SparseRows]:
    ids, places = tf.unique(tf.concat([first.ids, second.ids], 0))
    tasks, width = first.matrix.shape[0], first.shape[-1]

    def over_all(rows: SparseRows, places: Any) -> SparseRows:
        values = tf.transpose(tf.reshape(rows.matrix, [tasks, -1, width]), [1, 0, 2])
        spread = tf.math.unsorted_segment_sum(values, places, tf.size(ids))  # [U, T, d]
        return dataclasses.replace(rows, ids=ids, matrix=tf.reshape(tf.transpose(spread, [1, 0, 2]), [tasks, -1]))

    number = tf.size(first.ids)
    return over_all(first, places[:number]), over_all(second, places[number:])


def total(first: list[Any], second: list[Any]) -> list[Any]:
    """The sums of aligned rows."""
    return [dataclasses.replace(a, matrix=a.matrix + b.matrix) for a, b in zip(first, second, strict=True)]


def scaled(rows: list[Any], factors: Tensor) -> list[Any]:
    """Each task's rows times its factor; ``factors`` is ``float32[T]``."""
    return [dataclasses.replace(row, matrix=row.matrix * factors[:, None]) for row in rows]


def cross(first: list[Any], second: list[Any]) -> Gram:
    """Inner products ``<g_i, h_j>`` of two sets of rows over the same variables and ids, ``float32[T, T]``."""
    return tf.add_n([tf.matmul(a.matrix, b.matrix, transpose_b=True) for a, b in zip(first, second, strict=True)])


def gram(rows: list[DenseRows | SparseRows]) -> Gram:
    """Inner products of the tasks' gradients over all variables, ``float32[T, T]``."""
    return tf.add_n([tf.matmul(r.matrix, r.matrix, transpose_b=True) for r in rows])


def weighted(rows: list[DenseRows | SparseRows], weights: Tensor) -> list[Any]:
    """``sum_t weights_t gradient_t`` for every variable."""
    return [r.gradient(tf.linalg.matvec(r.matrix, weights, transpose_a=True)) for r in rows]


def jacobian(rows: list[DenseRows | SparseRows]) -> Rows:
    """All rows side by side, ``float32[T, P]``."""
    return tf.concat([r.matrix for r in rows], axis=1)


def split(rows: list[DenseRows | SparseRows], update: Tensor) -> list[Any]:
    """The inverse of :func:`jacobian` for one update ``[P]``: a gradient for every variable."""
    parts = tf.split(update, [tf.shape(r.matrix)[1] for r in rows], num=len(rows))
    return [r.gradient(part) for r, part in zip(rows, parts, strict=True)]
