"""Base class of presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

LETOR_TRAINING: Mapping[str, Any] = {
    "data": {"max_list_size": 128, "truncate": "random"},
    "optimizer": {"name": "adam", "learning_rate": 3e-3, "schedule": "cosine", "warmup_steps": 0.05},
    "training": {"epochs": 20, "batch_size": 8, "patience": 0},
}
"""Adam with a peak rate of .003, a warm-up over 5 % of the steps, and a cosine to 0 over 20 epochs of 8 lists a batch.
"""
LETOR_INPUTS: Mapping[str, Any] = {"transform": ["signed_log1p", "rank_gauss"], "within_list": True}
"""Logarithms and normal scores of ranks, both also standardised within the list."""
ORDERED: Mapping[str, Any] = {kind: {"name": "lambda_loss", "weighing": "ndcg_loss2pp", "reduction": "sum"}
                              for kind in ("graded", "binary")}
"""The summed lambda loss for all tasks that are ranked."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """Base class of all presets.

    The keys of a preset lie between the defaults and every other key of an experiment: flags > file > preset >
    defaults. They are applied when an experiment is made, and become keys like all others: the experiment.toml and the
    run card of a run contain them, so that they repeat the run even if a later version changes the preset. The defaults
    that presets were measured against had the loss softmax with labels, not gains, as the targets of graded tasks.

    Class attributes:
        settings: keys of an experiment, as in its file, except inputs and losses.
        inputs: keys of numbers in ``[[features]]``. In a table of your own, they complete the entry ``"*"`` and entries
            of numbers. In a data set of LETOR's format they are its options. Other data sets keep their own inputs.
        losses: kind of task -> its loss.

    Args:
        applied: whether the other keys already contain those of the preset, as in the files that runs write. The preset
            then changes nothing.
    """

    settings: ClassVar[Mapping[str, Any]] = {}
    inputs: ClassVar[Mapping[str, Any]] = {}
    losses: ClassVar[Mapping[str, Any]] = {}

    applied: bool = False
