"""SNR: sub-network routing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tfmtl2r._backend import tf
from tfmtl2r.architectures.base import Group
from tfmtl2r.architectures.tower import TowerArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers.connections import Connections, side_by_side
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.hard_concrete import check_hard_concrete
from tfmtl2r.layers.mlp import MLP, widths
from tfmtl2r.registry import Card
from tfmtl2r.types import Tensor

__all__ = ["SNR"]

CARD = Card(
    title="SNR (sub-network routing)",
    paper="Ma et al. 2019, https://doi.org/10.1609/aaai.v33i01.3301216",
    note="Levels of small networks; learnt gates between 0 and 1 connect the networks of consecutive levels.",
)

CONNECTIONS = ("trans", "aver")


class SNR(TowerArchitecture):
    """Levels of S subnets. Learnt gates switch the connections between levels on and off.

    Let ``u_j`` be the outputs of a level. Subnet i of the next level (after the last level: the tower of task i) reads
    ``v_i = sum_j z_ij (u_j W_ij)`` (``"trans"``) or ``v_i = sum_j z_ij u_j`` (``"aver"``). ``z`` are hard concrete
    gates (:class:`tfmtl2r.layers.hard_concrete.HardConcrete`). ``penalty`` times the expected number of open gates is
    added to the training loss, with every balancing method. The cut is the last level's outputs. The gates between
    these outputs and the towers belong to one task each.

    Args:
        connection: ``"trans"`` or ``"aver"``.
        num_subnets: number S of subnets in every level.
        levels: number of levels.
        subnet_units: widths of each subnet's layers.
        dropout: rate after each hidden layer of subnets and heads.
        penalty: strength of the L0 penalty.
        start: initial log_alpha of every gate; 0 is half open.
        beta: temperature of the gates.
        gamma: lower end of the gates' stretch, below 0.
        zeta: upper end of the gates' stretch, above 1.

    Raises:
        ValueError: for an unknown connection, no subnet, level or subnet layer, or gate options out of bounds.
    """

    def __init__(
        self,
        connection: Literal["trans", "aver"] = "trans",
        num_subnets: int = 4,
        levels: int = 2,
        subnet_units: Sequence[int] = (128,),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        penalty: float = 1e-4,
        start: float = 0.0,
        beta: float = 2 / 3,
        gamma: float = -0.1,
        zeta: float = 1.1,
        **kwargs: Any,
    ):
        super().__init__(head_units, activation, dropout, **kwargs)
        if connection not in CONNECTIONS:
            raise InputError(f"SNR: connection must be one of {', '.join(map(repr, CONNECTIONS))}, not {connection!r}")
        self.subnet_units = widths(subnet_units, "subnet_units")
        if num_subnets < 1 or levels < 1 or not self.subnet_units:
            raise InputError("SNR needs at least one level of at least one subnet with at least one layer, got "
                             f"{levels} levels of {num_subnets} subnets of {self.subnet_units}")
        check_hard_concrete(penalty, beta, gamma, zeta)
        self.connection = connection
        self.num_subnets = num_subnets
        self.num_levels = levels
        self.gate_options = {"start": start, "penalty": penalty, "beta": beta, "gamma": gamma, "zeta": zeta}

    def make_lower(self) -> None:
        """Creates the subnets of every level and the connections after each level."""
        width = self.encoder.width
        self.subnets, self.connections = [], []
        for level in range(1, self.num_levels + 1):
            subnets = MLP(self.subnet_units, **self.hidden, stacked=self.num_subnets, dtype=self.dtype_policy,
                          name=f"subnets_{level}")
            subnets.build((self.num_subnets, None, width))
            width = self.tower_width
            readers = self.num_subnets if level < self.num_levels else len(self.tasks)
            self.subnets.append(subnets)
            self.connections.append(
                Connections(readers, self.num_subnets, width if self.connection == "trans" else None,
                            self.gate_options, dtype=self.dtype_policy, name=f"connections_{level}")
            )

    @property
    def tower_width(self) -> int:
        """The subnets' last width."""
        return self.subnet_units[-1]

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The last level's outputs: ``[S, n, D]``, or concatenated ``[n, S D]`` for ``"trans"``."""
        value = self.encoder(batch=batch, training=training)[None]
        for subnets, connections in zip(self.subnets, self.connections, strict=True):
            outputs = subnets(value, training=training)
            if connections is self.connections[-1]:
                break
            value = connections(outputs, training=training)
        return [side_by_side(outputs) if self.connection == "trans" else outputs]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """The outputs of each task's connections to the last level."""
        last = self.connections[-1]
        if self.connection == "trans":
            return last.transformed(cut[0].copies(), training)
        gates = tf.cast(last.gates(training=training), self.compute_dtype)
        items = tf.shape(cut[0].tensor)[1]
        return cut[0].mix(tf.broadcast_to(gates[:, None, :], [gates.shape[0], items, gates.shape[1]]))

    def lower_groups(self) -> list[Group]:
        """Each row of the last connections belongs to one task, all variables below to all tasks."""
        tasks = tuple(range(len(self.tasks)))
        below = (self.encoder, *self.subnets, *self.connections[:-1])
        return [
            Group(tasks, [v for layer in below for v in layer.trainable_variables]),
            Group(tasks, self.connections[-1].trainable_variables, stacked=True),
        ]
