"""Baselines, one file each: rankers of other libraries, one model per task, trained on the training split only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    from tfmtl2r.baselines.base import Baseline, Fitted, Training
    from tfmtl2r.baselines.trees import Table, Trees
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[Baseline] = Registry(__name__, "baseline")
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = ["Baseline", "Fitted", "Table", "Training", "Trees", "card", "get", "names", "register", "registry"]
