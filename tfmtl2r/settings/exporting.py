"""The section of an experiment about its export.

The help of a key on the command line is its entry under ``Args``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from tfmtl2r.settings.values import Section, SettingError, key


@dataclasses.dataclass(frozen=True)
class Blending(Section):
    """The blend of all tasks' scores into the served score.

    Args:
        kind: a kind of blend (tfmtl2r list blends), or {name = "mixture", constants = true}. "auto", the default, is
            chosen on vali by the served utility.
        weights: weight of each task, such as {click = 1, like = 2}, of raw scores (kind = "sum") without another kind;
            "preference", the default, is that of the run. "tuned" weights are chosen on vali after the training: they
            have the largest utility among those that keep the [[constraints]] with a metric.
        temperature: divides scores before the softmax of a mixture.
        utility: for tuned weights, what a unit of each task's metric is worth, such as {click = 1, like = 3}; by
            default the preference of the run.
    """

    identity: ClassVar[str] = "kind"

    kind: Any = key(registry="tfmtl2r.blends")
    weights: Mapping[str, float] | Literal["preference", "tuned"] | None = key()
    temperature: float | None = key(above=0)
    utility: Mapping[str, float] | None = key()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == "auto" and isinstance(self.weights, Mapping):
            raise SettingError(["kind"], 'is "auto", but weights of your own have the scale of one kind: choose it')
        for name, default in (("kind", "auto"), ("weights", "preference")):
            if getattr(self, name) == default:
                object.__setattr__(self, name, None)
        if self.utility is not None:
            if self.weights != "tuned":
                raise SettingError(["utility"], 'is what tuned weights maximise: set weights = "tuned"')
            if not (all(0 <= worth < math.inf for worth in self.utility.values()) and any(self.utility.values())):
                raise SettingError(["utility"], f"must be finite numbers >= 0, not all 0, not {dict(self.utility)}")
        if self.temperature is not None and self.kind is None:
            raise SettingError(["temperature"], "is an option of a kind of blend: choose one, such as "
                               '{kind = "mixture", temperature = 2.0}')


@dataclasses.dataclass(frozen=True)
class Exporting(Section):
    """The export of the trained ranker.

    Args:
        blend: how the scores of the tasks become the served score: a kind such as "deviation", or {kind = "rank",
            weights = {click = 1, like = 2}}; by default chosen on vali.
    """

    not_built: ClassVar[tuple[str, ...]] = ("features",)

    blend: Blending | None = key(outcome=False, shown="never")
