"""Architectures with softmax gates over experts that all tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.architectures.base import Group
from tfmtl2r.architectures.tower import TowerArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.gates import Gates, check_gates
from tfmtl2r.layers.mlp import MLP, widths
from tfmtl2r.types import Tensor


class ExpertArchitecture(TowerArchitecture):
    """E experts, G gates over them, and one tower per task.

    Args:
        num_experts: number of experts, E.
        expert_units: widths of each expert's layers.
        head_units: widths of each head's hidden layers.
        activation: name of a Keras activation.
        dropout: rate after each hidden layer of experts and heads.
        gate_dropout: in training, share of experts that are dropped per item and gate.
        temperature: divides the logits of the gates; above 1 the gates weight experts more evenly.

    Raises:
        ValueError: for less than one expert, no expert layer, a gate_dropout outside [0, 1), or a temperature that is
            not above 0.
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
        self.expert_units = widths(expert_units, "expert_units")
        if num_experts < 1 or not self.expert_units:
            raise InputError(f"{type(self).__name__} needs at least one expert with at least one layer, got "
                             f"{num_experts} experts of {self.expert_units}")
        check_gates(gate_dropout, temperature)
        self.num_experts = num_experts
        self.gate_options = {"dropout": gate_dropout, "temperature": temperature}

    @property
    def num_gates(self) -> int:
        """The number G of gates: T or 1."""
        raise not_defined(self, "num_gates")

    def make_lower(self) -> None:
        """Creates experts and gates."""
        dtype, width = self.dtype_policy, self.encoder.width
        self.experts = MLP(self.expert_units, **self.hidden, stacked=self.num_experts, dtype=dtype, name="experts")
        self.gates = Gates(self.num_gates, self.num_experts, **self.gate_options, dtype=dtype, name="gates")
        self.experts.build((1, None, width))
        self.gates.build((self.num_gates, None, width))

    @property
    def tower_width(self) -> int:
        """The experts' last width."""
        return self.expert_units[-1]

    def lower_groups(self) -> list[Group]:
        """Encoder and experts belong to all tasks. A gate belongs to its task, or to all tasks if there is only one."""
        tasks = tuple(range(len(self.tasks)))
        shared = [*self.encoder.trainable_variables, *self.experts.trainable_variables]
        gates = self.gates.trainable_variables
        if self.num_gates == 1:
            return [Group(tasks, [*shared, *gates])]
        return [Group(tasks, shared), Group(tasks, gates, stacked=True)]


class MultiGateArchitecture(ExpertArchitecture):
    """Experts with one gate per task. The cut consists of the experts' outputs and the encoded items for the gates."""

    @property
    def num_gates(self) -> int:
        """One per task."""
        return len(self.tasks)

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The experts' outputs ``[E, n, D]`` and the encoded items ``[n, F]`` that the gates read."""
        x = self.encoder(batch=batch, training=training)
        return [self.experts(x[None], training=training), x]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """Each task's mixture of the experts."""
        experts, x = cut
        read = x.copies() if self.encoder.trainable_variables else x.constant()[None]
        return experts.mix(self.gates(read, training=training))
