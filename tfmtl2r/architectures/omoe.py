"""OMoE: one-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence

from tfmtl2r.architectures._experts import ExpertArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.gates import mixture
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

__all__ = ["OMoE"]

CARD = Card(
    title="OMoE (one-gate mixture of experts)",
    paper="Ma et al. 2018, https://doi.org/10.1145/3219819.3220007",
    note="MMoE with a single gate for all tasks. The tasks differ only in their heads.",
)


class OMoE(ExpertArchitecture):
    """``score_t = head_t(sum_e g_e(x) E_e(x))`` with one gate ``g = softmax(x W + b)`` for all tasks.

    OMoE equals MMoE with equal gates. The cut is the mixture.

    Args:
        gate_dropout: in training, share of experts that are dropped per item.
        temperature: divides the logits of the gate; above 1 the gate weights experts more evenly.

    Raises:
        ValueError: for less than one expert, no expert layer, a gate_dropout outside [0, 1), or a temperature that is
            not above 0.
    """

    @property
    def num_gates(self) -> int:
        """One gate for all tasks."""
        return 1

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The mixture of the experts for the real items, ``[n, D]``."""
        x = self.encoder(batch=batch, training=training)[None]
        gates = self.gates(x, training=training)
        return [mixture(gates, self.experts(x, training=training))[0]]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """A copy of the mixture per task."""
        return cut[0].copies()
