"""Ensemble: several members of one architecture, trained side by side in one step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Architecture, Group
from tfmtl2r.batch import LIST_SIZE, PREFERENCE, Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers import inspection, randomness
from tfmtl2r.layers.cut import Branch
from tfmtl2r.registry import Card
from tfmtl2r.schema import Schema
from tfmtl2r.types import PerList, TaskScores, Tensor

__all__ = ["Ensemble"]

CARD = Card(
    title="Ensemble (several members side by side)",
    paper="Wen et al. 2020, https://arxiv.org/abs/2002.06715; Gorishniy et al. 2024, https://arxiv.org/abs/2410.24210",
    note="Wraps another architecture, base=...: members of own weights, on one trunk, or with shared kernels.",
)
SHARES = ("none", "trunk", "kernels")
BATCHES = ("same", "own")


class Ensemble(Architecture):
    """``members`` networks of one architecture: scores ``[members, B, L]``, which the ranker merges.

    A task's loss is the mean of the members' losses, each on the member's own scores, and never the loss of the mean.
    The first member is the base itself, so that one member is the plain network.

    ``share`` determines what the members have in common:

    * ``"none"``: nothing but the features' statistics. Each member has its own weights, also tables of embeddings.
    * ``"trunk"``: everything below the cut. The shared half runs once, and each member has its own weights above it.
    * ``"kernels"``: every kernel W, in the form of BatchEnsemble and TabM. Member m reads ``W * outer(r_m, s_m)``,
      which equals ``((x * r_m) W) * s_m``, and adds its own bias ``b_m``. Other weights, such as tables, are common.

    With ``"kernels"``, r_m starts with random signs, s_m with ones, and b_m like the base's bias, so that the kernel of
    each member has the distribution of the base's kernel. For ``gradients="features"``, the cut consists of the cuts of
    all members. With ``"trunk"``, each member then reads a copy of the cut of its own.

    With ``batches="same"``, all members are trained on all lists of a batch. With ``"own"``, the list at place i of a
    training batch is only read by member ``i mod members``. Batches of :func:`tfmtl2r.data.batches` with as many
    ``draws`` as members contain lists of an order of each member's own, and are longer by as much. Scores are then
    ``[1, B, L]`` in training: those of the member of each list. All other batches are read by all members.

    Args:
        base: the architecture of the members: its name, ``{"name": ..., option: value}``, or an architecture.
        members: number of members.
        share: ``"none"``, ``"trunk"`` or ``"kernels"``.
        batches: ``"same"`` or ``"own"``.

    Raises:
        ValueError: for a number of members below 1, another ``share`` or ``batches``, a base that is an ensemble or
            routes gradients between members (``drgrad``), options that belong to the base, or a base without weights
            to tell members apart.

    Differs from the authors' code: TabM draws r_m for the first layer only, and one sign per feature, not per column.
    """

    members: int

    def __init__(
        self, base: Any = "shared_bottom", members: int = 4, share: str = "none", batches: str = "same", **kwargs: Any
    ):
        from tfmtl2r import architectures  # the registry imports the files of architectures

        super().__init__(**kwargs)
        if members < 1:
            raise InputError(f"ensemble: members must be 1 or more, not {members}")
        if share not in SHARES:
            raise InputError(f"ensemble: share must be one of {', '.join(map(repr, SHARES))}, not {share!r}")
        if batches not in BATCHES:
            raise InputError(f"ensemble: batches must be one of {', '.join(map(repr, BATCHES))}, not {batches!r}")
        self.base = architectures.get(base)
        if isinstance(self.base, Ensemble):
            raise InputError("the members of an ensemble are no ensembles: give it the architecture of one member")
        if self.transformer is not None or self.interaction is not None or self.small_heads or self.bias is not None:
            raise InputError("encoder, interaction, small_heads and bias_features are options of the members: give "
                             "them to the base of the ensemble")
        self.members, self.share, self.batches = members, share, batches
        self.small_heads = self.base.small_heads
        self.needs_probabilities = self.base.needs_probabilities
        self._others: list[_Member] = []

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Refuses what the base refuses."""
        self.base.check_tasks(tasks)

    def connect(
        self, tasks: Sequence[str], schema: Schema, *, conditioned: bool = False, dtype: Any = None
    ) -> None:
        """Connects the base, which is the first member, and creates the weights of the other members."""
        if dtype is not None:
            self.dtype_policy = dtype
        options = {"conditioned": conditioned, "dtype": self.dtype_policy}
        self.base.connect(tasks, schema, **options)
        self.tasks, self.schema, self.conditioned = self.base.tasks, self.base.schema, conditioned
        if self.members > 1 and (self.base.routed_variables() or self.base.routing_state()):
            raise InputError(f"{type(self.base).__name__} routes the gradients of one network and cannot be the base "
                             "of an ensemble: choose another architecture, or merge finished runs (tfmtl2r export a "
                             "b)")
        if self.share == "kernels":
            self._others = self._with_factors() if self.members > 1 else []
        else:
            own = self._own(schema)
            self._others = [self._with_own(own, tasks, schema, options) for _ in range(1, self.members)]
        self.built = True

    def _own(self, schema: Schema) -> list[int]:
        """The positions of the base's trainable variables of which each member has its own."""
        variables = self.base.trainable_variables
        if self.share == "none":
            return [*range(len(variables))]
        with tf.GradientTape() as tape, randomness.scope(tf.zeros([2], tf.int32)):
            self.base.shared(_example(schema, len(self.tasks) if self.conditioned else 0), True)
        read = {id(variable) for variable in tape.watched_variables()}
        own = [place for place, variable in enumerate(variables) if id(variable.value) not in read]
        if not own and self.members > 1:
            raise InputError(f"share=\"trunk\" leaves nothing apart: {type(self.base).__name__} has no weights above "
                             "its trunk; choose share=\"none\" or \"kernels\"")
        return own

    def _with_own(self, own: Sequence[int], tasks: Sequence[str], schema: Schema, options: dict[str, Any]) -> _Member:
        """A member with its own variables at these places, which start like those of a new base."""
        from tfmtl2r import architectures

        fresh = architectures.get(architectures.registry.describe(self.base))
        fresh.connect(tasks, schema, **options)
        return _Member([_Own(self.base.trainable_variables[i], fresh.trainable_variables[i]) for i in own])

    def _with_factors(self) -> list[_Member]:
        """All members, each with factors of every kernel; the first member starts as the base."""
        variables = self.base.trainable_variables
        if not any(map(_is_kernel, variables)):
            raise InputError(f"share=\"kernels\" needs layers with a kernel, and {type(self.base).__name__} has none: "
                             "choose share=\"none\"")
        return [_Member([_Factors(v, member) if _is_kernel(v) else _Own(v, v) for v in variables
                         if _is_kernel(v) or (member and v.name == "bias")]) for member in range(self.members)]

    def start_at(self, levels: Sequence[float]) -> None:
        """Sets the biases of every member."""
        before = {id(v): np.array(v) for v in self.base.trainable_variables}
        self.base.start_at(levels)
        for part in (part for member in self._others for part in member.parts if isinstance(part, _Own)):
            if not np.array_equal(before[id(part.of)], np.array(part.of)):
                part.variable.assign(part.of)

    @property
    def list_context(self) -> bool:
        """The base's."""
        return self.base.list_context

    @contextlib.contextmanager
    def _as(self, number: int) -> Iterator[None]:
        """Within this context, the base computes with the weights of one member."""
        members = self._others if len(self._others) == self.members else [None, *self._others]
        member = members[number]
        if member is None:
            yield
            return
        with keras.StatelessScope(initialize_variables=False) as scope:
            for part in member.parts:
                # The scope's constructor would read whole tables, whose gradients would no longer be sparse.
                scope.add_update((part.of, part.value()))
            yield

    def _places(self, batch: Batch, training: bool) -> list[Tensor] | None:
        """The positions of the lists of each member; None if all members read all lists."""
        if self.batches == "same" or not training:
            return None
        return [tf.range(number, batch.num_lists, self.members) for number in range(self.members)]

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The cuts of all members, one after the other."""
        places = self._places(batch, training)
        if self.share == "trunk" and places is None:
            with self._as(0):
                cut = self.base.shared(batch, training)
            return [tf.identity(tensor) for _ in range(self.members) for tensor in cut]
        found = []
        for number in range(self.members):
            with self._as(number):
                found += self.base.shared(batch if places is None else batch.at(places[number]), training)
        return found

    def heads(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """The members' scores per task, ``[members, B, L]``; with own batches ``[1, B, L]``."""
        each, found = len(cut) // self.members, []
        places = self._places(batch, training)
        for number in range(self.members):
            with self._as(number):
                own = batch if places is None else batch.at(places[number])
                found.append(self.base.scores(cut[number * each:(number + 1) * each], own, training))
        join = tf.stack if places is None else (lambda parts: tf.dynamic_stitch(places, parts)[None])
        return {name: join([scores[name] for scores in found]) for name in found[0]}

    def penalty(self, scores: TaskScores, batch: Batch) -> tuple[PerList, PerList] | None:
        """The mean of the members' penalties, over the scores of each; those of own batches are of one member each."""
        copies = next(iter(scores.values())).shape[0]
        found = [self.base.penalty({name: each[number] for name, each in scores.items()}, batch)
                 for number in range(copies)]
        asked = [one for one in found if one is not None]
        if not asked:
            return None
        values, weights = zip(*asked, strict=True)
        return tf.add_n(values) / len(values), weights[0]

    def inspect(self, batch: Batch) -> inspection.Seen:
        """The internal values of the first member."""
        with self._as(0):
            return self.base.inspect(batch)

    def variable_groups(self) -> list[Group]:
        """The base's groups. The weights of a member belong to the group of the variable that they replace."""
        made: dict[int, list[Any]] = {}
        for part in (part for member in self._others for part in member.parts):
            made.setdefault(id(part.of), []).extend(part.trainable_variables)
        return [dataclasses.replace(g, variables=[one for v in g.variables for one in (v, *made.get(id(v), ()))])
                for g in self.base.groups()]

    def groups(self) -> list[Group]:
        """The groups of :meth:`variable_groups`, which include all parts of the base."""
        return self.variable_groups()


