"""What a class of a user's own returns is checked where the package calls it: a line names what came and what fits."""

import dataclasses

import numpy as np
import pytest

from tfmtl2r import MultiTaskRanker, Task, architectures, datasets, errors, losses, methods, metrics, transforms
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import Lists, batches, fit_schema, fit_tasks

LISTS = Lists({"x": np.arange(8.0), "click": np.tile([0.0, 1.0], 4), "like": np.tile([1.0, 0.0], 4)},
              offsets=np.arange(0, 9, 2))
TASKS = [Task("click", kind="binary"), Task("like", kind="binary")]
ZEROS, VALID = tf.zeros([3, 4]), tf.ones([3, 4], tf.bool)


@dataclasses.dataclass(frozen=True)
class Gives(losses.Loss):
    """A loss that returns what a test wants."""

    listwise = relevance = False
    what: object = None

    def counts(self, labels, known):
        return tf.reduce_any(known, axis=1)

    def compute(self, labels, scores, known, weights, seed):
        return self.what


@pytest.mark.parametrize(("what", "message"), [
    (ZEROS, r"Gives.compute returned the shape \(3, 4\), expected \(3,\): one loss for each list, \[B\]"),
    (tf.zeros([]), r"Gives.compute returned the shape \(\), expected \(3,\)"),
    (None, r"Gives.compute returned None, expected one loss for each list, \[B\]"),
])
def test_a_loss(what, message):
    with pytest.raises(errors.UserError, match=message):
        Gives(what).per_list(ZEROS, ZEROS, VALID)


def test_a_loss_of_doubles_is_a_loss():
    value, _ = Gives(tf.constant([1.0, 2.0, 3.0], tf.float64)).per_list(ZEROS, ZEROS, VALID)
    assert value.dtype == tf.float32
    assert value.numpy().tolist() == [1.0, 2.0, 3.0]


@dataclasses.dataclass(frozen=True)
class Weighs(methods.GramMethod):
    """A method that returns what a test wants."""

    what: object = None

    def initial_state(self, num_tasks, num_parameters=None):
        return {"norms": np.ones(num_tasks)}

    def weigh(self, signals, state):
        return self.what(signals, state)


class Combines(methods.JacobianMethod):
    """An update of the shape of the rows."""

    def combine(self, rows, signals, state):
        return rows, state


class Vector(methods.Scalarisation):
    """An objective for each task."""

    def objective(self, losses, signals, state):
        return losses, state


