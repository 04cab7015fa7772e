"""What a training should not go on with unseen: experts that nobody reads, collapsed gates, one task in command."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

DEAD, COLLAPSED, ALONE = 0.01, 0.99, 0.95
log = logging.getLogger("tfmtl2r")


class Worries:
    """Tells each worry once, as a warning."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, lines: Sequence[str]) -> None:
        """Tells the lines that were not told yet."""
        for line in lines:
            if line not in self._told:
                self._told.add(line)
                log.warning(line)


def of_gates(name: str, gates: np.ndarray, labels: Sequence[Sequence[str]]) -> list[str]:
    """The worries about gates ``[T, E]`` that sum to 1 for each task.

    >>> of_gates("gates", np.array([[0.0, 1.0], [0.005, 0.995]]), [["click", "like"], ["expert 0", "expert 1"]])
    ['expert 0 of gates is dead: no task gives it more than 1 % of its weight']
    >>> of_gates("gates", np.array([[0.0, 1.0], [0.5, 0.5]]), [["click", "like"], ["expert 0", "expert 1"]])
    ['the gate of click in gates has collapsed: 99 % of its weight is on expert 1']
    """
    if gates.shape[1] < 2:
        return []
    dead = [f"{expert} of {name} is dead: no task gives it more than {_percent(DEAD)} of its weight"
            for expert, most in zip(labels[1], gates.max(axis=0), strict=True) if most < DEAD]
    return dead or [
        f"the gate of {task} in {name} has collapsed: {_percent(COLLAPSED)} of its weight is on "
        f"{labels[1][int(row.argmax())]}"
        for task, row in zip(labels[0], gates, strict=True) if row.max() > COLLAPSED]


def of_shares(shares: np.ndarray, tasks: Sequence[str]) -> list[str]:
    """The worry about one task that has nearly the whole update, from shares ``[n, T]`` of some steps.

    >>> of_shares(np.array([[0.97, 0.03], [0.99, 0.01]]), ["click", "like"])
    ['click takes 95 % of the update and more: give it less weight, or choose a method that balances gradients']
    """
    if shares.shape[1] < 2 or not np.isfinite(shares).all():
        return []
    mean = shares.mean(axis=0)
    return [f"{task} takes {_percent(ALONE)} of the update and more: give it less weight, or choose a method that "
            "balances gradients" for task, share in zip(tasks, mean, strict=True) if share > ALONE]


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
