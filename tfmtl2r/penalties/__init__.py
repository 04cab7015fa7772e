"""Penalties between tasks, one file each. ``names()`` lists them, ``get(name, **options)`` builds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    from tfmtl2r.penalties.base import Penalty
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[Penalty] = Registry(__name__, "penalty")
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = ["Penalty", "card", "get", "names", "register", "registry"]
