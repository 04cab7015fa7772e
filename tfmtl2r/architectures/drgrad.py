"""DRGrad: a split MMoE that adds gradients of auxiliary tasks to the primary task's tower if they agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.architectures.base import Architecture, Group, refuse_idle
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers import inspection
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.dense import dense
from tfmtl2r.layers.features import per_item
from tfmtl2r.layers.gates import Gates, mixture
from tfmtl2r.layers.mlp import MLP, Scorers, widths
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema
from tfmtl2r.types import TaskScores, Tensor

__all__ = ["DRGrad"]

CARD = Card(
    title="DRGrad (direct routing gradient) on Split-MMoE",
    paper="Liu et al. 2025, https://arxiv.org/abs/2510.09643",
    note="One task is primary, by default the first. Its tower also gets the gradients of other tasks that agree.",
)
_READINGS = ("matched", "typeset")
_SCOPES = ("first_kernel", "per_variable", "tower")


class DRGrad(Architecture):
    """``score_1 = mu' T1'(v_1) + mu'' T1''(v_s)``, ``score_k = T_k(v_s)`` for the auxiliary tasks k.

    Two gates mix the experts. The primary task's own gate computes ``v_1``. A gate that all tasks share computes
    ``v_s``, which a personalised gate then scales: ``v_s <- 2 v_s * sigmoid(v_ppnet W)``. The primary task has one
    tower on ``v_1`` and one on ``v_s``.

    *Router* (in training only). Let g', g'', g_k be the gradients of the towers T1', T1'', T_k, ``cos`` the cosine and
    ``lam(a, b) = min(|a| / |b|, 1) ^ gamma``. T1' is updated with
    ``g' + (1 - min(xi_1, 0)) lam(g', g'') g'' + sum_k 1[xi_k >= 0] lam(g', g_k) g_k`` and T1'' with
    ``(1 + max(-xi_1 xi_k, 0)) g''``, where ``xi_1 = cos(g', g'')`` and ``xi_k = cos(g', g_k)``. In the second formula
    k is the auxiliary task with the largest ``|xi_k|``. All other variables keep their gradients. With a
    scalarisation, the towers' gradients are gradients of the weighted sum of losses. With methods that balance
    gradients, they are gradients of each task's unweighted loss.

    *Updater*. ``(mu', mu'') = softmax(sigma / temperature)``, where sigma contains the summed norms of the two towers'
    updates. Only ``sigma' - sigma''`` has an effect; it is stored with the model's weights. As the sums grow, mu tends
    to (0, 1) or (1, 0). An ``updater_decay`` below 1 forgets old norms.

    The model also stores the router's last values, which :meth:`inspect` returns. ``cosines`` ``[V, T]`` are the
    cosines of T1' with the towers on v_s (``xi_1`` for the primary task, ``xi_k`` for task k). Row i of ``routing``
    ``[V, T + 1, T + 1]`` contains the weight of each tower's gradient in the update of tower i; tower 0 is T1'. V is
    the number of separately routed gradients, which is 1 except for the scope ``"per_variable"``.

    Args:
        num_experts: number of experts, E.
        expert_units: widths of each expert's layers.
        head_units: widths of each tower's hidden layers.
        activation: name of a Keras activation.
        dropout: rate after each hidden layer of experts and towers.
        primary: name of the primary task; the first by default.
        personal: names of the category features whose embeddings are the input of the personalised gate. Without
            names there is no such gate.
        router: whether gradients are routed.
        updater: whether mu depends on the norms; otherwise mu is (0.5, 0.5).
        reading: ``"matched"`` for the formulas above, or ``"typeset"`` for the formulas as printed in the paper. The
            printed formulas multiply g'' by the cosine and ratio of (g', g_k), and g_k by those of (g', g''). The
            paper states that the router projects conflicting gradients as PCGrad does; this holds for ``"matched"``.
        scope: the routed variables: the ``"first_kernel"`` of each tower, as in the authors' code; all variables of
            the towers, each separately (``"per_variable"``); or all variables as one vector (``"tower"``).
        gamma: exponent of the ratio, above 0.
        updater_temperature: temperature of mu; above 1 mu changes more slowly.
        updater_decay: factor of the old sums at each step, in (0, 1]; 1 in the paper.

    Raises:
        ValueError: for a number out of range, or an unknown reading or scope. Connecting raises it for an unknown task
            or feature, or without an auxiliary task.
    """

    def __init__(
        self,
        num_experts: int = 8,
        expert_units: Sequence[int] = (256, 128),
        head_units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        primary: str | None = None,
        personal: Sequence[str] = (),
        router: bool = True,
        updater: bool = True,
        reading: str = "matched",
        scope: str = "first_kernel",
        gamma: float = 1.0,
        updater_temperature: float = 1.0,
        updater_decay: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.expert_units = widths(expert_units, "expert_units")
        if num_experts < 1 or not self.expert_units:
            raise InputError(f"drgrad needs at least one expert with at least one layer, got {num_experts} experts of "
                             f"{self.expert_units}")
        for option, value, allowed in (("reading", reading, _READINGS), ("scope", scope, _SCOPES)):
            if value not in allowed:
                raise InputError(f"drgrad: {option} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
        for option, number in (("gamma", gamma), ("updater_temperature", updater_temperature)):
            if not number > 0:
                raise InputError(f"drgrad: {option} must be above 0, not {number}")
        if not 0.0 < updater_decay <= 1.0:
            raise InputError(f"drgrad: updater_decay must lie in (0, 1], not {updater_decay}")
        refuse_idle("drgrad", {"router": router}, reading=(reading, "matched"), gamma=(gamma, 1.0))
        refuse_idle("drgrad", {"updater": updater}, updater_temperature=(updater_temperature, 1.0),
                    updater_decay=(updater_decay, 1.0))
        refuse_idle("drgrad", {"router": router, "updater": updater}, scope=(scope, "first_kernel"))
        self.num_experts = num_experts
        self.head_units = widths(head_units, "head_units")
        self.hidden: dict[str, Any] = {"activation": activation, "dropout": dropout}
        self.primary_task = primary
        self.personal = tuple(dict.fromkeys(personal))
        self.router = router
        self.updater = updater
        self.reading = reading
        self.scope = scope
        self.gamma = gamma
        self.temperature = updater_temperature
        self.decay = updater_decay

    def connect(self, tasks: Sequence[str], schema: Schema, **options: Any) -> None:
        """Creates experts, gates, towers and the updater's state."""
        self._check_personal([feature.name for feature in schema.features if feature.embedded])
        super().connect(tasks, schema, **options)
        dtype, width, mixed = self.dtype_policy, self.encoder.width, self.expert_units[-1]
        self.primary = 0 if self.primary_task is None else self.tasks.index(self.primary_task)
        # Slice 0 is T1'. Slice 1 + t is the tower of task t on v_s; for the primary task this is T1''.
        self.owners = (self.primary, *range(len(tasks)))
        self.experts = MLP(self.expert_units, **self.hidden, stacked=self.num_experts, dtype=dtype, name="experts")
        self.own_gate = Gates(1, self.num_experts, dtype=dtype, name="own_gate")
        self.shared_gate = Gates(1, self.num_experts, dtype=dtype, name="shared_gate")
        towers = len(self.owners)
        self.towers = MLP(self.head_units, **self.hidden, stacked=towers, dtype=dtype, name="towers")
        self.scorers = Scorers(towers, name="scorers")
        self.experts.build((1, None, width))
        self.own_gate.build((1, None, width))
        self.shared_gate.build((1, None, width))
        self.towers.build((towers, None, mixed))
        self.scorers.build(self.towers.compute_output_shape((towers, None, mixed)))
        self.make_small_heads(mixed)
        if self.personal:
            ids = sum(feature.width for feature in self.schema.features if feature.name in self.personal)
            self.personal_gate = dense(
                mixed, use_bias=False, kernel_initializer="zeros", dtype=dtype, name="personal_gate"
            )
            self.personal_gate.build((None, ids))
        self.lead = self._state("lead", tf.zeros([]))
        if self.router:
            routed = len(self.routed_variables()) if self.scope == "per_variable" else 1
            self.cosines = self._state("cosines", tf.zeros([routed, len(tasks)]))
            self.mixing = self._state("routing", tf.eye(towers, batch_shape=[routed]))

    def _state(self, name: str, start: Any) -> Any:
        return self.add_weight(
            autocast=False,
            name=name, shape=start.shape, initializer=lambda *_, **__: start, trainable=False, dtype="float32",
            aggregation="only_first_replica",
        )

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """The primary task is among the tasks, beside at least one auxiliary task."""
        if len(tasks) < 2:
            raise InputError(f"drgrad needs a primary and at least one auxiliary task, got {', '.join(tasks)}")
        if self.primary_task is not None and self.primary_task not in tasks:
            raise InputError(f"drgrad: the primary task {self.primary_task!r} is not among the tasks: "
                             f"{', '.join(tasks)}")

    def _check_personal(self, categories: Sequence[str]) -> None:
        for name in self.personal:
            if name not in categories:
                raise InputError(f"drgrad: personal={self.personal} must name category features, the inputs of the "
                                 f"personalised gate; {name!r} is not among them: {', '.join(categories) or 'none'}")

    @property
    def mu(self) -> Tensor:
        """``float32[2]``: the weights of the primary task's two towers."""
        own = tf.sigmoid(tf.convert_to_tensor(self.lead.value) / self.temperature)
        return tf.stack([own, 1.0 - own])

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The experts' outputs ``[E, n, D]``, the encoded items ``[1, n, F]``, and ``v_s`` ``[n, D]``."""
        x = self.encoder(batch=batch, training=training)
        experts = self.experts(x[None], training=training)
        common = mixture(self.shared_gate(x[None]), experts)[0]
        if self.personal:
            features = {feature.name: feature for feature in self.schema.features}
            ids = [self._embedded(features[name], batch) for name in self.personal]
            common *= 2.0 * tf.sigmoid(self.personal_gate(tf.concat(ids, axis=-1)))
        return [experts, x[None], common]

    def _embedded(self, feature: Any, batch: Batch) -> Tensor:
        """A feature of every real item, ``[n, d]``."""
        return per_item(feature, batch, lambda tensors: feature.encode(tensors, self.encoder.embeddings))

    def start_at(self, levels: Sequence[float]) -> None:
        """The primary task's two scores start at the same level."""
        self.scorers.start_at([levels[owner] for owner in self.owners])

    def heads(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """The towers' scores. The primary task's two scores are summed with mu. Small heads read ``v_s``."""
        experts, x, common = cut
        read = x.own((self.primary,)) if self.encoder.trainable_variables else x.constant()
        own = mixture(self.own_gate(read), experts.own((self.primary,) * self.num_experts))
        copies = common.copies()
        inputs = tf.concat([own, copies], axis=0)
        scores = tf.unstack(self.scorers(self.towers(inputs, training=training)), num=len(self.owners))
        mu = self.mu
        inspection.record("mu", mu)
        if self.router:
            inspection.record("cosines", self.cosines, axes=("group", "task"))
            inspection.record("routing", self.mixing, axes=("group", "tower", "tower"))
        scores[1 + self.primary] = mu[0] * scores[0] + mu[1] * scores[1 + self.primary]
        return self.with_small_heads(self.scores_of_items(tf.stack(scores[1:]), batch), copies, batch, training)

    def variable_groups(self) -> list[Group]:
        """Encoder, experts, shared and personalised gate belong to all tasks, the other gate to the primary task.

        Each slice of towers and scorers belongs to one task; two slices belong to the primary task.
        """
        layers: list[Any] = [self.encoder, self.experts, self.shared_gate]
        layers += [self.personal_gate] if self.personal else []
        return [
            Group(tuple(range(len(self.tasks))), [v for layer in layers for v in layer.trainable_variables]),
            Group((self.primary,), self.own_gate.trainable_variables),
            Group(self.owners, [*self.towers.trainable_variables, *self.scorers.trainable_variables], stacked=True),
        ]

    def routed_variables(self) -> list[Any]:
        """The towers' first kernel, or all their variables; none if router and updater are off."""
        if not (self.router or self.updater):
            return []
        variables = [*self.towers.trainable_variables, *self.scorers.trainable_variables]
        return variables[:1] if self.scope == "first_kernel" else variables

    def routing_state(self) -> dict[str, Any]:
        """``lead`` is ``sigma' - sigma''``; ``cosines`` and ``routing`` are the router's last values."""
        state = {"lead": self.lead} if self.updater else {}
        return {**state, "cosines": self.cosines, "routing": self.mixing} if self.router else state

    def route(self, gradients: list[Any], state: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Applies router and updater."""
        rows = [tf.reshape(tf.cast(g, tf.float32), [len(self.owners), -1]) for g in gradients]
        after = {}
        if self.router:
            grams = [tf.matmul(r, r, transpose_b=True) for r in rows]
            grams = [tf.add_n(grams)] if self.scope == "tower" else grams
            cosines, mixings = zip(*map(self._mixing, grams), strict=True)
            each = mixings * len(rows) if self.scope == "tower" else mixings
            rows = [tf.matmul(mixing, r) for mixing, r in zip(each, rows, strict=True)]
            gradients = [tf.cast(tf.reshape(r, tf.shape(g)), g.dtype) for r, g in zip(rows, gradients, strict=True)]
            after = {"cosines": tf.stack(cosines)[:, 1:], "routing": tf.stack(mixings)}
        if self.updater:
            squares = tf.add_n([tf.reduce_sum(r**2, axis=1) for r in rows])
            norms = tf.sqrt(squares)
            after["lead"] = self.decay * state["lead"] + norms[0] - norms[1 + self.primary]
        return gradients, after

    def _mixing(self, gram: Tensor) -> tuple[Tensor, Tensor]:
        """Computes cosines and routing from the inner products of the towers' gradients.

        The cosines are between the first gradient and all. Routing is a matrix ``[T + 1, T + 1]`` that maps the
        gradients to the updates.
        """
        twin = 1 + self.primary
        others = [slot for slot in range(1, len(self.owners)) if slot != twin]
        norms = tf.sqrt(tf.linalg.diag_part(gram))
        ratio = tf.clip_by_value(tf.math.divide_no_nan(norms[0], norms), 0.0, 1.0) ** self.gamma
        cosine = tf.clip_by_value(tf.math.divide_no_nan(gram[0], norms[0] * norms), -1.0, 1.0)
        toward, scale = tf.gather(cosine, others), tf.gather(ratio, others)
        strongest = tf.argmax(tf.abs(toward))
        opposed = tf.maximum(-cosine[twin] * toward[strongest], 0.0)
        if self.reading == "matched":
            to_twin = (1.0 - tf.minimum(cosine[twin], 0.0)) * ratio[twin]
            to_others = tf.where(toward >= 0, scale, 0.0)
        else:
            to_twin = (1.0 - tf.minimum(toward[strongest], 0.0)) * scale[strongest]
            to_others = tf.fill([len(others)], tf.where(cosine[twin] >= 0, ratio[twin], 0.0))
        slots = [[0, twin], [twin, twin], *([0, slot] for slot in others)]
        values = tf.concat([[to_twin, opposed], to_others], axis=0)
        return cosine, tf.eye(len(self.owners)) + tf.scatter_nd(slots, values, [len(self.owners)] * 2)
