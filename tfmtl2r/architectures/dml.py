"""DML: deep mutual learning across the task towers of any tower architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.architectures.base import Group, refuse_idle
from tfmtl2r.architectures.tower import TowerArchitecture
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers import inspection, randomness
from tfmtl2r.layers.ctfm import CrossTaskFeatureMining
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.gkd import GlobalKnowledgeDistillation
from tfmtl2r.layers.mlp import widths
from tfmtl2r.registry import Card
from tfmtl2r.types import PerList, TaskScores, Tensor

__all__ = ["DML"]

CARD = Card(
    title="DML (deep mutual learning across task towers)",
    paper="Ren et al. 2023, https://arxiv.org/abs/2309.10357",
    note="Wraps another architecture, base=...: towers exchange inputs (CTFM) and hidden states (GKD).",
)


class DML(TowerArchitecture):
    """``score_t = scorer_t(h_t) + GKD_t(h_1 .. h_T)`` with ``h_t = tower_t(CTFM(x_1 .. x_T)_t)``.

    The lower network of ``base`` computes ``x_1 .. x_T``. DML replaces the towers of the base by its own towers with
    the same options, and adds CTFM and GKD. CTFM and GKD can be switched off, as in the paper's ablations. Without
    both, DML equals ``base``.

    With the stop-gradient, a task's loss reaches the inputs of its own tower, its own gates and the attention's
    projections. Without the stop-gradient, every loss reaches every variable below the towers, including the gates of
    the base. All these variables are then shared, and balancing methods treat them as shared. The cut is then the
    towers' inputs, with one slice per task. Gradients at separate slices never conflict, so use
    ``gradients="parameters"`` in this case, not ``gradients="features"``.

    Args:
        base: an architecture that ends in towers: its name, ``{"name": ..., option: value}``, or an architecture.
        ctfm: True to let towers read each other's inputs (:class:`tfmtl2r.layers.ctfm.CrossTaskFeatureMining`).
        gkd: True to let towers read each other's hidden states
            (:class:`tfmtl2r.layers.gkd.GlobalKnowledgeDistillation`).
        stop_gradient: True to stop a task's gradient at the inputs that CTFM takes from other towers.
        gate_layers: number of layers of GKD's gate.
        gkd_residual: True if GKD reads ``h_t + a_t * z_t``, as in an earlier version of the authors' code, instead of
            ``a_t * z_t``.
        mutual_dropout: rate inside CTFM and GKD; the paper trains with 0.5.
        head_units: widths of each tower's hidden layers; by default the base's widths.
        activation: name of a Keras activation of the towers; by default the base's activation.
        dropout: rate after each hidden layer of the towers; by default the base's rate.
        layer_norm: normalise each hidden layer of the towers before its activation; by default as in the base.

    Raises:
        ValueError: for a base that does not consist of a lower network and one tower per task (``esmm``, ``aitm``,
            ``drgrad``, ``deepmtl2r``, ``sluice``, ``watch_next``; the paper uses none of them as a base). Also for a
            base with other widths of towers than ``head_units``, and for an option of a part that is switched off.

    Differs from the paper: there is no L2 penalty on embeddings (1e-6 in the paper). An optimizer's ``weight_decay``
    has a similar effect.
    """

    def __init__(
        self,
        base: Any = "mmoe",
        ctfm: bool = True,
        gkd: bool = True,
        stop_gradient: bool = True,
        gate_layers: int = 1,
        gkd_residual: bool = False,
        mutual_dropout: float = 0.0,
        head_units: Sequence[int] | None = None,
        activation: str | None = None,
        dropout: float | None = None,
        layer_norm: bool | None = None,
        **kwargs: Any,
    ):
        from tfmtl2r import architectures  # the registry imports the files of architectures

        base = architectures.get(base)
        plain = isinstance(base, TowerArchitecture) and type(base).heads is TowerArchitecture.heads
        if not plain or isinstance(base, DML):
            raise InputError(f"dml wraps an architecture that ends in one tower per task, such as 'shared_bottom' or "
                             f"'mmoe'; {type(base).__name__} has no such towers, or has parts between or beside the "
                             "towers")
        units = base.head_units if head_units is None else widths(head_units, "head_units")
        stated = base.given_options.get("head_units", units)
        if tuple(stated) != units:
            raise InputError(f"dml has one set of towers, but head_units={units} was given to it and {tuple(stated)} "
                             "to its base: give them to one of the two")
        given: dict[str, Any] = {"activation": activation, "dropout": dropout, "layer_norm": layer_norm}
        hidden = {option: base.hidden[option] if value is None else value for option, value in given.items()}
        super().__init__(units, **hidden, **kwargs)
        self.base = base
        if self.base.small_heads:
            raise InputError("small heads read the inputs of dml's towers: give small_heads to dml, not to its base")
        if self.base.bias is not None:
            raise InputError("bias_features puts position towers beside the towers: give it to dml, not to its base "
                             "(for watch_next, which is mmoe with bias_features, give mmoe)")
        if self.transformer is not None or self.interaction is not None:
            raise InputError("the base of dml encodes the features: give encoder and interaction to the base")
        refuse_idle("dml", {"ctfm": ctfm}, stop_gradient=(stop_gradient, True))
        refuse_idle("dml", {"gkd": gkd}, gate_layers=(gate_layers, 1), gkd_residual=(gkd_residual, False))
        refuse_idle("dml", {"ctfm": ctfm, "gkd": gkd}, mutual_dropout=(mutual_dropout, 0.0))
        self.ctfm: Any = None
        self.gkd: Any = None
        self.uses_ctfm = ctfm
        self.uses_gkd = gkd
        self.stop_gradient = stop_gradient
        self.gate_layers = gate_layers
        self.gkd_residual = gkd_residual
        self.mutual_dropout = mutual_dropout

    def make_encoder(self) -> Any:
        """Connects the base without towers, and returns its encoder."""
        self.base.connect(
            self.tasks, self.schema, conditioned=self.conditioned, dtype=self.dtype_policy, towers=False
        )
        self.schema = self.base.schema
        return self.base.encoder

    def make_modulation(self) -> Any:
        """The base's layer."""
        return self.base.modulation

    def make_beside(self) -> None:
        """Creates GKD."""
        if self.uses_gkd:
            self.gkd = GlobalKnowledgeDistillation(
                self.gate_layers, self.mutual_dropout, self.gkd_residual, dtype=self.dtype_policy, name="gkd"
            )
            self.gkd.build(self.towers.compute_output_shape((len(self.tasks), None, self.tower_width)))

    def make_lower(self) -> None:
        """Creates CTFM on top of the base's lower network."""
        if self.uses_ctfm:
            self.ctfm = CrossTaskFeatureMining(
                self.stop_gradient, self.mutual_dropout, dtype=self.dtype_policy, name="ctfm"
            )
            self.ctfm.build((len(self.tasks), None, self.tower_width))

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
        """Whether only task t's loss reaches task t's variables below the towers."""
        return self.ctfm is None or self.stop_gradient

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The base's cut, the seeds of its upper part, and CTFM's queries, keys and values.

        Without the stop-gradient, the cut is the towers' inputs.
        """
        cut = self.base.shared(batch, training)
        if self.ctfm is None:
            return cut
        seeds = tf.stack(randomness.next_seeds()) if training else tf.zeros([2, 2], tf.int32)
        branches = [Branch(tensor, len(self.tasks)) for tensor in cut]
        if not self.stop_gradient:
            return [self.ctfm(self._base_inputs(branches, batch, seeds, training), training=training)]
        # The towers' inputs are needed on both sides of the cut: below for the keys, above for the gradients.
        with inspection.scope():  # drops these records: the values are recorded above the cut
            inputs = self._base_inputs(branches, batch, seeds, training)
        return [*cut, seeds, *self.ctfm.below(inputs)]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """The base's tower inputs after CTFM."""
        if not self._private_inputs:
            return cut[0].own()
        if self.ctfm is None:
            return self.base.tower_inputs(cut, batch, training)
        *lower, seeds, queries, keys, values = cut
        inputs = self._base_inputs(lower, batch, seeds.constant(), training)
        return self.ctfm.above(inputs, [queries, keys, values], training)

    def _base_inputs(self, cut: Sequence[Branch], batch: Batch, seeds: Tensor, training: bool) -> Tensor:
        with randomness.scope(*tf.unstack(seeds, num=2)):
            return self.base.tower_inputs(cut, batch, training)

    def tower_scores(self, inputs: Tensor, training: bool) -> Tensor:
        """The sum of the towers' scores and the scores of GKD."""
        hidden = self.towers(inputs, training=training)
        scores = self.scorers(hidden)
        return scores if self.gkd is None else scores + self.gkd(hidden, training=training)

    def penalty(self, scores: TaskScores, batch: Batch) -> tuple[PerList, PerList] | None:
        """The base's."""
        return self.base.penalty(scores, batch)

    def lower_groups(self) -> list[Group]:
        """The base's groups. CTFM's projections belong to all tasks, each row of its task embedding to one task."""
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
        """The groups of the lower network. Each slice of towers, scorers and GKD belongs to one task."""
        groups = super().variable_groups()
        if self.gkd is None:
            return groups
        return [*groups, Group(tuple(range(len(self.tasks))), self.gkd.trainable_variables, stacked=True)]
