"""Kinds of blend, one file each. ``names()`` lists them, ``get(name, **options)`` builds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    from tfmtl2r.blends.base import Blend, Heads
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[Blend] = Registry(__name__, "blend", formerly={
    "weighted_sum": "sum", "product_of_powers": "product", "rank_fusion": "rank",
})
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = ["Blend", "Heads", "card", "get", "names", "register", "registry"]
