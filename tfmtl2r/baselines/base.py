"""The base class of baselines, what they are trained on, and what a trained one is."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.evaluation.split_metrics import Score, evaluate
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.training.trackers import metrics_of

Scorer = Callable[[Lists], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained baseline.

    Args:
        scorers: task -> function from lists to one score per item, ``float64[N]``.
        valued: the tasks whose scores are in the label's unit. Metrics of values are only computed for these tasks.
        chosen: task -> the settings of the grid that were best on the validation split.
    """

    scorers: Mapping[str, Scorer]
    valued: frozenset[str] = frozenset()
    chosen: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def scores(self, lists: Lists) -> dict[str, np.ndarray]:
        """The scores of all items: task -> ``float64[N]``."""
        return {task: np.asarray(scorer(lists), np.float64) for task, scorer in self.scorers.items()}

    def evaluate(self, lists: Lists, tasks: Sequence[Task]) -> dict[str, dict[str, Score]]:
        """The metrics of a split, with what standard errors need; see :func:`tfmtl2r.evaluation.evaluate`."""
        return evaluate(self.scores(lists), lists, [self._measured(task, lists) for task in tasks], jackknife=True)

    def _measured(self, task: Task, lists: Lists) -> Task:
        metrics = metrics_of(task, not lists.is_rows)
        if task.name not in self.valued:
            metrics = [metric for metric in metrics if metric.reads == "score"]
        return dataclasses.replace(task, metrics=tuple(metrics))


@dataclasses.dataclass(frozen=True)
class Training:
    """What a baseline is trained on.

    Args:
        train, vali: the splits. Models are fitted on ``train``; ``vali`` chooses among the settings of the grid.
        tasks: the tasks.
        schema: the features, fitted on ``train``.
        seed: seed of all random choices.
        fitted: the baselines that were already trained on the same data, which are not trained again.
    """

    train: Lists
    vali: Lists
    tasks: tuple[Task, ...]
    schema: Schema
    seed: int = 0
    fitted: dict[str, Fitted] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, dataset: Any, tasks: Sequence[Task], schema: Schema, seed: int = 0) -> Training:
        """The training and validation split of a data set."""
        return cls(dataset.lists("train"), dataset.lists("vali"), tuple(tasks), schema, seed)

    def fit(self, baseline: Baseline, key: Any) -> Fitted:
        """Trains a baseline, or returns the trained one of an earlier call.

        Args:
            baseline: the baseline.
            key: its description as plain data.
        """
        text = json.dumps(key, sort_keys=True)
        if text not in self.fitted:
            self.fitted[text] = baseline.fit(self)
        return self.fitted[text]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Base class of baselines: a frozen dataclass with :meth:`fit`.

    Class attributes:
        library: the module that must be installed; empty for a baseline of this package alone.
        extra: what ``pip install`` gets it.
        space: the settings that ``tfmtl2r tune`` chooses, each a range ``{"low", "high", "log"}``; empty for none.
            Whole bounds are a range of whole numbers.
    """

    library: ClassVar[str] = ""
    extra: ClassVar[str] = "'tfmtl2r[baselines]'"
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def fit(self, training: Training) -> Fitted:
        """Trains a model for each task.

        Raises:
            ValueError: if the library is not installed, or a task has no labels.
        """
        raise not_defined(self, "fit")

    def with_settings(self, chosen: Mapping[str, Any]) -> Self:
        """The baseline with these settings alone, one value for each key of :attr:`space`."""
        raise not_defined(self, "with_settings")

    def check(self) -> None:
        """Checks that the library is installed, without its import.

        Raises:
            InputError: if it is not; the message contains the command that installs it.
        """
        if self.library and importlib.util.find_spec(self.library) is None:
            raise InputError(f"the baseline {type(self).__name__} needs {self.library}, which is not installed: "
                             f"pip install {self.extra}")

    def module(self) -> Any:
        """Imports the library; see :meth:`check`."""
        self.check()
        return importlib.import_module(self.library)


def standardised(scores: np.ndarray, lists: Lists) -> np.ndarray:
    """Scores minus the mean of their list, divided by their standard deviation in the list; 0 where that is 0.

    Plain rows count as one list.

    >>> lists = Lists({"x": np.zeros(5)}, offsets=np.array([0, 3, 5]))
    >>> standardised(np.array([2.0, 0.0, -1.0, 7.0, 7.0]), lists).round(6).tolist()
    [1.336306, -0.267261, -1.069045, 0.0, 0.0]
    """
    apart = centred(scores, lists)
    sizes = np.array([len(scores)]) if lists.is_rows else lists.sizes
    starts = np.cumsum(sizes) - sizes
    spread = np.repeat(np.sqrt(np.add.reduceat(apart**2, starts) / sizes), sizes)
    flat = spread <= 1e-12 * np.abs(scores).max(initial=1e-300)
    return np.where(flat, 0.0, apart / np.where(flat, 1.0, spread))


def centred(scores: np.ndarray, lists: Lists) -> np.ndarray:
    """Scores minus the mean of their list. Plain rows count as one list."""
    scores = np.asarray(scores, np.float64)
    sizes = np.array([len(scores)]) if lists.is_rows else lists.sizes
    starts = np.cumsum(sizes) - sizes
    return scores - np.repeat(np.add.reduceat(scores, starts) / sizes, sizes)
