"""Runs: the run card that each training writes, and finished runs as they are read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.runs.finished import Objectives, Run, load, load_all, objectives
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = ["Objectives", "Run", "RunCard", "load", "load_all", "objectives"]
