"""One training from data to run card: what the command line and the recipes run."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r import architectures, datasets, methods
from tfmtl2r._backend import keras
from tfmtl2r.data import Lists, batches, cut_report
from tfmtl2r.data.columns import label_values
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.scoring import record, score, score_along
from tfmtl2r.names import STOP_ON, STOP_ON_ALONG, LogName
from tfmtl2r.preferences import grid, suited
from tfmtl2r.report import hparams
from tfmtl2r.report.tensorboard import TensorBoard
from tfmtl2r.runs.card import FILE, PER_LIST, RunCard, checked_name, peak_memory_mb
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.training.conditioned_validation import StopOnAlong
from tfmtl2r.training.inputs import task_config
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.objectives import loss_of
from tfmtl2r.training.optimizers import LazyAdam
from tfmtl2r.training.preference import normalised
from tfmtl2r.training.priorities import Constraint
from tfmtl2r.training.reset import start_as
from tfmtl2r.training.staged import fit_constrained, fit_prioritised


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides the outcome of a training.

    Args:
        name: of the run and of its folder below ``directory``.
        data: a data set, its name, or ``{"name": ..., option: value}``.
        tasks: names of tasks of the data set, tasks of your own, or such tasks as :meth:`config` describes them; all of
            the data set's default ones if empty.
        architecture: name, or ``{"name": ..., option: value}``.
        method: name, or ``{"name": ..., option: value}``.
        gradients: ``"parameters"`` or ``"features"``.
        preference: importance of each task; the tasks' weights if empty.
        conditioned: if given, the ranker reads the preference, and training draws it from a Dirichlet distribution of
            this concentration; see :class:`tfmtl2r.MultiTaskRanker`.
        curve: of a conditioned ranker, the preferences whose validation and test metrics go into the run card (an
            evaluation each after training): rows, what :func:`tfmtl2r.preferences.grid` takes, or ``"none"``;
            :func:`tfmtl2r.preferences.usual_grid` if empty.
        learning_rate: of Adam.
        epochs: at most so many.
        patience: stop after so many epochs in which ``stop_on`` (the validation metrics, by preference) did not
            improve, and go back to the best; 0 trains all epochs. A conditioned ranker is compared at several
            preferences, see :class:`tfmtl2r.training.conditioned_validation.StopOnAlong`.
        validate_every: epochs from one look at the validation split to the next; the last epoch ends with one in any
            case, and 0 means that one only. Needs ``patience=0``, which decides after every epoch.
        batch_size: lists (or rows) per step.
        list_limit: longer training lists are cut to so many items; None keeps all.
        truncate: ``"first"`` or ``"random"``, which items are kept.
        train_metrics: also compute metrics on training batches.
        staged: train the tasks by priority, each level under the constraint that the higher ones keep what they
            reached; ``epochs`` and ``patience`` are then those of each stage. Needs ``method="nmt"``.
        constraints: task -> bound on its training loss, such as ``{"relevance": "1%"}`` for at most 1 % above its best;
            also trains in stages, see :func:`tfmtl2r.training.staged.fit_constrained`.
        telemetry_every: steps between samples of the gradients for TensorBoard; 0 for none.
        steps_per_execution: training steps per call into the graph.
        seed: of weights, order and everything random.
        directory: where runs are kept.
        overwrite: replace an earlier run of the same name; otherwise it is an error.
    """

    name: str
    data: Any = "kuairand_excerpt"
    tasks: Sequence[str | Task] = ()
    architecture: Any = "shared_bottom"
    method: Any = "linear_scalarization"
    gradients: str = "parameters"
    preference: Sequence[float] = ()
    conditioned: float | None = None
    curve: str | Sequence[Sequence[float]] = ""
    learning_rate: float = 1e-3
    epochs: int = 8
    patience: int = 2
    validate_every: int = 1
    batch_size: int = 64
    list_limit: int | None = None
    truncate: str = "first"
    train_metrics: bool = False
    staged: bool = False
    constraints: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    telemetry_every: int = 100
    steps_per_execution: int = 1
    seed: int = 0
    directory: str = "runs"
    overwrite: bool = False

    def __post_init__(self) -> None:
        checked_name(self.name)
        object.__setattr__(self, "tasks", tuple(Task(**t) if isinstance(t, Mapping) else t for t in self.tasks))
        for field, least in (("epochs", 1), ("batch_size", 1), ("patience", 0), ("telemetry_every", 0),
                             ("validate_every", 0)):
            if getattr(self, field) < least:
                raise InputError(f"{field} must be at least {least}, not {getattr(self, field)}")
        if len(self.curve) and self.conditioned is None:
            raise InputError("curve is for a ranker that reads the preference: give conditioned too, or leave it out")
        if self.validate_every != 1 and (self.patience or self.staged or self.constraints):
            raise InputError(f"validate_every must be 1, not {self.validate_every}, with patience, stages or "
                             "constraints: they look at the validation split after every epoch")

    @property
    def folder(self) -> Path:
        """Where this run's card, logs and checkpoint are."""
        return Path(self.directory) / self.name

    def dataset(self) -> Any:
        """The data set."""
        return datasets.get(self.data)

    def model(self, dataset: Any, before: MultiTaskRanker | None = None) -> MultiTaskRanker:
        """A compiled ranker that has seen no data yet.

        Args:
            dataset: the data set.
            before: the ranker of an earlier experiment on the same data, no longer needed. If that one differed in
                nothing but seed and preference, it starts afresh, and nothing is traced again.
        """
        keras.utils.set_random_seed(self.seed)
        tasks = dataset.select(self.tasks or None)
        model = MultiTaskRanker(self.architecture, tasks, dataset.schema(tasks), conditioned=self.conditioned)
        model.compile(
            LazyAdam(self.learning_rate),
            method=self.method,
            gradients=self.gradients,
            preference=self.preference if len(self.preference) else None,
            train_metrics=self.train_metrics,
            seed=self.seed,
            steps_per_execution=self.steps_per_execution,
        )
        return before if before is not None and start_as(before, model) else model

    def run(
        self, verbose: int | str = "auto", dataset: Any = None, callbacks: Sequence[Any] = (),
        before: MultiTaskRanker | None = None,
    ) -> tuple[MultiTaskRanker, RunCard]:
        """Trains, evaluates on the test split and writes the run's folder.

        Args:
            verbose: of Keras' ``fit``: 0 silent, 1 a progress bar, 2 a line per epoch.
            dataset: the data set, where a caller already has it.
            callbacks: Keras callbacks of your own.
            before: see :meth:`model`.

        Returns:
            The trained ranker (its best epoch, with ``patience``) and the run card.

        Raises:
            ValueError: when a run of this name exists and ``overwrite`` is off, or labels do not suit their loss.
        """
        self._make_room()
        dataset = dataset or self.dataset()
        model = self.model(dataset, before)
        asked = self._asked(model)
        train, vali = (dataset.lists(split) for split in ("train", "vali"))
        _validate_labels(model.tasks, train)
        schema = dataset.schema(model.tasks)
        options: dict[str, Any] = {"batch_size": self.batch_size}
        cut: dict[str, Any] = {"list_limit": self.list_limit, "truncate": self.truncate} if self.list_limit else {}
        clock = _StepClock()
        watchers: list[Any] = [clock, *callbacks]
        if self.telemetry_every:
            watchers.append(self._tensorboard(schema, vali))
        history = self._fit(
            model,
            batches(train, model.tasks, schema, shuffle=True, seed=self.seed, **options, **cut),
            batches(vali, model.tasks, schema, **options), watchers, verbose,
        )
        card = RunCard(name=self.name, config=self.config(), history=history)
        card.data = {split: _describe(dataset.lists(split)) for split in ("train", "vali", "test")}
        if self.list_limit:
            card.data["train"]["cut"] = cut_report(train, self.list_limit)
        card.step_ms, card.peak_memory_mb = clock.median_ms(self.steps_per_execution), peak_memory_mb()
        self.folder.mkdir(parents=True, exist_ok=True)
        model.save(self.folder / "model.keras")
        test = dataset.lists("test")
        record(card, "test", score(model, test, self.batch_size), test, self.folder)
        if len(asked):
            card.curve = _curve(model, {split: dataset.lists(split) for split in ("vali", "test")}, asked)
        card.save(self.folder)
        if self.telemetry_every:
            hparams.write(self.folder / "logs", card.config, card.results["test"])
        return model, card

    def _asked(self, model: MultiTaskRanker) -> np.ndarray:
        """The preferences of the curve, ``[N, T]``; none for an ordinary ranker."""
        count = len(model.tasks)
        if self.conditioned is None or self.curve == "none":
            return np.empty((0, count))
        if isinstance(self.curve, str):
            rows = grid(self.curve, count)
        else:
            rows = np.array([normalised(row, model.tasks) for row in self.curve])
        return suited(rows, model.method)

    def _tensorboard(self, schema: Schema, vali: Lists) -> TensorBoard:
        first = next(iter(batches(vali.select(np.arange(min(self.batch_size, vali.num_lists))), (), schema,
                                  batch_size=self.batch_size)))
        return TensorBoard(self.folder / "logs", self.telemetry_every, first[0] if isinstance(first, tuple) else first)

    def _fit(
        self, model: MultiTaskRanker, train: Any, vali: Any, callbacks: list[Any], verbose: int | str
    ) -> dict[str, list[float]]:
        """Trains, in one go or in stages; the history."""
        if self.staged or self.constraints:
            staged: dict[str, Any] = {
                "epochs": self.epochs, "patience": self.patience, "callbacks": callbacks, "verbose": verbose
            }
            if self.constraints:
                return fit_constrained(model, train, vali, constraints=self.constraints, **staged).history
            return fit_prioritised(model, train, vali, **staged).history
        needed = model.method.epochs_needed(len(model.tasks))
        if self.epochs < needed:
            raise InputError(f"{self.name}: {type(model.method).__name__} takes {needed} epochs to come to the last of "
                             f"{len(model.tasks)} tasks, but epochs is {self.epochs}: some would never be trained; "
                             "give more epochs, a smaller stage_epochs, or train in stages (staged, --staged)")
        best = keras.callbacks.EarlyStopping(
            monitor=str(LogName(STOP_ON_ALONG if self.conditioned else STOP_ON, validation=True)), mode="max",
            patience=self.patience, restore_best_weights=True, start_from_epoch=needed - 1,
        )
        every = self.validate_every or self.epochs
        looks = sorted({*range(every, self.epochs + 1, every), self.epochs})
        if self.patience:
            callbacks = [*callbacks, *([StopOnAlong(vali)] if self.conditioned else []), best]
        history = model.fit(
            train, validation_data=vali, validation_freq=looks, epochs=self.epochs, verbose=verbose,
            callbacks=callbacks,
        ).history
        if self.patience:
            history["kept"] = [float(epoch == best.best_epoch) for epoch in range(len(history["loss"]))]
        return history

    def _make_room(self) -> None:
        """Removes what an earlier run of this name left, and nothing else."""
        if not (self.folder / FILE).exists():
            return
        if not self.overwrite:
            raise InputError(f"{self.folder} holds a run already: choose another name, or overwrite it")
        for file in (FILE, PER_LIST, "model.keras"):
            (self.folder / file).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "logs", ignore_errors=True)

    def config(self) -> dict[str, Any]:
        """This experiment as plain data: ``Experiment(**config)`` is the same one."""
        config = dict(vars(self))
        for field, registry in (("data", datasets.registry), ("architecture", architectures.registry),
                                ("method", methods.registry)):
            if not isinstance(config[field], (str, Mapping)):
                config[field] = registry.describe(config[field])
        config["tasks"] = [task if isinstance(task, str) else task_config(task) for task in self.tasks]
        config["preference"] = list(self.preference)
        config["curve"] = self.curve if isinstance(self.curve, str) else [list(map(float, row)) for row in self.curve]
        config["constraints"] = {
            task: dataclasses.asdict(bound) if isinstance(bound, Constraint) else bound
            for task, bound in self.constraints.items()
        }
        return config


