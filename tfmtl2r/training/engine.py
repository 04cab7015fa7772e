"""One training step: losses, gradients, the method's decision, and the update.

One forward pass serves all tasks. A scalarisation needs one plain backward pass. For the other methods the heads are
differentiated once, on one copy of the cut per task. This single call returns the gradient of every task at the cut
and the plain gradient of every head. The next steps depend on the mode:

* ``gradients="features"`` computes the Gram matrix of the gradients at the cut, then one weighted backward pass.
* ``gradients="parameters"`` computes exact gradients of the shared parameters, with one backward pass through the
  shared half per task, and their Gram matrix, with one matrix product per variable. A variable that only some tasks
  share is balanced among these tasks.

On each replica, a loss is the local sum over lists divided by the global count of lists. The gradients of the global
loss are then the sums over replicas.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Architecture
from tfmtl2r.batch import Batch
from tfmtl2r.errors import InputError
from tfmtl2r.linalg import settling
from tfmtl2r.methods.base import Method, Signals, State
from tfmtl2r.methods.deciding import merge, standing_still, weigh
from tfmtl2r.penalties.base import Penalty
from tfmtl2r.training import rows as per_task_rows
from tfmtl2r.training.head_gradients import Heads, added, forward, halves, joined
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.objectives import LossValues, TaskLosses
from tfmtl2r.training.optimizers import is_table
from tfmtl2r.training.penalising import Penalties
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.types import Gram, Tensor


@dataclasses.dataclass(frozen=True)
class Step:
    """The results of one step.

    Args:
        scores: dict task -> ``float32[B, L]``.
        losses: the losses of the batch.
        gradients: pairs of a gradient and a Keras variable, ready for ``optimizer.apply`` (which sums over replicas).
        weights: ``float32[T]``, the method's task weights; NaN for methods without task weights.
        gram: ``float32[T, T]`` if the method needs the Gram matrix, else None.
        states: the method's next state, one per balanced group of variables.
        signals: the method's input, one per state.
        unsettled: ``int64``, number of solvers that stopped at their iteration limit.
        rounds: ``int64``, sum of the rounds of all solvers.
        routing: the next state of an architecture that routes gradients.
        rows: the tasks' exact gradients of each shared variable; empty if they are not computed.
    """

    scores: dict[str, Any]
    losses: LossValues
    gradients: list[tuple[Any, Any]]
    weights: Any
    gram: Any
    states: list[State]
    signals: list[Signals]
    unsettled: Any
    rounds: Any = None
    routing: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: Sequence[Any] = ()


class Engine:
    """Computes training steps.

    Args:
        architecture: a connected architecture.
        losses: the tasks' losses.
        method: the balancing method.
        mode: ``"parameters"`` or ``"features"``.
        penalties: penalties on scores, which are added to the objective after balancing.

    Raises:
        ValueError: if a trainable variable is in no variable group of the architecture.
    """

    def __init__(
        self, architecture: Architecture, losses: TaskLosses, method: Method, mode: str,
        penalties: Sequence[Penalty] = (),
    ):
        self.architecture = architecture
        self.losses = losses
        self.method = method
        self.mode = mode
        self.penalties = Penalties(architecture, losses, penalties)
        groups = architecture.groups()
        self.shared_groups = [group for group in groups if group.shared]
        self.shared_variables = [v for group in self.shared_groups for v in group.variables]
        self.private_variables = [v for group in groups if not group.shared for v in group.variables]
        network: Any = architecture
        for layer in network._flatten_layers():
            if not layer.built and type(layer).build is not keras.layers.Layer.build:
                raise InputError(f"{type(architecture).__name__}: the layer {layer.name!r} has no variables yet, so "
                                 "that no optimizer can know them: call its build in connect or make_lower")
        variables = self.shared_variables + self.private_variables
        times = collections.Counter(id(v) for v in variables)
        for wrong, paths in {
            "leaves out": [v.path for v in architecture.trainable_variables if id(v) not in times],
            "contains several times": [*dict.fromkeys(v.path for v in variables if times[id(v)] > 1)],
        }.items():
            if paths:
                raise InputError(f"{type(architecture).__name__}.variable_groups() {wrong} {paths}; every trainable "
                                 "variable must be in one group: others are never trained, or trained too often")

    def step(self, batch: Batch, clock: Clock, states: list[State]) -> Step:
        """Computes one step.

        Args:
            batch: features and labels.
            clock: step, epoch, seed and preference.
            states: the method's states, in the order of :func:`state_shapes`.
        """
        with settling.watched() as solvers:
            balance = self._balanced if self.balances_gradients else self._scalarised
            step = balance(batch, clock, states)
            gradients, routing = self._routed(step.gradients)
            return dataclasses.replace(
                step, gradients=self._with_penalties(gradients), unsettled=solvers.unsettled(),
                rounds=solvers.rounds(), routing=routing,
            )

    def trains(self, variables: Sequence[Any]) -> bool:
        """Whether these are the variables that the engine trains."""
        return {id(v) for v in variables} == {id(v) for v in self.shared_variables + self.private_variables}

    @property
    def balances_gradients(self) -> bool:
        """Whether the method needs gradients and some variables are shared by several tasks."""
        return bool(self.method.needs & {"gram", "rows"}) and bool(self.shared_variables)

    def states_after(self, batch: Batch, step: Step) -> list[State]:
        """The method's states after the update, and the architecture's routing. A method that requires the losses after
        the update takes one more forward pass."""
        for key, value in step.routing.items():
            self.architecture.routing_state()[key].assign(value)
        if "losses_after" not in self.method.needs:
            return step.states
        after = self._losses_of(batch).total
        source = f"{type(self.method).__name__}.learn"
        return [
            standing_still(signals.present, state, self.method.learn(after, signals, state), source)
            for signals, state in zip(step.signals, step.states, strict=True)
        ]

    def _losses_of(self, batch: Batch) -> LossValues:
        """The losses of the current weights, in a forward pass as in training."""
        return self.losses(batch, self.architecture(batch=batch, training=True), Replicas())

    def gram_at_cut(self, batch: Batch, count: Tensor) -> Gram:
        """This replica's share of the tasks' inner products at the cut, which telemetry samples for scalarisations.

        ``count`` is ``float32[T]``, the weight of the lists of all replicas: no other replica is asked.
        """
        if not self.shared_variables:
            return tf.zeros([len(self.architecture.tasks)] * 2)  # no shared tensor
        run = forward(self.architecture, self.losses, self.penalties, self.architecture.shared(batch, True), batch)
        return run.backward(count, run.penalty and run.penalty[1], []).gram()

    def _scalarised(self, batch: Batch, clock: Clock, states: list[State]) -> Step:
        replicas = Replicas()
        keras_variables = self.shared_variables + self.private_variables
        with tf.GradientTape() as tape:
            scores = self.architecture(batch=batch, training=True)
            losses = self.losses(batch, scores, replicas)
            with tape.stop_recording():
                signals, weights, state = self._scalarisation(clock, losses, states[0])
            objective = tf.reduce_sum(weights * losses.local)
            asked = self.penalties(scores, batch)
            if asked is not None:
                objective += tf.reduce_sum(tf.math.divide_no_nan(asked[0], replicas.sum(asked[1])))
        gradients = tape.gradient(objective, [v.value for v in keras_variables])
        return Step(scores, losses, pairs(gradients, keras_variables), weights, None, [state], [signals], None)

    def _scalarisation(self, clock: Clock, losses: LossValues, state: State) -> tuple[Signals, Any, State]:
        """The input of a method that reads losses only, its task weights and its next state."""
        self._refuse_negative(losses)
        signals = self._signals(clock, losses)
        if self.method.needs & {"gram", "rows"}:  # no variable is shared here: each task has its own network
            return signals, tf.cast(signals.present, tf.float32), state
        weights, state = weigh(self.method, signals, state)
        return signals, weights, state

    def _balanced(self, batch: Batch, clock: Clock, states: list[State]) -> Step:
        replicas = Replicas()
        places = halves(batch, replicas, batch) if "second_batch" in self.method.needs else []
        parts = [batch.at(chosen) for chosen in places] or [batch]
        trunks, heads, scores, losses = self._passes(batch, parts, places, replicas)
        self._refuse_negative(losses)
        whole: list[Any] = []
        shared = [v.value for v in self.shared_variables]
        if self.mode == "parameters":
            rows = [self._rows(trunk, half, replicas) for trunk, half in zip(trunks, heads, strict=True)]
            whole, each_half = self._whole(rows, [half.count for half in heads], losses, replicas)
            weights, gram, combined, states, signals = self._decide_groups(whole, each_half, clock, losses, states)
            # Rows are already sums over replicas, and the optimizer sums over replicas again.
            combined = [scaled(g, 1.0 / replicas.count) for g in combined]
            for trunk, half in zip(trunks, heads, strict=True):
                if half.penalty is not None:
                    penalty = trunk.gradient(half.tensors, shared, output_gradients=half.penalty)
                    combined = [added(g, p) for g, p in zip(combined, penalty, strict=True)]
        else:
            gram = replicas.sum(tf.add_n([half.gram() for half in heads]))
            signals = [self._signals(clock, losses, gram=gram)]
            weights, state = weigh(self.method, signals[0], states[0])
            states = [state]
            each = [
                trunk.gradient(half.tensors, shared, output_gradients=half.weighted(weights))
                for trunk, half in zip(trunks, heads, strict=True)
            ]
            combined = [functools.reduce(added, gradients) for gradients in zip(*each, strict=True)]
        private = [functools.reduce(added, gradients) for gradients in zip(*(h.gradients for h in heads), strict=True)]
        gradients = pairs(combined, self.shared_variables) + pairs(private, self.private_variables)
        return Step(scores, losses, gradients, weights, gram, states, signals, None, rows=whole)

    def _passes(
        self, batch: Batch, parts: list[Batch], places: list[Any], replicas: Replicas
    ) -> tuple[list[Any], list[Heads], dict[str, Any], LossValues]:
        """Runs both halves of the model on each part. The shared half is recorded for its backward pass; the private
        half is already differentiated.

        Args:
            batch: the whole batch.
            parts: the batch itself, or two parts with some of its lists each.
            places: positions of each part's lists in the batch; empty if the batch is the only part.
            replicas: the replicas.
        """
        trunks, runs = [], []
        for part in parts:
            with tf.GradientTape(persistent=self.mode == "parameters") as trunk:
                cut = self.architecture.shared(part, True)
            runs.append(forward(self.architecture, self.losses, self.penalties, cut, part))
            trunks.append(trunk)
        values, weights = (tf.concat([getattr(run, name) for run in runs], 1) for name in ("values", "weights"))
        losses = self.losses.reduce(values, weights, replicas)
        if places:
            losses = losses._replace(lists=tf.gather(losses.lists, tf.argsort(tf.concat(places, 0)), axis=1))
        counts = [run.penalty[1] for run in runs if run.penalty is not None]
        asked = replicas.sum(tf.add_n(counts)) if counts else None
        heads = [run.backward(losses.count, asked, [v.value for v in self.private_variables]) for run in runs]
        scores = runs[0].scores
        if places:
            scores = {task: joined(places, [run.scores[task] for run in runs], batch) for task in scores}
        return trunks, heads, scores, losses

    def _signals(
        self, clock: Clock, losses: LossValues, tasks: Sequence[int] | None = None, gram: Any = None, cross: Any = None
    ) -> Signals:
        """The input of the method.

        Args:
            clock: the clock of the step.
            losses: the losses of the batch.
            tasks: the tasks that share the balanced variables; all tasks if None.
            gram: inner products of their gradients.
            cross: inner products of the gradients of two halves of the batch.
        """
        present = losses.present
        if tasks is not None:
            present &= tf.constant([task in tasks for task in range(len(self.architecture.tasks))])
        return Signals(
            losses=losses.total, preference=clock.preference, present=present, gram=gram, cross=cross,
            count=losses.count, step=clock.step, epoch=clock.epoch, seed=clock.seed,
        )

    def _refuse_negative(self, losses: LossValues) -> None:
        """Refuses a negative loss for methods that take logarithms of losses."""
        if self.method.positive_losses:
            tasks = ", ".join(self.architecture.tasks)
            message = f"{type(self.method).__name__} needs losses >= 0, but one of the tasks {tasks} has a negative one"
            total = tf.where(tf.math.is_nan(losses.total), 0.0, losses.total)  # NaN is another fault
            tf.debugging.assert_greater_equal(total, 0.0, message=message)

    def _rows(self, trunk: Any, heads: Heads, replicas: Replicas) -> list[Any]:
        """Exact gradients of all shared variables, with one backward pass per task."""
        shared = [v.value for v in self.shared_variables]
        per_task = [
            trunk.gradient(heads.tensors, shared, output_gradients=heads.of_task(task))
            for task in range(len(self.architecture.tasks))
        ]
        rows = per_task_rows.stack(per_task, shared, replicas)
        return per_task_rows.densified(rows) if self.method.per_parameter else rows

    def _whole(
        self, parts: list[list[Any]], counts: list[Any], losses: LossValues, replicas: Replicas
    ) -> tuple[list[Any], tuple[list[Any], list[Any]] | None]:
        """The rows of the whole batch, and the rows of its two halves if the method needs a second batch.

        The rows of a part are divided by the count of lists of the whole batch, the rows of a half by its own count.
        """
        if len(parts) == 1:
            return parts[0], None
        first, second = per_task_rows.aligned(*parts)
        whole = per_task_rows.total(first, second)
        scales = [tf.math.divide_no_nan(losses.count, replicas.sum(count)) for count in counts]
        return whole, (per_task_rows.scaled(first, scales[0]), per_task_rows.scaled(second, scales[1]))

    def _decide_groups(
        self, rows: list[Any], halves: tuple[Any, Any] | None, clock: Clock, losses: LossValues, states: list[State]
    ) -> tuple[Any, Any, list[Any], list[State], list[Signals]]:
        """Balances every group of shared variables among the tasks that share it.

        Returns:
            Weights and Gram matrix of the first group, the combined gradients of all variables, the next states, and
            the method's input for each group.
        """
        start, combined, after, weights, seen = 0, [], [], [], []
        for group, state in zip(self.shared_groups, states, strict=True):
            part = slice(start, start + len(group.variables))
            start = part.stop
            cross = None if halves is None else per_task_rows.cross(halves[0][part], halves[1][part])
            seen.append(self._signals(clock, losses, group.tasks, per_task_rows.gram(rows[part]), cross))
            given, gradients, state = self._decide(rows[part], seen[-1], state)
            combined += gradients
            after.append(state)
            weights.append(given)
        return weights[0], seen[0].gram, combined, after, seen

    def _decide(self, rows: list[Any], signals: Signals, state: State) -> tuple[Any, list[Any], State]:
        """The method's weights, the combined gradients and the next state, from exact rows."""
        if "rows" in self.method.needs:
            update, state = merge(self.method, per_task_rows.jacobian(rows), signals, state)
            weights = tf.fill([len(self.architecture.tasks)], float("nan"))
            return weights, per_task_rows.split(rows, update), state
        weights, state = weigh(self.method, signals, state)
        return weights, per_task_rows.weighted(rows, weights), state

    def _routed(self, gradients: list[tuple[Any, Any]]) -> tuple[list[tuple[Any, Any]], dict[str, Any]]:
        """The gradients after the architecture's own routing, and the routing's next state."""
        routed = self.architecture.routed_variables()
        if not routed:
            return gradients, {}
        replicas = Replicas()
        place = {id(variable): i for i, (_, variable) in enumerate(gradients)}
        if missing := [variable.path for variable in routed if id(variable) not in place]:
            raise InputError(f"{type(self.architecture).__name__} routes the gradients of {missing[0]!r}, which is "
                             "frozen: unfreeze it")
        places = [place[id(variable)] for variable in routed]
        # Routing is not linear, so it requires the gradients of the whole batch.
        whole = replicas.sum([tf.convert_to_tensor(gradients[i][0]) for i in places])
        state = {key: variable.value for key, variable in self.architecture.routing_state().items()}
        changed, state = self.architecture.route(whole, state)
        after = list(gradients)
        for i, gradient in zip(places, changed, strict=True):
            after[i] = (scaled(gradient, 1.0 / replicas.count), gradients[i][1])
        return after, state

    def _with_penalties(self, gradients: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Adds the gradients of weight regularisers. Methods do not balance these."""
        if not self.architecture.losses:
            return gradients
        variables = [v for _, v in gradients]
        with tf.GradientTape() as tape:
            penalty = tf.add_n(self.architecture.losses)
        share = 1.0 / Replicas().count
        penalties = [scaled(g, share) for g in tape.gradient(penalty, [v.value for v in variables])]
        return pairs([added(g, p) for (g, _), p in zip(gradients, penalties, strict=True)], variables)


def state_shapes(architecture: Architecture, method: Method, mode: str) -> list[int | None]:
    """Shared parameters P of every state that the engine keeps for a method.

    There is one state per group of shared variables if each group is balanced separately. A scalarisation, and
    gradients at the cut, have one state for all.

    Raises:
        ValueError: if a method stores a number per task and parameter and an embedding table is too large for this.
    """
    groups = [group for group in architecture.groups() if group.shared]
    if mode == "parameters" and method.needs & {"gram", "rows"} and groups:
        if method.per_parameter:
            for table in filter(is_table, (v for group in groups for v in group.variables)):
                per_task_rows.refuse_huge(table.path, tf.TensorShape(table.shape), len(architecture.tasks))
        return [sum(math.prod(v.shape) for v in group.variables) for group in groups]
    return [None]


def scaled(gradient: Tensor, factor: float) -> Tensor:
    """A gradient times a number."""
    if factor == 1.0 or gradient is None:
        return gradient
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor


def pairs(gradients: list[Any], variables: list[Any]) -> list[tuple[Any, Any]]:
    """Each gradient with its variable."""
    return [(g, v) for g, v in zip(gradients, variables, strict=True)]
