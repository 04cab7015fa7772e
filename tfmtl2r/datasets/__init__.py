"""Data sets, one per file: ``names()`` lists them, and ``get(name, **options)`` builds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry

if TYPE_CHECKING:
    from tfmtl2r.data.frame import from_frame
    from tfmtl2r.data.lists import Lists
    from tfmtl2r.datasets.base import DataSet, Scores
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[DataSet] = Registry(__name__, "data set")
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = ["DataSet", "Lists", "Scores", "card", "from_frame", "get", "names", "register", "registry"]