def _curve(model: MultiTaskRanker, splits: Mapping[str, Lists], asked: np.ndarray) -> list[dict[str, Any]]:
    """What a conditioned ranker reaches for each preference, for its card."""
    points: list[dict[str, Any]] = [{"preference": preference.tolist()} for preference in asked]
    for split, lists in splits.items():
        for point, results in zip(points, score_along(model, lists, asked), strict=True):
            point[split] = {task: {metric: found.value for metric, found in row.items()}
                            for task, row in results.items()}
    return points


class _StepClock(keras.callbacks.Callback):
    """Wall time of training steps, without the first epoch, in which TensorFlow compiles."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[float] = []
        self.later: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.times = self.later if epoch else self.first

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.times.append(time.perf_counter() - self.start)

    def median_ms(self, steps: int) -> float | None:
        times = self.later or self.first[1:]
        return 1000 * float(np.median(times)) / steps if times else None


def _validate_labels(tasks: Sequence[Task], lists: Lists) -> None:
    """Lets every loss refuse labels that it cannot train on, naming the task, before any step is taken."""
    for task in tasks:
        loss = loss_of(task, not lists.is_rows)
        try:
            loss.validate(label_values(lists, task))
        except ValueError as error:
            raise InputError(f"task {task.name!r}, column {task.label!r}: {error}") from error


def _describe(lists: Lists) -> dict[str, Any]:
    return {"fingerprint": lists.fingerprint(), "lists": None if lists.is_rows else lists.num_lists,
            "items": lists.num_items}
