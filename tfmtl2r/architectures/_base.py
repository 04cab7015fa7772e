"""What an architecture must provide: two halves, and which variables belong to whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.features import Encoder
from tfmtl2r.layers.items import pack, spread
from tfmtl2r.schema import Schema


@dataclasses.dataclass(frozen=True)
class Group:
    """Variables and the tasks whose losses reach them.

    Args:
        tasks: indices of those tasks. More than one: a balancing method combines their gradients.
        variables: Keras variables.
        stacked: the variables hold one slice per task along their first axis, each reached by its own task only.
    """

    tasks: tuple[int, ...]
    variables: Sequence[Any]
    stacked: bool = False

    @property
    def shared(self) -> bool:
        """Whether several tasks pull on the same numbers."""
        return len(self.tasks) > 1 and not self.stacked


class Architecture(keras.layers.Layer):
    """Base of all architectures: features in, one score per item and task out.

    A subclass makes its layers in :meth:`connect` and defines :meth:`shared`, :meth:`heads` and
    :meth:`variable_groups`. Scores are logits.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        # Features must not be rounded to the compute precision before they are normalised.
        self.autocast = False
        self.tasks: tuple[str, ...] = ()

    def connect(self, tasks: Sequence[str], schema: Schema) -> None:
        """Makes all layers and variables, once tasks and features are known.

        Subclasses call this first; it makes ``self.encoder`` (features to ``[..., F]``).
        """
        if self.tasks:
            raise ValueError(f"this {type(self).__name__} already belongs to a ranker with the tasks {self.tasks}; "
                             "make a new one for each ranker")
        self.tasks = tuple(tasks)
        self.encoder = Encoder(schema, dtype=self.dtype_policy)
        self.built = True

    def shared(self, features: dict[str, Any], valid: Any, training: bool) -> list[Any]:
        """The cut: a list of tensors that every path from a shared variable to a task loss crosses.

        Args:
            features: looked-up features.
            valid: ``bool[B, L]``, True for real items; None for plain rows.
            training: whether dropout and the like are on.
        """
        raise NotImplementedError

    def heads(self, cut: Sequence[Branch], valid: Any, training: bool) -> dict[str, Any]:
        """Scores (logits) per task, ``[B, L]`` (plain rows: ``[B]``), from the branches of the cut."""
        raise NotImplementedError

    def variable_groups(self) -> list[Group]:
        """Every trainable variable in exactly one group."""
        raise NotImplementedError

    def call(self, features: dict[str, Any], valid: Any = None, training: bool = False) -> dict[str, Any]:
        """Both halves in one go."""
        cut = self.shared(features, valid, training)
        return self.heads([Branch(tensor, len(self.tasks)) for tensor in cut], valid, training)

    def encode_items(self, features: dict[str, Any], valid: Any) -> Any:
        """The real items only, one encoded row each, ``[n, F]``: nothing is spent on padding.

        For architectures that score an item without looking at its list; :meth:`scores_of_items` is the way back.
        """
        if valid is not None:
            features = pack(features, valid, [f.name for f in self.encoder.schema.features if f.context])
        return self.encoder(features)

    def scores_of_items(self, stacked: Any, valid: Any) -> dict[str, Any]:
        """``[T, n, 1]`` to a dict of ``[B, L]`` (0 at padded places; ``[n]`` for plain rows).

        In float32: a loss must not see rounded scores.
        """
        scores = tf.cast(stacked[..., 0], tf.float32)
        scores = scores if valid is None else spread(scores, valid)
        return dict(zip(self.tasks, tf.unstack(scores, num=len(self.tasks)), strict=True))
