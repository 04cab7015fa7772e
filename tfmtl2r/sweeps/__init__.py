"""Sweeps: many trainings, planned, run in processes and gathered in one table."""

from __future__ import annotations

from tfmtl2r import _lazy

_PUBLIC = {
    "plan": "tfmtl2r.sweeps.planning",
    "single_tasks": "tfmtl2r.sweeps.planning",
    "Sweep": "tfmtl2r.sweeps.sweep",
    "over_seeds": "tfmtl2r.sweeps.sweep",
}
__all__ = [*_PUBLIC]  # noqa: PLE0604
__getattr__, __dir__ = _lazy.names(__name__, _PUBLIC)
