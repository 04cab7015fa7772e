"""Thresholds of numbers, chosen by gradient-boosted trees on the training labels. The extra ``[baselines]`` has them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl2r.data.columns import feature_values, label_values
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError, MissingPackageError
from tfmtl2r.features.base import Feature
from tfmtl2r.features.dense import Dense
from tfmtl2r.task import Task

_ROUNDS = 200
_COMMON = {"learning_rate": 0.05, "num_leaves": 15, "verbosity": -1, "num_threads": 1, "deterministic": True,
           "force_col_wise": True, "seed": 0}
_SETTINGS: tuple[dict[str, Any], ...] = (
    {}, {"feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 5.0})
"""Each task has a plain and a regularised model."""


def with_thresholds(lists: Lists, tasks: Sequence[Task], features: Iterable[Feature]) -> list[Feature]:
    """The features, with thresholds where ``steps`` lets tree models choose them.

    LightGBM (LambdaMART with graded or binary labels of lists) fits two models to each task. Among the pairs (feature,
    threshold) of features with equal ``steps``, those with the largest gain are chosen. The gains of each model are
    divided by their sum, and then added over the models.

    Args:
        lists: the training split.
        tasks: the tasks whose labels the models learn.
        features: features, whose statistics may be missing.

    Raises:
        ImportError: without LightGBM.
        ValueError: if no task has labels that differ.
    """
    features = list(features)
    asked = [f for f in features if isinstance(f, Dense) and isinstance(f.steps, Mapping) and f.thresholds is None]
    found: dict[str, Feature] = {}
    for number in dict.fromkeys(f.steps["number"] for f in asked):
        group = [f for f in asked if f.steps["number"] == number]
        chosen = _best(_gains(_matrix(lists, group), lists, tasks), number)
        start = 0
        for f in group:
            rows = [tuple(sorted(t for column, t in chosen if column == start + i)) for i in range(f.components)]
            found[f.name] = dataclasses.replace(f, thresholds=tuple(rows))
            start += f.components
    return [found.get(f.name, f) for f in features]


def _matrix(lists: Lists, features: Iterable[Dense]) -> np.ndarray:
    """The numbers of all features, ``float32[N, F]``."""
    columns = []
    for f in features:
        values = feature_values(lists, f)[f.name].reshape(-1, f.components)
        columns.append(np.repeat(values, lists.sizes, axis=0) if f.context and not lists.is_rows else values)
    return np.concatenate(columns, axis=1)


def _gains(values: np.ndarray, lists: Lists, tasks: Sequence[Task]) -> dict[tuple[int, float], float]:
    """The gain of each pair (column, threshold), summed over the models of all tasks."""
    try:
        import lightgbm
    except ImportError as error:
        raise MissingPackageError("steps = {from = \"lightgbm\"} needs lightgbm: pip install 'tfmtl2r[baselines]'"
                                  ) from error
    total: dict[tuple[int, float], float] = {}
    list_of = np.repeat(np.arange(lists.num_lists), lists.sizes)
    for task in tasks:
        labels = label_values(lists, task)
        known = np.isfinite(labels) & ((labels >= 0) | (task.kind == "regression"))
        y = labels[known]
        if not len(y) or (y == y[0]).all():
            continue
        ranks = task.kind != "regression" and not lists.is_rows
        sizes = np.unique(list_of[known], return_counts=True)[1] if ranks else None
        objective = "lambdarank" if ranks else "binary" if task.kind == "binary" else "regression"
        data = lightgbm.Dataset(values[known], np.rint(y) if ranks else y, group=sizes, free_raw_data=False)
        for setting in _SETTINGS:
            model = lightgbm.train({**_COMMON, **setting, "objective": objective}, data, _ROUNDS)
            for pair, gain in _of_model(model.dump_model()).items():
                total[pair] = total.get(pair, 0.0) + gain
    if not total:
        raise InputError("steps from tree models need labels that differ and numbers that predict them, but in the "
                         "training split no tree splits: give thresholds or a number of quantiles")
    return total


def _of_model(model: Mapping[str, Any]) -> dict[tuple[int, float], float]:
    """The share of the model's gain of each pair (column, threshold)."""
    gains: dict[tuple[int, float], float] = {}
    nodes = [tree["tree_structure"] for tree in model["tree_info"]]
    while nodes:
        node = nodes.pop()
        if "split_feature" in node:
            pair = node["split_feature"], float(node["threshold"])
            gains[pair] = gains.get(pair, 0.0) + node["split_gain"]
            nodes += [node["left_child"], node["right_child"]]
    whole = sum(gains.values())
    return {pair: gain / whole for pair, gain in gains.items()} if whole > 0 else {}


def _best(gains: Mapping[tuple[int, float], float], number: int) -> list[tuple[int, float]]:
    """The pairs with the largest gain; pairs with equal gain in their own order."""
    return sorted(gains, key=lambda pair: (-gains[pair], pair))[:number]
