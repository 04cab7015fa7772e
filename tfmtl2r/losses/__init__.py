"""Losses: one file each; ``names()`` lists them, ``get(name, **options)`` builds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    from tfmtl2r.losses.base import Loss, from_top, has_order, list_weight, mean_over_items, ndcg_gains, positive
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[Loss] = Registry(__name__, "loss")
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = [
    "Loss", "card", "from_top", "get", "has_order", "list_weight", "mean_over_items", "names", "ndcg_gains", "positive",
    "register", "registry",
]