@pytest.mark.parametrize(("method", "message"), [
    (Weighs(lambda signals, state: (tf.ones([5]), state)),
     r"Weighs.weigh returned the shape \(5,\), expected \(2,\): one weight for each task, \[T\]"),
    (Weighs(lambda signals, state: (tf.ones([]), state)), r"Weighs.weigh returned the shape \(\), expected \(2,\)"),
    (Weighs(lambda signals, state: signals.losses), r"Weighs.weigh returned one tensor, expected two things: \(task"),
    (Weighs(lambda signals, state: (signals.losses, None)), "Weighs.weigh returned None as the next state"),
    (Weighs(lambda signals, state: (signals.losses, {})),
     "Weighs.weigh returned a state with no entry, expected those of initial_state: norms"),
    (Weighs(lambda signals, state: (signals.losses, {**state, "more": 1.0})), "a state with norms, more, expected"),
    (Weighs(lambda signals, state: (signals.losses, {"norms": tf.ones([7])})),
     r"Weighs.weigh, state 'norms', returned the shape \(7,\), expected \(2,\)"),
    (Combines(), r"Combines.combine returned the shape \(2, 3\), expected \(3,\): one number for each parameter"),
    (Vector(), r"Vector.objective returned the shape \(2,\), expected \(\): one number to minimise"),
    (methods.GramMethod(), "GramMethod does not define weigh, which its kind needs"),
])
def test_a_method(method, message):
    with pytest.raises(errors.UserError, match=message):
        methods.combine(method, [[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])


@dataclasses.dataclass(frozen=True)
class Measures(metrics.Metric):
    """A metric that returns one thing for each item, or only values."""

    pairs: bool = True

    def compute(self, labels, scores, known, weights):
        return (scores, weights) if self.pairs else scores[:, 0]


@pytest.mark.parametrize(("pairs", "message"), [
    (True, r"Measures.compute returned the shape \(1, 2\), expected \(1,\): one number for each list"),
    (False, r"Measures.compute returned one tensor, expected two things: \(value, counts\)"),
])
def test_a_metric_is_found_before_the_training(pairs, message, request):
    metrics.register("gives_what_a_test_wants")(Measures)
    request.addfinalizer(lambda: metrics.registry.unregister("gives_what_a_test_wants"))
    task = Task("click", kind="binary", metrics=("auc", Measures(pairs)))
    ranker = MultiTaskRanker("shared_bottom", [task])
    ranker.compile("sgd")
    with pytest.raises(errors.UserError, match=message):
        ranker.fit(batches(LISTS, [task], fit_schema(LISTS, TASKS)), verbose=0)


class Trunk(architectures.TowerArchitecture):
    """One layer below the towers."""

    def make_lower(self):
        self.trunk = keras.layers.Dense(8, name="trunk")
        self.trunk.build((None, self.encoder.width))

    @property
    def tower_width(self):
        return 8

    def shared(self, batch, training):
        return [self.trunk(self.encoder(batch=batch, training=training))]

    def tower_inputs(self, cut, batch, training):
        return cut[0].copies()

    def lower_groups(self):
        variables = [*self.encoder.trainable_variables, *self.trunk.trainable_variables]
        return [architectures.Group(tuple(range(len(self.tasks))), variables)]


def _flat(self, cut, batch, training):
    inputs = self.tower_inputs(cut, batch, training)
    return dict(zip(self.tasks, tf.unstack(self.tower_scores(inputs, training)[..., 0]), strict=True))


WRONG = {
    "Bare": (architectures.TowerArchitecture, {}, "Bare does not define make_lower, which its kind needs"),
    "Wide": (Trunk, {"tower_width": 9}, r"Wide.tower_inputs returned the shape \(2, .*, 8\), expected \(2, None, 9\)"),
    "NoList": (Trunk, {"shared": lambda self, *args: Trunk.shared(self, *args)[0]},
               "NoList.shared returned one tensor, expected the cut, a list of tensors"),
    "NoCopies": (Trunk, {"tower_inputs": lambda self, cut, *args: cut[0].copies()[0]},
                 r"NoCopies.tower_inputs returned the shape \(.*, 8\), expected \(2, None, 8\)"),
    "OneTask": (Trunk, {"heads": lambda self, *args: {"click": Trunk.heads(self, *args)["click"]}},
                "OneTask.heads returned no scores of the task 'like'"),
    "Flat": (Trunk, {"heads": _flat}, r"Flat.heads returned scores of 'click' with the shape .*, expected \[..., B"),
    "NoGroup": (Trunk, {"lower_groups": lambda self: []}, r"NoGroup.variable_groups\(\) leaves out .*'trunk/kernel'"),
    "TwoGroups": (Trunk, {"lower_groups": lambda self: Trunk.lower_groups(self) * 2},
                  r"TwoGroups.variable_groups\(\) contains several times .*'trunk/kernel'"),
    "Unbuilt": (Trunk, {"make_lower": lambda self: setattr(self, "trunk", keras.layers.Dense(8, name="trunk"))},
                "Unbuilt: the layer 'trunk' has no variables yet"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_architecture(name):
    base, members, message = WRONG[name]
    members = {key: property(lambda self, value=value: value) if key == "tower_width" else value
               for key, value in members.items()}
    made = type(name, (base,), {"__module__": __name__, **members})
    architectures.register(f"returns_{name.lower()}")(made)
    try:
        with pytest.raises(errors.UserError, match=message):
            _train(made(head_units=(4,)))
    finally:
        architectures.registry.unregister(f"returns_{name.lower()}")


def _train(architecture):
    schema = fit_schema(LISTS, TASKS)
    ranker = MultiTaskRanker(architecture, TASKS, schema)
    ranker.compile("sgd", method="mgda", gradients="features", run_eagerly=True)
    ranker.fit(batches(LISTS, TASKS, schema), verbose=0)


class Half(transforms.Reversible):
    """A transform without a way back."""

    def forward(self, labels):
        return labels / 2


class Sum(Half):
    """One number in place of each label's."""

    def forward(self, labels):
        return tf.reduce_sum(labels)


@pytest.mark.parametrize(("transform", "message"), [
    (Half, "Half does not define inverse, which its kind needs"),
    (Sum, r"Sum.forward returned the shape \(\), expected \(4,\): one value for each label"),
])
def test_a_transform_is_found_before_the_training(transform, message, monkeypatch):
    monkeypatch.setattr("tfmtl2r.data.targets.of_task", lambda task: transform())
    with pytest.raises(errors.UserError, match=message):
        fit_tasks(Lists({"y": np.arange(4.0)}), [Task("y", kind="regression")])


class Named(datasets.DataSet):
    """Tasks by name, and a split that is a dictionary."""

    def tasks(self):
        return ("click", "like")

    def read(self, split):
        return {"click": [1.0]}


def test_a_data_set():
    with pytest.raises(TypeError, match=r"Named.tasks returned \('click', 'like'\), expected a tuple of tfmtl2r.Task"):
        Named().select()
    with pytest.raises(TypeError, match=r"Named.read\('train'\) returned a dict, expected tfmtl2r.datasets.Lists"):
        Named().lists("train")
