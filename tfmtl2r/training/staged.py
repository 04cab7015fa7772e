"""Prioritised training in stages, each with bounds on the losses of the tasks of earlier stages.

:func:`fit_prioritised` takes the order of the tasks from their priorities. :func:`fit_constrained` takes constraints,
for example "maximise clicks, but the relevance loss may not be more than 1 % above its best". Both require a ranker
whose method keeps goals and bounds in its state, ``method="nmt"``::

    ranker.compile("adam", method="nmt")
    fit_prioritised(ranker, train, validation, epochs=10)
    fit_constrained(ranker, train, validation, constraints={"relevance": "1%"}, epochs=10)

The stages follow Cheng et al. 2025 (https://arxiv.org/abs/2412.12092): tasks are trained in order of priority, with
inequality constraints on the tasks of earlier stages and a Lagrangian. Only the paper's abstract and summaries were
available. The following parts are therefore reconstructed or added: the reference loss (training loss of the kept
weights, without dropout), the tolerance, the choice of a checkpoint, early stopping, a new optimizer state and new
multipliers in every stage, ties, and bounds given by the user. Within an epoch the multipliers follow the losses of
the batches with dropout. These losses are higher, so the constraints hold with some slack.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r import methods
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import StagedMethod
from tfmtl2r.names import STAGED, LogName, refuse_ambiguous
from tfmtl2r.training.loop import Limits, Loop, Saving
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.priorities import Constraint, Plan, constrained, prioritised
from tfmtl2r.training.state import Best, Training
from tfmtl2r.types import Batches

__all__ = ["Constraint", "Stage", "StagedTraining", "fit_constrained", "fit_prioritised"]

_ROUNDING = 1e-5  # relative difference of a loss that is measured over the same batches in another order
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class Stage:
    """The result of one stage.

    Args:
        goals: names of the tasks that were minimised.
        bounds: task -> upper bound on its training loss in this stage.
        losses: task -> training loss of the kept weights, without dropout. The bounds of later stages refer to the
            goals' losses.
        watched: the goals' mean loss on the validation data, or on the training data if there are no validation data.
        violation: the largest excess of a loss over its bound with the kept weights; 0 if all bounds hold.
        kept: number of the epoch whose weights were kept; 0 stands for the weights at the start of the stage.
        epochs: number of trained epochs.
        multipliers: task -> its multiplier at the end of training.
    """

    goals: tuple[str, ...]
    bounds: dict[str, float]
    losses: dict[str, float]
    watched: float
    violation: float
    kept: int
    epochs: int
    multipliers: dict[str, float]

    @property
    def feasible(self) -> bool:
        """Whether the kept weights satisfy all bounds."""
        return self.violation == 0


@dataclasses.dataclass(frozen=True)
class StagedTraining:
    """All stages in order.

    Args:
        stages: the result of each stage.
        history: losses and metrics, one value per epoch over all stages. They also contain ``stage`` (1, 2, ...),
            ``kept`` (1 if the weights are the best so far in the stage), and for each task ``<task>_full_loss``
            (training loss after the epoch, without dropout), ``<task>_violation`` (loss minus bound, negative if the
            bound holds; 0 without a bound) and ``<task>_multiplier``.
    """

    stages: tuple[Stage, ...]
    history: dict[str, list[float]]


def fit_prioritised(
    model: MultiTaskRanker, x: Any, validation_data: Batches | None = None, *, epochs: int = 10, patience: int = 0,
    warm_start: bool = True, callbacks: Sequence[Any] = (), verbose: int | str = 0, saving: Saving | None = None,
) -> StagedTraining:
    """Trains the tasks of priority 1 first, then each next level with bounds on the losses of the levels before it.

    A stage minimises the mean loss of its tasks. The loss of a task of an earlier stage may exceed the training loss
    that this stage reached by at most ``tolerance`` (an option of the method). The candidates of a stage are the
    weights at its start and after each epoch. Among the candidates that satisfy all bounds on the whole training data,
    the stage keeps the one that is best for the goals on the validation data. If no candidate satisfies all bounds, the
    stage keeps the candidate with the smallest violation and logs a warning.

    Args:
        model: a ranker compiled with ``method="nmt"``. The option ``priorities`` of the method sets the order of the
            tasks. Without this option, ``Task.priority`` sets the order, or else the order in which tasks are listed.
        x: training data, a ``tf.data.Dataset``. Each epoch reads them twice: to train, and to measure the losses.
        validation_data: data on which candidates are compared; the training data if None.
        epochs: maximum number of epochs of each stage.
        patience: a stage ends after this number of epochs without a better candidate; 0 trains all epochs.
        warm_start: True to start a stage with the weights of the stage before. False to start it with the weights at
            the start of training; then set the method's ``max_multiplier``, since multipliers grow while a bound is
            violated.
        callbacks: Keras callbacks. The numbers of epochs continue from stage to stage.
        verbose: ``verbose`` of Keras' ``fit``.
        saving: when checkpoints are written, from which the same call continues; None for never.

    Raises:
        ValueError: if the method of the ranker has no goals and bounds, or an option is out of range.
    """
    method = _staged(model)
    return _run(model, prioritised(method.levels(len(model.tasks)), method.tolerance), x, validation_data,
                _Options(epochs, patience, warm_start, tuple(callbacks), verbose, saving))


def fit_constrained(
    model: MultiTaskRanker, x: Any, validation_data: Batches | None = None, *, constraints: Mapping[str, Any],
    epochs: int = 10, patience: int = 0, warm_start: bool = True, callbacks: Sequence[Any] = (), verbose: int | str = 0,
    saving: Saving | None = None,
) -> StagedTraining:
    """Minimises the losses of the tasks without a constraint, subject to bounds on the others.

    A constraint relative to a task's best loss has a separate stage, which finds this best loss. These stages run in
    the given order, each under the constraints of the stages before it. A bound given as a number holds in every
    stage. The rest is as in :func:`fit_prioritised`.

    Args:
        model: a ranker compiled with ``method="nmt"``; its priorities are not used.
        x: training data.
        validation_data: data on which candidates are compared.
        constraints: task -> :class:`Constraint`, or its short form: ``"1%"`` (above the task's best loss), ``"+0.02"``
            (above the best, in units of the loss), or a number, the highest allowed training loss.
        epochs: maximum number of epochs of each stage.
        patience: a stage ends after this number of epochs without a better candidate; 0 trains all epochs.
        warm_start: True to start a stage with the weights of the stage before.
        callbacks: Keras callbacks.
        verbose: ``verbose`` of Keras' ``fit``.
        saving: when checkpoints are written, from which the same call continues; None for never.

    Raises:
        ValueError: as :func:`fit_prioritised`; also for an unknown task, an unreadable constraint, or if all tasks
            have constraints.
    """
    _staged(model)
    return _run(model, constrained([task.name for task in model.tasks], constraints), x, validation_data,
                _Options(epochs, patience, warm_start, tuple(callbacks), verbose, saving))


@dataclasses.dataclass(frozen=True)
class _Options:
    epochs: int
    patience: int
    warm_start: bool
    callbacks: tuple[Any, ...]
    verbose: int | str
    saving: Saving | None

    def __post_init__(self) -> None:
        for option, least in (("epochs", 1), ("patience", 0)):
            if getattr(self, option) < least:
                raise InputError(f"{option} must be at least {least}, not {getattr(self, option)}")


def _staged(model: MultiTaskRanker) -> StagedMethod:
    """The method of a model, which must be a :class:`StagedMethod`."""
    method: Any = model.method if model.compiled else None
    if not isinstance(method, StagedMethod):
        why = "it is not compiled" if method is None else f"{type(method).__name__} keeps no goals and bounds"
        able = [name for name in methods.names() if issubclass(methods.registry.constructor(name), StagedMethod)]
        raise InputError(f"the ranker cannot be trained in stages, {why}: compile it with method="
                         f"{' or '.join(map(repr, able))}")
    return method


def _run(
    model: MultiTaskRanker, plan: Plan, x: Any, validation_data: Batches | None, options: _Options
) -> StagedTraining:
    """Runs the stages of a plan."""
    method = _staged(model).driven()
    model.prepare(x)
    with model.distribute_strategy.scope() if model.distribute_strategy else contextlib.nullcontext():
        model.compile_from_config({**model.get_compile_config(), "method": method})
    refuse_ambiguous(dict.fromkeys((task.name for task in model.tasks), STAGED))
    stages = _PlannedStages(model, plan, x, validation_data, options)
    limits = Limits(options.epochs, None, options.callbacks, options.verbose, options.saving)
    training = Loop(model, x, validation_data, stages, limits).run()
    return StagedTraining(stages.results(training), training.history)


class _PlannedStages:
    """Measures the losses after every epoch of a stage, and keeps the best weights that satisfy the bounds.

    ``training.notes`` contains the bounds, the tasks without a label in the validation data, and the results of the
    finished stages; ``training.best`` the candidate to keep, with its losses.
    """

    def __init__(self, model: MultiTaskRanker, plan: Plan, x: Any, validation: Any, options: _Options):
        self.model = model
        self.plan = plan
        self.x = x
        self.validation = validation
        self.options = options
        self.names = [task.name for task in model.tasks]
        self.first = model.get_weights()
        self.blank = [np.array(v) for v in model.optimizer.variables]

    def begin(self, training: Training, resumed: bool) -> bool:
        """Sets goals and bounds. The weights at the start are the first candidate: no stage makes them worse."""
        notes = training.notes
        if training.stage == 0 and not resumed:
            given = {self.names[task]: c.at_most for task, c in self.plan.constraints.items()}
            notes |= {"stages": [], "bounds": {name: bound for name, bound in given.items() if bound is not None}}
        if training.stage >= len(self.plan.levels):
            return False
        self.goals = tuple(self.names[task] for task in self.plan.levels[training.stage])
        self.bounds: dict[str, float] = notes["bounds"]
        if resumed:
            return True
        if training.stage and not self.options.warm_start:
            self.model.set_weights(self.first)
        for variable, value in zip(self.model.optimizer.variables, self.blank, strict=True):
            variable.assign(value)
        _set_stage(self.model, self.goals, self.bounds)
        losses = self._losses(self.x)
        watched = losses if self.validation is None else self._losses(self.validation)
        # A task without any label has no loss, and decides nothing.
        notes["silent"] = [task for task, loss in watched.items() if np.isnan(loss)]
        self._keep(training, 0, losses, self._goal(training, watched))
        return True

    def after_epoch(self, training: Training, logs: dict[str, float]) -> bool:
        """Adds a candidate, and its numbers to the epoch's logs."""
        losses = self._losses(self.x)
        watched = self._goal(training, losses if self.validation is None else {
            task: logs[str(LogName("loss", task, validation=True))] for task in self.goals})
        assert training.best is not None
        epoch = training.stage_epochs + 1
        better = self._rank(losses, watched) < training.best.rank
        if better:
            self._keep(training, epoch, losses, watched)
        logs["stage"], logs["kept"] = training.stage + 1.0, float(better)
        for task, multiplier in self._multipliers().items():
            values = (losses[task], losses[task] - self.bounds.get(task, losses[task]), multiplier)
            logs.update({str(LogName(quantity, task)): value for quantity, value in zip(STAGED, values, strict=True)})
        return not better and bool(self.options.patience) and epoch - training.best.epoch >= self.options.patience

    def finish(self, training: Training) -> None:
        """Assigns the kept weights, and bounds the goals' losses in the next stages."""
        best = training.best
        assert best is not None
        self.model.set_weights(best.weights)
        losses = best.notes["losses"]
        training.notes["stages"].append({
            "goals": self.goals, "bounds": dict(self.bounds), "losses": losses, "watched": best.notes["watched"],
            "violation": best.rank[0], "kept": best.epoch, "epochs": training.stage_epochs,
            "multipliers": self._multipliers(),
        })
        if best.rank[0]:
            worst = max(self.bounds, key=lambda task: losses[task] - self.bounds[task])
            log.warning(
                "stage %d (%s): no epoch satisfies all bounds. The epoch with the smallest violation was kept: the "
                "training loss of task %r is %.6g, its bound %.6g. Raise the bound, or train for more epochs.",
                training.stage + 1, ", ".join(self.goals), worst, losses[worst], self.bounds[worst],
            )
        for task in self.plan.levels[training.stage]:
            name = self.names[task]
            if task in self.plan.constraints and name not in self.bounds:
                self.bounds[name] = self.plan.constraints[task].bound(losses[name])

    def results(self, training: Training) -> tuple[Stage, ...]:
        """The results of all stages."""
        return tuple(Stage(**{**stage, "goals": tuple(stage["goals"])}) for stage in training.notes["stages"])

    def _keep(self, training: Training, epoch: int, losses: dict[str, float], watched: float) -> None:
        training.best = Best(epoch, self._rank(losses, watched), self.model.get_weights(),
                             {"losses": losses, "watched": watched})

    def _rank(self, losses: Mapping[str, float], watched: float) -> list[float]:
        """Two numbers to compare candidates, smaller is better: the largest violation (0 for none), and the goals'
        loss."""
        excess = [losses[task] - bound for task, bound in self.bounds.items()
                  if not losses[task] <= bound + _ROUNDING * abs(bound)]
        return [math.inf if math.isnan(number) else number for number in (max(excess, default=0.0), watched)]

    def _goal(self, training: Training, losses: Mapping[str, float]) -> float:
        return float(np.mean([0.0 if task in training.notes["silent"] else losses[task] for task in self.goals]))

    def _losses(self, data: Any) -> dict[str, float]:
        """Every task's mean loss over a data set, without dropout."""
        values = self.model.evaluate(data, verbose=0, return_dict=True)
        return {task: float(values[str(LogName("loss", task))]) for task in self.names}

    def _multipliers(self) -> dict[str, float]:
        values = np.array(_staged(self.model).multipliers(self.model.method_state.states[0]))
        return {task: float(value) for task, value in zip(self.names, values, strict=True)}


def _set_stage(model: MultiTaskRanker, goals: Sequence[str], bounds: Mapping[str, float]) -> None:
    """Sets the method's goals and bounds."""
    state = model.method_state.states[0]
    names = [task.name for task in model.tasks]
    replaced = _staged(model).stage_state(
        np.array([name in goals for name in names], np.float32),
        np.array([bounds.get(name, math.inf) for name in names], np.float32),
    )
    for key, value in replaced.items():
        state[key].assign(value)
