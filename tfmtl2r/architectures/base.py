"""Base class of architectures: a shared half, the tasks' heads, and the tasks of each variable."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfmtl2r import constructors
from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures._position_towers import PositionTowers
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError, not_defined
from tfmtl2r.layers import inspection, interactions
from tfmtl2r.layers.conditioning import HeadModulation, Modulated
from tfmtl2r.layers.cut import Branch, branches
from tfmtl2r.layers.features import Encoder, ListEncoder
from tfmtl2r.layers.mlp import Scorers
from tfmtl2r.schema import Schema
from tfmtl2r.types import PerList, TaskScores, Tensor


@dataclasses.dataclass(frozen=True, eq=False)  # variables compare element by element
class Group:
    """Variables and the tasks whose losses depend on them.

    Args:
        tasks: indices of these tasks. If there are several, a balancing method combines their gradients.
        variables: Keras variables.
        stacked: True if each slice along the first axis of the variables belongs to one task only. Every task has the
            same number k of slices (often 1), and slices ``i k`` to ``(i + 1) k - 1`` belong to ``tasks[i]``.
    """

    tasks: tuple[int, ...]
    variables: Sequence[Any]
    stacked: bool = False

    @property
    def shared(self) -> bool:
        """Whether the losses of several tasks depend on the same numbers."""
        return len(self.tasks) > 1 and not self.stacked


def refuse_idle(name: str, parts: Mapping[str, bool], **options: tuple[Any, Any]) -> None:
    """Refuses options that have no effect because all parts that read them are switched off.

    Args:
        name: name of the architecture.
        parts: name of each part -> whether it is on.
        options: name -> value and default of an option that these parts read.

    Raises:
        ValueError: if all parts are off and an option differs from its default.
    """
    for option, (value, default) in options.items():
        if value != default and not any(parts.values()):
            raise InputError(f"{name}: {option}={value!r} would do nothing, since {' and '.join(parts)} is off")


def small_head_of(task: str) -> str:
    """The key of a task's auxiliary scores among the scores of a training step; no task can have this name."""
    return f"{task}\0small_head"  # names contain no control characters


