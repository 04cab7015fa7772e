"""Reuses the traced steps of a ranker for another training, as sweeps over seeds and preferences do."""

from __future__ import annotations

from typing import Any

from tfmtl2r.errors import InputError
from tfmtl2r.training.freezing import OPTIMIZED
from tfmtl2r.training.model import MultiTaskRanker

__all__ = ["start_as"]


def start_as(ranker: MultiTaskRanker, other: MultiTaskRanker) -> bool:
    """Resets a ranker to another ranker's weights and seed without retracing.

    The two rankers must agree in architecture, tasks, features, precision, method, optimizer and all other settings of
    :meth:`MultiTaskRanker.compile` except seed and preference.

    Args:
        ranker: a compiled ranker that knows its features. Its trained weights are lost.
        other: a ranker of the same kind, which is not changed.

    Returns:
        True if the ranker was reset. False if the rankers differ; then nothing is changed.

    Raises:
        ValueError: for a ranker that is not compiled, or does not know its features.

    >>> from tfmtl2r import Dense, Schema
    >>> first, second = (MultiTaskRanker("shared_bottom", ["click"], Schema([Dense("price")])) for _ in range(2))
    >>> first.compile(seed=1), second.compile(seed=2)
    (None, None)
    >>> start_as(first, second), first.seed
    (True, 2)
    """
    for each in (ranker, other):
        if not each.compiled or each.schema is None:
            raise InputError("both rankers must be compiled and know their features")
    if _compiled(ranker) != _compiled(other):
        return False
    ranker.watch_gradients(None)
    for each in (ranker, other):
        if not each.optimizer.built:
            each.optimizer.build(each.trainable_variables)
    mine, theirs = ([*each.weights, *each.optimizer.variables] for each in (ranker, other))
    for variable, value in zip(mine, theirs, strict=True):
        variable.assign(value)
    ranker.blend = other.blend
    ranker.start_from_seed(other.seed)
    return True


def _compiled(ranker: MultiTaskRanker) -> tuple[Any, ...]:
    """All settings on which a traced step depends. Names of objects are left out: they have no effect."""
    config, options = ranker.get_config(), ranker.get_compile_config()
    optimizer = options.pop("optimizer")
    return (
        {key: value for key, value in config.items() if key not in ("name", "has_lists", "blend")},
        {key: value for key, value in options.items() if key not in ("seed", "preference", OPTIMIZED)},
        optimizer["class_name"],
        {key: value for key, value in optimizer["config"].items() if key != "name"},
    )
