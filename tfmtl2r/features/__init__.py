"""Kinds of features, one file each. ``names()`` lists the kinds, ``get(kind, name=...)`` declares a feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy
from tfmtl2r.registry import Registry
from tfmtl2r.schema import KINDS

if TYPE_CHECKING:
    from tfmtl2r.features.bag import Bag
    from tfmtl2r.features.base import Columns, Feature, Values
    from tfmtl2r.features.category import Category
    from tfmtl2r.features.dense import Dense
    from tfmtl2r.features.sequence import Sequence
    from tfmtl2r.features.text import Text
    from tfmtl2r.features.time import Time
    from tfmtl2r.features.vector import Vector
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

registry: Registry[Feature] = KINDS
names, get, card, register = registry.names, registry.get, registry.card, registry.register

__all__ = [
    "Bag", "Category", "Columns", "Dense", "Feature", "Sequence", "Text", "Time", "Values", "Vector", "card", "get",
    "names", "register", "registry",
]
