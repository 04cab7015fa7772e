"""Columns that the values of scores depend on, carried beside the scores by task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean
from tfmtl2r.schema import Schema
from tfmtl2r.types import TaskScores, Tensor

_START = "\0column "  # no task has such a name


def is_column(key: str) -> bool:
    """Whether a key beside the scores by task is that of a column."""
    return key.startswith(_START)


def columns_of(batch: Batch, names: Iterable[str]) -> TaskScores:
    """The ids of categorical features, under keys beside the scores by task: ``float32[B, L]`` (plain rows ``[B]``).

    Args:
        batch: the batch that is scored.
        names: the features.
    """
    found: TaskScores = {}
    for name in names:
        ids = tf.cast(batch.features[name], tf.float32)
        if batch.valid is not None and ids.shape.rank == 1:  # of the list
            ids = tf.where(batch.valid, ids[:, None], 0.0)
        found[_START + name] = ids
    return found


def stacked(names: Sequence[str], scores: Mapping[str, Any] | None) -> Tensor | None:
    """The ids of columns, ``float32[..., C]``; None without columns.

    Args:
        names: the columns.
        scores: scores by task, with the columns beside them.

    Raises:
        InputError: for scores without these columns.
    """
    if not names:
        return None
    if lacking := [name for name in names if _START + name not in (scores or {})]:
        raise InputError(f"the values of these scores also depend on the column {lacking[0]!r}: pass all that predict "
                         "returns, not the scores of a task alone")
    assert scores is not None
    return tf.stack([tf.cast(scores[_START + name], tf.float32) for name in names], axis=-1)


def check_columns(task: str, names: Iterable[str], schema: Schema) -> None:
    """Refuses columns that a request would lack, or that have no ids.

    Args:
        task: the task whose calibrator reads the columns.
        names: the columns.
        schema: the features of a request.

    Raises:
        InputError: for a column that is no feature, or no categorical one.
    """
    features = {feature.name: feature for feature in schema.features}
    for name in names:
        if name not in features:
            raise InputError(f"the calibration of task {task!r} is by the column {name!r}, which is no feature of the "
                             f"ranker{did_you_mean(name, features)}; a request contains features only: choose one of "
                             f"them ({', '.join(features)}), or declare {name!r} in [[features]]")
        feature = features[name]
        if not feature.reads_names or feature.reads_lists:
            raise InputError(f"the calibration of task {task!r} is by the feature {name!r}, which is "
                             f"{type(feature).__name__}, and needs one with a value of its own for each calibrator: "
                             "declare it in [[features]] with kind = \"category\"")
