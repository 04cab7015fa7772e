"""MMoE: multi-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.architectures._base import Group
from tfmtl2r.architectures._towers import TowerArchitecture
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.gates import Gates
from tfmtl2r.layers.mlp import MLP
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema

__all__ = ["MMoE"]

CARD = Card(
    title="MMoE (multi-gate mixture of experts)",
    paper="Ma et al. 2018, https://doi.org/10.1145/3219819.3220007",
    note="One gate per task chooses among shared experts; with one expert it is shared-bottom.",
)


class MMoE(TowerArchitecture):
    """``score_t = head_t(sum_e g_te(x) E_e(x))`` with gates ``g_t = softmax(x W_t + b_t)``.

    Experts, gates and heads are batched products. The cut is the experts' output (and the embedded features, where
    something trainable leads to them); a task's gradient there is an outer product of its gate and its gradient at the
    mixture, and is never built.

    Args:
        num_experts: E.
        expert_units: widths of each expert's layers.
        head_units: widths of each head's hidden layers.
        activation: name of a Keras activation.
        dropout: rate after each hidden layer of experts and heads.
        gate_dropout: in training, share of experts that each item and task does without.
        temperature: of the gates; above 1 they mix more evenly.

    Raises:
        ValueError: for less than one expert, no expert layer, or a temperature that is not above 0.
    """

    def __init__(
        self,
        num_experts: int = 8,
        expert_units: Sequence[int] = (256, 128),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        gate_dropout: float = 0.0,
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(head_units, activation, dropout, **kwargs)
        if num_experts < 1 or not expert_units:
            raise ValueError(f"mmoe needs at least one expert with at least one layer, got {num_experts} experts of "
                             f"{tuple(expert_units)}")
        if not 0.0 <= gate_dropout < 1.0:
            raise ValueError(f"mmoe: gate_dropout must lie in [0, 1), not {gate_dropout}")
        if not temperature > 0:
            raise ValueError(f"mmoe: temperature must be above 0, not {temperature}")
        self.num_experts = num_experts
        self.expert_units = tuple(expert_units)
        self.gate_dropout = gate_dropout
        self.temperature = temperature

    def connect_lower(self, tasks: Sequence[str], schema: Schema) -> None:
        """Makes experts and gates."""
        super().connect_lower(tasks, schema)
        num, dtype, width = len(self.tasks), self.dtype_policy, self.encoder.width
        self.experts = MLP(self.expert_units, **self.hidden, stacked=self.num_experts, dtype=dtype, name="experts")
        self.gates = Gates(num, self.num_experts, self.gate_dropout, self.temperature, dtype=dtype, name="gates")
        self.experts.build((1, None, width))
        self.gates.build((num, None, width))

    @property
    def tower_width(self) -> int:
        """The experts' last width."""
        return self.expert_units[-1]

    def shared(self, features: dict[str, Any], valid: Any, training: bool) -> list[Any]:
        """The experts' outputs ``[E, n, D]`` and the encoded items ``[n, F]`` that the gates read."""
        x = self.encode_items(features, valid)
        return [self.experts(x[None], training=training), x]

    def tower_inputs(self, cut: Sequence[Branch], training: bool) -> Any:
        """One mixture of the experts per task."""
        experts, x = cut
        read = x.copies() if self.encoder.trainable_variables else x.constant()[None]
        return experts.mix(self.gates(read, training=training))

    def lower_groups(self) -> list[Group]:
        """Encoder and experts belong to all tasks, each slice of the gates to one."""
        tasks = tuple(range(len(self.tasks)))
        return [
            Group(tasks, [*self.encoder.trainable_variables, *self.experts.trainable_variables]),
            Group(tasks, self.gates.trainable_variables, stacked=True),
        ]
