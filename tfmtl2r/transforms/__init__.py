"""Transforms of labels, one file each. ``names()`` lists them, ``get(name, **options)`` builds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    from tfmtl2r.transforms.base import Reversible, Transform, of_task, quantile, unit_of
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[Transform] = Registry(__name__, "label transform", base="Transform")
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = ["Reversible", "Transform", "card", "get", "names", "of_task", "quantile", "register", "registry",
           "unit_of"]
