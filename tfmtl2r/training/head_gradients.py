"""The private half of a model in one step: heads and losses on per-task copies of the cut, and the gradients there.

A step has the whole batch as its only part or, for methods that require two independent gradients, two parts: the even
and the odd lists. Each part runs through the model alone. Losses of a part are divided by the count of lists of the
whole batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.architectures.base import Architecture
from tfmtl2r.batch import Batch
from tfmtl2r.layers.cut import Branch, branches
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.penalising import Penalties
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.types import Gram, Tensor


@dataclasses.dataclass(frozen=True)
class Forward:
    """Heads and losses of one part, recorded for their backward pass.

    Args:
        tape: the recording. It holds all activations until this object is deleted.
        branches: the tensors of the cut that a head reads.
        scores: dict task -> scores.
        values: loss of every list, ``float32[T, B]``.
        weights: weight of every list, ``float32[T, B]``.
        sums: ``float32[T]``, the weighted sums of the losses.
        penalty: sums and counts of the penalties on scores, ``float32[K]`` each, or None.
    """

    tape: Any
    branches: list[Branch]
    scores: dict[str, Any]
    values: Any
    weights: Any
    sums: Any
    penalty: tuple[Any, Any] | None

    def backward(self, count: Any, asked: Any, variables: list[Any]) -> Heads:
        """The gradients of the part's share of the global losses.

        Args:
            count: ``float32[T]``, the divisor of the sums of losses.
            asked: ``float32[K]``, the divisors of the sums of the penalties; None without penalties.
            variables: the heads' variables.
        """
        sources = [[branch.tap for branch in self.branches], variables]
        cotangents, private = self._gradient(self.sums, sources, tf.math.divide_no_nan(1.0, count))
        penalty = None
        if self.penalty is not None:
            of_taps, of_private = self._gradient(self.penalty[0], sources, tf.math.divide_no_nan(1.0, asked))
            penalty = [b.weighted(c, tf.ones([b.num_tasks])) for b, c in zip(self.branches, of_taps, strict=True)]
            private = [added(g, p) for g, p in zip(private, of_private, strict=True)]
        return Heads(self.branches, cotangents, private, tf.reduce_sum(self.weights, axis=1), penalty)

    def _gradient(self, target: Any, sources: Any, factors: Tensor) -> Any:
        zero = tf.UnconnectedGradients.ZERO
        return self.tape.gradient(target, sources, output_gradients=factors, unconnected_gradients=zero)


@dataclasses.dataclass(frozen=True)
class Heads:
    """The private half after its backward pass.

    Args:
        branches: the tensors of the cut that a head reads.
        cotangents: the gradient at every branch.
        gradients: the plain gradients of the heads' variables.
        count: ``float32[T]``, this replica's weight of the part's lists.
        penalty: the gradient of all penalties at every tensor of the cut, or None.
    """

    branches: list[Branch]
    cotangents: list[Any]
    gradients: list[Any]
    count: Any
    penalty: list[Any] | None

    @property
    def tensors(self) -> list[Any]:
        """The cut."""
        return [branch.tensor for branch in self.branches]

    def of_task(self, task: int) -> list[Any]:
        """The gradient of one task's loss at every tensor of the cut."""
        return [branch.of_task(c, task) for branch, c in zip(self.branches, self.cotangents, strict=True)]

    def weighted(self, weights: Tensor) -> list[Any]:
        """The weighted sum of the tasks' gradients, plus the penalty's gradient, at every tensor of the cut."""
        total = [branch.weighted(c, weights) for branch, c in zip(self.branches, self.cotangents, strict=True)]
        return total if self.penalty is None else [t + p for t, p in zip(total, self.penalty, strict=True)]

    def gram(self) -> Gram:
        """Inner products of the tasks' gradients at the cut, ``float32[T, T]``.

        Each example is on one replica, so the matrix of the whole batch is the sum over replicas.
        """
        return tf.add_n([b.gram(c) for b, c in zip(self.branches, self.cotangents, strict=True)])


def forward(
    architecture: Architecture, losses: TaskLosses, penalties: Penalties, cut: list[Any], batch: Batch
) -> Forward:
    """Runs heads and losses on per-task copies of the cut.

    Args:
        architecture: a connected architecture.
        losses: the tasks' losses.
        penalties: the penalties on scores.
        cut: the result of ``architecture.shared`` for the batch.
        batch: a whole batch or some of its lists.
    """
    with tf.GradientTape(persistent=True) as tape:
        taken = branches(cut, len(architecture.tasks), type(architecture).__name__, tape.watch)
        scores = architecture.scores(taken, batch, True)
        values, weights = losses.per_list(batch, scores)
        sums = tf.reduce_sum(values * weights, axis=1)
        penalty = penalties(scores, batch)
    return Forward(tape, [b for b in taken if b.tap is not None], scores, values, weights, sums, penalty)


def halves(part: Batch, replicas: Replicas, batch: Batch) -> list[Any]:
    """The positions of a part's even and odd lists, counted over the global batch.

    Args:
        part: some lists of the batch, from an even position on.
        replicas: the replicas.
        batch: this replica's batch.
    """
    numbers = tf.range(part.num_lists)
    odd = replicas.places(numbers, batch.num_lists) % 2
    return [tf.boolean_mask(numbers, tf.equal(odd, remainder)) for remainder in (0, 1)]


def joined(places: list[Any], scores: list[Any], batch: Batch) -> Any:
    """Joins scores of parts of a batch, ``[..., B', L]`` (plain rows ``[..., B']``), in the order of the batch.

    Args:
        places: positions of each part's lists in the batch.
        scores: scores of each part.
        batch: the whole batch.
    """
    axis = scores[0].shape.rank - (1 if batch.is_rows else 2)
    order = [axis, *(other for other in range(scores[0].shape.rank) if other != axis)]
    whole = tf.dynamic_stitch(places, [tf.transpose(part, order) for part in scores])
    return tf.transpose(whole, [order.index(other) for other in range(len(order))])


def added(gradient: Tensor, other: Any) -> Any:
    """The sum of two gradients. The second one may be None. The sum of two sparse gradients is sparse."""
    if other is None:
        return gradient
    if isinstance(gradient, tf.IndexedSlices) and isinstance(other, tf.IndexedSlices):
        values = tf.concat([gradient.values, other.values], 0)
        return tf.IndexedSlices(values, tf.concat([gradient.indices, other.indices], 0), gradient.dense_shape)
    return tf.convert_to_tensor(gradient) + tf.convert_to_tensor(other)
