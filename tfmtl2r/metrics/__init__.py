"""Metrics: one file each; ``names()`` lists them, ``get("ndcg@5")`` builds one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfmtl2r import _lazy
from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.registry import Registry
from tfmtl2r.types import Described

if TYPE_CHECKING:
    from tfmtl2r.metrics.base import ItemMetric, Metric, SummedMetric, check_cutoff, check_empty, with_empty
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = ["ItemMetric", "Metric", "SummedMetric", "card", "check_cutoff", "check_empty", "get", "names",
           "register", "registry", "with_empty"]

registry: Registry[Metric] = Registry(__name__, "metric")
names, card, register = registry.names, registry.card, registry.register


def get(metric: Described | Metric, **options: Any) -> Metric:
    """Builds a metric.

    Args:
        metric: a name or alias, optionally with a cutoff as in ``"ndcg@5"``; a mapping ``{"name": ..., **options}``; or
            a metric, which is returned unchanged.
        **options: constructor arguments.

    Raises:
        ValueError: for an unknown name or a cutoff that is not a number.
        TypeError: for an option that this metric does not have, ``k`` included.

    >>> get("ndcg@5").label, get({"name": "mrr@10", "empty": "zero"}).label
    ('ndcg@5', 'mrr@10')
    """
    if isinstance(metric, Mapping) and "name" in metric:
        described = {**metric, **options}
        return get(described.pop("name"), **described)
    if isinstance(metric, str) and "@" in metric:
        name, _, k = metric.partition("@")
        if not k.isdigit():
            raise InputError(f"metric {metric!r}: the cutoff after @ must be a whole number, not {k!r}")
        if "k" in options:
            raise InputTypeError(f"metric {metric!r}: the cutoff is given twice, after @ and as k={options['k']!r}")
        return registry.get(name, k=int(k), **options)
    return registry.get(metric, **options)
