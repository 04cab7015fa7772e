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
from tfmtl2r._backend import keras
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import StagedMethod
from tfmtl2r.names import STAGED, LogName, refuse_ambiguous
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.priorities import Constraint, Plan, constrained, prioritised
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
        history: the logs of ``fit``, one value per epoch over all stages. They also contain ``stage`` (1, 2, ...),
            ``kept`` (1 if the weights are the best so far in the stage), and for each task ``<task>_full_loss``
            (training loss after the epoch, without dropout), ``<task>_violation`` (loss minus bound, negative if the
            bound holds; 0 without a bound) and ``<task>_multiplier``.
    """

    stages: tuple[Stage, ...]
    history: dict[str, list[float]]


def fit_prioritised(
    model: MultiTaskRanker, x: Any, validation_data: Batches | None = None, *, epochs: int = 10, patience: int = 0,
    warm_start: bool = True, callbacks: Sequence[Any] = (), verbose: int | str = 0,
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

    Raises:
        ValueError: if the method of the ranker has no goals and bounds, or an option is out of range.
    """
    method = _staged(model)
    return _run(model, prioritised(method.levels(len(model.tasks)), method.tolerance), x, validation_data,
                _Options(epochs, patience, warm_start, tuple(callbacks), verbose))


def fit_constrained(
    model: MultiTaskRanker, x: Any, validation_data: Batches | None = None, *, constraints: Mapping[str, Any],
    epochs: int = 10, patience: int = 0, warm_start: bool = True, callbacks: Sequence[Any] = (), verbose: int | str = 0,
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

    Raises:
        ValueError: as :func:`fit_prioritised`; also for an unknown task, an unreadable constraint, or if all tasks
            have constraints.
    """
    _staged(model)
    return _run(model, constrained([task.name for task in model.tasks], constraints), x, validation_data,
                _Options(epochs, patience, warm_start, tuple(callbacks), verbose))


@dataclasses.dataclass(frozen=True)
class _Options:
    epochs: int
    patience: int
    warm_start: bool
    callbacks: tuple[Any, ...]
    verbose: int | str

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
    names = [task.name for task in model.tasks]
    refuse_ambiguous(dict.fromkeys(names, STAGED))
    blank = [np.array(v) for v in model.optimizer.variables]
    begin = _weights(model)
    bounds = {names[task]: c.at_most for task, c in plan.constraints.items() if c.at_most is not None}
    stages: list[Stage] = []
    history: dict[str, list[float]] = {}
    for number, goals in enumerate(plan.levels, start=1):
        if stages and not options.warm_start:
            _assign(model.architecture.variables, begin)
        _assign(model.optimizer.variables, blank)
        chosen = tuple(names[task] for task in goals)
        _set_stage(model, chosen, bounds)
        keeper = _Keeper(x, validation_data, number, chosen, dict(bounds), options.patience)
        start = len(history.get("stage", ()))
        epoch_by_epoch = model.fit(
            x, validation_data=validation_data, initial_epoch=start, epochs=start + options.epochs,
            callbacks=[keeper, *options.callbacks], verbose=options.verbose,
        ).history
        for key, values in epoch_by_epoch.items():
            history.setdefault(key, []).extend(float(value) for value in values)
        stages.append(keeper.finish())
        for task in goals:
            if task in plan.constraints and names[task] not in bounds:
                bounds[names[task]] = plan.constraints[task].bound(stages[-1].losses[names[task]])
    return StagedTraining(tuple(stages), history)


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


class _Keeper(keras.callbacks.Callback):
    """Measures the losses after every epoch of a stage, and keeps the best weights that satisfy the bounds."""

    def __init__(
        self, x: Any, validation: Any, number: int, goals: tuple[str, ...], bounds: dict[str, float], patience: int
    ):
        super().__init__()
        self.x = x
        self.validation = validation
        self.number = number
        self.goals = goals
        self.bounds = bounds
        self.patience = patience

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Adds the weights at the start of the stage as its first candidate, so that no stage makes them worse."""
        self.epochs = 0
        losses = self._losses(self.x)
        watched = losses if self.validation is None else self._losses(self.validation)
        # A task without any label has no loss, and decides nothing.
        self.silent = {task for task, loss in watched.items() if np.isnan(loss)}
        self._keep(losses, self._goal(watched))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds a candidate, and its numbers to the epoch's logs for later callbacks and the history."""
        logs = {} if logs is None else logs
        self.epochs += 1
        losses = self._losses(self.x)
        watched = self._goal(losses) if self.validation is None else self._goal(
            {task: logs[str(LogName("loss", task, validation=True))] for task in self.goals}
        )
        better = self._rank(losses, watched) < self.rank
        if better:
            self._keep(losses, watched)
        elif self.patience and self.epochs - self.kept >= self.patience:
            self.model.stop_training = True
        logs["stage"], logs["kept"] = float(self.number), float(better)
        for task, multiplier in self._multipliers().items():
            values = (losses[task], losses[task] - self.bounds.get(task, losses[task]), multiplier)
            logs.update({str(LogName(quantity, task)): value for quantity, value in zip(STAGED, values, strict=True)})

    def finish(self) -> Stage:
        """Restores the kept weights and returns the result of the stage."""
        _assign(self.model.architecture.variables, self.weights)
        stage = Stage(self.goals, self.bounds, self.losses, self.watched, self.rank[0], self.kept, self.epochs,
                      self._multipliers())
        if not stage.feasible:
            worst = max(self.bounds, key=lambda task: self.losses[task] - self.bounds[task])
            log.warning(
                "stage %d (%s): no epoch satisfies all bounds. The epoch with the smallest violation was kept: the "
                "training loss of task %r is %.6g, its bound %.6g. Raise the bound, or train for more epochs.",
                self.number, ", ".join(self.goals), worst, self.losses[worst], self.bounds[worst],
            )
        return stage

    def _keep(self, losses: dict[str, float], watched: float) -> None:
        self.rank = self._rank(losses, watched)
        self.losses, self.watched, self.kept = losses, watched, self.epochs
        self.weights = _weights(self.model)

    def _rank(self, losses: Mapping[str, float], watched: float) -> tuple[float, float]:
        """A pair to compare candidates, smaller is better: the largest violation (0 for none), and the goals' loss."""
        excess = [losses[task] - bound for task, bound in self.bounds.items()
                  if not losses[task] <= bound + _ROUNDING * abs(bound)]
        numbers = max(excess, default=0.0), watched
        return tuple(math.inf if math.isnan(n) else n for n in numbers)  # type: ignore[return-value]

    def _goal(self, losses: Mapping[str, float]) -> float:
        return float(np.mean([0.0 if task in self.silent else losses[task] for task in self.goals]))

    def _losses(self, data: Any) -> dict[str, float]:
        """Every task's mean loss over a data set, without dropout."""
        values = self.model.evaluate(data, verbose=0, return_dict=True)
        return {task.name: float(values[str(LogName("loss", task.name))]) for task in self.model.tasks}

    def _multipliers(self) -> dict[str, float]:
        values = np.array(self.model.method.multipliers(self.model.method_state.states[0]))
        return {task.name: float(value) for task, value in zip(self.model.tasks, values, strict=True)}


def _weights(model: MultiTaskRanker) -> list[np.ndarray]:
    return [np.array(v) for v in model.architecture.variables]


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
