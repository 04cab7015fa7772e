"""What boosted trees of all libraries share: their inputs, their labels, and the choice of settings on validation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np

from tfmtl2r.baselines.base import Baseline, Fitted, Training
from tfmtl2r.data import Lists
from tfmtl2r.data.columns import feature_values, item_weights, label_values
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.split_metrics import of_metric
from tfmtl2r.features.base import size_of
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.training.trackers import metrics_of

Objective = Literal["ranking", "binary", "regression"]


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of a split that have a label.

    Args:
        inputs: ``float64[N, F]``, see :func:`matrix`.
        labels: ``float32[N]``.
        weights: ``float32[N]``, importance of the rows.
        sizes: ``int64[n]``, rows of each list.
        categories: the columns of ``inputs`` that are categories.
    """

    inputs: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray
    categories: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Trees(Baseline):
    """Base class of boosted trees. A subclass implements :meth:`train` and :meth:`predict`.

    A model is trained for each task with each entry of :attr:`grid`, for the largest number of rounds. The best entry
    and number of rounds are those with the best first metric of the task on the validation split. A graded or binary
    task in lists has the library's ranking objective. Other tasks, and tasks whose first metric reads values, have a
    pointwise objective.

    Args:
        rounds: the numbers of trees to choose from.
        grid: the settings to choose from, each a mapping of the library's own parameters; by default
            :attr:`settings`.

    Class attributes:
        settings: the default grid.
    """

    settings: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)

    rounds: tuple[int, ...] = (50, 100, 200, 300)
    grid: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounds", tuple(sorted(self.rounds)))
        object.__setattr__(self, "grid", tuple(self.grid))
        if not self.rounds or any(count < 1 for count in self.rounds):
            raise InputError(f"rounds must be numbers of trees of at least 1, not {list(self.rounds)}")

    def with_settings(self, chosen: Mapping[str, Any]) -> Self:
        settings = dict(chosen)
        return dataclasses.replace(self, rounds=(int(settings.pop("rounds")),), grid=(settings,))

    def train(self, table: Table, objective: Objective, settings: Mapping[str, Any], rounds: int, seed: int) -> Any:
        """Trains one model with the library."""
        raise NotImplementedError

    def predict(self, model: Any, inputs: np.ndarray, rounds: int) -> np.ndarray:
        """The scores ``[N]`` of the first trees of a model: probabilities for the objective ``"binary"``."""
        raise NotImplementedError

    def fit(self, training: Training) -> Fitted:
        self.module()
        inputs, categories = matrix(training.train, training.schema)
        beside = matrix(training.vali, training.schema)[0]
        scorers, chosen, valued = {}, {}, set()
        for task in training.tasks:
            objective = _objective(task, training.train)
            table = _labelled(training.train, task, inputs, categories)
            model, found = self._best(training, task, objective, table, beside)
            scorers[task.name] = _Scorer(self, model, found["rounds"], training.schema)
            chosen[task.name] = found
            if objective != "ranking":
                valued.add(task.name)
        return Fitted(scorers, frozenset(valued), chosen)

    def _best(
        self, training: Training, task: Task, objective: Objective, table: Table, vali: np.ndarray
    ) -> tuple[Any, dict[str, Any]]:
        """The model and the settings with the best metric; of equal ones the first, with the fewest trees."""
        metric = metrics_of(task, not training.vali.is_rows)[0]
        sign = 1.0 if metric.direction == "max" else -1.0
        best: tuple[float, Any, dict[str, Any]] | None = None
        for settings in self.grid or self.settings:
            model = self.train(table, objective, settings, self.rounds[-1], training.seed)
            for rounds in self.rounds:
                value = sign * of_metric(metric, training.vali, task, self.predict(model, vali, rounds)).value
                value = -math.inf if math.isnan(value) else value
                if best is None or value > best[0]:
                    best = value, model, {**settings, "rounds": rounds}
        assert best is not None
        return best[1:]


@dataclasses.dataclass(frozen=True)
class _Scorer:
    """Scores lists with the model of one task."""

    trees: Trees
    model: Any
    rounds: int
    schema: Schema

    def __call__(self, lists: Lists) -> np.ndarray:
        return self.trees.predict(self.model, matrix(lists, self.schema)[0], self.rounds)


def matrix(lists: Lists, schema: Schema) -> tuple[np.ndarray, tuple[int, ...]]:
    """The features of all items as one matrix, ``float64[N, F]``, and the columns that are categories.

    Numbers stay as they are, and NaN is missing. A category is its place in the vocabulary of the training split; a
    value outside of the vocabulary is NaN. Inputs of any number of values, such as histories, and ids without a
    vocabulary are left out.

    >>> from tfmtl2r import Category, Dense
    >>> rows = Lists({"brand": np.array(["b", "c"], object), "price": np.array([1.0, np.nan])})
    >>> matrix(rows, Schema([Category("brand", vocabulary=("a", "b")), Dense("price")]))
    (array([[ 1.,  1.],
           [nan, nan]]), (0,))
    """
    owners = {feature.name: feature for feature in schema.features}
    parts: list[np.ndarray] = []
    categories: list[int] = []
    for feature in schema.features:
        owner = owners[feature.shares] if feature.shares else feature
        raw = feature_values(lists, feature)
        for name, values in raw.items():
            known = owner.known_values if name == feature.name else None
            kind = feature.raw[name].dtype
            if size_of(name) in raw or kind == "int32" or (known is None and (kind == "string" or feature.reads_names)):
                continue
            if feature.context and not lists.is_rows:
                values = np.repeat(values, lists.sizes, axis=0)
            if known is not None:
                places = {value: place for place, value in enumerate(known)}
                values = np.array([places.get(value, np.nan) for value in owner.as_known(values).tolist()])
                categories.append(sum(part.shape[1] for part in parts))
            elif kind == "int64":
                values = np.where(values == feature.raw[name].missing, np.nan, values)
            parts.append(np.asarray(values, np.float64).reshape(lists.num_items, -1))
    if not parts:
        raise InputError("no feature is a number or a category with a vocabulary, so that trees have no inputs")
    return np.concatenate(parts, axis=1), tuple(categories)


def _labelled(lists: Lists, task: Task, inputs: np.ndarray, categories: tuple[int, ...]) -> Table:
    """The rows with a label, and their lists."""
    labels = label_values(lists, task)
    weights = item_weights(lists, task.name, task.weight_column)
    keep = np.isfinite(labels) & (weights > 0)
    if task.kind != "regression":
        keep &= labels >= 0
    if not keep.any():
        raise InputError(f"task {task.name!r} has no labels in the training split, so that no trees can be trained")
    sizes = np.ones(lists.num_items, np.int64) if lists.is_rows else lists.sizes
    sizes = np.bincount(np.repeat(np.arange(len(sizes)), sizes)[keep], minlength=len(sizes))
    return Table(inputs[keep], labels[keep], weights[keep], sizes[sizes > 0], categories)


def _objective(task: Task, lists: Lists) -> Objective:
    if task.kind == "regression":
        return "regression"
    first = metrics_of(task, not lists.is_rows)[0]
    if lists.is_rows or first.reads == "value":
        return "binary" if task.kind == "binary" else "regression"
    return "ranking"
