"""Training steps that read a batch in parts, one after the other, so that memory has to hold one part only.

The update equals that of the whole batch, for every method. Methods are not linear in the gradients, so they decide
once for all parts. A step therefore passes over the parts twice. The first pass computes losses and, for gradients at
the cut, their Gram matrix, which is the sum of the parts' Gram matrices. The second pass computes gradients, whose sums
over the parts are the gradients of the batch. A step takes one forward pass more than a step on the whole batch.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers import randomness
from tfmtl2r.methods.base import State
from tfmtl2r.methods.deciding import weigh
from tfmtl2r.training import rows as per_task_rows
from tfmtl2r.training.engine import Engine, Step, pairs, scaled
from tfmtl2r.training.head_gradients import added, forward, halves, joined
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.objectives import LossValues
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.types import Gram, Tensor


class Measured(NamedTuple):
    """The results of the first pass.

    Args:
        scores: dict task -> scores of the whole batch.
        losses: losses of the whole batch.
        asked: ``float32[K]``, counts of the penalties on scores; None without penalties.
        gram: inner products of the tasks' gradients at the cut, if they were asked for.
    """

    scores: dict[str, Any]
    losses: LossValues
    asked: Any
    gram: Any


class AccumulatingEngine(Engine):
    """Computes the steps of :class:`Engine` in parts.

    Args:
        *args: the arguments of :class:`Engine`.
        parts: number of parts of a batch.
    """

    def __init__(self, *args: Any, parts: int):
        super().__init__(*args)
        self.parts = parts

    def gram_at_cut(self, batch: Batch, count: Tensor) -> Gram:
        """See :meth:`Engine.gram_at_cut`; the sum over the parts."""
        of_part = super().gram_at_cut
        return tf.add_n(self._in_turn(batch, randomness.next_seeds(), lambda part: of_part(part, count)))

    def _losses_of(self, batch: Batch) -> LossValues:
        return self._measure(batch).losses

    def _scalarised(self, batch: Batch, clock: Clock, states: list[State]) -> Step:
        seeds = randomness.next_seeds()
        measured = self._measure(batch, seeds)
        signals, weights, state = self._scalarisation(clock, measured.losses, states[0])
        variables = self.shared_variables + self.private_variables

        def differentiated(part: Batch) -> list[Any]:
            with tf.GradientTape() as tape:
                scores = self.architecture(batch=part, training=True)
                values, counted = self.losses.per_list(part, scores)
                sums = tf.math.divide_no_nan(tf.reduce_sum(values * counted, axis=1), measured.losses.count)
                objective = tf.reduce_sum(weights * sums)
                penalty = self.penalties(scores, part)
                if penalty is not None:
                    objective += tf.reduce_sum(tf.math.divide_no_nan(penalty[0], measured.asked))
            return tape.gradient(objective, [v.value for v in variables])

        gradients = _summed(self._in_turn(batch, seeds, differentiated))
        return Step(measured.scores, measured.losses, pairs(gradients, variables), weights, None, [state], [signals],
                    None)

    def _balanced(self, batch: Batch, clock: Clock, states: list[State]) -> Step:
        seeds = randomness.next_seeds()
        measured = self._measure(batch, seeds, gram=self.mode == "features")
        self._refuse_negative(measured.losses)
        decide = self._exact if self.mode == "parameters" else self._at_cut
        return decide(batch, clock, states, seeds, measured)

    def _exact(self, batch: Batch, clock: Clock, states: list[State], seeds: Any, measured: Measured) -> Step:
        replicas, losses = Replicas(), measured.losses
        shared = [v.value for v in self.shared_variables]

        def differentiated(part: Batch) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
            """Rows and counts of each half, or of the part; gradients of the heads; of the penalty."""
            places = halves(part, replicas, batch) if "second_batch" in self.method.needs else []
            rows, counts, private, penalties = [], [], [], []
            for lists in [part.at(chosen) for chosen in places] or [part]:
                with tf.GradientTape(persistent=True) as trunk:
                    cut = self.architecture.shared(lists, True)
                heads = forward(self.architecture, self.losses, self.penalties, cut, lists).backward(
                    losses.count, measured.asked, [v.value for v in self.private_variables])
                rows.append(self._rows(trunk, heads, replicas))
                counts.append(heads.count)
                private.append(heads.gradients)
                if heads.penalty is not None:
                    penalties.append(trunk.gradient(heads.tensors, shared, output_gradients=heads.penalty))
            return rows, counts, _summed(private), _summed(penalties)

        rows, counts, private, penalties = zip(*self._in_turn(batch, seeds, differentiated), strict=True)
        sums = [functools.reduce(lambda one, two: per_task_rows.total(*per_task_rows.aligned(one, two)), half)
                for half in zip(*rows, strict=True)]
        whole, each_half = self._whole(sums, [tf.add_n(half) for half in zip(*counts, strict=True)], losses, replicas)
        weights, gram, combined, states, signals = self._decide_groups(whole, each_half, clock, losses, states)
        combined = [scaled(g, 1.0 / replicas.count) for g in combined]
        if penalties[0]:
            combined = [added(g, p) for g, p in zip(combined, _summed(penalties), strict=True)]
        gradients = pairs(combined, self.shared_variables) + pairs(_summed(private), self.private_variables)
        return Step(measured.scores, losses, gradients, weights, gram, states, signals, None)

    def _at_cut(self, batch: Batch, clock: Clock, states: list[State], seeds: Any, measured: Measured) -> Step:
        losses = measured.losses
        signals = self._signals(clock, losses, gram=measured.gram)
        weights, state = weigh(self.method, signals, states[0])
        shared = [v.value for v in self.shared_variables]

        def differentiated(part: Batch) -> list[Any]:
            with tf.GradientTape() as trunk:
                cut = self.architecture.shared(part, True)
            heads = forward(self.architecture, self.losses, self.penalties, cut, part).backward(
                losses.count, measured.asked, [v.value for v in self.private_variables])
            combined = trunk.gradient(heads.tensors, shared, output_gradients=heads.weighted(weights))
            return [*combined, *heads.gradients]

        gradients = _summed(self._in_turn(batch, seeds, differentiated))
        return Step(measured.scores, losses, pairs(gradients, self.shared_variables + self.private_variables), weights,
                    measured.gram, [state], [signals], None)

    def _measure(self, batch: Batch, seeds: Any = None, gram: bool = False) -> Measured:
        """The first pass."""
        replicas, tasks = Replicas(), len(self.architecture.tasks)

        def measured(part: Batch) -> tuple[Any, ...]:
            if not gram:
                scores = self.architecture(batch=part, training=True)
                penalty = self.penalties(scores, part)
                return scores, *self.losses.per_list(part, scores), penalty and penalty[1], None
            run = forward(self.architecture, self.losses, self.penalties, self.architecture.shared(part, True), part)
            heads = run.backward(tf.ones([tasks]), run.penalty and run.penalty[1], [])
            return run.scores, run.values, run.weights, run.penalty and run.penalty[1], heads.gram()

        seeds = randomness.next_seeds() if seeds is None else seeds
        scores, values, weights, asked, grams = zip(*self._in_turn(batch, seeds, measured), strict=True)
        losses = self.losses.reduce(tf.concat(values, 1), tf.concat(weights, 1), replicas)
        places = list(self._places(batch))
        whole = {task: joined(places, [part[task] for part in scores], batch) for task in scores[0]}
        count = None if asked[0] is None else replicas.sum(tf.add_n(asked))
        if not gram:
            return Measured(whole, losses, count, None)
        factors = tf.math.divide_no_nan(1.0, losses.count)
        return Measured(whole, losses, count, replicas.sum(tf.add_n(grams)) * factors[:, None] * factors[None, :])

    def _places(self, batch: Batch) -> Iterator[Any]:
        """The positions of each part's lists. Parts begin at even positions, so that halves of parts are halves of the
        batch."""
        size = batch.num_lists
        starts = [2 * ((i * size) // (2 * self.parts)) for i in range(self.parts)] + [size]
        for start, end in itertools.pairwise(starts):
            yield tf.range(start, end)

    def _in_turn(self, batch: Batch, seeds: Any, compute: Callable[[Batch], Any]) -> list[Any]:
        """The results for each part. A part begins when the one before is finished, whose activations are then gone.

        A part draws the same random numbers in both passes.
        """
        own, common = seeds
        found: list[Any] = []
        for number, places in enumerate(self._places(batch)):
            before = [getattr(value, "matrix", value)  # rows of tasks are no structure that TensorFlow knows
                      for value in tf.nest.flatten(found[-1:], expand_composites=True) if value is not None]
            with tf.control_dependencies(before):
                seed = tf.random.experimental.stateless_fold_in(own, number)
                with randomness.scope(seed, common):
                    found.append(compute(batch.at(places)))
        return found


def _summed(parts: Any) -> list[Any]:
    """The sums of the gradients of all parts, variable by variable."""
    return [functools.reduce(added, gradients) for gradients in zip(*parts, strict=True)]
