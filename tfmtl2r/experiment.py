"""One training from data to run card, as the command line and the recipes run it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r import architectures, datasets
from tfmtl2r._backend import keras, tf
from tfmtl2r.baselines import Training
from tfmtl2r.baselines import teacher as teachers
from tfmtl2r.data import Lists, cut_report, fit_tasks
from tfmtl2r.data.contents import described
from tfmtl2r.data.leaks import suspected_leaks
from tfmtl2r.data.order import Order, bounds_of
from tfmtl2r.data.store.manifest import is_store
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.after_training import check_tuning, fit_after_training
from tfmtl2r.evaluation.file_scores import is_model
from tfmtl2r.evaluation.scoring import curve, record, score, score_slices
from tfmtl2r.evaluation.slices import slicing
from tfmtl2r.evaluation.stopping import check_stop_on
from tfmtl2r.names import did_you_mean
from tfmtl2r.preferences import grid, in_order, normalised, suited
from tfmtl2r.report import hparams
from tfmtl2r.report.progress import Progress
from tfmtl2r.report.tensorboard import Watched, tensorboard
from tfmtl2r.runs import team
from tfmtl2r.runs.alone import losses_alone
from tfmtl2r.runs.attempt import Attempt
from tfmtl2r.runs.card import RunCard, peak_memory_mb
from tfmtl2r.runs.identity import MODEL
from tfmtl2r.runs.log import logged
from tfmtl2r.runs.places import CARD, CHECKPOINTS, LOGS, MARK, find
from tfmtl2r.serving.blend import prepare
from tfmtl2r.serving.load import load
from tfmtl2r.settings import Settings
from tfmtl2r.settings.outcome import outcome
from tfmtl2r.settings.things import check_options
from tfmtl2r.settings.values import SettingError
from tfmtl2r.task import Task
from tfmtl2r.training.distillation import Annealing, Distillation, teach
from tfmtl2r.training.fitting import batches_of, check_size, fit
from tfmtl2r.training.learnable import validate_labels
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.optimizers import chosen
from tfmtl2r.training.penalising import fitted
from tfmtl2r.training.reset import start_as
from tfmtl2r.training.step_clock import StepClock
from tfmtl2r.training.warm_start import continued, continued_tasks, start_from
from tfmtl2r.training.workers import Workers

_STORED = 6
"""How often a training stores its weights at least: model and checkpoint, each with two moments of the optimizer."""
log = logging.getLogger("tfmtl2r")


@dataclasses.dataclass(frozen=True)
class Experiment(Settings):
    """One training: its settings (:class:`tfmtl2r.settings.Settings`), and :meth:`run`.

    >>> experiment = Experiment(name="first", data="kuairand_excerpt", tasks=["click", "like"], method="mgda",
    ...                         optimizer={"learning_rate": 1e-3}, training={"epochs": 3})
    >>> experiment.training.epochs, experiment.but(training={"seed": 1}).training.epochs
    (3, 3)
    """

    @property
    def folder(self) -> Path:
        """The folder of this run's card, logs and checkpoint."""
        if self.name is None:
            raise InputError("the experiment has no name, so its run has no folder: give it a name")
        return Path(self.directory) / self.name

    def dataset(self) -> Any:
        """The data set, or the fold of it. A table from files has the experiment's tasks and features."""
        name, rules = self.data.name, self.data.only_where
        named = {"name": name, **self.data.options} if isinstance(name, str) else name
        own = "store" if self.data.kind == "store" or is_store(self.data.files) else "table"
        found: Any = datasets.get(own, **self.table()) if name is None else datasets.get(named)
        if name is not None and rules is not None:
            found = found.where(rules)
        fold = self.data.cross_validation
        return found if fold is None else found.cross_fold(**fold.tree())

    def select(self, dataset: Any) -> tuple[Task, ...]:
        """The tasks to train. An entry of ``tasks`` changes the data set's task of the same name."""
        goals = {goal.name: goal for goal in self.tasks}
        own = dataset.offered()
        for name in goals:
            if name not in own and name not in self.task_names:
                raise InputError(f"the entry {name!r} of tasks changes no task{did_you_mean(str(name), own)}; tasks of "
                                 f"the data set: {', '.join(own)}")
        chosen = []
        for name in self.task_names or dataset.default_tasks:
            goal = goals.get(name)
            if goal is None or (name not in own and set(goal.tree()) == {"name"}):
                chosen += dataset.select([name])
            else:
                chosen.append(goal.task(own.get(name)))
        return self.calibration.applied(chosen, [*own.values(), *chosen])

    def importance(self, tasks: Sequence[Task]) -> list[float] | None:
        """The preference in the order of the tasks; None without a preference.

        Raises:
            ValueError: if the preference does not name exactly these tasks.
        """
        return None if self.preference is None else in_order(self.preference, tasks)

    def model(self, dataset: Any, before: MultiTaskRanker | None = None) -> MultiTaskRanker:
        """A compiled ranker that has seen no data yet.

        Args:
            dataset: the data set.
            before: the ranker of an earlier experiment on the same data, which is no longer needed. If the experiments
                differ only in seed and preference, this ranker is reset and reused without a new trace.

        The weights are random, or those of the run that ``start.from`` names; the log contains what changed since then.
        """
        model, changes = self._model(dataset, before)
        for line in changes:
            log.info(line)
        return model

    def _model(self, dataset: Any, before: MultiTaskRanker | None) -> tuple[MultiTaskRanker, list[str]]:
        training = self.training
        earlier = self._earlier()
        keras.utils.set_random_seed(training.seed)
        if training.deterministic:
            tf.config.experimental.enable_op_determinism()
        given = self.select(dataset)
        tasks = fit_tasks(dataset.lists("train"), given)
        schema = dataset.schema(self._known(dataset, tasks))
        if earlier is not None:
            keep = self.start.statistics != "refit"
            schema, tasks = continued(schema, earlier, keep), continued_tasks(given, tasks, earlier, keep)
        model = MultiTaskRanker(self._architecture(), tasks, schema, conditioned=self.conditioned,
                                has_lists=not dataset.lists("train").is_rows)
        model.compile(
            self._optimizer(dataset),
            method=self.method,
            gradients=self.gradients,
            preference=self.importance(tasks),
            train_metrics=training.train_metrics,
            seed=training.seed,
            on_nan=training.on_nan,
            augment=training.augment or 0.0,
            feature_dropout=training.feature_dropout or 0.0,
            steps_per_execution=training.steps_per_execution,
            accumulate=training.accumulate or 1,
            penalties=fitted(self.penalties, dataset.lists("train"), tasks),
        )
        changes = [] if earlier is None else start_from(model, earlier, self.start.method_state == "keep")
        changes = [f"start from {self.start.from_}: {line}" for line in changes]
        return (before if before is not None and start_as(before, model) else model), changes

    def _architecture(self) -> Any:
        """The architecture, with the experiment's bias features as its option, or an ensemble of it."""
        names = self.training.bias_features
        if not names:
            return self.ensemble.around(self.architecture)
        described = architectures.registry.describe(architectures.get(self.architecture))
        if described.get("bias_features"):
            raise SettingError(["training", "bias_features"], "are given, but the architecture has the option "
                               "bias_features, too: leave one of them out")
        return self.ensemble.around({**described, "bias_features": list(names)})

    def _earlier(self) -> MultiTaskRanker | None:
        """The ranker of the run to start from. The runs of a sweep lie one folder below the folder of all runs."""
        return None if self.start.from_ is None else self._run_of(self.start.from_)

    def _run_of(self, name: str, dataset: Any = None) -> MultiTaskRanker:
        """The ranker of a finished run, which was trained on the training split of the data set, if that is given."""
        folder = self._folder_of(name)
        card = RunCard.load(folder)  # says what is missing, also a plug-in
        if dataset is not None:
            card.expect("train", dataset.lists("train").fingerprint())
        ranker: Any = load(folder / MODEL)
        return ranker

    def _folder_of(self, name: str) -> Path:
        if is_model(name):
            raise InputError(f"{name} is no run, and a training needs one: its statistics, vocabularies and data. Name "
                             "the finished run that the file or export was made of")
        folders = [find(directory, name) for directory in (self.directory, Path(self.directory).parent)]
        return next((one for one in folders if (one / CARD).is_file()), folders[0])

    def _optimizer(self, dataset: Any) -> Any:
        training, sizes = self.training, dataset.lists("train").sizes
        sizes = np.minimum(sizes, self.data.max_list_size or sizes.max())
        lists = training.batch_size * (training.accumulate or 1)
        order = Order(sizes, lists, bounds=bounds_of(sizes, training.buckets))
        return chosen(self.optimizer, training.epochs * order.num_batches)

    def run(
        self, verbose: int | str = "auto", dataset: Any = None, callbacks: Sequence[Any] = (),
        before: MultiTaskRanker | None = None, overwrite: bool = False, resume: bool = False,
    ) -> tuple[MultiTaskRanker, RunCard]:
        """Trains, evaluates on the test split and writes the run's folder.

        The folder is one whole run, or an unfinished training, at any time (:class:`tfmtl2r.runs.attempt.Attempt`).

        Args:
            verbose: "auto" shows :class:`tfmtl2r.report.Progress`; 0 nothing, and 1 and 2 what Keras' ``fit`` shows.
            dataset: the data set, if a caller has already loaded it.
            callbacks: Keras callbacks of your own.
            before: see :meth:`model`.
            overwrite: replace an earlier run of the same name; otherwise it is an error. The earlier run stays until
                the new one is whole.
            resume: go on with the unfinished training of this name.

        Returns:
            The trained ranker (its best epoch, with ``patience``) and the run card.

        Raises:
            ValueError: if a run of this name exists and ``overwrite`` is off, or labels do not suit their loss.
            OSError: if the folder cannot be written.
        """
        check_options(self)
        if callbacks and team.of(self) is not None:
            raise InputError("callbacks of your own do not reach the processes of workers: leave them out, or call "
                             "tfmtl2r.training.distributed.fit in each worker")
        with Attempt(self.folder, self.config(), overwrite, resume) as attempt:
            return self._run(attempt, dataset or self.dataset(), verbose, callbacks, before)

    def _run(
        self, attempt: Attempt, dataset: Any, verbose: int | str, callbacks: Sequence[Any],
        before: MultiTaskRanker | None,
    ) -> tuple[MultiTaskRanker, RunCard]:
        model, changes = self._model(dataset, before)
        asked = self._asked(model)
        prepare(model, self.config(), not dataset.lists("train").is_rows)
        check_tuning(model, self, not dataset.lists("train").is_rows)
        dataset.check(model.tasks, model.schema)
        validate_labels(model.tasks, dataset.lists("train"), self.data.max_list_size)
        check_size(self, model, dataset.lists("train"), dataset.lists("vali"))
        leaks = suspected_leaks(dataset.lists("train"), model.architecture.schema, model.tasks) if verbose else ()
        print(*(f"{line}\n" for line in (*(changes if verbose else ()), *leaks)), sep="", end="")
        self._shares(model, dataset)
        if self.training.patience:
            check_stop_on(model, dataset.lists("vali"), self.training.stop_on)
        test = dataset.lists("test")
        slicings = [slicing(test, by, dataset.lists("train"), model.schema) for by in self.evaluation.by or ()]
        card = RunCard(name=self.folder.name, config=self.config(), identity=attempt.identity)
        card.data = {split: {**described(dataset.lists(split), model.architecture.schema), **dataset.about(split)}
                     for split in ("train", "vali", "test")}
        attempt.begin(_STORED * sum(weight.nbytes for weight in model.architecture.get_weights()),
                      {split: about["fingerprint"] for split, about in card.data.items()})
        with logged(attempt.folder) as lines:
            self._train(model, dataset, [*callbacks, *lines], verbose, card, attempt)
        in_fold = self.data.cross_validation is not None
        record(card, "test", score(model, test, self.training.batch_size, jackknife=in_fold), test, attempt.folder)
        if slicings:
            card.slices["test"] = score_slices(model, test, slicings, self.training.batch_size)
        if len(asked):
            card.curve = curve(model, {split: dataset.lists(split) for split in ("vali", "test")}, asked)
        if self.training.telemetry_every:
            hparams.write(attempt.folder / LOGS, card.config, card.results["test"])
            hparams.write_points(attempt.folder / LOGS, "curve", card.curve, [task.name for task in model.tasks])
        attempt.finish(card)
        return model, card

    def _train(
        self, model: MultiTaskRanker, dataset: Any, callbacks: Sequence[Any], verbose: int | str, card: RunCard,
        attempt: Attempt,
    ) -> None:
        """Trains the ranker, saves it, and adds to the card what was done."""
        vali = dataset.lists("vali")
        train, distillation = self._taught(model, dataset, card)
        teach(model, distillation)
        clock = StepClock()
        data = batches_of(self, model, train, vali)
        if (several := team.of(self)) is None:
            watchers = self._watchers(model, vali, distillation, attempt.folder)
            card.history = self._fit(model, *data, [clock, *callbacks, *watchers], verbose, attempt.checkpoints)
        else:
            known = {split: about["fingerprint"] for split, about in card.data.items()}
            several.train(self.config(), attempt.folder, verbose, known)
            card.history = self._fit(model, *data, [], 0, attempt.checkpoints)  # takes the weights that they have kept
        card.blend = fit_after_training(model, train, vali, self.training.batch_size, self, dataset.lists("test"))
        attempt.keep(model)  # before anything else that could fail
        if self.data.max_list_size:
            card.data["train"]["cut"] = cut_report(train, self.data.max_list_size)
        card.step_ms, card.peak_memory_mb = clock.median_ms(self.training.steps_per_execution), peak_memory_mb()
        if several is not None:
            vars(card).update(team.measured(attempt.folder))

    def work(self, strategy: Any, folder: Path | None, verbose: int | str, data: Mapping[str, str] | None) -> None:
        """Trains as one of several workers; :meth:`tfmtl2r.runs.team.Team.train` describes the arguments."""
        dataset, workers = self.dataset(), Workers(strategy)
        own = {split: dataset.lists(split).fingerprint() for split in ("train", "vali", "test")}
        team.same_data(workers, data if workers.is_chief and data else own, own)
        with strategy.scope():
            model, _ = self._model(dataset, None)
        train, vali, clock = dataset.lists("train"), dataset.lists("vali"), StepClock()
        watchers: list[Any] = [Watched(self.training.telemetry_every)] if self.training.telemetry_every else []
        with contextlib.ExitStack() as held:
            if workers.is_chief and folder is not None:
                lines = held.enter_context(logged(folder))
                watchers = [clock, *lines, *self._watchers(model, vali, None, folder)]
            where = (folder or Path()) / MARK / CHECKPOINTS
            self._fit(model, *batches_of(self, model, train, vali), watchers, verbose if workers.is_chief else 0, where)
        if workers.is_chief and folder is not None:
            team.measure(folder, {"step_ms": clock.median_ms(1), "peak_memory_mb": peak_memory_mb()})

    def _watchers(self, model: Any, vali: Lists, distillation: Distillation | None, folder: Path) -> list[Any]:
        """The callbacks of the training itself."""
        found: list[Any] = [] if distillation is None else [Annealing(distillation, self.training.epochs)]
        every, size = self.training.telemetry_every, self.training.batch_size
        alone = losses_alone(self.folder, self.config(), vali.fingerprint()) if every else {}
        return [*found, tensorboard(folder / LOGS, every, vali, model.schema, size, alone)] if every else found

    def _taught(self, model: MultiTaskRanker, dataset: Any, card: RunCard) -> tuple[Lists, Distillation | None]:
        """The lists to train on with the scores of the teacher, which is only used where it is worth it."""
        train, vali, schema = dataset.lists("train"), dataset.lists("vali"), model.schema
        if self.teacher.from_ is None or schema is None:
            return train, None
        shares = self._shares(model, dataset)
        lists = teachers.lists_of(self.teacher, train, schema, self._known(dataset, model.tasks))
        taught = [task for task in model.tasks if task.name in shares]
        first = self.but(training={"seed": 0})  # runs that differ in their seed alone share what follows

        def learn() -> teachers.Lesson:
            data = Training.of(dataset, taught, schema)
            return teachers.learnt(self.teacher, data, lists, functools.partial(self._run_of, dataset=dataset))

        def alone() -> dict[str, np.ndarray]:
            student, _ = first._model(dataset, None)
            first._fit(student, *batches_of(first, student, train, vali))
            keras.utils.set_random_seed(self.training.seed)
            found: Any = student.predict(vali)
            return {f"/{task}": scores for task, scores in found.items()}

        prints = [about["fingerprint"] for about in card.data.values()]
        runs = [RunCard.load(self._folder_of(name)).identity for name in teachers.runs_of(self.teacher)]
        own, others = teachers.divided(outcome(first.config()))
        lesson = teachers.Lesson.once(self.folder.parent, [own, prints, runs, [*shares]], learn)
        student = teachers.once(self.folder.parent, [others, prints], alone)
        card.teacher = teachers.worth(lesson, {task[1:]: one for task, one in student.items()}, vali, taught)
        used = {task: share for task, share in shares.items() if card.teacher[task]["used"]}
        lists = lesson.beside(lists)
        data, _ = batches_of(self, model, lists, vali)
        return (lists, teachers.distillation(self.teacher, used, model, data)) if used else (train, None)

    def _shares(self, model: MultiTaskRanker, dataset: Any) -> dict[str, float]:
        """The share of the distillation loss of each task; raises for a teacher that cannot be used."""
        if self.teacher.from_ is None:
            return {}
        teachers.check(self.teacher, dataset.lists("train"))
        known = [*dict.fromkeys([*dataset.offered(), *(task.name for task in model.tasks)])]
        return teachers.shares(self.teacher, model.tasks, known)

    def _known(self, dataset: Any, tasks: Sequence[Task]) -> list[Task]:
        """All tasks whose columns must not be inputs, so that a sweep's runs of one task read the features of all."""
        own = dataset.offered()
        return [*tasks, *(goal.task(own.get(goal.name)) for goal in self.tasks if goal.name not in self.task_names)]

    def _asked(self, model: MultiTaskRanker) -> np.ndarray:
        """The preferences of the curve, ``[N, T]``; empty for a ranker that is not conditioned."""
        count = len(model.tasks)
        wanted = self.evaluation.preferences
        if self.conditioned is None or wanted == "none":
            return np.empty((0, count))
        rows = grid(wanted or "", count) if wanted is None or isinstance(wanted, str) else np.array(
            [normalised(row, model.tasks) for row in wanted])
        return suited(rows, model.method)

    def _fit(
        self, model: MultiTaskRanker, train: Any, vali: Any, callbacks: Sequence[Any] = (), verbose: int | str = 0,
        checkpoints: Path | None = None,
    ) -> dict[str, list[float]]:  # fmt: skip
        """Trains, and returns the history."""
        shown = [Progress()] if verbose == "auto" else []
        return fit(self, model, train, vali, self.check_epochs(model.method, len(model.tasks)), [*callbacks, *shown],
                   0 if shown else verbose, checkpoints)

    def check_epochs(self, method: Any, num_tasks: int) -> int:
        """The number of epochs after which a method trains all tasks.

        Raises:
            InputError: if ``epochs`` is smaller, and the tasks are not trained in stages.
        """
        needed: int = method.epochs_needed(num_tasks)
        if self.training.epochs < needed and not self.in_stages:
            raise InputError(f"{self.name}: {type(method).__name__} takes {needed} epochs to come to the last of "
                             f"{num_tasks} tasks, but epochs is {self.training.epochs}: some would never be trained; "
                             "give more epochs, a smaller stage_epochs, or train in stages (staged, --staged)")
        return needed

    def config(self) -> dict[str, Any]:
        """This experiment as plain data, without the plan of a sweep or a search of which it is a part."""
        return {name: value for name, value in self.tree().items() if name not in ("sweep", "tune")}
