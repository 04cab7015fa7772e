"""MMoE: multi-gate mixture of experts."""

from __future__ import annotations

from tfmtl2r.architectures._experts import MultiGateArchitecture
from tfmtl2r.registry import Card

__all__ = ["MMoE"]

CARD = Card(
    title="MMoE (multi-gate mixture of experts)",
    paper="Ma et al. 2018, https://doi.org/10.1145/3219819.3220007",
    helps=("opposed_gradients", "loses_in_sharing"),
    note="One gate per task weights shared experts. With one expert it equals shared-bottom.",
)


class MMoE(MultiGateArchitecture):
    """``score_t = head_t(sum_e g_te(x) E_e(x))`` with gates ``g_t = softmax(x W_t + b_t)``.

    Experts, gates and heads are computed as batched products. The cut is the experts' output, and the embedded features
    if a trainable variable precedes them. A task's gradient at the experts' output is the outer product of the task's
    gate and its gradient at the mixture, and is never built.

    :class:`tfmtl2r.architectures._experts.ExpertArchitecture` documents the options.

    Raises:
        ValueError: for less than one expert, no expert layer, a gate_dropout outside [0, 1), or a temperature that is
            not above 0.
    """
