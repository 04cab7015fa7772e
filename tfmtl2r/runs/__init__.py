"""Runs: the card that each run writes, and what is read from finished runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _lazy

if TYPE_CHECKING:
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.runs.finished import Objectives, Run, load, load_all, objectives
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

__all__ = ["Objectives", "Run", "RunCard", "load", "load_all", "objectives"]
