"""Architectures with task experts and shared experts: CGC, and PLE, which stacks several such levels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tfmtl2r._backend import keras
from tfmtl2r.architectures.base import Group
from tfmtl2r.architectures.tower import TowerArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.gates import Gates, check_gates, mixture, mixture_of_own
from tfmtl2r.layers.mlp import MLP, widths
from tfmtl2r.types import Tensor


class ExtractionArchitecture(TowerArchitecture):
    """J levels of experts, each with M experts per task and S shared experts, and one tower per task.

    The cut lies in the last two levels. A task gate of level J-1 serves its task only, since only the shared gate
    passes values to other tasks. Task gates of level J-1 are therefore above the cut, as are the last level's gates and
    task experts. The cut contains the inputs of these parts: the inputs and expert outputs of level J-1, and the
    outputs of the last level's shared experts. A gradient at outputs of shared experts is an outer product, which is
    never built.

    Args:
        levels: number of levels, J.
        task_experts: number of experts per task, M, in every level.
        shared_experts: number of shared experts, S, in every level. With 0, tasks share only the embeddings.
        expert_units: widths of each expert's layers, in every level.
        head_units: widths of each head's hidden layers.
        activation: name of a Keras activation.
        dropout: rate after each hidden layer of experts and heads.
        gate_dropout: in training, share of experts that are dropped per item and gate.
        temperature: divides the logits of the gates; above 1 the gates weight experts more evenly.
    """

    def __init__(
        self,
        levels: int,
        task_experts: int,
        shared_experts: int,
        expert_units: Sequence[int],
        head_units: Sequence[int],
        activation: str,
        dropout: float,
        gate_dropout: float,
        temperature: float,
        **kwargs: Any,
    ):
        super().__init__(head_units, activation, dropout, **kwargs)
        name = type(self).__name__
        if levels < 1:
            raise InputError(f"{name} needs at least one level, got {levels}")
        self.expert_units = widths(expert_units, "expert_units")
        if task_experts < 1 or shared_experts < 0 or not self.expert_units:
            raise InputError(f"{name} needs at least one expert per task, 0 or more shared experts, and at least one "
                             f"layer in each, got {task_experts}, {shared_experts} and layers {self.expert_units}; "
                             "without task experts, use mmoe")
        check_gates(gate_dropout, temperature)
        self.num_levels = levels
        self.task_experts = task_experts
        self.shared_experts = shared_experts
        self.gate_options = {"dropout": gate_dropout, "temperature": temperature}

    def make_lower(self) -> None:
        """Makes the levels."""
        experts = (len(self.tasks), self.task_experts, self.shared_experts)
        width = self.encoder.width
        self.levels = []
        for j in range(1, self.num_levels + 1):
            hands_on = j < self.num_levels and self.shared_experts > 0
            level = _Level(experts, self.expert_units, self.hidden, self.gate_options, hands_on, j, self.dtype_policy)
            level.build((None, None, width))
            self.levels.append(level)
            width = self.tower_width

    @property
    def tower_width(self) -> int:
        """The experts' last width."""
        return self.expert_units[-1]

    @property
    def _split(self) -> int:
        """Number of levels that are completely below the cut."""
        return max(0, self.num_levels - 2) if self.shared_experts else 0

    @property
    def _straddles(self) -> bool:
        """Whether level J-1 has its experts below the cut and its task gates above the cut."""
        return self.num_levels > 1 and self.shared_experts > 0

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The inputs of the levels above the cut, then the expert outputs that these levels mix, if there are any.

        The inputs are ``[n, F]``, or ``[T, n, D]`` for J > 2. The outputs are ``[T M, n, D]`` and ``[S, n, D]`` of
        level J-1, and ``[S, n, D]`` of level J.
        """
        x = self.encoder(batch=batch, training=training)
        own_input = shared_input = x[None]
        for level in self.levels[: self._split]:
            own, common = level.experts(own_input, shared_input, training)
            own_input = level.mixed(own_input, own, functools.partial(mixture, experts=common), training)
            shared_input = level.handed_on(shared_input, own, common, training)
        cut = [own_input if self._split else x]
        if self._straddles:
            level = self.levels[-2]
            own, common = level.experts(own_input, shared_input, training)
            cut += [own, common]
            shared_input = level.handed_on(shared_input, own, common, training)
        if self.shared_experts:
            cut.append(self.levels[-1].common(shared_input, training=training))
        return cut

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """The last level's mixture per task."""
        branches = list(cut)
        value = self._read(branches.pop(0))
        for level in self.levels[self._split:]:
            if self._straddles and level is self.levels[-2]:
                owners = [task for task in range(len(self.tasks)) for _ in range(self.task_experts)]
                own = branches.pop(0).own(owners)
            else:
                own = level.own(value, training=training)
            value = level.mixed(value, own, branches.pop(0).mix if branches else None, training)
        return value

    def _read(self, branch: Branch) -> Tensor:
        if self._split:
            return branch.own()
        return branch.copies() if self.encoder.trainable_variables else branch.constant()[None]

    def lower_groups(self) -> list[Group]:
        """Task experts and gates above the cut belong to one task, all other variables below the towers to all."""
        tasks = tuple(range(len(self.tasks)))
        above = self.levels[self._split:]
        private = [v for level in above for v in level.gates.trainable_variables]
        private += [v for level in above[int(self._straddles):] for v in level.own.trainable_variables]
        names = {id(v) for v in private}
        below = [v for layer in (self.encoder, *self.levels) for v in layer.trainable_variables if id(v) not in names]
        groups = [Group(tasks, below), Group(tasks, private, stacked=True)]
        return [group for group in groups if group.variables]


