"""Training that keeps floors of validation metrics: "the NDCG of relevance may lose .005, clicks get the rest".

A multiplier of each bounded task rises while its metric on the validation data is below its floor, and raises the
task's importance in the next epoch. Any method that takes a preference can be trained in this way. The losses decide
only how the weights move: what is kept is measured in the unit of the metric, in which a floor is stated.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import keras
from tfmtl2r.errors import InputError
from tfmtl2r.names import STAGED, STOP_ON, LogName, did_you_mean, refuse_ambiguous
from tfmtl2r.preferences import scaled
from tfmtl2r.settings import Constraint
from tfmtl2r.training.loop import Limits, Loop, Saving
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.state import Best, Training
from tfmtl2r.training.trackers import metrics_of
from tfmtl2r.types import Batches

__all__ = ["fit_with_floors"]

_RATE = 20.0
"""How much a multiplier rises in an epoch whose metric lies below its floor by the floor itself."""
log = logging.getLogger("tfmtl2r")


def fit_with_floors(
    model: MultiTaskRanker, x: Any, validation_data: Batches, *, floors: Sequence[Constraint], epochs: int = 10,
    patience: int = 0, callbacks: Sequence[Any] = (), verbose: int | str = 0, saving: Saving | None = None,
) -> dict[str, list[float]]:  # fmt: skip
    """Trains a ranker whose validation metrics keep floors, and returns the history.

    With the preference r of the ranker and the metric m_j of each bounded task on the validation data, the importance
    of the tasks in an epoch is ``(r + lam) / sum(r + lam)``, and after the epoch

    ``lam_j <- max(lam_j + 20 (floor_j - m_j) / |floor_j|, 0)``.

    The candidates are the weights at the start and after every epoch. Among those that keep all floors, the one with
    the largest ``val_stop_on`` at the ranker's own preference stays; without any, the one with the smallest largest
    shortfall stays, and a warning says so. A bound relative to a task's best metric (``loses_at_most``) has a stage
    before, which trains this task alone, with as many epochs; the weights that it kept are the first candidate, and
    keep the floor of this task. The floors are kept on the lists of the validation data: give test data some slack.

    This is dual ascent on metrics that have no gradient, with the losses as proxies, by the principle of Cotter et al.
    2019 (https://arxiv.org/abs/1807.00028). Rate, scaling and choice of the epoch are this library's.

    Args:
        model: a compiled ranker with a method that takes a preference, not conditioned.
        x: training data, a ``tf.data.Dataset``.
        validation_data: data on which floors are measured.
        floors: :class:`tfmtl2r.settings.Constraint` with a metric, one of the task's metrics.
        epochs: the largest number of epochs of each stage.
        patience: a stage ends after this number of epochs without a better candidate; 0 trains all epochs.
        callbacks: Keras callbacks. The numbers of epochs continue from stage to stage.
        verbose: ``verbose`` of Keras' ``fit``.
        saving: when checkpoints are written, from which the same call continues; None for never.

    Returns:
        Losses and metrics, one value per epoch over all stages; also ``stage`` (1, 2, ...), ``kept`` (1 if the weights
        are the best so far in the stage), and for each bounded task ``<task>_violation`` (floor minus metric, in the
        last stage) and ``<task>_multiplier``.

    Raises:
        ValueError: for a method without a preference, a conditioned ranker, a metric that is none of the task's, for
            which smaller is better, or which has no value on the validation data.

    >>> from tfmtl2r.settings import Constraint
    >>> Constraint("relevance", "ndcg@10", loses_at_most=0.005).floor_of(best=0.45)
    0.445
    """
    model.prepare(x)
    stages = FloorStages(model, floors, validation_data, patience)
    limits = Limits(epochs, None, [stages.importance, *callbacks], verbose, saving)
    try:
        return Loop(model, x, validation_data, stages, limits).run().history
    finally:
        model.preference.assign(stages.usual)


class FloorStages:
    """The plan: a stage for each bound that is relative to a task's best metric, then one with multipliers.

    ``training.notes`` contains the floors and the multipliers; the arguments are those of :func:`fit_with_floors`.
    """

    def __init__(self, model: MultiTaskRanker, floors: Sequence[Constraint], validation: Any, patience: int):
        self.model, self.floors, self.validation, self.patience = model, tuple(floors), validation, patience
        self.names = [task.name for task in model.tasks]
        self.usual = np.asarray(model.preference)
        self.importance = _Importance(self)
        relative = [bound for bound in self.floors if bound.floor is None]
        self.levels = [*relative, None]
        self.watched = {str(bound.task): self._checked(bound) for bound in self.floors}
        self.blank = [np.array(v) for v in model.optimizer.variables]
        self.training: Training | None = None
        method = model.method
        if model.conditioned is not None or not method.takes_preference:
            why = "a conditioned ranker is trained for all" if method.takes_preference else (
                f"{type(method).__name__} has none")
            raise InputError(f"floors of metrics change the preference in training, and {why}: choose another method, "
                             "such as linear_scalarization, and leave conditioned out, or keep the floors by tuned "
                             'weights of the served score, export.blend = {weights = "tuned"}')
        if relative and method.positive_preference:
            raise InputError(f"constraints.{relative[0].task}.loses_at_most needs a stage that trains this task "
                             f"alone, but {type(method).__name__} divides by the preference: give floor, or choose "
                             "another method, such as linear_scalarization")
        refuse_ambiguous(dict.fromkeys(self.names, STAGED))

    def _checked(self, bound: Constraint) -> str:
        """The log name of the metric of a bound."""
        name, where = str(bound.task), f"constraints.{bound.task}"
        if name not in self.names:
            raise InputError(f"{where}: {name!r} is no task of this ranker{did_you_mean(name, self.names)}; its tasks: "
                             f"{', '.join(self.names)}")
        task = self.model.tasks[self.names.index(name)]
        known = {metric.label: metric for metric in metrics_of(task, bool(self.model.has_lists))}
        if (metric := known.get(str(bound.metric))) is None:
            raise InputError(f"{where}.metric is {bound.metric!r}, which training does not measure; the metrics of "
                             f"this task are {', '.join(known) or 'none'}: choose one of them, or add it to them")
        if metric.direction != "max":
            raise InputError(f"{where}.metric must be one for which larger is better, not {bound.metric!r}")
        return str(LogName(metric.label, name, validation=True))

    def begin(self, training: Training, resumed: bool) -> bool:
        """Starts with a new optimizer. The weights at the start of the last stage are its first candidate."""
        self.training, notes = training, training.notes
        if training.stage == 0 and not resumed:
            notes |= {"floors": {str(b.task): b.floor for b in self.floors if b.floor is not None},
                      "multipliers": dict.fromkeys(self.watched, 0.0)}
        if training.stage >= len(self.levels):
            return False
        if resumed:
            return True
        logs = {f"val_{name}": float(value) for name, value in self.model.evaluate(
            self.validation, verbose=0, return_dict=True).items()}
        for name, watched in self.watched.items():
            if math.isnan(logs[watched]):
                raise InputError(f"constraints.{name}: {watched} has no value on the validation data, whose labels are "
                                 "missing or all the same: choose another metric, or another vali split")
        if training.stage:
            for variable, value in zip(self.model.optimizer.variables, self.blank, strict=True):
                variable.assign(value)
        self._keep(training, 0, self._rank(logs))
        return True

    def after_epoch(self, training: Training, logs: dict[str, float]) -> bool:
        """Adds a candidate, and raises or lowers the multipliers."""
        rank, epoch = self._rank(logs), training.stage_epochs + 1
        assert training.best is not None
        better = rank < training.best.rank
        if better:
            self._keep(training, epoch, rank)
        logs["stage"], logs["kept"] = training.stage + 1.0, float(better)
        multipliers = training.notes["multipliers"]
        for name in self.watched:
            short = 0.0
            if self._alone is None:
                floor = training.notes["floors"][name]
                short = floor - logs[self.watched[name]]
                multipliers[name] = max(multipliers[name] + _RATE * short / max(abs(floor), 1e-6), 0.0)
            logs |= {str(LogName("violation", name)): short, str(LogName("multiplier", name)): multipliers[name]}
        return not better and bool(self.patience) and epoch - training.best.epoch >= self.patience

    def finish(self, training: Training) -> None:
        """Assigns the kept weights; a stage of one task gives the floor of this task."""
        best, floors = training.best, training.notes["floors"]
        assert best is not None
        self.model.set_weights(best.weights)
        if (alone := self._alone) is not None:
            floors[str(alone.task)] = alone.floor_of(-best.rank[0])
        elif best.rank[0]:
            stated = ", ".join(f"{self.watched[name]} >= {floor:.4g}" for name, floor in floors.items())
            log.warning("no epoch keeps all floors (%s) on the validation data. The epoch with the smallest shortfall, "
                        "%.4g, was kept: lower a floor, or train for more epochs.", stated, best.rank[0])

    @property
    def _alone(self) -> Constraint | None:
        """The bound whose task is trained alone in this stage; None in the last stage."""
        assert self.training is not None
        return self.levels[self.training.stage]

    def weights(self) -> np.ndarray:
        """The importance of the tasks in the running epoch, sum 1."""
        assert self.training is not None
        if (alone := self._alone) is not None:
            return np.eye(len(self.names))[self.names.index(str(alone.task))]
        multipliers = self.training.notes["multipliers"]
        return scaled(self.usual + np.array([multipliers.get(name, 0.0) for name in self.names]))

    def _keep(self, training: Training, epoch: int, rank: list[float]) -> None:
        training.best = Best(epoch, rank, self.model.get_weights())

    def _rank(self, logs: Mapping[str, float]) -> list[float]:
        """Numbers to compare candidates, smaller is better: the metric of a task that is trained alone; else the
        largest shortfall (0 for none) and the objective."""
        if (alone := self._alone) is not None:
            numbers = [-logs[self.watched[str(alone.task)]]]
        else:
            assert self.training is not None
            short = [floor - logs[self.watched[name]] for name, floor in self.training.notes["floors"].items()]
            numbers = [max(0.0, *short), -logs[str(LogName(STOP_ON, validation=True))]]
        return [math.inf if math.isnan(number) else number for number in numbers]


class _Importance(keras.callbacks.Callback):
    """Gives the ranker the importance of an epoch for its steps, and its own preference for everything else."""

    def __init__(self, stages: FloorStages):
        super().__init__()
        self.stages = stages

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """The steps come next."""
        self.model.preference.assign(self.stages.weights())

    def on_test_begin(self, logs: Any = None) -> None:
        """The validation comes next."""
        self.model.preference.assign(self.stages.usual)
