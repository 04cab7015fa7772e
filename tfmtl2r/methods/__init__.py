"""Balancing methods: one file each; ``names()`` lists them, ``get(name, **options)`` builds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    from tfmtl2r.methods.base import (
        GramMethod,
        JacobianMethod,
        Method,
        Scalarisation,
        Signals,
        StagedMethod,
        State,
        count_present,
        importance,
    )
    from tfmtl2r.methods.deciding import combine
    from tfmtl2r.methods.wrappers import Every, Log, Normalised, Smooth, SmoothGram
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[Method] = Registry(__name__, "method", formerly={
    "_wrappers.Every": "every", "_wrappers.Log": "log", "_wrappers.Normalised": "normalised",
    "_wrappers.Smooth": "smooth", "_wrappers.SmoothGram": "smooth_gram",
})
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = [
    "Every", "GramMethod", "JacobianMethod", "Log", "Method", "Normalised", "Scalarisation", "Signals", "Smooth",
    "SmoothGram", "StagedMethod", "State", "card", "combine", "count_present", "get", "importance", "names",
    "register", "registry",
]
