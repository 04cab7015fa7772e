"""Penalties: golden values, what they leave alone, the engine in every mode, files and refusals."""

import dataclasses

import numpy as np
import pytest

from tfmtl2r import Batch, Dense, Experiment, MultiTaskRanker, Schema, Task, architectures, load, methods, penalties
from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures import Architecture
from tfmtl2r.methods import GramMethod
from tfmtl2r.settings import Settings
from tfmtl2r.training.accumulation import AccumulatingEngine
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.penalising import Penalties

NAN = float("nan")
MATCHING = {"name": "distribution_matching", "source": "click", "target": "like"}
RATES = {"if_positive": 0.2, "if_negative": 0.01}
P = {"click": np.array([0.6, 0.1, 0.9]), "like": np.array([0.3, 0.1, 0.2])}
TASKS = [Task("click", kind="binary", loss="bce"), Task("like", kind="binary", loss="bce"),
         Task("dwell", kind="regression")]
CLOCK = Clock(0, 0, tf.constant([0, 0], tf.int32), tf.fill([3], 1.0 / 3))
BOTTOM = {"name": "shared_bottom", "units": [5], "head_units": [4]}


def logits(p):
    return tf.constant([np.log(p / (1 - p))], tf.float32)


def test_golden_values_and_gradients():
    """q = (.124, .029, .181); the gradient per item is p - q for the target and nothing for the source."""
    penalty = penalties.get(MATCHING, **RATES)
    scores = {name: tf.Variable(logits(p)) for name, p in P.items()}
    labels = {name: tf.fill([1, 3], NAN) for name in P}
    with tf.GradientTape(persistent=True) as tape:
        total, count = penalty.compute(scores, labels, tf.fill([1, 3], True))
    np.testing.assert_allclose(total / count, 0.368294, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(total, scores["like"]), [[0.176, 0.071, 0.019]], atol=1e-6)
    assert tape.gradient(total, scores["click"]) is None
    labels["click"] = tf.constant([[1.0, 0.0, NAN]])  # co-annotation where the source has a label
    labels["like"] = tf.constant([[NAN, NAN, 1.0]])
    with tf.GradientTape() as tape:
        total, count = penalty.compute(scores, labels, tf.fill([1, 3], True))
    np.testing.assert_allclose(tape.gradient(total, scores["like"]), [[0.3 - 0.2, 0.1 - 0.01, 0]], atol=1e-6)
    assert count == 2


def test_rates_are_counted_where_both_labels_are_known():
    given = {"click": np.array([1, 1, 1, 0, 0, NAN, 1]), "like": np.array([1, 0, 0, 0, 0, 1, NAN])}
    fitted = penalties.get(MATCHING).fit(given)
    assert (fitted.if_positive, fitted.if_negative) == (2 / 5, 1 / 4)
    own = penalties.get(MATCHING, **RATES)
    assert own.fit(given) == own
    with pytest.raises(ValueError, match="no item of the training split has both a label of 'click' and one of 'like'"):
        penalties.get(MATCHING).fit({"click": [1, NAN], "like": [NAN, 1]})


class KeepsSignals(GramMethod):
    """Weights of ones; remembers its input."""

    def weigh(self, signals, state):
        self.__class__.seen = signals
        return tf.ones_like(signals.losses), state


ONES = KeepsSignals()
SCHEMA = Schema([Dense("price")])


def batch(missing=0.5, rows=False):
    """Eight lists of up to four items; a share of the likes is missing."""
    rng = np.random.default_rng(3)
    x = {"price": rng.normal(size=(8, 4)).astype(np.float32), "list_size": np.array([4, 3, 2, 4, 1, 3, 4, 2], np.int32)}
    y = {name: (rng.random((8, 4)) < 0.4).astype(np.float32) for name in ("click", "like")}
    y["dwell"] = rng.normal(size=(8, 4)).astype(np.float32)
    y["like"] = np.where(rng.random((8, 4)) < missing, NAN, y["like"]).astype(np.float32)
    if rows:
        x, y = {"price": x["price"].ravel()}, {name: label.ravel() for name, label in y.items()}
    return Batch.of(tf.nest.map_structure(tf.constant, (x, y)), SCHEMA)


@pytest.fixture(scope="module")
def gradients():
    """The gradients of one step of the engine, by the path of the variable."""
    keras.utils.set_random_seed(1)
    architecture = architectures.get(BOTTOM)
    architecture.connect([task.name for task in TASKS], SCHEMA)

    def of(missing=0.5, given=(MATCHING | RATES,), rows=False, method=ONES, mode="parameters", parts=None):
        made = architecture, TaskLosses(TASKS, not rows), method, mode, [penalties.get(each) for each in given]
        engine = Engine(*made) if parts is None else AccumulatingEngine(*made, parts=parts)
        step = engine.step(batch(missing, rows), CLOCK, [{}])
        return {variable.path: tf.convert_to_tensor(gradient).numpy() for gradient, variable in step.gradients}

    return of


def far(one, two):
    """The largest difference of two steps."""
    return max(np.abs(one[path] - two[path]).max() for path in one)


@pytest.mark.parametrize("options", [
    {"method": methods.get("linear_scalarization")}, {"mode": "features"}, {"parts": 2},
    {"method": methods.get("linear_scalarization"), "parts": 3}, {"mode": "features", "parts": 2},
])
def test_every_way_of_training_adds_the_same_gradient(gradients, options):
    """Weights of ones are the plain sum, so that only the path to the penalty differs."""
    plain = gradients()
    assert far(plain, gradients(**options)) < 1e-6
    assert far(plain, gradients(given=())) > 1e-3


