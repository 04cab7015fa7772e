"""Feedback of users: clicks, views and likes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tfmtl2r.presets.base import Preset
from tfmtl2r.registry import Card

CARD = Card(
    title="Clicks, views and likes",
    note="binary cross-entropy, so that values are probabilities; dropout .3; 8 epochs; ids overfit, so use rates",
)
__all__ = ["Clicks"]


@dataclasses.dataclass(frozen=True)
class Clicks(Preset):
    """A shared bottom of 256 and 128 units with heads of 32 units and dropout .3, with binary cross-entropy for binary
    tasks, so that ``value_<task>`` is a probability. Adam has a rate of .001 and a cosine over 8 epochs of 64 lists a
    batch, without early stopping.

    The network is that of ``recipes/kuairand.py``; its rate of .0005 for 4 epochs was worse (mean -.0026 ± .0021).
    Inputs stay those of the data: smoothed rates of users and items (:func:`tfmtl2r.data.rates.out_of_fold_rates`) help
    more than embeddings of rare ids, which overfit.

    Measured against the defaults (5 folds, 1 seed, NDCG@5, ± standard error by bootstrap over lists): KuaiRand excerpt,
    6,245 lists, mean .5690 against .5663 (+.0028 ± .0020): click +.0069 ± .0016, long_view +.0058 ± .0018, like
    -.0043 ± .0054, whose default is a loss without probabilities. Not measured: other logs.

    >>> Clicks().losses
    {'binary': 'bce'}
    """

    settings: ClassVar[Mapping[str, Any]] = {
        "architecture": {"name": "shared_bottom", "units": [256, 128], "head_units": [32], "dropout": 0.3},
        "optimizer": {"name": "adam", "learning_rate": 1e-3, "schedule": "cosine"},
        "training": {"epochs": 8, "batch_size": 64, "patience": 0},
    }
    losses: ClassVar[Mapping[str, Any]] = {"binary": "bce"}
