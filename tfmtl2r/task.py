"""Tasks: one :class:`Task` per training goal of a ranker."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any

from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.names import checked_task, refuse_equal_keys
from tfmtl2r.rules import checked_rules, columns_of
from tfmtl2r.types import Described

if TYPE_CHECKING:
    from tfmtl2r.calibrators.base import Calibrator
    from tfmtl2r.losses.base import Loss
    from tfmtl2r.metrics.base import Metric
    from tfmtl2r.transforms.base import Transform

KINDS = ("binary", "graded", "regression")


@dataclasses.dataclass(frozen=True)
class LabelStatistics:
    """Weighted mean and standard deviation of a task's label in the training split, after the task's transform.

    Args:
        mean: the mean; of a binary label, its base rate.
        sd: the standard deviation (divided by n); 1 for a label that does not vary.
    """

    mean: float
    sd: float


@dataclasses.dataclass(frozen=True)
class Task:
    """One goal of a ranker.

    Args:
        name: name of the task in scores, metrics and exported outputs; letters, digits and underscores.
        label: the column with the label; by default the name of the task.
        kind: ``"binary"`` (0 or 1), ``"graded"`` (relevance grades 0, 1, 2, ...) or ``"regression"`` (any number).
            A missing label is NaN. For binary and graded tasks, a negative label is missing, too.
        loss: name of a loss, ``{"name": ..., option: value}``, or a loss; by default softmax for lists, with the
            gains ``2^y - 1`` as targets if they are graded, binary cross-entropy for binary rows, and mean squared
            error otherwise.
        metrics: names such as ``"ndcg@5"``, or metrics; by default NDCG@5 and, for binary tasks, AUC on lists.
        weight: importance of the task, >= 0, the default preference of every method.
        priority: priority in prioritised training; 1 is the most important.
        transform: name of a label transform (:mod:`tfmtl2r.transforms`), ``{"name": ..., option: value}``, or a
            transform.
        weight_column: the column with the importance of the rows, in losses and metrics of the task.
        propensity_column: the column with inverse-propensity weights, which enter losses only; see
            :mod:`tfmtl2r.data.propensity`.
        tau: bound of propensities, in (0, 1]: inverse propensities above ``1 / tau`` count as ``1 / tau``, in losses
            and in estimates of metrics. None leaves them as they are.
        only_where: a rule such as ``{"column": "duration", "above": 0}``, or several rules. Elsewhere the label is
            missing. See :func:`tfmtl2r.rules.checked_rules`.
        calibration: name of a calibrator (:mod:`tfmtl2r.calibrators`), ``{"name": ..., option: value}``, or a
            calibrator, which makes probabilities of the scores of a binary task
            (:func:`tfmtl2r.evaluation.calibration.fit_calibrators`).
        statistics: statistics of the label, which :func:`tfmtl2r.data.fit_tasks` fits. A regression with statistics is
            standardised inside the model.

    Raises:
        ValueError: for an empty name, a control character in it, or a name that is reserved for logs and exports
            (:func:`tfmtl2r.names.checked_task`), an unknown kind, a weight that is not a finite number >= 0, or an
            invalid rule.
        TypeError: for metrics that are not several.

    >>> Task("click", label="is_click", kind="binary").label
    'is_click'
    """

    name: str
    label: str = ""
    kind: str = "graded"
    loss: Described | Loss | None = None
    metrics: tuple[Described | Metric, ...] | None = None
    weight: float = 1.0
    priority: int | None = None
    transform: Described | Transform | None = None
    weight_column: str | None = None
    propensity_column: str | None = None
    tau: float | None = None
    only_where: Any = ()
    calibration: Described | Calibrator | None = None
    statistics: LabelStatistics | None = None

    def __post_init__(self) -> None:
        checked_task(self.name)
        if self.kind not in KINDS:
            raise InputError(f"task {self.name!r}: kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"task {self.name!r}: weight must be a finite number >= 0, not {self.weight!r}")
        if self.priority is not None and self.priority < 1:
            raise InputError(f"task {self.name!r}: priority must be 1 (most important) or more, not {self.priority!r}")
        if self.tau is not None and not 0 < self.tau <= 1:
            raise InputError(f"task {self.name!r}: tau must lie in (0, 1], not {self.tau!r}")
        object.__setattr__(self, "label", self.name if self.label == "" else str(self.label))
        if isinstance(self.metrics, (str, Mapping)) or not isinstance(self.metrics, (Iterable, NoneType)):
            raise InputTypeError(f"task {self.name!r}: metrics must be several, such as ('ndcg@5', 'auc'), not "
                                 f"{self.metrics!r}")
        if self.metrics is not None:
            object.__setattr__(self, "metrics", tuple(self.metrics))
        try:
            object.__setattr__(self, "only_where", checked_rules(self.only_where))
        except InputError as error:
            raise InputError(f"task {self.name!r}: {error}") from error
        if isinstance(self.statistics, Mapping):
            object.__setattr__(self, "statistics", LabelStatistics(**self.statistics))

    @property
    def columns(self) -> dict[str, str]:
        """The columns that must not be features -> what they are: the label and weights."""
        named = {self.propensity_column: "propensity column", self.weight_column: "weight column", self.label: "label"}
        return {column: f"the {what} of task {self.name!r}" for column, what in named.items() if column}

    @property
    def rule_columns(self) -> tuple[str, ...]:
        """The columns of ``only_where``. They are features only if the user names them."""
        return columns_of(self.only_where)


def validated(tasks: Any) -> tuple[Task, ...]:
    """Returns the tasks as a tuple.

    Raises:
        ValueError: without tasks, for two tasks of one name, for a tau without propensities, or if all weights are 0.
    """
    tasks = tuple(Task(t) if isinstance(t, str) else t for t in tasks)
    names = [task.name for task in tasks]
    if not names:
        raise InputError("a ranker needs at least one task")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two tasks are called {twice[0]!r}; names must differ")
    refuse_equal_keys(names, "tasks")
    for task in tasks:
        if task.tau is not None and task.propensity_column is None:
            raise InputError(f"task {task.name!r}: tau bounds the inverse propensities of propensity_column, which the "
                             "task does not have: set propensity_column, or leave tau out")
    if not any(task.weight > 0 for task in tasks):
        raise InputError("all task weights are 0; at least one must be above 0")
    return tasks