class _Member(keras.layers.Layer):
    """The weights of one member, each in the place of a variable of the base."""

    def __init__(self, parts: Sequence[Any]):
        super().__init__(dtype="float32", name="member")  # Keras' own name would be no name of a graph
        self.parts = list(parts)
        self.built = True


class _Own(keras.layers.Layer):
    """A variable of a member's own.

    Args:
        of: the variable of the base.
        start: the variable with the initial value.
    """

    of: Any

    def __init__(self, of: Any, start: Any):
        super().__init__(dtype="float32", name="own")
        object.__setattr__(self, "of", of)  # Keras would count the variable as one of this layer
        self.variable = self.add_weight(name=of.name, shape=of.shape, dtype=of.dtype, initializer="zeros")
        self.variable.assign(start)
        self.built = True

    def value(self) -> Any:
        """What the base computes with."""
        return self.variable.value


class _Factors(_Own):
    """Factors of a kernel of the base: the member's kernel is ``W * outer(r, s)``.

    Args:
        of: the kernel, ``[..., i, o]``.
        number: the member's number. The first member starts with ones.
    """

    def __init__(self, of: Any, number: int):
        keras.layers.Layer.__init__(self, dtype="float32", name="factors")
        object.__setattr__(self, "of", of)
        *stacked, inputs, outputs = of.shape
        signs = _signs if number else "ones"
        self.r = self.add_weight(name="r", shape=(*stacked, inputs), dtype=of.dtype, initializer=signs)
        self.s = self.add_weight(name="s", shape=(*stacked, outputs), dtype=of.dtype, initializer="ones")
        self.built = True

    def value(self) -> Tensor:
        """The member's kernel."""
        return batch_ensemble(tf.convert_to_tensor(self.of), self.r.value, self.s.value)


