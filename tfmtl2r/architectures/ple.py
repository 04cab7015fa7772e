"""PLE: progressive layered extraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.architectures._extraction import ExtractionArchitecture
from tfmtl2r.registry import Card

__all__ = ["PLE"]

CARD = Card(
    title="PLE (progressive layered extraction)",
    paper="Tang et al. 2020, https://doi.org/10.1145/3383313.3412236",
    note="Levels of task experts and shared experts; what is shared and what is not separates level by level.",
)


class PLE(ExtractionArchitecture):
    """Levels j = 1..J of task experts and shared experts; ``score_t = head_t(x_t^J)``, ``x_t^0 = x_s^0 = x``.

    ``x_t^j = sum_i g_ti S_ti`` with ``S_t = [E_t(x_t^{j-1}); E_s(x_s^{j-1})]`` and gates
    ``g_t = softmax(x_t^{j-1} W_t + b_t)``; ``x_s^j`` mixes the experts of all tasks and the shared ones likewise, by a
    gate that reads ``x_s^{j-1}``. The last level has no shared gate. With one level it is CGC.

    Args:
        task_experts: experts of each task, in every level.
        shared_experts: shared experts in every level; 0 leaves nothing shared but the embeddings.

    Raises:
        ValueError: for less than one level, a task without experts, no expert layer, a gate_dropout outside [0, 1), or
            a temperature that is not above 0.
    """

    def __init__(
        self,
        levels: int = 2,
        task_experts: int = 1,
        shared_experts: int = 2,
        expert_units: Sequence[int] = (128,),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        gate_dropout: float = 0.0,
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(levels, task_experts, shared_experts, expert_units, head_units, activation, dropout,
                         gate_dropout, temperature, **kwargs)