class _Level(keras.layers.Layer):
    """Task experts, shared experts, and the gates that mix them."""

    def __init__(
        self,
        experts: tuple[int, int, int],
        units: Sequence[int],
        hidden: dict[str, Any],
        gate_options: dict[str, float],
        hands_on: bool,
        number: int,
        dtype: Any,
    ):
        super().__init__(name=f"level_{number}", dtype=dtype)
        num, each, common = experts
        self.each = each
        self.common: Any = None
        self.shared_gate: Any = None
        self.own = MLP(units, **hidden, stacked=num * each, dtype=dtype, name="task_experts")
        if common:
            self.common = MLP(units, **hidden, stacked=common, dtype=dtype, name="shared_experts")
        self.gates = Gates(num, each + common, **gate_options, dtype=dtype, name=f"gates_{number}")
        if hands_on:
            self.shared_gate = Gates(1, num * each + common, **gate_options, dtype=dtype, name=f"shared_gate_{number}")

    def build(self, input_shape: Any) -> None:
        """Builds all experts and gates for inputs of the width ``input_shape[-1]``."""
        for layer in (self.own, self.common, self.gates, self.shared_gate):
            if layer is not None:
                layer.build(input_shape)
        self.built = True

    def experts(self, own_input: Tensor, shared_input: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """Outputs of the task experts, ``[T M, n, D]``, task by task, and of the shared experts, ``[S, n, D]``."""
        return self.own(own_input, training=training), self.common(shared_input, training=training)

    def mixed(self, query: Tensor, own: Tensor, mix_common: Callable[[Any], Any] | None, training: bool) -> Tensor:
        """Each task's mixture of its own and the shared experts, ``[T, n, D]``.

        Args:
            query: the inputs of the tasks' gates, ``[T or 1, n, F]``.
            own: outputs of the task experts.
            mix_common: function from gates ``[T, n, S]`` to the mixture of the shared experts' outputs; None without
                shared experts.
            training: whether gate dropout is active.
        """
        gates = self.gates(query, training=training)
        mixed = mixture_of_own(gates[..., : self.each], own)
        return mixed if mix_common is None else mixed + mix_common(gates[..., self.each:])

    def handed_on(self, query: Tensor, own: Tensor, common: Tensor, training: bool) -> Tensor:
        """The shared gate's mixture of all experts, ``[1, n, D]``."""
        gates = self.shared_gate(query, training=training)
        last = own.shape[0]
        return mixture(gates[..., :last], own) + mixture(gates[..., last:], common)
