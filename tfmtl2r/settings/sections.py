"""The sections of an experiment about its tasks, its evaluation, its sweep and its search: keys, types and facts.

The help of a key on the command line is its entry under ``Args``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from tfmtl2r.errors import InputError
from tfmtl2r.settings.values import Section, SettingError, key
from tfmtl2r.task import Task

Grid = Annotated[str, "grid"]
"""A rule such as ``lattice:10``, or a file with one preference per line."""
Rows = Grid | tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class Goal(Section):
    """A task of the ranker. If a registered data set has a task of the same name, the entry changes this task.

    Args:
        name: the name of the task in scores, metrics and exported outputs.
        label: the column with the label; by default the task's name.
        kind: "graded" (0, 1, 2, ...), "binary" (0 or 1) or "regression" (any number); by default "graded".
        loss: a name (tfmtl2r list losses) or {name = "softmax", option = value}; by default the kind decides.
        metrics: names such as ["ndcg@10", "auc"] (tfmtl2r list metrics); by default the kind decides.
        weight: importance of the task, by default 1; an alternative to the key preference.
        priority: priority in prioritised training (staged); 1 is the most important.
        transform: transform of the label: "log1p", {name = "clip", upper = 3600}, {name = "winsorise", upper = 0.95},
            {name = "grades", grades = 4}, {name = "ratio", duration = "duration_s", cap = 5}, or the rank or the gain
            among items of similar duration, {name = "duration_quantile", duration = "duration_s", groups = 10} and
            "watch_time_gain".
        weight_column: the column with the importance of the rows, in losses and metrics.
        propensity_column: the column with inverse-propensity weights, in losses and in estimates beside the metrics.
        tau: bound of propensities, such as 0.1: inverse propensities above 1 / tau count as 1 / tau.
        only_where: rows with a label, such as {column = "duration", above = 0} (is, is_not, in, above, below), or a
            list of such rules; elsewhere the label is missing.
        calibration: calibrator of a binary task (tfmtl2r list calibrators), in place of calibration.kind.
    """

    name: str | None = key()
    label: str | None = key()
    kind: Literal["graded", "binary", "regression"] | None = key()
    loss: Any = key(registry="tfmtl2r.losses")
    metrics: tuple[Any, ...] | None = key(registry="tfmtl2r.metrics")
    weight: float | None = key(least=0)
    priority: int | None = key(least=1)
    transform: Any = key(registry="tfmtl2r.transforms")
    weight_column: str | None = key()
    propensity_column: str | None = key()
    tau: float | None = key()
    only_where: Any = key()
    calibration: Any = key(registry="tfmtl2r.calibrators")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name:
            raise SettingError(["name"], "is missing: every task needs a name")
        try:
            self.task()
        except InputError as error:
            raise SettingError([], f"cannot be used: {error}") from error

    @classmethod
    def of(cls, value: Any) -> Self:
        """Also accepts a :class:`tfmtl2r.Task`."""
        if not isinstance(value, Task):
            return super().of(value)
        plain = {field.name: field.default for field in dataclasses.fields(Task)}
        plain["statistics"] = value.statistics  # fitted, and so no setting
        return cls(**{name: entry for name, entry in vars(value).items() if name == "name" or entry != plain[name]})

    def task(self, own: Task | None = None) -> Task:
        """Returns the task. Keys that are not given come from ``own``, the data set's task of the same name."""
        given: dict[str, Any] = {field.name: getattr(self, field.name, None) for field in dataclasses.fields(Task)}
        given = {name: entry for name, entry in given.items() if entry is not None}
        return dataclasses.replace(own, **given) if own else Task(**given)


@dataclasses.dataclass(frozen=True)
class Constraint(Section):
    """A bound on one task: on its training loss, or on a metric of the validation split.

    A bound without a metric is for methods that train in stages (nmt); the loss of a regression reads labels that are
    divided by their standard deviation, so that mse is 1 for the mean of the labels in any unit. A bound with a metric
    is kept by the weights of the served score if they are tuned (export.blend.weights = "tuned"), and else by training,
    which raises the task's importance while the metric is too low, with any method that takes a preference. Give
    exactly one bound.

    Args:
        task: name of the task.
        metric: a metric for which larger is better, such as "ndcg@10"; for training one of the task's metrics, for
            tuned weights one that reads the order of lists.
        floor: the lowest allowed value of the metric.
        loses_at_most: allowed loss against the task's best value: "1%" of this value, or a number in units of the loss
            or the metric. An additional stage finds the best loss, or the best metric for training; for tuned weights,
            the best metric is that of the order of the task's own score.
        at_most: the highest allowed loss.
    """

    identity: ClassVar[str] = "task"

    task: str | None = key()
    metric: str | None = key()
    floor: float | None = key()
    loses_at_most: float | str | None = key()
    at_most: float | None = key()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.task:
            raise SettingError(["task"], "is missing: give the name of the task that the constraint bounds")
        if self.metric is None and self.floor is not None:
            raise SettingError(["floor"], 'is a value of a metric: give the metric, too, such as metric = "ndcg@10"')
        wanted = ("loses_at_most", "at_most") if self.metric is None else ("floor", "loses_at_most")
        given = [name for name in ("floor", "loses_at_most", "at_most") if getattr(self, name) is not None]
        if len(given) != 1 or given[0] not in wanted:
            kind = "" if self.metric is None else " with a metric"
            raise SettingError([], f"must have exactly one of {wanted[0]} and {wanted[1]}{kind}")
        loses = self.loses_at_most
        if loses is not None and not re.fullmatch(r"\+?\d*\.?\d+(e-?\d+)?%?", str(loses)):
            raise SettingError(["loses_at_most"], f"must be a share such as '1%' or a number >= 0, not {loses!r}")

    def bound(self) -> dict[str, float]:
        """Returns a bound on a loss as fields of :class:`tfmtl2r.training.staged.Constraint`."""
        if self.at_most is not None:
            return {"at_most": self.at_most}
        text = str(self.loses_at_most)
        return {"relative": float(text[:-1]) / 100} if text.endswith("%") else {"absolute": float(text)}

    def floor_of(self, best: float) -> float:
        """Returns the lowest allowed value of the metric.

        Args:
            best: the best value of the metric for this task.

        >>> constraints = Constraint("click", "ndcg@10", loses_at_most="1%"), Constraint("click", "ndcg@10", floor=0.3)
        >>> [each.floor_of(0.5) for each in constraints]
        [0.495, 0.3]
        """
        if self.floor is not None:
            return self.floor
        allowed = self.bound()
        return best - allowed.get("relative", 0.0) * abs(best) - allowed.get("absolute", 0.0)


