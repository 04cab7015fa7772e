"""What an architecture must provide: two halves, and which variables belong to whom."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfmtl2r import constructors
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.layers import inspection, interactions
from tfmtl2r.layers.conditioning import HeadModulation, Modulated
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.features import Encoder, ListEncoder
from tfmtl2r.layers.mlp import Scorers
from tfmtl2r.schema import Schema
from tfmtl2r.types import PerList, TaskScores, Tensor


@dataclasses.dataclass(frozen=True, eq=False)  # variables compare element by element
class Group:
    """Variables and the tasks whose losses reach them.

    Args:
        tasks: indices of those tasks. More than one: a balancing method combines their gradients.
        variables: Keras variables.
        stacked: the variables hold slices along their first axis, each reached by one task only: slice i by
            ``tasks[i]``, or equally many slices per task, those of a task side by side.
    """

    tasks: tuple[int, ...]
    variables: Sequence[Any]
    stacked: bool = False

    @property
    def shared(self) -> bool:
        """Whether several tasks pull on the same numbers."""
        return len(self.tasks) > 1 and not self.stacked


def refuse_idle(name: str, parts: Mapping[str, bool], **options: tuple[Any, Any]) -> None:
    """Refuses options of parts that are switched off: they would do nothing.

    Args:
        name: of the architecture.
        parts: whether each part is on.
        options: name -> value and default of an option that any of the parts reads.

    Raises:
        ValueError: naming the first one that differs from its default while no part is on.
    """
    for option, (value, default) in options.items():
        if value != default and not any(parts.values()):
            raise InputError(f"{name}: {option}={value!r} would do nothing, since {' and '.join(parts)} is off")


def small_head_of(task: str) -> str:
    """Where a training step finds a task's auxiliary scores; no task can have this name."""
    return f"{task}/small_head"


