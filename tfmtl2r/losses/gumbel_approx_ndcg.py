"""ApproxNDCG averaged over orders sampled from the scores."""

from __future__ import annotations

import dataclasses

from tfmtl2r.losses._pairs import LONGEST
from tfmtl2r.losses._tf_ranking import Sampled
from tfmtl2r.registry import Card

CARD = Card(
    title="Gumbel ApproxNDCG",
    paper="Bruch et al., A Stochastic Treatment of Learning to Rank Scoring Functions, WSDM 2020, "
    "https://doi.org/10.1145/3336191.3371844",
    aliases=("gumbel_approx_ndcg_loss",),
    note="smoother than ApproxNDCG; costs sample_size times as much",
)
__all__ = ["GumbelApproxNDCG"]


@dataclasses.dataclass(frozen=True)
class GumbelApproxNDCG(Sampled):
    """The mean of ApproxNDCG over S copies of the scores with Gumbel noise: ``(s + noise) / gumbel_temperature``.

    Args: ``temperature`` (of the approximate ranks, see ``approx_ndcg``), ``sample_size`` (S) and
        ``gumbel_temperature``, see :class:`~tfmtl2r.losses._tf_ranking.Sampled`.

    >>> args = [[1.0, 0.0]], [[0.0, 0.0]], [[True, True]]
    >>> loss, weight = GumbelApproxNDCG(sample_size=512).per_list(*args, seed=(0, 1))
    >>> round(float(loss[0]), 1)  # half of the orders cost 1 - 1 / log2(3)
    0.2

    Source: see ``CARD``. Differs from the authors' code: the noisy scores do not pass through a log softmax with a
    floor of log(1e-20), since this floor stops the gradient of items far below the top. The noise is drawn from
    ``seed``.
    """

    impl = "ApproxNDCGLoss"
    longest = LONGEST
    numbers_per_pair = 3
    offset = 1.0
    grades = True
