"""Several goals on numbers as in LETOR, learnt from labels and from boosted trees."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tfmtl2r.presets.letor import Letor
from tfmtl2r.registry import Card

CARD = Card(
    title="Several goals, with boosted trees as teacher",
    aliases=("letor-taught",),
    note="as letor, and each goal also learns from a LightGBM model of its own; pip install 'tfmtl2r[baselines]'",
)
__all__ = ["LetorTaught"]


@dataclasses.dataclass(frozen=True)
class LetorTaught(Letor):
    """The settings of ``letor`` with a teacher: one LightGBM model for each goal, trained on the training split.

    The teacher has 70 % of each loss, and one synthetic copy of the training lists is added, whose values are exchanged
    within the list. Serving needs no trees. The gradients of the goals are balanced by Nash-MTL at the cut. If there
    are tasks of regression, ``teacher.mix`` has to name the others alone, since a teacher has no unit.

    Measured by ``recipes/past_trees.py`` on MSLR's five goals (142 lists, 5 folds, 3 partitions, 3 seeds), mean NDCG@10
    out of fold: .494, where the same ranker with step inputs and without a teacher has .480, and LightGBM, one model
    for each goal, .486. Not measured: sets of more than 1,000 lists.

    >>> LetorTaught().settings["teacher"]["mix"]
    0.7
    """

    settings: ClassVar[Mapping[str, Any]] = {
        **Letor.settings, "method": "nash_mtl", "gradients": "features",
        "teacher": {"from": "lightgbm", "mix": 0.7, "synthetic": 1},
    }  # fmt: skip
