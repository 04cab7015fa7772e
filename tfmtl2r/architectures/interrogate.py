"""InterroGate: each task chooses, unit by unit, between a layer of its own and a shared layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.architectures.base import Group
from tfmtl2r.architectures.tower import TowerArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.mlp import MLP, widths
from tfmtl2r.layers.unit_gates import GatedLevel, TaskMix, UnitGates, check_unit_gates
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

__all__ = ["InterroGate"]

CARD = Card(
    title="InterroGate (learned sharing of units; our reading of the abstract)",
    paper="Bejnordi et al. 2024, https://arxiv.org/abs/2402.16848",
    note="A learnt point between single_task and shared_bottom; exports leave out the units that nobody reads.",
)


class InterroGate(TowerArchitecture):
    """Level l has a layer ``phi_t`` per task, a shared layer ``psi``, and gates ``z_t`` of 0 or 1 per task and unit.

    With ``m_t = z_t phi_t + (1 - z_t) psi``, the next level is ``phi_t' = act(m_t U_t)`` and
    ``psi' = act((sum_t softmax(b)_t m_t) V)``, and the tower of task t reads the ``m_t`` of the last level. Gates all
    of 1 are ``single_task`` on shared embeddings, gates all of 0 are ``shared_bottom``.
    :class:`tfmtl2r.layers.unit_gates.UnitGates` describes how gates learn, and the penalty, which is added to the
    training loss with every method. An export contains the units that are read, and no others.

    Training computes T + 1 layers per level. The cut consists of ``m_t`` before the last level, and of the last
    ``psi``. The last level's own layers and gates belong to one task each.

    Args:
        units: widths of the levels.
        penalty: strength of the penalty on the share of own units.
        target: the share of own units, in [0, 1], below which a task pays nothing.
        start: centre of the initial gate logits. All units start near the border between own and shared.

    Raises:
        ValueError: without a level, for a penalty below 0, or a target outside [0, 1].

    Differs from the paper, of which only the abstract and reviews were read: the form for dense layers is ours; own
    layers do not start from single-task weights; gates stay trainable to the end, and are fixed in exports.
    """

    prunes = True
    levels: list[Any]

    def __init__(
        self,
        units: Sequence[int] = (256, 128),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        penalty: float = 1.0,
        target: float = 0.3,
        start: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(head_units, activation, dropout, **kwargs)
        self.units = widths(units, "units")
        if not self.units:
            raise InputError("InterroGate needs at least one level to gate; got units=()")
        check_unit_gates(penalty, target)
        self.gate_options = {"penalty": penalty, "target": target, "start": start}

    def make_lower(self) -> None:
        """Creates the layers and gates of every level."""
        num, width, policy = len(self.tasks), self.encoder.width, self.dtype_policy
        self.gates = UnitGates(num, self.units, **self.gate_options, dtype="float32", name="gates")
        self.levels, self.mixes = [], list[TaskMix]()
        for level, units in enumerate(self.units):
            own = MLP((units,), **self.hidden, stacked=num, dtype=policy, name=f"own_{level + 1}")
            common = MLP((units,), **self.hidden, dtype=policy, name=f"shared_{level + 1}")
            own.build((num, None, width))
            common.build((None, width))
            self.levels.append(GatedLevel(own, common, self.gates, level, dtype=policy, name=f"level_{level + 1}"))
            if level:
                self.mixes.append(TaskMix(num, dtype=policy, name=f"mix_{level + 1}"))
            width = units

    @property
    def tower_width(self) -> int:
        """The last level's width."""
        return self.units[-1]

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """What the last level reads, and the output of its shared layer.

        The last level reads ``m_t`` of the level before, ``[T, n, d]``, or, as the only level, the encoded items.
        """
        items = self.encoder(batch=batch, training=training)
        before, common = items[None], self.levels[0].common(items, training=training)
        for number, mix in enumerate(self.mixes):
            before = self.levels[number](before, common, training=training)
            common = self.levels[number + 1].common(mix(before), training=training)
        return [before if self.mixes else items, common]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """The last level's own layers and gates."""
        before, common = cut
        own = before.own() if self.mixes else before.copies()
        return self.levels[-1](own, common.copies(), training=training)

    def lower_groups(self) -> list[Group]:
        """The last level's own layers and gates belong to one task each, all other variables to all tasks."""
        tasks, last = tuple(range(len(self.tasks))), self.levels[-1]
        below = [self.encoder, *self.mixes, *(level.own for level in self.levels[:-1]),
                 *(level.common for level in self.levels)]
        shared = [v for layer in below for v in layer.trainable_variables]
        gates = [v for v in self.gates.logits if v.trainable]
        return [
            Group(tasks, [*shared, *(v for v in gates if v is not self.gates.logits[-1])]),
            Group(tasks, [*last.own.trainable_variables, *(v for v in gates if v is self.gates.logits[-1])],
                  stacked=True),
        ]

    def prune(self) -> dict[str, tuple[int, int]]:
        """Fixes the gates and leaves out the units that no task reads."""
        self.levels = [level.pruned() for level in self.levels]
        return {level.name: level.units for level in self.levels}
