"""Presets, settings of an experiment under one name, one file each. ``names()`` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    from tfmtl2r.presets.base import Preset
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[Preset] = Registry(__name__, "preset")
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = ["Preset", "card", "get", "names", "register", "registry"]
