"""CatBoost: QueryRMSE or YetiRank, or pointwise trees for tasks that are not ranked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from tfmtl2r.baselines.trees import Objective, Table, Trees
from tfmtl2r.registry import Card

CARD = Card(
    title="CatBoost QueryRMSE, YetiRank",
    paper="Prokhorenkova et al., CatBoost, NeurIPS 2018, https://arxiv.org/abs/1706.09516; Gulin, Kuralenok and "
    "Pavlov, Winning The Transfer Learning Track of Yahoo!'s Learning To Rank Challenge with YetiRank, 2011",
    note="pip install 'tfmtl2r[trees]'; loss = \"YetiRank\" takes nearly twice the time of the default, QueryRMSE",
)
__all__ = ["CatBoost"]


@dataclasses.dataclass(frozen=True)
class CatBoost(Trees):
    """Boosted trees of CatBoost.

    The default grid has depths 4 and 6 with a rate of .07. Categories are numbers for CatBoost, their places in the
    vocabulary.

    Args:
        loss: the ranking objective: ``"QueryRMSE"`` or ``"YetiRank"``.

    >>> CatBoost(loss="YetiRank").loss
    'YetiRank'
    """

    library: ClassVar[str] = "catboost"
    extra: ClassVar[str] = "'tfmtl2r[trees]'"
    settings: ClassVar[tuple[Mapping[str, Any], ...]] = tuple({"depth": depth, "learning_rate": 0.07}
                                                              for depth in (4, 6))
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "rounds": {"low": 50, "high": 400},
        "depth": {"low": 3, "high": 8}, "learning_rate": {"low": 0.02, "high": 0.2, "log": True},
        "l2_leaf_reg": {"low": 1.0, "high": 30.0, "log": True}, "rsm": {"low": 0.3, "high": 1.0},
    }

    loss: Literal["QueryRMSE", "YetiRank"] = "QueryRMSE"

    def train(self, table: Table, objective: Objective, settings: Mapping[str, Any], rounds: int, seed: int) -> Any:
        catboost = self.module()
        lists = np.repeat(np.arange(len(table.sizes)), table.sizes) if objective == "ranking" else None
        weights = None if (table.weights == 1).all() else table.weights
        data = catboost.Pool(table.inputs, table.labels, group_id=lists, weight=weights)
        losses = {"ranking": self.loss, "binary": "Logloss", "regression": "RMSE"}
        fixed = {"loss_function": losses[objective], "iterations": rounds, "random_seed": seed, "thread_count": 1,
                 "verbose": False, "allow_writing_files": False}
        return catboost.CatBoost({**fixed, **settings}).fit(data)

    def predict(self, model: Any, inputs: np.ndarray, rounds: int) -> np.ndarray:
        binary = model.get_param("loss_function") == "Logloss"
        found = model.predict(inputs, prediction_type="Probability" if binary else "RawFormulaVal", ntree_end=rounds,
                              thread_count=1)
        return found[:, 1] if binary else found
