"""CGC: customised gate control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.architectures._extraction import ExtractionArchitecture
from tfmtl2r.registry import Card

__all__ = ["CGC"]

CARD = Card(
    title="CGC (customised gate control)",
    paper="Tang et al. 2020, https://doi.org/10.1145/3383313.3412236",
    note="Every task has its own experts beside shared experts. Equals PLE with a single level.",
)


class CGC(ExtractionArchitecture):
    """``score_t = head_t(sum_i g_ti(x) S_ti(x))`` over the task's experts and the shared experts, ``S_t = [E_t; E_s]``.

    The gates are ``g_t = softmax(x W_t + b_t)``. Experts, gates and heads are computed as batched products. The cut is
    the shared experts' output, and the embedded features if a trainable variable precedes them.

    Args:
        task_experts: number of experts of each task.
        shared_experts: number of shared experts. With 0, tasks share only the embeddings.
        expert_units: widths of each expert's layers.

    Raises:
        ValueError: for a task without experts, no expert layer, a gate_dropout outside [0, 1), or a temperature that
            is not above 0.
    """

    def __init__(
        self,
        task_experts: int = 1,
        shared_experts: int = 2,
        expert_units: Sequence[int] = (256, 128),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        gate_dropout: float = 0.0,
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(1, task_experts, shared_experts, expert_units, head_units, activation, dropout, gate_dropout,
                         temperature, **kwargs)
