"""MSSM: multiple-level sparse sharing model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Group
from tfmtl2r.architectures.tower import TowerArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers.connections import Connections, side_by_side
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.field_gates import FieldGates
from tfmtl2r.layers.hard_concrete import check_hard_concrete
from tfmtl2r.layers.mlp import MLP, widths
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

__all__ = ["MSSM"]

CARD = Card(
    title="MSSM (multiple-level sparse sharing)",
    paper="Ding et al. 2021, https://doi.org/10.1145/3404835.3463022",
    note="CGC with a learnt gate for every output number of the task's own experts and of the shared experts.",
)


class MSSM(TowerArchitecture):
    """J levels of M experts per task and S shared experts, connected by a learnt gate per output number.

    Let ``u_j`` be the outputs of a level. Task t reads ``v_t = sum_j z_tj * (u_j W_tj)`` over its own experts and the
    shared experts. The shared experts of the next level read such a sum over all experts. ``z_tj [D]`` are hard
    concrete gates (:class:`tfmtl2r.layers.hard_concrete.HardConcrete`), equal for all items. ``penalty`` times the
    expected number of open gates is added to the training loss. With ``field_gates``, every expert of the first level
    also weights the features that it reads (:class:`tfmtl2r.layers.field_gates.FieldGates`).

    The cut consists of the last level's inputs (the encoded items, or for J > 1 the outputs of level J-1) and the
    outputs of the last level's shared experts. The last level's task experts, and all connections that lead to a
    single task, are above the cut and belong to this task.

    Args:
        levels: number of levels, J.
        task_experts: experts of each task, M.
        shared_experts: number of shared experts, S.
        expert_units: widths of each expert's layers, in every level.
        dropout: rate after each hidden layer of experts and heads.
        field_gates: whether the experts of the first level weight features.
        penalty: strength of the L0 penalty.
        start: initial log_alpha of every gate; 0 is half open.
        beta: temperature of the gates.
        gamma: lower end of the gates' stretch, below 0.
        zeta: upper end of the gates' stretch, above 1.

    Raises:
        ValueError: without a level, a task expert, a shared expert or an expert layer; for gate options out of bounds;
            for field_gates together with a list encoder, which mixes the features.
    """

    def __init__(
        self,
        levels: int = 1,
        task_experts: int = 1,
        shared_experts: int = 2,
        expert_units: Sequence[int] = (256, 128),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        field_gates: bool = False,
        penalty: float = 1e-6,
        start: float = 0.0,
        beta: float = 2 / 3,
        gamma: float = -0.1,
        zeta: float = 1.1,
        **kwargs: Any,
    ):
        super().__init__(head_units, activation, dropout, **kwargs)
        self.expert_units = widths(expert_units, "expert_units")
        if min(levels, task_experts, shared_experts, len(self.expert_units)) < 1:
            raise InputError("MSSM needs at least one level, one expert per task, one shared expert and one layer in "
                             f"each, got {levels}, {task_experts}, {shared_experts} and layers {self.expert_units}")
        check_hard_concrete(penalty, beta, gamma, zeta)
        if field_gates and self.transformer is not None:
            raise InputError("MSSM: field_gates weight single features, but a list encoder mixes them; use one of both")
        self.num_levels = levels
        self.task_experts = task_experts
        self.shared_experts = shared_experts
        self.field_gates = field_gates
        self.gate_options = {"start": start, "penalty": penalty, "beta": beta, "gamma": gamma, "zeta": zeta}

    def make_lower(self) -> None:
        """Makes the levels."""
        experts = (len(self.tasks), self.task_experts, self.shared_experts)
        fields, self.levels = self.encoder.fields, []
        for number in range(1, self.num_levels + 1):
            gated = self.field_gates and number == 1
            level = _Level(experts, self.expert_units, self.hidden, dtype=self.dtype_policy, name=f"level_{number}")
            level.connect(fields, gated, self.gate_options, hands_on=number < self.num_levels)
            self.levels.append(level)
            fields = (self.tower_width,)

    @property
    def tower_width(self) -> int:
        """The experts' last width."""
        return self.expert_units[-1]

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The encoded items ``[n, F]`` or all outputs of level J-1, then the last shared experts' ``[S, n, D]``."""
        x = self.encoder(batch=batch, training=training)
        own_input = shared_input = x[None]
        cut = [x]
        for level in self.levels[:-1]:
            own, common = level.own(own_input, training), level.common(shared_input, training)
            shared_input = level.to_shared(tf.concat([own, common], 0), training=training)
            cut = [own, common]
            if level is not self.levels[-2]:
                copies = tf.repeat(common[None], len(self.tasks), axis=0)
                own_input = level.to_tasks(own, copies, training)
        return [*cut, self.levels[-1].common(shared_input, training)]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """Each task's gated sum over its own experts and the shared experts of the last level."""
        *below, last = cut
        if len(below) == 1:
            x = below[0]
            read = x.copies() if self.encoder.trainable_variables else x.constant()[None]
        else:
            owners = [task for task in range(len(self.tasks)) for _ in range(self.task_experts)]
            read = self.levels[-2].to_tasks(below[0].own(owners), below[1].copies(), training)
        level = self.levels[-1]
        return level.to_tasks(level.own(read, training), last.copies(), training)

    def lower_groups(self) -> list[Group]:
        """The last level's task experts and the last two levels' connections to tasks belong to one task each."""
        tasks = tuple(range(len(self.tasks)))
        above = [level.task_connections for level in self.levels[-2:]] + self.levels[-1].task_layers
        private = [v for layer in above for v in layer.trainable_variables]
        names = {id(v) for v in private}
        below = [v for layer in (self.encoder, *self.levels) for v in layer.trainable_variables if id(v) not in names]
        return [Group(tasks, below), Group(tasks, private, stacked=True)]