@dataclasses.dataclass(frozen=True)
class Evaluation(Section):
    """The evaluation of the trained ranker.

    Args:
        preferences: the preferences at which a conditioned ranker is evaluated for its run card: lattice:H, spread:N,
            angle:N, a file with one preference per line, or none. By default lattice:10 for two tasks, and equal
            importance with spread:10 for more tasks.
        by: what the metrics of parts of the test split are computed by: a column, list_length, or new:COLUMN for ids
            that the training split does not contain. tfmtl2r evaluate shows them, too.
    """

    not_built: ClassVar[tuple[str, ...]] = ("importance",)

    preferences: Rows | None = key(shown="never", axis=True)
    by: tuple[str, ...] | None = key(shown="never")


@dataclasses.dataclass(frozen=True)
class Sweeping(Section):
    """The runs of tfmtl2r sweep: one run of the experiment for every combination of these values.

    Args:
        methods: names, with options as in stch:mu=0.5,warmup=0; by default the experiment's method.
        architectures: names, with options as in mmoe:dropout=0.1; by default the experiment's architecture.
        preferences: lattice:H, spread:N, angle:N (for two tasks: evenly spaced rays between the two end points, which
            are trained first and added to the table), or a file with one preference per line. By default lattice:10 for
            two tasks, and equal importance with spread:10 for more tasks.
        seeds: seeds for each combination; by default the experiment's seed.
        single_task: train every task alone, too, for delta-m and the lines in plots.
        jobs: number of parallel processes; by default one per CPU. With training.on = "ray" and one worker, they are on
            a Ray cluster, by default one per CPU of it, or one per GPU if it has GPUs.
        threads: TensorFlow threads in each process. Results depend on this number, since the order of sums changes
            rounding.
    """

    methods: tuple[Any, ...] | None = key(registry="tfmtl2r.methods", outcome=False)
    architectures: tuple[Any, ...] | None = key(registry="tfmtl2r.architectures", outcome=False)
    preferences: Grid | None = key(outcome=False)
    seeds: tuple[int, ...] | None = key(outcome=False)
    single_task: bool = key(True, outcome=False)
    jobs: int | None = key(least=1, outcome=False)
    threads: int = key(1, least=1, outcome=False)


@dataclasses.dataclass(frozen=True)
class Tuning(Section):
    """The search of tfmtl2r tune: trainings of the experiment with other values of some keys, on the same budget.

    Args:
        trials: number of trials in all, those of earlier calls among them.
        jobs: number of trials at a time, each in a process with one TensorFlow thread; by default one after the other
            in the process of the search. With training.on = "ray" and one worker, they are on a Ray cluster, by default
            one per CPU of it, or one per GPU if it has GPUs.
        minutes: no trial starts after this time; by default, only trials counts.
        objectives: logged numbers of the validation, such as ["val_click_ndcg@5"]; several give the front of trials. By
            default, ["val_stop_on"], the mean of the tasks' gains.
        space: the keys to choose, each with a list of values or a range, such as {"optimizer.learning_rate" = {low =
            1e-4, high = 1e-2, log = true}, "architecture.dropout" = [0.1, 0.3], method = ["mgda", "cagrad"]}.
        baselines: trees with as many trials of their own, such as ["lightgbm", "catboost"]; their best trials are rows
            of the same table. A trial has one choice of settings for all tasks.
    """

    trials: int = key(20, least=1, outcome=False)
    jobs: int | None = key(least=1, outcome=False)
    minutes: float | None = key(above=0, outcome=False)
    objectives: tuple[str, ...] = key(("val_stop_on",), outcome=False)
    space: Mapping[str, Any] | None = key(outcome=False, flag=False)
    baselines: tuple[Any, ...] | None = key(outcome=False)
