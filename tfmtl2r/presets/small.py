"""Sets of fewer than 1,000 lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tfmtl2r.presets.base import LETOR_INPUTS, LETOR_TRAINING, ORDERED, Preset
from tfmtl2r.registry import Card

CARD = Card(
    title="Fewer than 1,000 lists",
    note="as letor-single, with layers of 64 and 32 units; compare by tfmtl2r cross-validate",
)
__all__ = ["Small"]


@dataclasses.dataclass(frozen=True)
class Small(Preset):
    """The settings of ``letor-single`` with layers of 64 and 32 units, for sets of fewer than 1,000 lists.

    Such sets need ``tfmtl2r cross-validate``: the test split alone is too small for any comparison.

    Measured against the defaults (5 folds, 1 seed, NDCG@10, ± standard error by bootstrap over lists): MQ2008,
    ``relevance`` alone, 628 lists: .6988 against .6889 (+.0099 ± .0061). OHSUMED, 85 lists, with a warm-up of 14 steps:
    mean of two goals .4619 against .4471 (+.0149 ± .0124), ``relevant`` alone .5438 against .5197 (+.0242 ± .0126).
    Not measured: regression.

    >>> Small().settings["architecture"]["units"]
    [64, 32]
    """

    settings: ClassVar[Mapping[str, Any]] = {
        **LETOR_TRAINING,
        "architecture": {"name": "shared_bottom", "units": [64, 32], "head_units": [], "dropout": 0.3},
    }
    inputs: ClassVar[Mapping[str, Any]] = {**LETOR_INPUTS, "noise": 0.3}
    losses: ClassVar[Mapping[str, Any]] = ORDERED
