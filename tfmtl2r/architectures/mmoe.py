"""MMoE: multi-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.architectures._base import Architecture, Group
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.gates import Gates
from tfmtl2r.layers.mlp import MLP, StackedDense
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema

__all__ = ["MMoE"]

CARD = Card(
    title="MMoE (multi-gate mixture of experts)",
    paper="Ma et al. 2018, https://doi.org/10.1145/3219819.3220007",
    note="One gate per task chooses among shared experts; with one expert it is shared-bottom.",
)


class MMoE(Architecture):
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
        super().__init__(**kwargs)
        if num_experts < 1 or not expert_units:
            raise ValueError(f"mmoe needs at least one expert with at least one layer, got {num_experts} experts of "
                             f"{tuple(expert_units)}")
        if not 0.0 <= gate_dropout < 1.0:
            raise ValueError(f"mmoe: gate_dropout must lie in [0, 1), not {gate_dropout}")
        if not temperature > 0:
            raise ValueError(f"mmoe: temperature must be above 0, not {temperature}")
        self.num_experts = num_experts
        self.expert_units = tuple(expert_units)
        self.head_units = tuple(head_units)
        self.hidden: dict[str, Any] = {"activation": activation, "dropout": dropout}
        self.gate_dropout = gate_dropout
        self.temperature = temperature

    def connect(self, tasks: Sequence[str], schema: Schema) -> None:
        """Makes experts, gates and heads."""
        super().connect(tasks, schema)
        num, dtype = len(self.tasks), self.dtype_policy
        width = self.encoder.width
        self.experts = MLP(self.expert_units, **self.hidden, stacked=self.num_experts, dtype=dtype, name="experts")
        self.gates = Gates(num, self.num_experts, self.gate_dropout, self.temperature, dtype=dtype, name="gates")
        self.towers = MLP(self.head_units, **self.hidden, stacked=num, dtype=dtype, name="towers")
        self.scorers = StackedDense(num, 1, dtype=dtype, name="scorers")
        self.experts.build((1, None, width))
        self.gates.build((num, None, width))
        mixed = (num, None, self.expert_units[-1])
        self.towers.build(mixed)
        self.scorers.build(self.towers.compute_output_shape(mixed))

    def shared(self, features: dict[str, Any], valid: Any, training: bool) -> list[Any]:
        """The experts' outputs ``[E, n, D]`` and the encoded items ``[n, F]`` that the gates read."""
        x = self.encode_items(features, valid)
        return [self.experts(x[None], training=training), x]

    def heads(self, cut: Sequence[Branch], valid: Any, training: bool) -> dict[str, Any]:
        """One gate and one tower per task."""
        experts, x = cut
        read = x.copies() if self.encoder.trainable_variables else x.constant()[None]
        mixed = experts.mix(self.gates(read, training=training))
        return self.scores_of_items(self.scorers(self.towers(mixed, training=training)), valid)

    def variable_groups(self) -> list[Group]:
        """Encoder and experts belong to all tasks, each slice of gates, towers and scorers to one."""
        tasks = tuple(range(len(self.tasks)))
        private: list[Any] = [self.gates, self.towers, self.scorers]
        return [
            Group(tasks, [*self.encoder.trainable_variables, *self.experts.trainable_variables]),
            Group(tasks, [v for layer in private for v in layer.trainable_variables], stacked=True),
        ]