class _Level(keras.layers.Layer):
    """Task experts, shared experts, and the connections after them."""

    def __init__(self, experts: tuple[int, int, int], units: Sequence[int], hidden: dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.num, self.each, self.shared_experts = experts
        self.width = units[-1]
        num_own = self.num * self.each
        self.task_experts = MLP(units, **hidden, stacked=num_own, dtype=self.dtype_policy, name="task_experts")
        self.common_experts = MLP(
            units, **hidden, stacked=self.shared_experts, dtype=self.dtype_policy, name="shared_experts"
        )
        self.task_fields: Any = None
        self.common_fields: Any = None
        self.to_shared: Any = None

    def connect(self, fields: Sequence[int], gated: bool, gate_options: dict[str, float], hands_on: bool) -> None:
        """Creates all variables, for inputs of these fields."""
        dtype, number = self.dtype_policy, self.name.rpartition("_")[2]
        num_own, num_all = self.num * self.each, self.num * self.each + self.shared_experts
        for experts in (self.task_experts, self.common_experts):
            experts.build((None, None, sum(fields)))
        if gated:
            self.task_fields = FieldGates(num_own, fields, dtype=dtype, name="task_fields")
            self.common_fields = FieldGates(self.shared_experts, fields, dtype=dtype, name="shared_fields")
        options: dict[str, Any] = {"width": self.width, "gate_options": gate_options, "per_unit": True, "dtype": dtype}
        self.task_connections = Connections(
            self.num, self.each + self.shared_experts, **options, name=f"task_connections_{number}"
        )
        if hands_on:
            self.to_shared = Connections(1, num_all, **options, name=f"shared_connections_{number}")
        self.built = True

    @property
    def task_layers(self) -> list[Any]:
        """The tasks' experts and their field gates."""
        return [layer for layer in (self.task_experts, self.task_fields) if layer is not None]

    def own(self, inputs: Tensor, training: bool) -> Tensor:
        """The tasks' experts, ``[1 or T, n, F]`` to ``[T M, n, D]``, task by task."""
        read = inputs if self.task_fields is None else self.task_fields(inputs)
        return self.task_experts(read, training=training)

    def common(self, inputs: Tensor, training: bool) -> Tensor:
        """The shared experts, ``[1, n, F]`` to ``[S, n, D]``."""
        read = inputs if self.common_fields is None else self.common_fields(inputs)
        return self.common_experts(read, training=training)

    def to_tasks(self, own: Tensor, common: Tensor, training: bool) -> Tensor:
        """Turns ``own`` ``[T M, n, D]`` and ``common`` with a copy per task, ``[T, S, n, D]``, into ``[T, n, D]``."""
        own = tf.reshape(own, [self.num, self.each, -1, self.width])
        return self.task_connections.transformed(side_by_side(tf.concat([own, common], 1)), training)
