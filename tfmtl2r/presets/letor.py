"""Several goals on numbers as in LETOR."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tfmtl2r.presets.base import LETOR_INPUTS, LETOR_TRAINING, ORDERED, Preset
from tfmtl2r.registry import Card

CARD = Card(
    title="Several goals, numbers as in LETOR",
    note="logarithms and ranks, both within the list too; dropout .1; summed lambda loss; 20 epochs, Adam .003, cosine",
)
__all__ = ["Letor"]


@dataclasses.dataclass(frozen=True)
class Letor(Preset):
    """A shared bottom of 256, 128 and 64 units with linear heads and dropout .1, for several goals that regularise each
    other. With one goal, take ``letor-single``.

    Numbers enter as signed logarithms and as normal scores of their ranks, both also standardised within the list.
    Graded and binary tasks have the summed lambda loss. Adam has a peak rate of .003, a warm-up over 5 % of the steps
    and a cosine over 20 epochs of 8 lists a batch, without early stopping. Training lists of more than 128 items are
    drawn anew in each epoch.

    The settings are those of the labelled network of the trials on MSLR's five goals, without its step inputs, which
    need LightGBM, and with equal weights, which were as good as Nash-MTL there (within .001). In these trials, on 142
    lists out of fold, the mean NDCG@10 rose from .4531 to .4876 (three seeds averaged).

    Measured against the defaults (5 folds, NDCG@10, ± standard error by bootstrap over lists): MSLR, mean of five
    goals, 142 lists, 2 seeds: .4768 against .4354 (+.0413 ± .0050), every goal better by +.027 to +.054. OHSUMED, mean
    of two goals, 85 lists, 1 seed: .4664 against .4471 (+.0193 ± .0138). With one goal it is too free: MQ2008,
    ``relevance`` alone, 628 lists: .6790 against .6889 (-.0099 ± .0075). Not measured by this project: sets of more
    than 1,000 lists, and other architectures.

    >>> Letor().settings["training"]["epochs"]
    20
    """

    settings: ClassVar[Mapping[str, Any]] = {
        **LETOR_TRAINING,
        "architecture": {"name": "shared_bottom", "units": [256, 128, 64], "head_units": [], "dropout": 0.1},
    }
    inputs: ClassVar[Mapping[str, Any]] = LETOR_INPUTS
    losses: ClassVar[Mapping[str, Any]] = ORDERED