def batch_ensemble(kernel: Tensor, r: Tensor, s: Tensor) -> Tensor:
    """The kernel of one member: ``W * outer(r, s)``, so that ``x W_m = ((x * r) W) * s``.

    Wen, Tran and Ba, BatchEnsemble, ICLR 2020, https://arxiv.org/abs/2002.06715

    Args:
        kernel: W, ``[..., i, o]``.
        r: ``[..., i]``.
        s: ``[..., o]``.

    >>> w = batch_ensemble(tf.constant([[1., 0.], [1., -1.]]), tf.constant([1., -1.]), tf.constant([2., 1.]))
    >>> (tf.constant([[1., 2.]]) @ w + [.5, 0.]).numpy().tolist()
    [[-1.5, 2.0]]
    """
    return kernel * r[..., :, None] * s[..., None, :]


def _signs(shape: Sequence[int], dtype: Any = None) -> Tensor:
    drawn = keras.random.uniform(shape)
    return tf.cast(tf.where(drawn < 0.5, -1.0, 1.0), dtype or "float32")


def _is_kernel(variable: Any) -> bool:
    return variable.name == "kernel" and len(variable.shape) >= 2


def _example(schema: Schema, num_preferences: int) -> Batch:
    """One list of one item, all values 0."""
    features: dict[str, Any] = {LIST_SIZE: tf.constant([1])}
    for feature in schema.features:
        for name, values in feature.looked_up.items():
            spec = values.spec([1] if feature.context else [1, 1])
            features[name] = tf.zeros([1 if size is None else size for size in spec.shape], spec.dtype)
    preference = None
    if num_preferences:
        preference = tf.fill([num_preferences], 1.0 / num_preferences)
        features[PREFERENCE] = preference[None]
    return Batch.of(features, schema, preference)
