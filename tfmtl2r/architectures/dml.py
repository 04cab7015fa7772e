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
    note="Wraps another architecture, base=...: towers look at what the others read (CTFM) and learned (GKD).",
)


class DML(TowerArchitecture):
    """``score_t = scorer_t(h_t) + GKD_t(h_1 .. h_T)`` with ``h_t = tower_t(CTFM(x_1 .. x_T)_t)``.

    The lower network of ``base`` makes ``x_1 .. x_T``; towers, CTFM and GKD are DML's own, the towers as the base would
    make them. Both parts can be switched off, which gives the paper's ablations; without either it is ``base``.

    With the stop-gradient, a task's loss reaches what its own tower reads, its own gates and the attention's
    projections. Without it every loss reaches every variable below the towers, those of a base's gates included: they
    all become shared, and balancing methods treat them so. What the towers read is then the cut, a slice for each task,
    so that ``gradients="features"`` sees no conflict at all: balance by ``gradients="parameters"``.

    Args:
        base: an architecture that ends in towers: its name, ``{"name": ..., option: value}``, or a ready one.
        ctfm: towers read each other's inputs (:class:`tfmtl2r.layers.ctfm.CrossTaskFeatureMining`).
        gkd: towers learn from each other's hidden states (:class:`tfmtl2r.layers.gkd.GlobalKnowledgeDistillation`).
        stop_gradient: whether a task's loss stops at what CTFM takes from the other towers.
        gate_layers: layers of GKD's gate.
        gkd_residual: GKD reads ``h_t + a_t * z_t``, as an earlier version of the authors' code does, for ``a_t * z_t``.
        mutual_dropout: rate inside CTFM and GKD; the paper trains with 0.5.
        head_units: widths of each tower's hidden layers; the base's by default, as are the following.
        activation: name of a Keras activation, of the towers.
        dropout: rate after each hidden layer of the towers.
        layer_norm: normalise each hidden layer of the towers before its activation.

    Raises:
        ValueError: for a base without one tower per task and nothing beside it (``esmm``, ``aitm``, ``drgrad``,
            ``deepmtl2r``, ``sluice``, ``watch_next``; the paper has none of them as a base), with other widths of
            towers than those given here, or for an option of a part that is switched off.

    Differs from the paper: no L2 penalty on embeddings (its 1e-6); an optimizer's ``weight_decay`` is near it.
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
                             f"'mmoe'; {type(base).__name__} is none, or has its own exchange between towers or "
                             "scores beside them")
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
            raise InputError("the towers are dml's own, and small heads stand beside them: give small_heads to dml")
        if self.transformer is not None or self.interaction is not None:
            raise InputError("dml reads what its base encodes: give the encoder to the base, and the interaction")
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
        """The base's, once all of it but its towers is connected."""
        self.base.connect(
            self.tasks, self.schema, conditioned=self.conditioned, dtype=self.dtype_policy, towers=False
        )
        self.schema = self.base.schema
        return self.base.encoder

    def make_modulation(self) -> Any:
        """The base's."""
        return self.base.modulation

    def make_beside(self) -> None:
        """Makes GKD."""
        if self.uses_gkd:
            self.gkd = GlobalKnowledgeDistillation(
                self.gate_layers, self.mutual_dropout, self.gkd_residual, dtype=self.dtype_policy, name="gkd"
            )
            self.gkd.build(self.towers.compute_output_shape((len(self.tasks), None, self.tower_width)))

    def make_lower(self) -> None:
        """Makes CTFM on top of the base's lower network."""
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
        """Whether what tower t reads leads to task t's own variables only through task t's loss."""
        return self.ctfm is None or self.stop_gradient

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The base's cut, the seeds of its upper part, and CTFM's queries, keys and values.

        Without the stop-gradient, the cut is what the towers read.
        """
        cut = self.base.shared(batch, training)
        if self.ctfm is None:
            return cut
        seeds = tf.stack(randomness.next_seeds()) if training else tf.zeros([2, 2], tf.int32)
        branches = [Branch(tensor, len(self.tasks)) for tensor in cut]
        if not self.stop_gradient:
            return [self.ctfm(self._base_inputs(branches, batch, seeds, training), training=training)]
        # What the towers read is needed on both sides of the cut: below for the keys, above for the gradients.
        with inspection.scope():  # what is decided is recorded above
            inputs = self._base_inputs(branches, batch, seeds, training)
        return [*cut, seeds, *self.ctfm.below(inputs)]

    def tower_inputs(self, cut: Sequence[Branch], batch: Batch, training: bool) -> Tensor:
        """The base's, after CTFM."""
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
        """Towers, and what each learns from the hidden states of all."""
        hidden = self.towers(inputs, training=training)
        scores = self.scorers(hidden)
        return scores if self.gkd is None else scores + self.gkd(hidden, training=training)

    def penalty(self, scores: TaskScores, batch: Batch) -> tuple[PerList, PerList] | None:
        """The base's."""
        return self.base.penalty(scores, batch)

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
