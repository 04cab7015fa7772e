"""DML: deep mutual learning across the task towers of any tower architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.architectures._base import Group
from tfmtl2r.architectures._towers import TowerArchitecture
from tfmtl2r.layers import inspection, randomness
from tfmtl2r.layers.ctfm import CrossTaskFeatureMining
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.gkd import GlobalKnowledgeDistillation
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema

__all__ = ["DML"]

CARD = Card(
    title="DML (deep mutual learning across task towers)",
    paper="Ren et al. 2023, https://arxiv.org/abs/2309.10357",
    note="Wraps another architecture, base=...: towers look at what the others read (CTFM) and learned (GKD).",
)


class DML(TowerArchitecture):
    """``score_t = scorer_t(h_t) + GKD_t(h_1 .. h_T)`` with ``h_t = tower_t(CTFM(x_1 .. x_T)_t)``.

    The lower network of ``base`` makes ``x_1 .. x_T``; towers, CTFM and GKD are DML's own. Both parts can be switched
    off, which gives the paper's ablations; without either it is ``base``.

    With the stop-gradient, a task's loss reaches what its own tower reads, its own gates and the attention's
    projections. Without it every loss reaches every variable below the towers, those of a base's gates included: they
    all become shared, and balancing methods treat them so.

    Args:
        base: an architecture that ends in towers: its name, ``{"name": ..., option: value}``, or a ready one.
        ctfm: towers read each other's inputs (:class:`tfmtl2r.layers.ctfm.CrossTaskFeatureMining`).
        gkd: towers learn from each other's hidden states (:class:`tfmtl2r.layers.gkd.GlobalKnowledgeDistillation`).
        stop_gradient: whether a task's loss stops at what CTFM takes from the other towers.
        gate_layers: layers of GKD's gate.
        mutual_dropout: rate inside CTFM and GKD; the paper trains with 0.5.
        head_units: widths of each tower's hidden layers.
        activation: name of a Keras activation, of the towers.
        dropout: rate after each hidden layer of the towers.
        layer_norm: normalise each hidden layer of the towers before its activation.

    Raises:
        ValueError: for a base without towers, or with a width of towers that DML would not make.
    """

    def __init__(
        self,
        base: Any = "mmoe",
        ctfm: bool = True,
        gkd: bool = True,
        stop_gradient: bool = True,
        gate_layers: int = 1,
        mutual_dropout: float = 0.0,
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        **kwargs: Any,
    ):
        super().__init__(head_units, activation, dropout, layer_norm, **kwargs)
        from tfmtl2r import architectures  # the registry imports the files of architectures

        self.base = architectures.get(base)
        plain = isinstance(self.base, TowerArchitecture) and type(self.base).heads is TowerArchitecture.heads
        if not plain or isinstance(self.base, DML):
            raise ValueError(f"dml wraps an architecture that ends in one tower per task, such as 'shared_bottom' or "
                             f"'mmoe'; {type(self.base).__name__} is none, or has its own exchange between towers or "
                             "scores beside them")
        if tuple(getattr(self.base, "registered_as", {}).get("head_units", self.head_units)) != self.head_units:
            raise ValueError(f"the towers are dml's own, with head_units={self.head_units}; its base has others: give "
                             "them to dml")
        if self.base.small_heads:
            raise ValueError("the towers are dml's own, and small heads stand beside them: give small_heads to dml")
        if self.transformer is not None or self.interaction is not None:
            raise ValueError("dml reads what its base encodes: give the encoder to the base, and the interaction")
        self.ctfm: Any = None
        self.gkd: Any = None
        self.uses_ctfm = ctfm
        self.uses_gkd = gkd
        self.stop_gradient = stop_gradient
        self.gate_layers = gate_layers
        self.mutual_dropout = mutual_dropout

    def connect(self, tasks: Sequence[str], schema: Schema) -> None:
        """Makes the base's lower network, CTFM, the towers and GKD."""
        super().connect(tasks, schema)
        if self.uses_gkd:
            self.gkd = GlobalKnowledgeDistillation(
                self.gate_layers, self.mutual_dropout, dtype=self.dtype_policy, name="gkd"
            )
            self.gkd.build(self.towers.compute_output_shape((len(tasks), None, self.tower_width)))

    def connect_lower(self, tasks: Sequence[str], schema: Schema) -> None:
        """Makes the base's lower network and CTFM; the base gets no towers."""
        self.base.dtype_policy = self.dtype_policy
        self.base.conditioned = self.conditioned
        self.base.connect_lower(tasks, schema)
        self.tasks, self.schema = self.base.tasks, schema
        if self.conditioned:
            self.modulation = self.base.modulation
        self.built = True
        if self.uses_ctfm:
            self.ctfm = CrossTaskFeatureMining(
                self.stop_gradient, self.mutual_dropout, dtype=self.dtype_policy, name="ctfm"
            )
            self.ctfm.build((len(tasks), None, self.tower_width))

    @property
    def list_context(self) -> bool:
        """The base's."""
        return self.base.list_context

    @property
    def tower_width(self) -> int:
        """The base's."""
        return self.base.tower_width

    @property
    def _private_inputs(self) -> bool:
        """Whether what tower t reads leads to task t's own variables only through task t's loss."""
        return self.ctfm is None or self.stop_gradient

    def shared(self, features: dict[str, Any], valid: Any, training: bool) -> list[Any]:
        """The base's cut, the seed of its upper part, and CTFM's queries, keys and values.

        Without the stop-gradient, the cut is what the towers read.
        """
        cut = self.base.shared(features, valid, training)
        if self.ctfm is None:
            return cut
        seed = randomness.next_seed() if training else tf.zeros([2], tf.int32)
        branches = [Branch(tensor, len(self.tasks)) for tensor in cut]
        if not self.stop_gradient:
            return [self.ctfm(self._base_inputs(branches, seed, training), training=training)]
        # What the towers read is needed on both sides of the cut: below for the keys, above for the gradients.
        with inspection.scope():  # what is decided is recorded above
            inputs = self._base_inputs(branches, seed, training)
        return [*cut, seed, *self.ctfm.below(inputs)]

    def tower_inputs(self, cut: Sequence[Branch], training: bool) -> Any:
        """The base's, after CTFM."""
        if not self._private_inputs:
            return cut[0].own()
        if self.ctfm is None:
            return self.base.tower_inputs(cut, training)
        *lower, seed, queries, keys, values = cut
        inputs = self._base_inputs(lower, seed.constant(), training)
        return self.ctfm.above(inputs, [queries, keys, values], training)

    def _base_inputs(self, cut: Sequence[Branch], seed: Any, training: bool) -> Any:
        with randomness.scope(seed):
            return self.base.tower_inputs(cut, training)

    def tower_scores(self, inputs: Any, training: bool) -> Any:
        """Towers, and what each learns from the hidden states of all."""
        hidden = self.towers(inputs, training=training)
        scores = tf.cast(self.scorers(hidden), tf.float32)
        if self.gkd is not None:
            scores += tf.cast(self.gkd(hidden, training=training), tf.float32)
        return scores

    def penalty(self, scores: dict[str, Any], valid: Any) -> tuple[Any, Any] | None:
        """The base's."""
        return self.base.penalty(scores, valid)

    def lower_groups(self) -> list[Group]:
        """The base's; CTFM's projections belong to all tasks, each row of its task embedding to one."""
        groups, everyone = self.base.lower_groups(), tuple(range(len(self.tasks)))
        if self.ctfm is None:
            return groups
        if not self.stop_gradient:
            variables = [v for group in groups for v in group.variables]
            return [Group(everyone, [*variables, *self.ctfm.trainable_variables])]
        common = [g for g in groups if g.tasks == everyone and not g.stacked]
        others = [g for g in groups if g not in common]
        shared = [v for group in common for v in group.variables] + self.ctfm.shared_weights
        return [Group(everyone, shared), *others, Group(everyone, [self.ctfm.task_embedding], stacked=True)]

    def variable_groups(self) -> list[Group]:
        """Those of the lower network; each slice of towers, scorers and GKD belongs to one task."""
        groups = super().variable_groups()
        if self.gkd is None:
            return groups
        return [*groups, Group(tuple(range(len(self.tasks))), self.gkd.trainable_variables, stacked=True)]
