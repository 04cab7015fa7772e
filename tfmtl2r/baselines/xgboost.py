"""XGBoost: rank:ndcg, or pointwise trees for tasks that are not ranked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tfmtl2r.baselines.trees import Objective, Table, Trees
from tfmtl2r.registry import Card

CARD = Card(
    title="XGBoost rank:ndcg",
    paper="Chen and Guestrin, XGBoost, KDD 2016, https://arxiv.org/abs/1603.02754",
    note="pip install 'tfmtl2r[trees]' installs xgboost-cpu, which is smaller than xgboost",
)
__all__ = ["XGBoost"]

_OBJECTIVES = {"ranking": "rank:ndcg", "binary": "binary:logistic", "regression": "reg:squarederror"}


@dataclasses.dataclass(frozen=True)
class XGBoost(Trees):
    """Boosted trees of XGBoost. The ranking objective is rank:ndcg over all pairs with gains ``2^y - 1``.

    The default grid has depths 4 and 6 with a rate of .05. Categories are numbers for XGBoost, their places in the
    vocabulary. The ranking objective knows weights of lists only: a list has the mean weight of its rows.

    >>> XGBoost().grid
    ()
    """

    library: ClassVar[str] = "xgboost"
    extra: ClassVar[str] = "'tfmtl2r[trees]'"
    settings: ClassVar[tuple[Mapping[str, Any], ...]] = tuple(
        {"max_depth": depth, "eta": 0.05, "subsample": 0.8, "colsample_bytree": 0.5, "lambda": 5.0} for depth in (4, 6))
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "rounds": {"low": 50, "high": 400},
        "max_depth": {"low": 3, "high": 8}, "eta": {"low": 0.02, "high": 0.2, "log": True},
        "min_child_weight": {"low": 0.5, "high": 30.0, "log": True}, "colsample_bytree": {"low": 0.3, "high": 1.0},
        "lambda": {"low": 0.1, "high": 30.0, "log": True},
    }

    def train(self, table: Table, objective: Objective, settings: Mapping[str, Any], rounds: int, seed: int) -> Any:
        xgboost = self.module()
        data = xgboost.DMatrix(table.inputs, table.labels)
        weights = table.weights
        if objective == "ranking":
            data.set_group(table.sizes)
            weights = np.add.reduceat(weights, np.cumsum(table.sizes) - table.sizes) / table.sizes
        if not (weights == 1).all():
            data.set_weight(weights)
        fixed = {"objective": _OBJECTIVES[objective], "seed": seed, "nthread": 1, "verbosity": 0,
                 "tree_method": "hist"}
        return xgboost.train({**fixed, **settings}, data, rounds)

    def predict(self, model: Any, inputs: np.ndarray, rounds: int) -> np.ndarray:
        return model.predict(self.module().DMatrix(inputs), iteration_range=(0, rounds))
