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
    helps=("opposed_gradients", "loses_in_sharing"),
    note="Levels of task experts and shared experts separate shared and task-specific features step by step.",
)


class PLE(ExtractionArchitecture):
    """Levels j = 1..J of task experts and shared experts; ``score_t = head_t(x_t^J)``, ``x_t^0 = x_s^0 = x``.

    ``x_t^j = sum_i g_ti S_ti`` with ``S_t = [E_t(x_t^{j-1}); E_s(x_s^{j-1})]`` and gates
    ``g_t = softmax(x_t^{j-1} W_t + b_t)``. A shared gate, which reads ``x_s^{j-1}``, mixes the experts of all tasks and
    the shared experts to ``x_s^j``. The last level has no shared gate. With one level, PLE equals CGC.

    Args:
        task_experts: number of experts of each task, in every level.
        shared_experts: number of shared experts, in every level. With 0, tasks share only the embeddings.

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
