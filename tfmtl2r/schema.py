"""Which features the ranker reads, with everything that was fitted on the training split.

A :class:`Schema` is plain data: vocabularies and normalisation statistics live in it, it is saved inside the model,
and both the training pipeline and the exported graph are made from it, so that they cannot disagree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from tfmtl2r.errors import InputError
from tfmtl2r.names import checked

RESERVED = {
    "list_size": "the number of items per list has this name",
    "preference": "the importance of the tasks has this name",
    "*": "it stands for all other columns",
}
TRANSFORMS = ("none", "log1p", "signed_log1p", "log", "log_negative")
LOG_OFFSET = 0.01
"""What ``"log"`` adds, so that 0 has a logarithm; allRank's number."""


@dataclasses.dataclass(frozen=True)
class Dense:
    """A numeric feature.

    Args:
        name: column and serving input.
        shape: ``()`` for a number, ``(D,)`` for a vector per item.
        context: True for a feature of the whole list (``[B]``), False for one of each item (``[B, L]``).
        transform: before normalisation: ``"none"``, ``"log1p"`` (x >= 0), ``"signed_log1p"`` (sign(x) log(1 + |x|)),
            ``"log"`` (log(x + .01), x >= 0) or ``"log_negative"`` (log(.01 - x), x <= 0); one for all components, or a
            tuple with one for each.
        mean, variance: statistics after the transform, one number per component; fitted on the training split.
        clip: normalised values are kept within this many standard deviations.
        quantiles: ``(0.01, 0.99)`` fits ``low`` and ``high`` as these quantiles of the training split.
        low, high: raw values are kept within these bounds, one number per component, before the transform.
    """

    name: str
    shape: tuple[int, ...] = ()
    context: bool = False
    transform: str | tuple[str, ...] = "none"
    mean: tuple[float, ...] | None = None
    variance: tuple[float, ...] | None = None
    clip: float = 10.0
    quantiles: tuple[float, float] | None = None
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(d) for d in self.shape))
        if len(self.shape) > 1:
            raise InputError(f"feature {self.name!r}: shape must be () or (D,), not {self.shape}")
        self._check_transform()
        for field in ("mean", "variance", "low", "high"):
            values = getattr(self, field)
            if values is not None:
                values = tuple(float(v) for v in values)
                if len(values) != self.width:
                    raise InputError(f"feature {self.name!r}: {field} has {len(values)} numbers, expected {self.width}")
                object.__setattr__(self, field, values)
        self._check_bounds()

    def _check_transform(self) -> None:
        if not isinstance(self.transform, str):
            object.__setattr__(self, "transform", tuple(self.transform))
            if len(self.transform) != self.width:
                raise InputError(f"feature {self.name!r}: transform has {len(self.transform)} entries, expected one "
                                 f"per component, {self.width}")
        for transform in self.transforms:
            if transform not in TRANSFORMS:
                raise InputError(f"feature {self.name!r}: transform must be one of {', '.join(TRANSFORMS)}, "
                                 f"not {transform!r}")

    def _check_bounds(self) -> None:
        if self.quantiles is not None:
            low, high = (float(q) for q in self.quantiles)
            object.__setattr__(self, "quantiles", (low, high))
            if not 0 <= low < high <= 1:
                raise InputError(f"feature {self.name!r}: quantiles must be two increasing numbers from 0 to 1, such "
                                 f"as (0.01, 0.99), not {self.quantiles}")
            if (self.low is None) != (self.high is None):
                raise InputError(f"feature {self.name!r}: with quantiles, give both low and high or neither")
        for component, (least, most) in enumerate(zip(self.low or (), self.high or (), strict=False)):
            if not least <= most:
                raise InputError(f"feature {self.name!r}: low is above high in component {component}: {least}, {most}")

    @property
    def width(self) -> int:
        """Numbers per item."""
        return math.prod(self.shape)

    @property
    def transforms(self) -> tuple[str, ...]:
        """The transform of each component."""
        return (self.transform,) * self.width if isinstance(self.transform, str) else self.transform

    @property
    def is_fitted(self) -> bool:
        """Whether all statistics are known that the options ask for."""
        bounded = self.quantiles is None or (self.low is not None and self.high is not None)
        return self.mean is not None and self.variance is not None and bounded


@dataclasses.dataclass(frozen=True)
class Category:
    """A categorical feature, embedded.

    Args:
        name: column and serving input.
        vocabulary: known values in a fixed order; anything else is the unknown value, id 0.
        buckets: hash into this many buckets instead of keeping a vocabulary.
        dim: width of the embedding; by default ``min(32, ceil(1.6 * size ** 0.56))``.
        context: True for a feature of the whole list.
        dtype: ``"string"`` or ``"int64"``, of the raw values.
    """

    name: str
    vocabulary: tuple[Any, ...] | None = None
    buckets: int | None = None
    dim: int | None = None
    context: bool = False
    dtype: str = "string"

    def __post_init__(self) -> None:
        if self.dtype not in ("string", "int64"):
            raise InputError(f"feature {self.name!r}: dtype must be 'string' or 'int64', not {self.dtype!r}")
        if self.vocabulary is not None and self.buckets is not None:
            raise InputError(f"feature {self.name!r}: give a vocabulary or a number of hash buckets, not both")
        if self.buckets is not None and self.buckets < 1:
            raise InputError(f"feature {self.name!r}: buckets must be at least 1, not {self.buckets}")
        if self.vocabulary is not None:
            object.__setattr__(self, "vocabulary", tuple(self.vocabulary))

    @property
    def size(self) -> int:
        """Rows of the embedding table, the unknown value included."""
        if self.buckets is not None:
            return self.buckets
        if self.vocabulary is None:
            raise InputError(f"feature {self.name!r} has no vocabulary yet: fit the schema on the training split")
        return len(self.vocabulary) + 1

    @property
    def width(self) -> int:
        """Numbers per item after the embedding."""
        return self.dim or min(32, math.ceil(1.6 * self.size**0.56))


@dataclasses.dataclass(frozen=True)
class Schema:
    """The features of a ranker, in order.

    Args:
        features: :class:`Dense` and :class:`Category` features with distinct names.

    >>> Schema([Dense("price"), Category("brand", vocabulary=("a", "b"))]).names
    ('price', 'brand')
    """

    features: tuple[Dense | Category, ...]

    def __init__(self, features: Iterable[Dense | Category]):
        object.__setattr__(self, "features", tuple(features))
        names = self.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"two features are called {twice[0]!r}; names must differ")
        for name in names:
            checked(name, "feature", RESERVED)
        if not names:
            raise InputError("a schema needs at least one feature")

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def dense(self) -> tuple[Dense, ...]:
        """The numeric features, in order."""
        return tuple(f for f in self.features if isinstance(f, Dense))

    @property
    def categories(self) -> tuple[Category, ...]:
        """The categorical features, in order."""
        return tuple(f for f in self.features if isinstance(f, Category))

    def get_config(self) -> dict[str, Any]:
        """Plain data from which :meth:`from_config` rebuilds the schema."""
        return {
            "features": [
                {"type": type(f).__name__, **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(f).items()}}
                for f in self.features
            ]
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schema:
        """The schema that :meth:`get_config` described."""
        types = {"Dense": Dense, "Category": Category}
        features = []
        for entry in config["features"]:
            entry = dict(entry)
            features.append(types[entry.pop("type")](**entry))
        return cls(features)
