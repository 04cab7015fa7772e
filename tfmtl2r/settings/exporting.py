"""The section of an experiment about its export.

The help of a key on the command line is its entry under ``Args``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from tfmtl2r.settings.values import Section, key


@dataclasses.dataclass(frozen=True)
class Blending(Section):
    """The blend of all tasks' scores into the served score.

    Args:
        kind: "sum" (the default), "product" or "rank", see :class:`tfmtl2r.serving.blend.Blend`.
        weights: weight of each task, such as {click = 1, like = 2}; by default the preference.
    """

    identity: ClassVar[str] = "kind"
    not_built: ClassVar[tuple[str, ...]] = ("temperature", "utility")

    kind: Literal["sum", "product", "rank"] | None = key()
    weights: Mapping[str, float] | None = key()


@dataclasses.dataclass(frozen=True)
class Exporting(Section):
    """The export of the trained ranker.

    Args:
        blend: how the scores of the tasks become the served score: "sum", "product", "rank", or {kind = "rank",
            weights = {click = 1, like = 2}}.
    """

    not_built: ClassVar[tuple[str, ...]] = ("features",)

    blend: Blending | None = key(outcome=False, shown="never")
