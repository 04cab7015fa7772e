"""The base class of data sets: tasks, three splits of lists, and a schema that is fitted on the training split."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r.data.choose import only_rows
from tfmtl2r.data.columns import (
    Columns,
    item_weights,
    label_values,
    warn_of_negative,
    warn_of_propensities,
)
from tfmtl2r.data.fit import Rest, fit_schema
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.pipeline import batches
from tfmtl2r.data.pooling import pooled
from tfmtl2r.data.splits import by_fold
from tfmtl2r.data.targets import fit_tasks
from tfmtl2r.errors import InputError, InputTypeError, not_defined
from tfmtl2r.features.base import Feature
from tfmtl2r.names import did_you_mean
from tfmtl2r.rules import Rule, checked_rules, columns_of
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.types import Batches

Scores = Callable[[Lists], np.ndarray]


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set; a subclass defines its tasks (:meth:`tasks`) and how a split is read (:meth:`read`).

    Splits, schema and statistics are computed once per instance.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "vali", "test")

    def tasks(self) -> tuple[Task, ...]:
        """All tasks that the data set offers."""
        raise not_defined(self, "tasks")

    def offered(self) -> dict[str, Task]:
        """The tasks of :meth:`tasks` by name.

        Raises:
            TypeError: if :meth:`tasks` returns anything but a tuple or list of tasks.
        """
        found = self.tasks()
        if not isinstance(found, (tuple, list)) or not all(isinstance(task, Task) for task in found):
            came = f"one {type(found).__name__}" if isinstance(found, Task) else repr(found)
            raise InputTypeError(f"{type(self).__name__}.tasks returned {came}, expected a tuple of tfmtl2r.Task")
        return {task.name: task for task in found}

    @property
    def default_tasks(self) -> tuple[str, ...]:
        """Names of the tasks that :meth:`load` uses if ``tasks`` is None; all tasks by default."""
        return tuple(self.offered())

    def features(self) -> tuple[str | Feature | Rest, ...]:
        """What :func:`tfmtl2r.data.fit_schema` is told about the features; by default to infer them all."""
        return ("*",)

    def exclude(self) -> tuple[str, ...]:
        """Columns that are no features, in addition to the labels of the tasks."""
        return ()

    def about(self, split: str) -> dict[str, Any]:
        """What a run card holds of a split beside its size and fingerprint; by default nothing."""
        return {}

    def trivial_scores(self) -> dict[str, dict[str, Scores]]:
        """Rankings without training: name -> task -> function from lists to one score per item ``[N]``."""
        return {}

    def lists(self, split: str) -> Lists:
        """The lists of a split, which are read only once.

        Raises:
            ValueError: for an unknown split.
            FileNotFoundError: for a missing file; the message names where to get it.
        """
        if split not in self.splits:
            raise InputError(f"{type(self).__name__} has no split {split!r}; its splits: {', '.join(self.splits)}")
        if split not in self._cache:
            read = self.read(split)
            if not isinstance(read, Lists):
                came = type(read).__name__
                raise InputTypeError(f"{type(self).__name__}.read({split!r}) returned a {came}, expected "
                                     "tfmtl2r.datasets.Lists; tfmtl2r.data.from_frame makes them of a table")
            self._cache[split] = only_rows(read, self._rules, f"data, the {split} split")
        return self._cache[split]

    def pooled(self) -> Lists:
        """The lists of all splits in one table, in the order of the splits.

        A subclass whose columns contain statistics of the training split raises an error here: folds of such lists
        would contain the labels of their own test split.
        """
        return pooled([self.lists(split) for split in self.splits])

    def where(self, rules: Any) -> Self:
        """Returns a copy whose splits contain only the rows for which all rules hold.

        The columns of the rules are features only if the data set names them (:meth:`features`).

        Args:
            rules: a rule or several (:func:`tfmtl2r.rules.checked_rules`).
        """
        found = copy.copy(self)
        found.__dict__.update(_cache={}, _rules=checked_rules(rules))
        return found

    def with_splits(self, splits: Mapping[str, Lists]) -> Self:
        """Returns a copy of the data set with other lists. Its schema and statistics are fitted on its own split train.

        Args:
            splits: split -> its lists.
        """
        found = copy.copy(self)
        kept = {key: value for key, value in self._cache.items() if isinstance(key, str)}  # nothing that was fitted
        found.__dict__["_cache"] = kept | dict(splits)
        return found

    def cross_fold(self, number: int, folds: int, seed: int = 0, vali: float = 0.1) -> Self:
        """Returns a copy whose splits are those of a fold of all lists (:func:`tfmtl2r.data.splits.by_fold`).

        Raises:
            ValueError: if a split of the fold has no lists, or the data set has columns that cannot be divided anew.
        """
        lists = self.pooled()
        chosen = by_fold(lists, number, folds, seed, vali)
        for split in self.splits:
            if not (chosen == split).any():
                what = "rows" if lists.is_rows else "lists"
                raise InputError(f"fold {number} of {folds} has no {what} in its {split} split: the hash of the ids "
                                 f"puts none of {lists.num_lists} there; take fewer folds, another seed or another "
                                 "share of vali")
        return self.with_splits({split: lists.select(chosen == split) for split in self.splits})

    def schema(self, tasks: Iterable[str | Task] | None = None) -> Schema:
        """The schema of the features, fitted on the training split.

        The label columns of all tasks of the data set are left out, even if a task is not trained.

        Args:
            tasks: the tasks to train. The label columns of tasks that the data set does not offer are left out, too.
        """
        offered = self.offered().values()
        own = [task for task in self.select(tasks) if task not in offered]
        key = tuple(sorted({column for task in own for column in (*task.columns, *task.rule_columns)}))
        if key not in self._cache:
            self._cache[key] = fit_schema(self.lists("train"), [*offered, *own], self.features(),
                                          [*self.exclude(), *columns_of(self._rules)])
        return self._cache[key]

    def check(self, tasks: Iterable[Task], schema: Schema) -> None:
        """Reads all splits, and converts their features, labels and weights as training and evaluation will do.

        Args:
            tasks: the tasks to train.
            schema: the schema, which was fitted on the training split. The types of the other splits must fit it.

        Raises:
            ValueError: for a split that cannot be read, an infinite feature, or values of another type than in the
                training split; the message contains split, row, column and value.
        """
        tasks = tuple(tasks)
        key = ("checked", schema.names, repr(tasks))
        if key in self._cache:
            return
        for split in self.splits:
            try:
                lists = self.lists(split)
                for feature in schema.features:
                    Columns(lists, feature.context).check(feature)
                for task in tasks:
                    warn_of_negative(label_values(lists, task), task, f"the {split} split")
                    item_weights(lists, task.name, task.weight_column)
                    warn_of_propensities(lists, task, f"the {split} split")
            except InputError as error:
                raise InputError(f"{split} split: {error}") from error
        self._cache[key] = True

    def select(self, tasks: Iterable[str | Task] | None = None) -> tuple[Task, ...]:
        """Returns the tasks with the given names.

        Args:
            tasks: names, or :class:`Task` objects, which are returned unchanged; None selects :attr:`default_tasks`.

        Raises:
            ValueError: for an unknown name.
        """
        offered = self.offered()
        chosen = []
        for task in self.default_tasks if tasks is None else tasks:
            if isinstance(task, str) and task not in offered:
                raise InputError(f"{type(self).__name__} has no task {task!r}{did_you_mean(task, offered)}; "
                                 f"its tasks: {', '.join(offered)}")
            chosen.append(offered[task] if isinstance(task, str) else task)
        return tuple(chosen)

    def load(
        self, split: str, tasks: Iterable[str | Task] | None = None, schema: Schema | None = None, **options: Any
    ) -> Batches:
        """Returns a split as batches.

        Args:
            split: ``"train"``, ``"vali"`` or ``"test"``.
            tasks: names or tasks; :attr:`default_tasks` if None. Their transforms are fitted on the training split.
            schema: schema of the features; :meth:`schema` if None.
            **options: options of :func:`tfmtl2r.data.batches`. The training split is shuffled by default.
        """
        chosen = self.select(tasks)
        if any(task.transform is not None for task in chosen):
            chosen = fit_tasks(self.lists("train"), chosen)
        options.setdefault("shuffle", split == "train")
        return batches(self.lists(split), chosen, schema or self.schema(chosen), **options)

    def read(self, split: str) -> Lists:
        """Reads the lists of a split. A subclass overrides this method; :meth:`lists` calls it once per split.

        Args:
            split: one of ``splits``.
        """
        raise not_defined(self, "read")

    @functools.cached_property
    def _rules(self) -> tuple[Rule, ...]:
        """The rules of :meth:`where`."""
        return ()

    @functools.cached_property
    def _cache(self) -> dict[Any, Any]:
        return {}
