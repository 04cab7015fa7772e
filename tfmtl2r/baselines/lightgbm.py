"""LightGBM: LambdaMART, or pointwise trees for tasks that are not ranked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tfmtl2r.baselines.trees import Objective, Table, Trees
from tfmtl2r.registry import Card

CARD = Card(
    title="LightGBM lambdarank",
    paper="Ke et al., LightGBM, NeurIPS 2017, https://papers.nips.cc/paper/6907; Burges, From RankNet to LambdaRank to "
    "LambdaMART, 2010",
    aliases=("lambdamart",),
    note="pip install 'tfmtl2r[baselines]'; the fastest of the tree libraries on small sets",
)
__all__ = ["LightGBM"]

_OBJECTIVES = {"ranking": "lambdarank", "binary": "binary", "regression": "regression"}


@dataclasses.dataclass(frozen=True)
class LightGBM(Trees):
    """Boosted trees of LightGBM. The ranking objective is lambdarank.

    The default grid has 15 leaves without regularisation, and 15 leaves with half of the features for each tree, 80 %
    of the rows and an L2 penalty of 5; both with a rate of .05. Categories are categories of LightGBM.

    >>> LightGBM(rounds=(100,)).rounds
    (100,)
    """

    library: ClassVar[str] = "lightgbm"
    settings: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"num_leaves": 15, "learning_rate": 0.05},
        {"num_leaves": 15, "learning_rate": 0.05, "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1,
         "lambda_l2": 5.0},
    )
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "rounds": {"low": 50, "high": 400},
        "num_leaves": {"low": 7, "high": 63, "log": True}, "learning_rate": {"low": 0.02, "high": 0.2, "log": True},
        "min_data_in_leaf": {"low": 5, "high": 100, "log": True}, "feature_fraction": {"low": 0.3, "high": 1.0},
        "lambda_l2": {"low": 0.01, "high": 30.0, "log": True},
    }

    def train(self, table: Table, objective: Objective, settings: Mapping[str, Any], rounds: int, seed: int) -> Any:
        lightgbm = self.module()
        group = table.sizes if objective == "ranking" else None
        weight = None if (table.weights == 1).all() else table.weights
        data = lightgbm.Dataset(table.inputs, table.labels, group=group, weight=weight,
                                categorical_feature=list(table.categories))
        fixed = {"objective": _OBJECTIVES[objective], "seed": seed, "deterministic": True, "force_row_wise": True,
                 "num_threads": 1, "verbosity": -1}
        return lightgbm.train({**fixed, **settings}, data, rounds)

    def predict(self, model: Any, inputs: np.ndarray, rounds: int) -> np.ndarray:
        return model.predict(inputs, num_iteration=rounds, num_threads=1)
