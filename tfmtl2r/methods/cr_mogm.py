"""CR-MOGM: task weights averaged over the steps."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r.methods.wrappers.smooth import Smooth
from tfmtl2r.registry import Card

__all__ = ["CRMOGM"]

CARD = Card(
    title="CR-MOGM (averaged task weights around any method)",
    paper="Zhou et al. 2022, https://papers.neurips.cc/paper_files/paper/2022/hash/"
    "f91bd64a3620aad8e70a27ad9cb3ca57-Abstract-Conference.html",
    promises=("sums_to_tasks", "permutation_equivariant"),
    note="Stabilises methods whose weights vary strongly between batches.",
)


@dataclasses.dataclass(frozen=True)
class CRMOGM(Smooth):
    """Averages the weights of another method: ``w_k = alpha w_{k-1} + (1 - alpha) inner_k`` with ``w_1 = inner_1``.

    Weights that depend on a single mini-batch prevent stochastic multi-objective methods from converging. Averaged
    weights do not.

    Args:
        method: the inner method, which returns task weights: a name or ``{"name": ..., **options}``.
        alpha: weight of the past, in [0, 1].

    >>> from tfmtl2r import methods
    >>> methods.combine("cr_mogm", [[2., 0.], [0., 1.]]).round(4).tolist()  # the first step is the inner method's
    [0.8, 1.6]
    """

    method: Any = "mgda"
    alpha: float = 0.9
