"""The training of an experiment: at once or in stages, as its settings say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfmtl2r.data import Lists, batches
from tfmtl2r.settings import Settings
from tfmtl2r.training.distillation import column_of, columns_of
from tfmtl2r.training.floors import fit_with_floors
from tfmtl2r.training.loop import Limits, Loop, Saving
from tfmtl2r.training.memory import check_memory
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.priorities import Constraint
from tfmtl2r.training.staged import fit_constrained, fit_prioritised
from tfmtl2r.training.stages import OneStage
from tfmtl2r.training.workers import Workers


def batches_of(settings: Settings, model: MultiTaskRanker, train: Lists, vali: Lists) -> tuple[Any, Any]:
    """Batches of the training split, with the teacher's scores where it has such columns, and of vali."""
    training, limit, schema = settings.training, settings.data.max_list_size, model.schema
    assert schema is not None  # it contains the features of positions, which only training reads
    cut: dict[str, Any] = {"list_limit": limit, "truncate": settings.data.truncate} if limit else {}
    taught = columns_of([task.name for task in model.tasks if column_of(task.name) in train.columns])
    copies = 1 + (settings.teacher.synthetic or 0) if taught else 1  # of each list; the number of steps stays the same
    size = training.batch_size * (training.accumulate or 1) * copies
    return (batches(train, [*model.tasks, *taught], schema, shuffle=True, seed=training.seed, batch_size=size,
                    buckets=training.buckets, draws=settings.ensemble.draws, **cut),
            batches(vali, model.tasks, schema, batch_size=training.batch_size))


def check_size(settings: Settings, model: MultiTaskRanker, train: Lists, vali: Lists) -> None:
    """Refuses lists that are too long for the memory, before anything is written.

    Args:
        settings: the experiment.
        model: its ranker.
        train: the training split, whose lists may be cut.
        vali: the validation split, whose lists are whole.

    Raises:
        InputError: see :func:`tfmtl2r.training.memory.check_memory`.
    """
    if not train.is_rows:
        longest, limit = int(train.sizes.max(initial=0)), settings.data.max_list_size
        longest = max(min(longest, limit or longest), int(vali.sizes.max(initial=0)))
        check_memory(model.tasks, settings.training.batch_size * model.num_members, longest, warn=False)


def fit(
    settings: Settings, model: MultiTaskRanker, train: Any, vali: Any, needed: int = 1, callbacks: Sequence[Any] = (),
    verbose: int | str = 0, checkpoints: Path | None = None,
) -> dict[str, list[float]]:
    """Trains a ranker, from the newest checkpoint if there is one, and returns the history.

    Args:
        settings: the experiment.
        model: its compiled ranker.
        train: batches of the training split.
        vali: batches of the validation split.
        needed: number of epochs after which the method trains all tasks.
        callbacks: Keras callbacks.
        verbose: ``verbose`` of Keras' ``fit``.
        checkpoints: folder of the checkpoints; None for none.
    """
    training = settings.training
    epochs, patience, saving = training.epochs, training.patience, None
    if checkpoints is not None:
        several = Workers(model.distribute_strategy).several
        saving = Saving(checkpoints, training.checkpoint_steps, training.checkpoint_minutes, stages=several)
    if settings.in_stages:
        staged: dict[str, Any] = {
            "epochs": epochs, "patience": patience, "callbacks": callbacks, "verbose": verbose, "saving": saving
        }
        if settings.loss_bounds:
            bounds = {str(bound.task): Constraint(**bound.bound()) for bound in settings.loss_bounds}
            return fit_constrained(model, train, vali, constraints=bounds, **staged).history
        if settings.floors:
            return fit_with_floors(model, train, vali, floors=settings.floors, **staged)
        return fit_prioritised(model, train, vali, **staged).history
    every = training.validate_every or epochs
    looks = {*range(every, epochs + 1, every), epochs}
    stage = OneStage(model, patience, needed, vali if settings.conditioned else None, training.stop_on)
    return Loop(model, train, vali, stage, Limits(epochs, looks, callbacks, verbose, saving)).run().history
