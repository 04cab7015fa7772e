"""YouTube's "watch next" ranker: MMoE with shallow towers that model position bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.architectures._experts import MultiGateArchitecture
from tfmtl2r.errors import InputError
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema

__all__ = ["WatchNext"]

CARD = Card(
    title='YouTube "watch next" (MMoE with a position-bias tower)',
    paper="Zhao et al. 2019, https://doi.org/10.1145/3298689.3346997",
    note="For clicks with logged positions; mmoe with bias_features. Serving needs no position.",
)


class WatchNext(MultiGateArchitecture):
    """``score_t = mmoe_t(x) + shallow_t(p)``: p are position features (place, device), x are all other features.

    This is ``mmoe`` with the option ``bias_features``, which every architecture has. Experts, gates and heads are as in
    ``mmoe``. The shallow towers read p in training only: in evaluation, predictions and exports, p counts as missing.

    Args:
        position: names of the position features p. They must be known when an item is shown, not when it is ranked.
        position_units: widths of each shallow tower's hidden layers.
        position_dropout: probability that p of an item counts as missing in training, in [0, 1).
        biased: names of the tasks with a shallow tower, for example clicks; all tasks by default.

    Raises:
        ValueError: for an invalid option of MMoE, no position feature, or a position_dropout outside [0, 1). Connecting
            raises it for an unknown position feature or task, or if there is no other feature.
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
        position: Sequence[str] = ("position",),
        position_units: Sequence[int] = (16,),
        position_dropout: float = 0.1,
        biased: Sequence[str] = (),
        **kwargs: Any,
    ):
        mmoe = (num_experts, expert_units, head_units, activation, dropout, gate_dropout, temperature)
        bias = kwargs.pop("bias_features", None) or position
        if bias != position and tuple(position) != ("position",):
            raise InputError(f"watch_next: position={position!r} and bias_features={bias!r} name the same thing: leave "
                             "one of them out")
        if not isinstance(bias, dict):
            bias = {"features": bias, "position_units": position_units, "position_dropout": position_dropout,
                    "biased": biased, "activation": activation}
        super().__init__(*mmoe, bias_features=bias, **kwargs)

    def make_position_towers(self, schema: Schema) -> None:
        """Only keeps the schema: in files, the variables of the shallow towers follow those of the heads."""
        self.position_schema = schema

    def make_beside(self) -> None:
        """Creates the shallow towers."""
        super().make_position_towers(self.position_schema)