class Architecture(keras.layers.Layer):
    """Base class of all architectures, which compute one score per item and task from features.

    A subclass creates its layers in :meth:`connect` and defines :meth:`shared`, :meth:`heads` and
    :meth:`variable_groups`. Scores are logits.

    Args:
        encoder: ``"transformer"``, or ``{"name": "transformer", option: value}``, encodes each item together with the
            other items of its list, with the options of :class:`tfmtl2r.layers.list_attention.ListTransformer`. By
            default each item is scored alone.
        interaction: ``"cross"`` or ``"dot"`` multiplies features with each other before the first layer, see
            :class:`tfmtl2r.layers.interactions.Interaction`. Requires keras-rs.
        small_heads: weight of an auxiliary loss in training; 0 for none, try .1 to 1. Each task gets a second, linear
            head with the same inputs and labels as its main head. Gradients of a task, also those that a balancing
            method combines, are gradients of ``loss_t + small_heads loss_t(small)``. Loss values, in methods and in
            logs, are ``loss_t`` alone. Wang et al., Can Small Heads Help?, WWW 2022, first
            https://arxiv.org/abs/2008.05808
        bias_features: names of features of the place at which an item was shown, for example ``["position"]``, or
            ``{"features": [...], option: value}`` with the options ``position_units``, ``position_dropout`` and
            ``biased`` of the architecture ``watch_next``, and ``activation``. Only shallow towers beside the heads read
            them, and only in training: a bias of clicks towards the top enters these towers instead of the scores.

    Attributes:
        given_options: the given constructor arguments, by name.
        schema: the features that scores depend on. Features that only training reads are left out.
        needs_probabilities: True if the architecture uses ``sigmoid(score)`` as a task's probability. All tasks must
            then be binary, with a loss whose link is the sigmoid, such as ``bce``.
        prunes: True if :meth:`prune` leaves out units, so that an export is smaller than the ranker.
        members: length of the first axis of all scores, ``[members, ..., B, L]``, which the ranker merges to one score
            per item (:mod:`tfmtl2r.training.members`); None for scores without such an axis.

    Raises:
        ValueError: for an unknown encoder, interaction or option of bias_features, or small_heads that is not a finite
            number >= 0.
    """

    needs_probabilities: bool = False
    prunes: bool = False
    members: int | None = None
    given_options: Mapping[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Stores the given arguments, with which the registry describes an architecture."""
        made = super().__new__(cls, *args, **kwargs)
        given = constructors.given(cls.__init__, args, kwargs)
        object.__setattr__(made, "given_options", given)  # Keras would track layers among them a second time
        return made

    def __init__(
        self,
        encoder: str | dict[str, Any] | None = None,
        interaction: str | dict[str, Any] | None = None,
        small_heads: float = 0.0,
        bias_features: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not 0.0 <= small_heads < math.inf:
            raise InputError(f"small_heads must be a finite number of 0 or more, not {small_heads}")
        self.small_heads = small_heads
        self.bias = PositionTowers.of(bias_features)
        described = {"name": encoder} if encoder is None or isinstance(encoder, str) else dict(encoder)
        name = described.pop("name", None)
        if name not in (None, "transformer"):
            raise InputError(f"encoder must be 'transformer' or None, not {name!r}")
        self.transformer = described if name else None
        self.interaction = interactions.described(interaction)
        # Features must not be rounded to the compute precision before they are normalised.
        self.autocast = False
        self.tasks: tuple[str, ...] = ()
        self.conditioned = False

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Refuses tasks that the architecture cannot learn together, before anything is made. Accepts all by default.

        Args:
            tasks: names of the tasks, in order.

        Raises:
            ValueError: for such tasks.
        """

    def connect(
        self, tasks: Sequence[str], schema: Schema, *, conditioned: bool = False, dtype: Any = None
    ) -> None:
        """Creates all layers and variables for given tasks and features.

        Subclasses call this method first. It creates ``self.encoder``, which turns a batch into vectors ``[n, F]`` of
        its real items. ``self.schema`` then lacks the ``bias_features``.

        Args:
            tasks: names of the tasks, in order.
            schema: the features of a batch.
            conditioned: whether the preference of the batch modulates features and scores.
            dtype: dtype policy of the layers; the architecture's policy if None.

        Raises:
            ValueError: if the architecture is already connected, for tasks that it refuses, or for unknown
                ``bias_features``.
        """
        if self.tasks:
            raise InputError(f"this {type(self).__name__} already belongs to a ranker with the tasks {self.tasks}; "
                             "make a new one for each ranker")
        self.check_tasks(tasks)
        if dtype is not None:
            self.dtype_policy = dtype
        self.tasks = tuple(tasks)
        position, self.schema = (None, schema) if self.bias is None else self.bias.divided(schema)
        self.conditioned = conditioned
        self.encoder = self.make_encoder()
        if conditioned:
            self.modulation = self.make_modulation()
        if position is not None:
            self.make_position_towers(position)
        self.built = True

    def start_at(self, levels: Sequence[float]) -> None:
        """Sets biases so that the scores of the untrained network are about these levels, one per task.

        The default is for an architecture with one of ``scorers`` for each task.
        """
        scorers = getattr(self, "scorers", None)
        if isinstance(scorers, Scorers) and scorers.num == len(levels):
            scorers.start_at(levels)

    def make_encoder(self) -> Any:
        """The layer that turns a batch into vectors; by default embeddings that all tasks share."""
        if self.transformer is not None:
            encoder: Encoder = ListEncoder(self.schema, self.transformer, self.interaction, dtype=self.dtype_policy)
        else:
            encoder = Encoder(self.schema, self.interaction, dtype=self.dtype_policy)
        if not self.conditioned:
            return encoder
        return Modulated(encoder, len(self.tasks), dtype=self.dtype_policy, name="modulated")

    def make_modulation(self) -> Any:
        """The layer with which the preference modulates scores."""
        return HeadModulation(len(self.tasks), name="modulation")

    def make_position_towers(self, schema: Schema) -> None:
        """Creates the towers that read the position features, ``schema``."""
        assert self.bias is not None
        for attribute, layer in self.bias.make(self.tasks, schema, self.dtype_policy).items():
            setattr(self, attribute, layer)

    @property
    def list_context(self) -> bool:
        """Whether an item's scores depend on the other items of its list."""
        return self.transformer is not None or bool(self.tasks and self.schema.list_context)

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The cut: a list of tensors that every path from a shared variable to a task loss crosses.

        Args:
            batch: the lists (or plain rows) to score.
            training: True in a training step: dropout and other random layers are active.
        """
        raise not_defined(self, "shared")

    def heads(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """Scores (logits) per task, ``[..., B, L]`` (plain rows: ``[..., B]``), from the branches of the cut.

        Leading axes contain several scores of the same item, for example one per member of an ensemble. A task's loss
        is the mean of their losses.
        """
        raise not_defined(self, "heads")

    def scores(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """The scores of :meth:`heads`, small heads included, plus the terms of the position towers.

        Small heads train the shared half, too, and the shared half must not learn the position.
        """
        scores = self._of_heads(self.heads(cut, batch, training), batch)
        if self.bias is None:
            return scores
        for task, term in self.bias.terms(batch, training, self.compute_dtype).items():
            for name in (task, small_head_of(task)):
                if name in scores:
                    scores[name] += term
        return scores

    def _of_heads(self, scores: Any, batch: Batch) -> dict[str, Tensor]:
        """What :meth:`heads` returned, checked."""
        source, lists = f"{type(self).__name__}.heads", not batch.is_rows
        if not isinstance(scores, dict) or (lacking := [task for task in self.tasks if task not in scores]):
            came = f"no scores of the task {lacking[0]!r}" if isinstance(scores, dict) else f"a {type(scores).__name__}"
            raise InputError(f"{source} returned {came}, expected a dictionary with the scores of each task: "
                             f"{', '.join(self.tasks)}")
        for task, values in scores.items():
            rank = values.shape.rank
            if rank is not None and rank < 1 + lists:
                raise InputError(f"{source} returned scores of {task!r} with the shape {tuple(values.shape)}, expected "
                                 f"{'[..., B, L]' if lists else '[..., B]'}: scores_of_items makes them of the numbers "
                                 "of the real items, [T, n, 1]")
        return scores

    def variable_groups(self) -> list[Group]:
        """The groups of the subclass's variables, with every trainable variable in exactly one group.

        Small heads, the modulation of scores and position towers are not included: :meth:`groups` adds them.
        """
        raise not_defined(self, "variable_groups")

    def groups(self) -> list[Group]:
        """All groups: :meth:`variable_groups`, the small heads, the modulation of scores by the preference, and the
        position towers, of which each task has its own.

        Frozen variables are in no group.
        """
        beside: list[keras.layers.Layer] = [self.small] if self.small_heads else []
        beside += [self.modulation] if self.conditioned else []
        tasks = tuple(range(len(self.tasks)))
        made = [*self.variable_groups(), *(Group(tasks, layer.variables, stacked=True) for layer in beside)]
        made += [Group(*group) for group in (self.bias.of_tasks() if self.bias is not None else ())]
        trainable = {id(v) for v in self.trainable_variables}
        kept = [dataclasses.replace(g, variables=[v for v in g.variables if id(v) in trainable]) for g in made]
        return [group for group in kept if group.variables]

    def make_small_heads(self, width: int, trains: bool = True) -> None:
        """Creates the small heads, if the option is above 0. Subclasses call this method at the end of ``connect``.

        Args:
            width: width of the small heads' inputs.
            trains: whether these inputs depend on a trainable variable.

        Raises:
            ValueError: if the small heads' inputs depend on no trainable variable.
        """
        if self.small_heads and not trains:
            raise InputError(f"small_heads={self.small_heads} trains nothing: in {type(self).__name__} small heads "
                             "read the encoded features, and these have no variables, since all features are numbers. "
                             "Add a category feature or encoder='transformer', or set small_heads=0")
        if self.small_heads:
            self.small = Scorers(len(self.tasks), name="small_heads")
            self.small.build((len(self.tasks), None, width))

    def with_small_heads(self, scores: TaskScores, inputs: Tensor | None, batch: Batch, training: bool) -> TaskScores:
        """Adds the auxiliary scores in training, under the key :func:`small_head_of` of each task.

        Args:
            scores: the result of :meth:`scores_of_items`.
            inputs: the small heads' inputs, ``[T, n, width]``.
            batch: the batch of these items.
            training: True in a training step; otherwise no scores are added.
        """
        if not (training and self.small_heads):
            return scores
        small = self.scores_of_items(self.small(inputs), batch)
        return {**scores, **{small_head_of(task): values for task, values in small.items()}}

    def routed_variables(self) -> list[Any]:
        """Variables whose gradients go through :meth:`route`; none by default."""
        return []

    def routing_state(self) -> dict[str, Any]:
        """The state of :meth:`route`: non-trainable weights by name, equal on every replica."""
        return {}

    def route(self, gradients: list[Any], state: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Changes gradients after the method and before the optimizer.

        Args:
            gradients: gradients of :meth:`routed_variables`, in the same order, summed over replicas. For a
                scalarisation they are gradients of the weighted sum of losses. For methods that balance gradients they
                are gradients of each task's unweighted loss.
            state: tensors by the names of :meth:`routing_state`.

        Returns:
            The gradients to apply, and the next state.
        """
        return gradients, state

    def call(self, batch: Batch, training: bool = False) -> dict[str, Any]:
        """Runs both halves."""
        cut = self.shared(batch, training)
        return self.scores(branches(cut, len(self.tasks), type(self).__name__), batch, training)

    def penalty(self, scores: TaskScores, batch: Batch) -> tuple[PerList, PerList] | None:
        """A penalty on the scores, which is added once to the balanced objective; None by default.

        Args:
            scores: per task ``float32[B, L]`` (plain rows ``[B]``).
            batch: the batch of these items. Its labels are not used.

        Returns:
            Penalty and weight of every list (plain rows: of every row), both ``float32[B]``. The weighted mean is
            added to the objective after balancing, so that methods do not receive it.
        """
        return None

    def prune(self) -> dict[str, tuple[int, int]]:
        """Leaves out the units that have no influence on scores. Exports call this on a copy, which is never trained.

        Returns:
            Name of a part -> number of its units that are left, and of its units before.
        """
        return {}

    def inspect(self, batch: Batch) -> inspection.Seen:
        """Internal values of the forward pass, e.g. gates averaged over items ``[T, E]`` or attention between tasks.

        Returns:
            name -> float32 tensor; an empty dict for an architecture without such values.
        """
        with inspection.scope() as seen:
            self(batch=batch, training=False)
        return seen

    def last_reads(self, items: Branch, training: bool) -> tuple[Tensor, Tensor | None]:
        """Reads the encoded items, a tensor ``[1, n, F]`` of the cut, for an architecture in which only the last task's
        network and the small heads read them.

        Returns:
            The input of this network, ``[1, n, F]``, and the input of small heads, see :meth:`with_small_heads`.
        """
        if not self.encoder.trainable_variables:
            return items.constant(), None
        if not (training and self.small_heads):
            return items.own((len(self.tasks) - 1,)), None
        copies = items.copies()[:, 0]
        return copies[-1:], copies

    def scores_of_items(self, stacked: Tensor, batch: Batch) -> TaskScores:
        """Turns ``[T, ..., n, 1]`` into a dict of ``[..., B, L]`` (0 for padded items; ``[..., n]`` for plain rows).

        The scores are float32, since losses need full precision.
        """
        scores = stacked[..., 0]
        if self.conditioned:
            scores = self.modulation(scores, batch=batch)
        scores = batch.as_lists(tf.cast(scores, tf.float32))
        return dict(zip(self.tasks, tf.unstack(scores, num=len(self.tasks)), strict=True))
