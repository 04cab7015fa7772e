"""The engine's gradients: exact, the same in both modes where they must be, sparse where they can be."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
from engine_steps import CLOCK, Halves, Ones, one_batch

from tfmtl2r import architectures, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Architecture, Group
from tfmtl2r.layers import randomness
from tfmtl2r.layers.dense import StackedDense
from tfmtl2r.losses.base import Loss
from tfmtl2r.methods.base import GramMethod, JacobianMethod, Scalarisation
from tfmtl2r.training.engine import Engine, state_shapes
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.replicas import Replicas


class SumOfRows(JacobianMethod):
    """The plain sum through the machinery of a Jacobian method."""

    def combine(self, rows, signals, state):
        return tf.reduce_sum(rows, 0), state


class KeepsGram(GramMethod):
    """Remembers what it saw."""

    seen: ClassVar[list] = []

    def weigh(self, signals, state):
        self.seen.append((signals.gram, signals.losses, signals.present))
        return tf.ones_like(signals.losses), state


ARCHITECTURES = {
    "shared_bottom": {"units": (6, 5), "head_units": (4,)},
    "mmoe": {"num_experts": 3, "expert_units": (6, 5), "head_units": (4,)},
}


@pytest.fixture(params=list(ARCHITECTURES))
def name(request):
    return request.param


def connected(problem, name="shared_bottom", **options):
    architecture = architectures.get(name, **{**ARCHITECTURES[name], **options})
    architecture.connect([task.name for task in problem.tasks], problem.schema)
    return architecture


def flat(gradients):
    return np.concatenate([tf.reshape(tf.convert_to_tensor(g), [-1]).numpy() for g in gradients])


def run(problem, architecture, method, mode, **batch):
    batch = one_batch(problem, **batch)
    engine = Engine(architecture, TaskLosses(problem.tasks, has_lists=True), method, mode)
    step = engine.step(batch, CLOCK, [{}] * max(1, len(engine.shared_groups)))
    return step, {v.path: tf.convert_to_tensor(g).numpy() for g, v in step.gradients}


@pytest.mark.parametrize(
    ("method", "mode"), [(Ones(), "parameters"), (Ones(), "features"), (SumOfRows(), "parameters")]
)
def test_weights_of_ones_reproduce_the_plain_gradient(problem, name, method, mode):
    architecture = connected(problem, name, dropout=0.0)
    _, plain = run(problem, architecture, methods.get("ls"), "parameters")
    _, ours = run(problem, architecture, method, mode)
    assert set(ours) == set(plain) == {v.path for v in architecture.trainable_variables}
    for path, gradient in plain.items():
        assert np.abs(gradient).max() > 0, path
        np.testing.assert_allclose(ours[path], gradient, atol=1e-6, err_msg=path)


def test_gram_matrix_is_that_of_the_separate_task_gradients(problem, name):
    """Also for the embedding table, whose ids repeat within the batch."""
    architecture = connected(problem, name)
    batch = one_batch(problem)
    losses = TaskLosses(problem.tasks, has_lists=True)
    method = KeepsGram()
    engine = Engine(architecture, losses, method, "parameters")
    engine.step(batch, CLOCK, [{}])
    with tf.GradientTape(persistent=True) as tape:
        values = tf.unstack(losses(batch, architecture(batch=batch), Replicas()).local)
    shared = [v.value for v in engine.shared_variables]
    rows = [flat(tape.gradient(value, shared)) for value in values]
    gram, seen_losses, present = method.seen[-1]
    np.testing.assert_allclose(gram, np.array(rows) @ np.array(rows).T, rtol=2e-5, atol=1e-8)
    np.testing.assert_allclose(seen_losses, values, rtol=1e-6)
    assert present.numpy().all()


def test_embedding_gradients_stay_sparse(problem, name):
    architecture = connected(problem, name)
    batch = one_batch(problem)
    for method, mode in [(Ones(), "parameters"), (Ones(), "features"), (SumOfRows(), "parameters")]:
        engine = Engine(architecture, TaskLosses(problem.tasks, has_lists=True), method, mode)
        gradients = {v.path: g for g, v in engine.step(batch, CLOCK, [{}]).gradients}
        assert isinstance(gradients["embedding_brand/embeddings"], tf.IndexedSlices), (type(method), mode)


@pytest.mark.parametrize("mode", ["parameters", "features"])
def test_an_absent_task_gets_no_weight_and_its_head_no_gradient(problem, name, mode):
    problem.y["grade"][:] = np.nan
    step, gradients = run(problem, connected(problem, name), methods.get("mgda"), mode)
    np.testing.assert_array_equal(step.losses.present, [True, False, True])
    assert step.weights[1] == 0
    assert (gradients["scorers/kernel"][1] == 0).all()
    np.testing.assert_allclose(tf.reduce_sum(step.weights), 2.0, rtol=1e-6)


@pytest.mark.parametrize("mode", ["parameters", "features"])
def test_one_present_task_is_single_task_training(problem, name, mode):
    problem.y["grade"][:] = np.nan
    problem.y["dwell"][:] = np.nan
    architecture = connected(problem, name)
    _, balanced = run(problem, architecture, methods.get("mgda"), mode)
    _, plain = run(problem, architecture, methods.get("ls"), mode)
    for path, gradient in plain.items():
        np.testing.assert_allclose(balanced[path], gradient, atol=1e-6, err_msg=path)


def test_padding_never_enters(problem, name):
    architecture = connected(problem, name)
    _, clean = run(problem, architecture, methods.get("mgda"), "parameters")
    padded = np.arange(7) >= problem.x["list_size"][:, None]
    problem.x["vector"][padded] = 1e6
    problem.x["brand"][padded] = 3
    for labels in problem.y.values():
        labels[padded] = 1
    _, dirty = run(problem, architecture, methods.get("mgda"), "parameters")
    for path, gradient in clean.items():
        np.testing.assert_allclose(dirty[path], gradient, atol=1e-6, err_msg=path)


def test_list_and_item_weights(problem):
    """A weight of 2 is the list twice; a weight of 0 is a list that is not there."""
    architecture = connected(problem)
    batch = one_batch(problem, slice(8, 12))
    weights = tf.constant([2.0, 1.0, 0.0, 1.0])
    losses = TaskLosses(problem.tasks, has_lists=True)
    engine = Engine(architecture, losses, methods.get("ls"), "parameters")
    weighted = engine.step(dataclasses.replace(batch, weights={t.name: weights for t in problem.tasks}), CLOCK, [{}])
    order = np.array([8, 8, 9, 11])
    twice = one_batch(problem, order)
    expected = engine.step(twice, CLOCK, [{}])
    np.testing.assert_allclose(weighted.losses.total, expected.losses.total, rtol=1e-6)
    plain = engine.step(batch, CLOCK, [{}]).losses.total
    for given, factor in (("weights", 1), ("propensity_weights", 2)):
        doubled = dataclasses.replace(batch, **{given: {"dwell": tf.fill([4, 7], 2.0)}})
        doubled = engine.step(doubled, CLOCK, [{}]).losses.total
        np.testing.assert_allclose(doubled, plain * [1, 1, factor], rtol=1e-6)


def test_a_scalarisation_weighs_by_its_derivative(problem):
    @dataclasses.dataclass(frozen=True)
    class Squares(Scalarisation):
        def objective(self, losses, signals, state):
            return tf.reduce_sum(losses**2), state

    step, _ = run(problem, connected(problem), Squares(), "parameters")
    np.testing.assert_allclose(step.weights, 2 * step.losses.total, rtol=1e-6)


def test_two_halves_of_the_batch(problem, name):
    """The cross products are those of the gradients of even and odd lists; their mean is the gradient of all."""
    method = Halves()
    architecture = connected(problem, name)
    _, ours = run(problem, architecture, method, "parameters")
    _, plain = run(problem, architecture, methods.get("ls"), "parameters")
    for path, gradient in plain.items():
        np.testing.assert_allclose(ours[path], gradient, atol=1e-6, err_msg=path)
    rows = []
    for part in (slice(0, 8, 2), slice(1, 8, 2)):
        batch = one_batch(problem, part)
        engine = Engine(architecture, TaskLosses(problem.tasks, has_lists=True), methods.get("ls"), "parameters")
        with tf.GradientTape(persistent=True) as tape:
            scores = architecture(batch=batch)
            values = tf.unstack(engine.losses(batch, scores, Replicas()).local)
        rows.append([flat(tape.gradient(value, [v.value for v in engine.shared_variables])) for value in values])
    first, second = map(np.array, rows)
    np.testing.assert_allclose(method.seen[-1], first @ second.T, rtol=1e-4, atol=1e-7)


def test_halves_add_up_to_the_penalty_and_keep_the_order_of_the_batch(problem):
    architecture = architectures.get("aitm", calibrator=5.0)
    architecture.connect([task.name for task in problem.tasks], problem.schema)
    whole, plain = run(problem, architecture, methods.get("ls"), "parameters", rows=slice(0, 7))
    halves, ours = run(problem, architecture, Halves(), "parameters", rows=slice(0, 7))
    for path, gradient in plain.items():
        np.testing.assert_allclose(ours[path], gradient, atol=1e-6, err_msg=path)
    for task, scores in whole.scores.items():
        np.testing.assert_allclose(halves.scores[task], scores, atol=1e-6, err_msg=task)
    for name in ("total", "count", "present"):
        np.testing.assert_allclose(getattr(halves.losses, name), getattr(whole.losses, name), rtol=1e-6)


def test_losses_after_the_update_see_the_same_dropout(problem):
    seen = {}

    class Learner(Scalarisation):
        needs = frozenset({"losses_after"})

        def objective(self, losses, signals, state):
            return tf.reduce_sum(losses), state

        def learn(self, losses_after, signals, state):
            seen.update(before=signals.losses, after=losses_after)
            return state

    architecture = connected(problem, dropout=0.4)
    batch = one_batch(problem)
    engine = Engine(architecture, TaskLosses(problem.tasks, has_lists=True), Learner(), "parameters")
    for rate in (0.0, 0.01):
        with randomness.scope(tf.constant([1, 2])):
            step = engine.step(batch, CLOCK, [{}])
        keras.optimizers.SGD(rate).apply(*map(list, zip(*step.gradients, strict=True)))
        with randomness.scope(tf.constant([1, 2])):
            engine.states_after(batch, step)
        if rate == 0.0:
            np.testing.assert_allclose(seen["after"], seen["before"], rtol=1e-6)
        else:
            assert seen["after"].numpy().sum() < seen["before"].numpy().sum()


class PairShares(Architecture):
    """All tasks share one trunk, the first two a second one."""

    def connect(self, tasks, schema, **options):
        super().connect(tasks, schema, **options)
        self.trunks = [keras.layers.Dense(4, activation="tanh", name=f"trunk_{i}") for i in range(2)]
        self.scorers = StackedDense(3, 1)
        for trunk in self.trunks:
            trunk.build((None, self.encoder.width))
        self.scorers.build((3, None, 8))

    def shared(self, batch, training):
        x = self.encoder(batch=batch, training=training)
        return [trunk(x) for trunk in self.trunks]

    def heads(self, cut, batch, training):
        everyone, pair = cut[0].copies(), cut[1].copies() * tf.constant([1.0, 1.0, 0.0])[:, None, None]
        return self.scores_of_items(self.scorers(tf.concat([everyone, pair], -1)), batch)

    def variable_groups(self):
        return [
            Group((0, 1, 2), [*self.encoder.trainable_variables, *self.trunks[0].trainable_variables]),
            Group((0, 1), self.trunks[1].trainable_variables),
            Group((0, 1, 2), self.scorers.trainable_variables, stacked=True),
        ]


def test_variables_that_some_tasks_share_are_balanced_among_those(problem):
    seen = []

    class Looks(GramMethod):
        def weigh(self, signals, state):
            seen.append((signals.present.numpy().tolist(), signals.gram.numpy()))
            return tf.ones_like(signals.losses), {"steps": state["steps"] + 1}

        def initial_state(self, num_tasks, num_parameters=None):
            return {"steps": np.float32(0)}

    architecture = PairShares()
    architecture.connect([task.name for task in problem.tasks], problem.schema)
    assert state_shapes(architecture, Looks(), "parameters") == [5 * 3 + 8 * 4 + 4, 8 * 4 + 4]
    assert state_shapes(architecture, Looks(), "features") == [None]
    batch = one_batch(problem)
    engine = Engine(architecture, TaskLosses(problem.tasks, has_lists=True), Looks(), "parameters")
    step = engine.step(batch, CLOCK, [{"steps": tf.constant(4.0)}, {"steps": tf.constant(7.0)}])
    assert [present for present, _ in seen] == [[True, True, True], [True, True, False]]
    assert (seen[1][1][2] == 0).all()
    assert [float(state["steps"]) for state in step.states] == [5, 8]
    ours = {v.path: tf.convert_to_tensor(g).numpy() for g, v in step.gradients}
    _, plain = run(problem, architecture, methods.get("ls"), "parameters")
    for path, gradient in plain.items():
        np.testing.assert_allclose(ours[path], gradient, atol=1e-6, err_msg=path)


def test_a_state_per_parameter_makes_tables_dense(problem):
    class Remembers(SumOfRows):
        per_parameter = True

        def initial_state(self, num_tasks, num_parameters=None):
            return {"rows": np.zeros((num_tasks, num_parameters))}

        def combine(self, rows, signals, state):
            return tf.reduce_sum(rows, 0), {"rows": rows}

    architecture = connected(problem)
    (parameters,) = state_shapes(architecture, Remembers(), "parameters")
    batch = one_batch(problem)
    engine = Engine(architecture, TaskLosses(problem.tasks, has_lists=True), Remembers(), "parameters")
    step = engine.step(batch, CLOCK, [{"rows": tf.zeros([3, parameters])}])
    assert step.states[0]["rows"].shape == (3, parameters)
    _, plain = run(problem, architecture, methods.get("ls"), "parameters")
    for gradient, variable in step.gradients:
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), plain[variable.path], atol=1e-6)


def test_weight_regularisers_are_added_once(problem):
    architecture = connected(problem)
    _, before = run(problem, architecture, methods.get("mgda"), "features")
    architecture.trunk.dense[0].kernel_regularizer = keras.regularizers.L2(0.5)
    architecture.trunk.dense[0]._kernel.regularizer = architecture.trunk.dense[0].kernel_regularizer
    _, after = run(problem, architecture, methods.get("mgda"), "features")
    kernel = architecture.trunk.dense[0].kernel
    np.testing.assert_allclose(after[kernel.path] - before[kernel.path], kernel.numpy(), atol=1e-6)


def test_a_listwise_loss_on_plain_rows_names_the_fix(problem):
    with pytest.raises(ValueError, match=r"'grade'.*pointwise loss such as 'bce'"):
        TaskLosses(problem.tasks, has_lists=False)


def test_missing_labels_are_named(problem):
    batch = one_batch(problem)
    del batch.labels["dwell"]
    engine = Engine(connected(problem), TaskLosses(problem.tasks, has_lists=True), methods.get("ls"), "parameters")
    with pytest.raises(KeyError, match="no labels for task 'dwell'"):
        engine.step(batch, CLOCK, [{}])


def test_a_negative_loss_is_an_error_for_methods_that_take_logarithms(problem):
    class Negative(Loss):
        listwise = False

        def per_list(self, labels, scores, valid):
            return -tf.reduce_sum(scores**2, 1) - 1.0, tf.ones(tf.shape(scores)[0])

    problem.tasks = tuple(dataclasses.replace(task, loss=Negative()) for task in problem.tasks)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"needs losses >= 0.*click, grade, dwell"):
        run(problem, connected(problem), methods.get("scale_invariant"), "parameters")