def test_rows_have_the_term(gradients):
    assert far(gradients(rows=True), gradients(rows=True, given=())) > 1e-3


def test_scores_with_a_leading_axis_have_the_mean_of_their_terms():
    """As those of an ensemble. The same scores twice are the term of the scores once."""
    once = {task.name: tf.random.stateless_normal([8, 4], [1, 2]) for task in TASKS}
    twice = {name: tf.stack([one, one]) for name, one in once.items()}
    term = Penalties(Architecture(), TaskLosses(TASKS, True), [penalties.get(MATCHING | RATES)])
    (one, count), (two, counts) = term(once, batch()), term(twice, batch())
    np.testing.assert_allclose(two / counts, one / count, rtol=1e-6)


def test_without_missing_labels_nothing_changes(gradients):
    assert far(gradients(missing=0.0), gradients(missing=0.0, given=())) == 0


def test_the_method_sees_no_penalty(gradients):
    """A task without any label stays absent, and losses and Gram matrix are those without the penalty."""
    gradients(missing=1.0)
    ours = KeepsSignals.seen
    gradients(missing=1.0, given=())
    assert ours.present.numpy().tolist() == [True, False, True]
    np.testing.assert_array_equal(ours.losses, KeepsSignals.seen.losses)
    np.testing.assert_array_equal(ours.gram, KeepsSignals.seen.gram)


def test_its_weight_multiplies_the_term(gradients):
    once, plain = gradients(), gradients(given=())
    twice = gradients(given=[MATCHING | RATES | {"weight": 2.0}])
    for path, without in plain.items():
        np.testing.assert_allclose(twice[path] - without, 2 * (once[path] - without), atol=1e-6)


@pytest.mark.parametrize("name", penalties.names())
def test_padding_has_no_influence(name):
    penalty = penalties.get(MATCHING | RATES | {"name": name})
    known = tf.constant([[0.0, 1.0, NAN]])
    found = []
    for label, score in ((NAN, 0.0), (1.0, 5.0), (NAN, NAN)):
        scores = {task: tf.constant([[0.3, -0.2, 1.0, score]]) for task in P}
        labels = {"click": tf.concat([known, [[label]]], 1), "like": tf.constant([[NAN, NAN, 1.0, label]])}
        total, count = penalty.compute(scores, labels, tf.constant([[True, True, True, False]]))
        found.append((float(total), float(count)))
    assert found[0] == found[1] == found[2]
    assert found[0][1] == 2


@pytest.mark.parametrize(("given", "tasks", "message"), [
    ([MATCHING], TASKS, "has no rates: call fit"),
    ([MATCHING | RATES | {"target": "lik"}], TASKS, "reads the task 'lik', which the ranker does not have; did you"),
    ([MATCHING | RATES | {"weight": 0.0}], TASKS, "weight must be above 0, not 0.0"),
    ([MATCHING | RATES | {"target": "click"}], TASKS, "source and target are both 'click'"),
    ([MATCHING | {"if_positive": 0.5}], TASKS, "give both if_positive and if_negative"),
    ([MATCHING | {"if_positive": 1.5, "if_negative": 0.0}], TASKS, "if_positive is a probability from 0 to 1, not 1.5"),
])
def test_mistakes_are_refused_by_compile(given, tasks, message):
    with pytest.raises(ValueError, match=message):
        MultiTaskRanker(BOTTOM, tasks).compile(penalties=given)


def test_scores_without_a_level_are_refused():
    tasks = [TASKS[0], Task("like", kind="binary", loss="softmax"), TASKS[2]]
    with pytest.raises(ValueError, match="task 'like' is binary with the loss Softmax, but the penalty Distrib"):
        Penalties(Architecture(), TaskLosses(tasks, True), [penalties.get(MATCHING | RATES)])


def test_one_of_ones_own_works_and_is_saved(gradients, tmp_path):
    @penalties.register("spread")
    @dataclasses.dataclass(frozen=True)
    class Spread(penalties.Penalty):
        """The mean square of the scores of one task.

        Args:
            task: its name.
        """

        task: str = "dwell"

        @property
        def tasks(self):
            return (self.task,)

        def compute(self, scores, labels, valid):
            squares = tf.where(valid, scores[self.task] ** 2, 0.0)
            return tf.reduce_sum(squares), tf.reduce_sum(tf.cast(valid, tf.float32))

    try:
        assert far(gradients(given=["spread"]), gradients(given=())) > 1e-3
        ranker = MultiTaskRanker(BOTTOM, TASKS, SCHEMA)
        ranker.compile(penalties=["spread", MATCHING | RATES])
        ranker.save(tmp_path / "ranker.keras")
        again = load(tmp_path / "ranker.keras")
        assert again.get_compile_config()["penalties"] == ranker.get_compile_config()["penalties"]
        assert [extension["name"] for extension in again.get_compile_config()["extensions"]] == ["spread"]
    finally:
        penalties.registry.unregister("spread")


def test_an_experiment_counts_the_rates(tmp_path):
    whole = Settings.of({"penalties": [MATCHING]})
    assert Settings.of(whole.tree()) == whole
    with pytest.raises(ValueError, match="penalties must be a name or a table such as"):
        Settings.of({"penalties": [{"source": "click"}]})
    experiment = Experiment("a", directory=str(tmp_path), data={"name": "kuairand_excerpt", "tasks": ["click", "like"]},
                            tasks=[{"name": name, "loss": "bce"} for name in ("click", "like")], penalties=[MATCHING])
    [found] = experiment.model(experiment.dataset()).get_compile_config()["penalties"]
    assert 0 < found["if_negative"] < found["if_positive"] < 1
