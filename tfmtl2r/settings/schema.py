"""A whole experiment: the keys outside of sections, and the rules between keys.

The command line, experiment files, run cards, fingerprints and the labels of runs in tables all derive from this
class.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from tfmtl2r.errors import InputError
from tfmtl2r.names import checked_folder
from tfmtl2r.settings.data import Data, Feature
from tfmtl2r.settings.exporting import Exporting
from tfmtl2r.settings.layers import as_given, layered, marked, with_keys, with_preset
from tfmtl2r.settings.sections import Constraint, Evaluation, Goal, Sweeping, Tuning
from tfmtl2r.settings.training import Calibrating, Ensembling, Optimizer, Start, Teacher, Training
from tfmtl2r.settings.values import FilePath, Section, SettingError, key

FORMAT = 2
"""Version of the format in which experiment files, run cards and sweep stores are written."""


@dataclasses.dataclass(frozen=True)
class Settings(Section):
    """All settings of a training, in sections. A section is given as a mapping of its keys, or as an object.

    Args:
        format: version of the format of experiment files; 2.
        name: name of the run and of its folder; by default the method and the time.
        preset: settings under one name (tfmtl2r list presets), such as "letor", "letor-taught", "clicks" or "small".
            Every other key that is given takes precedence.
        directory: the folder of all runs.
        plugins: Python files that register methods, losses, metrics, architectures or data sets of your own.
        architecture: a name (tfmtl2r list architectures) or {name = "mmoe", option = value}.
        method: a name (tfmtl2r list methods) or {name = "cagrad", option = value}.
        gradients: the gradients that the method balances: "parameters" (exact) or "features" (at the architecture's
            cut, at almost no cost).
        preference: importance of each task, such as {click = 2, like = 1}, in place of the tasks' weights.
        conditioned: concentration of a Dirichlet distribution, such as 1.0. If given, training draws preferences from
            it and the ranker reads them: one model for all trade-offs.
        staged: train the tasks by priority, each level with bounds on the losses of the levels before it (method nmt).
        data: the section [data].
        features: the entries of [[features]], for a table of your own; by default all columns.
        tasks: the entries of [[tasks]]; a name alone stands for the data set's task of this name.
        constraints: the entries of [[constraints]].
        penalties: the entries of [[penalties]], terms between tasks (tfmtl2r list penalties), such as {name =
            "distribution_matching", source = "click", target = "like"}.
        start: the section [start].
        optimizer: the section [optimizer].
        training: the section [training].
        ensemble: the section [ensemble].
        teacher: the section [teacher].
        calibration: the section [calibration].
        evaluation: the section [evaluation].
        sweep: the section [sweep].
        tune: the section [tune].
        export: the section [export].
    """

    name: str | None = key(outcome=False, axis=True)
    data: Data = key(Data)
    tasks: tuple[Goal, ...] = key((), axis=True)
    architecture: Any = key("shared_bottom", registry="tfmtl2r.architectures", axis=True)
    method: Any = key("linear_scalarization", registry="tfmtl2r.methods", axis=True, several=True, shown="own")
    gradients: Literal["parameters", "features"] = key("parameters", several=True)
    preference: Mapping[str, float] | None = key(axis=True, several=True, shown="own")
    conditioned: float | None = key(above=0, axis=True, several=True, shown="own")
    staged: bool = key(False, axis=True, several=True)
    features: tuple[Feature, ...] = key((), shown="own")
    constraints: tuple[Constraint, ...] = key((), axis=True, several=True)
    penalties: tuple[Any, ...] = key((), registry="tfmtl2r.penalties", axis=True, several=True, flag=False)
    start: Start = key(Start)
    optimizer: Optimizer = key(Optimizer)
    training: Training = key(Training)
    ensemble: Ensembling = key(Ensembling)
    teacher: Teacher = key(Teacher)
    calibration: Calibrating = key(Calibrating)
    evaluation: Evaluation = key(Evaluation)
    sweep: Sweeping = key(Sweeping)
    tune: Tuning = key(Tuning)
    export: Exporting = key(Exporting)
    directory: FilePath = key("runs", outcome=False)
    plugins: tuple[FilePath, ...] = key((), outcome=False, flag=False)
    preset: Any = key(registry="tfmtl2r.presets", outcome=False, shown="never")
    format: int = key(FORMAT, outcome=False, flag=False)

    def __post_init__(self) -> None:
        if self.preset is not None:
            for name, value in with_preset(as_given(self), Settings).items():
                object.__setattr__(self, name, value)
        super().__post_init__()
        if self.format != FORMAT:
            raise SettingError(["format"], f"is {self.format}: this version of tfmtl2r reads experiments of format "
                               f"{FORMAT}" + ("; a newer version wrote this one" if self.format > FORMAT else ""))
        if self.name is not None:
            checked_name(self.name)
        self._check_tasks()
        self._check_constraints()
        self._check_training()

    def _check_tasks(self) -> None:
        names = [goal.name for goal in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise SettingError(["tasks", str(name)], "is given twice")
        weighted = [goal.name for goal in self.tasks if goal.weight is not None]
        if self.preference is not None and weighted:
            raise SettingError(["preference"], f"and the weight of task {weighted[0]!r} set the same thing: leave "
                               "one of them out")
        if self.data.name is not None and self.features:
            raise SettingError(["features"], f"are only for a table of your own; the data set {self.data.name!r} "
                               "defines its features")
        if self.data.name is None and not self.tasks:
            raise SettingError(["tasks"], "are missing: your own table needs at least one [[tasks]] entry, such as "
                               "{name = \"click\", kind = \"binary\"}")

    def _check_constraints(self) -> None:
        names = [str(bound.task) for bound in self.constraints]
        for name in names:
            if names.count(name) > 1:
                raise SettingError(["constraints", name], "is given twice")
        if self.floors and (self.staged or self.loss_bounds):
            raise SettingError(["constraints", str(self.floors[0].task), "metric"], "does not go with stages or bounds "
                               "on losses, unless the weights of the served score keep it: leave one of them out, or "
                               'set export.blend = {weights = "tuned"}')
        utility = self.export.blend and self.export.blend.utility
        if self.tunes_weights and not self.metric_bounds and utility is None:
            raise SettingError(["export", "blend", "weights"], 'are "tuned", but nothing states what for: give '
                               "utility, such as {click = 1, like = 3}, or [[constraints]] with task, metric and floor")

    @property
    def tunes_weights(self) -> bool:
        """Whether the weights of the served score are tuned after the training."""
        return self.export.blend is not None and self.export.blend.weights == "tuned"

    @property
    def loss_bounds(self) -> tuple[Constraint, ...]:
        """The constraints on training losses."""
        return tuple(bound for bound in self.constraints if bound.metric is None)

    @property
    def metric_bounds(self) -> tuple[Constraint, ...]:
        """The constraints on metrics."""
        return tuple(bound for bound in self.constraints if bound.metric is not None)

    @property
    def floors(self) -> tuple[Constraint, ...]:
        """The constraints on metrics that training keeps: those that no tuned weights keep."""
        return () if self.tunes_weights else self.metric_bounds

    @property
    def in_stages(self) -> bool:
        """Whether training has a plan of its own: stages by priority, bounds on losses, or floors of metrics."""
        return bool(self.staged or self.loss_bounds or self.floors)

    def _check_training(self) -> None:
        if self.evaluation.preferences is not None and self.conditioned is None:
            raise SettingError(["evaluation", "preferences"], "need a ranker with the preference as an "
                               "input: set conditioned, or leave evaluation.preferences out")
        if self.start.method_state == "keep" and self.in_stages:
            raise SettingError(["start", "method_state"], "must be \"reset\" with stages or constraints, which begin "
                               "every stage with a new state")
        if self.teacher.from_ is not None and self.in_stages:
            raise SettingError(["teacher", "from"], "does not go with stages and constraints: leave it out")
        if self.teacher.from_ is not None and self.training.augment:
            raise SettingError(["training", "augment"], "swaps values within lists, and a teacher's scores belong to "
                               "unchanged lists: use teacher.synthetic, whose copies the teacher scores")
        if self.ensemble.draws > 1 and self.training.buckets is not None:
            raise SettingError(["training", "buckets"], "does not go with ensemble.batches = \"own\", since the "
                               "batches of all members are equally long: leave one of them out")
        training = self.training
        if training.stop_on is not None and (not training.patience or self.in_stages):
            raise SettingError(["training", "stop_on"], "has no effect with patience 0, stages or constraints: leave "
                               "it out")
        every = self.training.validate_every
        if every != 1 and (self.training.patience or self.in_stages):
            raise SettingError(["training", "validate_every"], f"must be 1, not {every}, with patience, stages or "
                               "constraints: these use the validation split after every epoch")

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks to train. Empty means the data set's default tasks."""
        return self.data.tasks or tuple(str(goal.name) for goal in self.tasks)

    def table(self) -> dict[str, Any]:
        """The options of the data set ``table``, for files of one's own."""
        data = self.data.tree()
        return {"goals": [goal.tree() for goal in self.tasks],
                "columns": [feature.tree() for feature in self.features] or ["*"],
                **{key: data[key] for key in (*self.data.own_table, "only_where") if key in data}}

    def but(self, **changes: Any) -> Self:
        """Returns a copy with other values. A mapping for a section changes only the keys that it contains.

        >>> settings = Settings(training={"epochs": 3, "seed": 1})
        >>> settings.but(training={"seed": 2}, method="mgda").training.tree()["epochs"]
        3
        """
        if changes.get("preset") is not None:
            if self.preset is not None:
                raise SettingError(["preset"], f"is applied already, and so are its keys: {self.preset}")
            return type(self).of(layered(as_given(self), as_given(changes), Settings))
        for name, change in changes.items():
            before = getattr(self, name, None)
            if isinstance(before, Section) and isinstance(change, Mapping) and not change.get("name"):
                changes[name] = with_keys(before, change)
        made: Self = marked(dataclasses.replace(self, **changes), self.given | changes.keys())
        return made


def checked_name(name: str) -> str:
    """Returns a name that is valid as a folder.

    Raises:
        ValueError: for any other name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.\-]*", name):
        raise InputError(f"run name {name!r}: expected letters, digits, '_', '-' and '.', the first a letter or digit")
    if name.endswith(".toml"):
        raise InputError(f"run name {name!r} must not end in .toml: such an argument is an experiment file")
    return checked_folder(name, "run")
