"""Architectures, from features to one score per task: one file each; ``get(name, **options)`` builds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    from tfmtl2r.architectures.base import Architecture, Group
    from tfmtl2r.architectures.tower import TowerArchitecture
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[Architecture] = Registry(__name__, "architecture")
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = ["Architecture", "Group", "TowerArchitecture", "card", "get", "names", "register", "registry"]
