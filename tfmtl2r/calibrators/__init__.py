"""Calibrators of probabilities, one file each. ``names()`` lists them, ``get(name, **options)`` builds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    from tfmtl2r.calibrators.base import Calibrator, NotCalibratedError
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[Calibrator] = Registry(__name__, "calibrator")
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = ["Calibrator", "NotCalibratedError", "card", "get", "names", "register", "registry"]