class Architecture(keras.layers.Layer):
    """Base of all architectures: features in, one score per item and task out.

    A subclass makes its layers in :meth:`connect` and defines :meth:`shared`, :meth:`heads` and
    :meth:`variable_groups`. Scores are logits.

    Args:
        encoder: ``"transformer"`` lets the items of a list see each other before they are scored, or
            ``{"name": "transformer", option: value}`` with options of
            :class:`tfmtl2r.layers.list_attention.ListTransformer`; by default each item is scored alone.
        interaction: ``"cross"`` or ``"dot"`` multiplies features with each other before all else, see
            :class:`tfmtl2r.layers.interactions.Interaction`; needs keras-rs.
        small_heads: weight of the loss of a second, linear head per task on what the tasks' own parts read, with the
            same label, in training only: the gradient of ``loss_t + small_heads loss_t(small)`` makes what is shared
            easier to use; balancing methods and logs see ``loss_t``. 0 for none; try .1 to 1. Wang et al., Can Small
            Heads Help?, WWW 2022, first https://arxiv.org/abs/2008.05808

    Attributes:
        given_options: the constructor arguments that were given, by name.
        schema: the features that a score depends on; those that only training looks at are left out.
        needs_probabilities: whether ``sigmoid(score)`` must be a task's probability, which takes binary tasks and a
            calibrated loss.

    Raises:
        ValueError: for another encoder or interaction, or small_heads that is not a finite number of 0 or more.
    """

    needs_probabilities: bool = False
    given_options: Mapping[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Remembers the arguments as they were given: the registry describes an architecture by them."""
        made = super().__new__(cls, *args, **kwargs)
        given = constructors.given(cls.__init__, args, kwargs)
        object.__setattr__(made, "given_options", given)  # Keras would track layers among them a second time
        return made

    def __init__(
        self,
        encoder: str | dict[str, Any] | None = None,
        interaction: str | dict[str, Any] | None = None,
        small_heads: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not 0.0 <= small_heads < math.inf:
            raise InputError(f"small_heads must be a finite number of 0 or more, not {small_heads}")
        self.small_heads = small_heads
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

    def connect(
        self, tasks: Sequence[str], schema: Schema, *, conditioned: bool = False, dtype: Any = None
    ) -> None:
        """Makes all layers and variables, once tasks and features are known.

        Subclasses call this first; it makes ``self.encoder`` (a batch to ``[n, F]``, its real items).

        Args:
            tasks: names, in order.
            schema: the features of a batch.
            conditioned: whether features and scores are modulated by the preference of the batch.
            dtype: policy of the layers; the architecture's own if None.

        Raises:
            ValueError: for an architecture that is connected already.
        """
        if self.tasks:
            raise InputError(f"this {type(self).__name__} already belongs to a ranker with the tasks {self.tasks}; "
                             "make a new one for each ranker")
        if dtype is not None:
            self.dtype_policy = dtype
        self.tasks = tuple(tasks)
        self.schema = schema
        self.conditioned = conditioned
        self.encoder = self.make_encoder()
        if conditioned:
            self.modulation = self.make_modulation()
        self.built = True

    def make_encoder(self) -> Any:
        """The layer that turns a batch into vectors: embeddings shared by all tasks, unless overridden."""
        if self.transformer is not None:
            encoder: Encoder = ListEncoder(self.schema, self.transformer, self.interaction, dtype=self.dtype_policy)
        else:
            encoder = Encoder(self.schema, self.interaction, dtype=self.dtype_policy)
        if not self.conditioned:
            return encoder
        return Modulated(encoder, len(self.tasks), dtype=self.dtype_policy, name="modulated")

    def make_modulation(self) -> Any:
        """The layer by which the preference modulates scores."""
        return HeadModulation(len(self.tasks), name="modulation")

    @property
    def list_context(self) -> bool:
        """Whether an item's scores depend on the other items of its list."""
        return self.transformer is not None

    def shared(self, batch: Batch, training: bool) -> list[Tensor]:
        """The cut: a list of tensors that every path from a shared variable to a task loss crosses.

        Args:
            batch: the lists (or plain rows) to score.
            training: whether dropout and the like are on.
        """
        raise NotImplementedError

    def heads(self, cut: Sequence[Branch], batch: Batch, training: bool) -> TaskScores:
        """Scores (logits) per task, ``[..., B, L]`` (plain rows: ``[..., B]``), from the branches of the cut.

        Leading axes hold several scores of the same item, such as those of an ensemble's members: a task's loss is the
        mean of their losses.
        """
        raise NotImplementedError

    def variable_groups(self) -> list[Group]:
        """Every trainable variable of the architecture's own in exactly one group; :meth:`groups` adds the others."""
        raise NotImplementedError

    def groups(self) -> list[Group]:
        """All groups: those of the architecture, of small heads, and of the modulation of scores by the preference."""
        beside: list[keras.layers.Layer] = [self.small] if self.small_heads else []
        beside += [self.modulation] if self.conditioned else []
        tasks = tuple(range(len(self.tasks)))
        return [*self.variable_groups(), *(Group(tasks, layer.trainable_variables, stacked=True) for layer in beside)]

    def make_small_heads(self, width: int, trains: bool = True) -> None:
        """Makes the small heads, if there are any, on inputs of that width; subclasses call this last in connecting.

        Args:
            width: of what they read.
            trains: whether that depends on any variable.

        Raises:
            ValueError: for small heads that would train nothing but themselves.
        """
        if self.small_heads and not trains:
            raise InputError(f"small_heads={self.small_heads}: in {type(self).__name__} they read the encoded "
                             "features, and there is nothing to train in those: all are numbers. Give it a category "
                             "feature, encoder='transformer', or small_heads=0")
        if self.small_heads:
            self.small = Scorers(len(self.tasks), name="small_heads")
            self.small.build((len(self.tasks), None, width))

    def with_small_heads(self, scores: TaskScores, inputs: Tensor | None, batch: Batch, training: bool) -> TaskScores:
        """In training the auxiliary scores as well, under :func:`small_head_of` each task.

        Args:
            scores: of :meth:`scores_of_items`.
            inputs: what the small heads read, ``[T, n, width]``.
            batch: whose items they are.
            training: whether there is anything to add.
        """
        if not (training and self.small_heads):
            return scores
        small = self.scores_of_items(self.small(inputs), batch)
        return {**scores, **{small_head_of(task): values for task, values in small.items()}}

    def routed_variables(self) -> list[Any]:
        """Variables whose gradients go through :meth:`route`; none by default."""
        return []

    def routing_state(self) -> dict[str, Any]:
        """What :meth:`route` remembers: non-trainable weights by name, the same on every replica."""
        return {}

    def route(self, gradients: list[Any], state: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Changes gradients after the method and before the optimizer.

        Args:
            gradients: for :meth:`routed_variables`, in that order, summed over replicas: of the losses' weighted sum
                for methods that weigh losses, each task's plain one for methods that balance gradients.
            state: tensors named as in :meth:`routing_state`.

        Returns:
            The gradients to apply, and the next state.
        """
        return gradients, state

    def call(self, batch: Batch, training: bool = False) -> dict[str, Any]:
        """Both halves in one go."""
        cut = self.shared(batch, training)
        return self.heads([Branch(tensor, len(self.tasks)) for tensor in cut], batch, training)

    def penalty(self, scores: TaskScores, batch: Batch) -> tuple[PerList, PerList] | None:
        """What this architecture asks of the scores beyond the tasks' losses, from the scores alone; None by default.

        Args:
            scores: per task ``float32[B, L]`` (plain rows ``[B]``).
            batch: whose items they are; its labels are not looked at.

        Returns:
            Penalty and weight of every list (plain rows: of every row), both ``float32[B]``. Their weighted mean is
            added to the tasks' losses, whatever the balancing method.
        """
        return None

    def inspect(self, batch: Batch) -> dict[str, Tensor]:
        """What the architecture decides on a batch: gates averaged over items ``[T, E]``, attention between tasks, ...

        Returns:
            name -> float32 tensor; nothing for an architecture that decides nothing.
        """
        with inspection.scope() as seen:
            self(batch=batch, training=False)
        return seen

    def last_reads(self, items: Branch, training: bool) -> tuple[Tensor, Tensor | None]:
        """The encoded items, a branch ``[1, n, F]``, where only the last task's own network reads them.

        Returns:
            What that network reads, ``[1, n, F]``, and what small heads read, see :meth:`with_small_heads`.
        """
        if not self.encoder.trainable_variables:
            return items.constant(), None
        if not (training and self.small_heads):
            return items.own((len(self.tasks) - 1,)), None
        copies = items.copies()[:, 0]
        return copies[-1:], copies

    def scores_of_items(self, stacked: Tensor, batch: Batch) -> TaskScores:
        """``[T, ..., n, 1]`` to a dict of ``[..., B, L]`` (0 at padded places; ``[..., n]`` for plain rows).

        In float32: a loss must not see rounded scores.
        """
        scores = stacked[..., 0]
        if self.conditioned:
            scores = self.modulation(scores, batch=batch)
        scores = batch.as_lists(tf.cast(scores, tf.float32))
        return dict(zip(self.tasks, tf.unstack(scores, num=len(self.tasks)), strict=True))
