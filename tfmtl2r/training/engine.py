"""One training step: losses, gradients, the method's decision, and the update. The only gradient tapes of the library.

One forward pass serves all tasks. A scalarisation costs one plain backward pass. For the other methods the heads are
differentiated once, on one copy of the cut per task: that single call yields the gradient of every task at the cut and
the plain gradient of every head. Then

* ``gradients="features"``: the Gram matrix of those gradients at the cut, and one weighted backward pass;
* ``gradients="parameters"``: one backward pass through the shared half per task, exact gradients of the shared
  parameters, one matrix product per variable.

Over replicas each loss is the local sum over lists divided by the global count of lists, so that gradients add up.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.architectures._base import Architecture
from tfmtl2r.batch import Batch
from tfmtl2r.layers.cut import Branch
from tfmtl2r.methods._base import Method, Signals, State
from tfmtl2r.methods._combine import merge, weigh
from tfmtl2r.training import rows as per_task_rows
from tfmtl2r.training.objectives import LossValues, TaskLosses
from tfmtl2r.training.replicas import Replicas


@dataclasses.dataclass(frozen=True)
class Step:
    """What one step computed.

    Args:
        scores: dict task -> ``float32[B, L]``.
        losses: the losses of the batch.
        gradients: pairs of a gradient and a Keras variable, ready for ``optimizer.apply`` (which sums over replicas).
        weights: ``float32[T]``, what the method gave each task; NaN for methods without task weights.
        gram: ``float32[T, T]`` where the method needed it, else None.
        state: the method's next state.
    """

    scores: dict[str, Any]
    losses: LossValues
    gradients: list[tuple[Any, Any]]
    weights: Any
    gram: Any
    state: State


class Engine:
    """Computes training steps.

    Args:
        architecture: a connected architecture.
        losses: the tasks' losses.
        method: the balancing method.
        mode: ``"parameters"`` or ``"features"``.

    Raises:
        ValueError: for a mode that the method cannot run in.
    """

    def __init__(self, architecture: Architecture, losses: TaskLosses, method: Method, mode: str):
        self.architecture = architecture
        self.losses = losses
        self.method = method
        self.mode = mode
        groups = architecture.variable_groups()
        self.shared_variables = [v for group in groups if group.shared for v in group.variables]
        self.private_variables = [v for group in groups if not group.shared for v in group.variables]
        grouped = {id(v) for v in self.shared_variables + self.private_variables}
        stray = [v.path for v in architecture.trainable_variables if id(v) not in grouped]
        if stray:
            raise ValueError(f"{type(architecture).__name__}.variable_groups() leaves out {stray}; every trainable "
                             "variable must be in one group, or it would never be trained")

    def step(self, batch: Batch, valid: Any, signals: Signals, state: State) -> Step:
        """Computes one step; ``signals`` carries preference, step, epoch and seed, the rest is filled in here."""
        if not self.method.needs:
            step = self._scalarised(batch, valid, signals, state)
        else:
            step = self._balanced(batch, valid, signals, state)
        return dataclasses.replace(step, gradients=self._with_penalties(step.gradients))

    def gram_at_cut(self, batch: Batch, valid: Any) -> Any:
        """Inner products of the tasks' gradients at the cut: what telemetry samples for scalarisations."""
        replicas = Replicas()
        cut = self.architecture.shared(batch.features, valid, True)
        _, _, branches, cotangents, _ = self._cotangents(cut, batch, valid, replicas)
        return _gram_at_cut(branches, cotangents, replicas)

    def _scalarised(self, batch: Batch, valid: Any, signals: Signals, state: State) -> Step:
        replicas = Replicas()
        keras_variables = self.shared_variables + self.private_variables
        with tf.GradientTape() as tape:
            scores = self.architecture(batch.features, valid=valid, training=True)
            losses = self.losses(batch, scores, valid, replicas)
            with tape.stop_recording():
                signals = dataclasses.replace(signals, losses=losses.total, present=losses.present)
                weights, state = weigh(self.method, signals, state)
            objective = tf.reduce_sum(weights * losses.local)
        gradients = tape.gradient(objective, [v.value for v in keras_variables])
        return Step(scores, losses, _pairs(gradients, keras_variables), weights, None, state)

    def _balanced(self, batch: Batch, valid: Any, signals: Signals, state: State) -> Step:
        replicas = Replicas()
        exact = self.mode == "parameters"
        shared = [v.value for v in self.shared_variables]
        with tf.GradientTape(persistent=exact) as trunk:
            cut = self.architecture.shared(batch.features, valid, True)
        scores, losses, branches, cotangents, head_gradients = self._cotangents(cut, batch, valid, replicas)
        signals = dataclasses.replace(signals, losses=losses.total, present=losses.present)
        tensors = [branch.tensor for branch in branches]
        if exact:
            rows = per_task_rows.stack(
                [
                    trunk.gradient(tensors, shared, output_gradients=[
                        branch.of_task(c, task) for branch, c in zip(branches, cotangents, strict=True)
                    ])
                    for task in range(len(self.architecture.tasks))
                ],
                shared,
                replicas,
            )
            del trunk  # a persistent tape keeps every activation alive
            weights, gram, combined, state = self._decide(rows, signals, state)
            # Rows are already sums over replicas; the optimizer will add up the replicas once more.
            combined = [_scaled(g, 1.0 / replicas.count) for g in combined]
        else:
            gram = _gram_at_cut(branches, cotangents, replicas)
            weights, state = weigh(self.method, dataclasses.replace(signals, gram=gram), state)
            combined = trunk.gradient(tensors, shared, output_gradients=[
                branch.weighted(c, weights) for branch, c in zip(branches, cotangents, strict=True)
            ])
        gradients = _pairs(combined, self.shared_variables) + _pairs(head_gradients, self.private_variables)
        return Step(scores, losses, gradients, weights, gram, state)

    def _cotangents(self, cut: list[Any], batch: Batch, valid: Any, replicas: Replicas) -> tuple[Any, ...]:
        """Runs heads and losses on per-task copies of the cut.

        Returns:
            Scores, losses, the branches, the gradient at each branch's tap, and the plain head gradients.
        """
        with tf.GradientTape() as heads:
            branches = [Branch(tensor, len(self.architecture.tasks), heads.watch) for tensor in cut]
            scores = self.architecture.heads(branches, valid, True)
            losses: LossValues = self.losses(batch, scores, valid, replicas)
            total = tf.reduce_sum(losses.local)
        branches = [branch for branch in branches if branch.tap is not None]
        taps = [branch.tap for branch in branches]
        private = [v.value for v in self.private_variables]
        cotangents, head_gradients = heads.gradient(
            total, [taps, private], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return scores, losses, branches, cotangents, head_gradients

    def _decide(self, rows: list[Any], signals: Signals, state: State) -> tuple[Any, Any, list[Any], State]:
        """The method's weights, the Gram matrix, the combined gradients and the next state, from exact rows."""
        gram = per_task_rows.gram(rows)
        signals = dataclasses.replace(signals, gram=gram)
        if "rows" in self.method.needs:
            update, state = merge(self.method, per_task_rows.jacobian(rows), signals, state)  # type: ignore[arg-type]
            weights = tf.fill([len(self.architecture.tasks)], float("nan"))
            return weights, gram, per_task_rows.split(rows, update), state
        weights, state = weigh(self.method, signals, state)
        return weights, gram, per_task_rows.weighted(rows, weights), state

    def _with_penalties(self, gradients: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Adds the gradients of weight regularisers, which no method balances."""
        if not self.architecture.losses:
            return gradients
        variables = [v for _, v in gradients]
        with tf.GradientTape() as tape:
            penalty = tf.add_n(self.architecture.losses)
        share = 1.0 / Replicas().count
        added = [_scaled(g, share) for g in tape.gradient(penalty, [v.value for v in variables])]
        both = [g if p is None else tf.convert_to_tensor(g) + p for (g, _), p in zip(gradients, added, strict=True)]
        return _pairs(both, variables)


def _gram_at_cut(branches: list[Branch], cotangents: list[Any], replicas: Replicas) -> Any:
    # Each example lives on one replica, so the Gram matrices of the replicas add up.
    return replicas.sum(tf.add_n([branch.gram(c) for branch, c in zip(branches, cotangents, strict=True)]))


def _scaled(gradient: Any, factor: float) -> Any:
    if factor == 1.0 or gradient is None:
        return gradient
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor


def _pairs(gradients: list[Any], variables: list[Any]) -> list[tuple[Any, Any]]:
    return [(g, v) for g, v in zip(gradients, variables, strict=True)]
