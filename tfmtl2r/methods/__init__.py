"""Balancing methods: one file each; ``names()`` lists them, ``get(name, **options)`` builds one."""

from __future__ import annotations

from typing import Any

from tfmtl2r.registry import Registry

registry = Registry(__name__, "method")
names, get, card = registry.names, registry.get, registry.card


def combine(method: Any, jacobian: Any, losses: Any = None, preference: Any = None, seed: int = 0) -> Any:
    """One update direction from a matrix of task gradients; see :func:`tfmtl2r.methods.deciding.combine`."""
    from tfmtl2r.methods.deciding import combine as run  # TensorFlow is imported only when something is computed

    return run(get(method), jacobian, losses, preference, seed)


def __getattr__(name: str) -> Any:
    """The wrappers ``Log``, ``Normalised``, ``Smooth``, ``SmoothGram`` and ``Every``, which compose with any method."""
    if name.startswith("_"):
        raise AttributeError(f"module 'tfmtl2r.methods' has no attribute {name!r}")
    from tfmtl2r.methods import wrappers  # TensorFlow is imported only when something is built

    if name not in wrappers.__all__:
        raise AttributeError(f"module 'tfmtl2r.methods' has no attribute {name!r}")
    return getattr(wrappers, name)
