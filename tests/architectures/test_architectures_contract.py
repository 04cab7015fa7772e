"""What every architecture keeps to, whatever its name: groups, gradients, padding, order, rows, files, precision."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from architecture_problem import LENGTH, NUMBERS, SCHEMA, TASKS, VALID, connected, make_features, small

from tfmtl2r import MultiTaskRanker, Task, architectures, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers import randomness
from tfmtl2r.methods.base import GramMethod
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.objectives import TaskLosses

NAMES = architectures.names()
VARIANTS = [(name, {}) for name in NAMES] + [
    ("shared_bottom", {"layer_norm": True}),
    ("shared_bottom", {"units": (), "head_units": (4, 4)}),
    ("ple", {"levels": 1}),
    ("ple", {"levels": 3, "task_experts": 1}),
    ("ple", {"shared_experts": 0}),
    ("cgc", {"shared_experts": 0}),
    ("snr", {"connection": "aver"}),
    ("snr", {"levels": 1}),
    ("cross_stitch", {"units": (6,)}),
]


def label(value):
    """A readable id for a variant."""
    return "-".join(f"{k}={v}" for k, v in value.items()) or "default" if isinstance(value, dict) else str(value)


@pytest.fixture
def features(rng):
    return make_features(rng)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def smooth(name):
    """An activation without dead units, where there is a choice."""
    options = [option.name for option in architectures.registry.options(name)]
    return {"activation": "tanh"} if "activation" in options else {}


@pytest.mark.parametrize("schema", [SCHEMA, NUMBERS], ids=["categories", "numbers"])
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=label)
def test_groups_say_what_the_gradients_say(features, name, options, schema):
    """For every variable (every slice of a stacked one): the tasks of its group are those whose scores reach it."""
    architecture = connected(name, schema=schema, **smooth(name), **options)
    groups = architecture.variable_groups()
    listed = [id(v) for group in groups for v in group.variables]
    assert sorted(listed) == sorted(id(v) for v in architecture.trainable_variables), "each variable in one group"
    with tf.GradientTape(persistent=True) as tape:
        scores = architecture(batch=Batch(features, valid=VALID))
        totals = [tf.reduce_sum(scores[task] ** 2) for task in TASKS]
    values = [v.value for group in groups for v in group.variables]
    per_task = [iter(tape.gradient(total, values, unconnected_gradients="zero")) for total in totals]
    for group in groups:
        for variable in group.variables:
            reached = np.array([tf.convert_to_tensor(next(gradients)) for gradients in per_task]) != 0
            if group.stacked:
                by_slice = reached.reshape(len(TASKS), len(group.tasks), -1).any(axis=2)
                np.testing.assert_array_equal(by_slice, np.eye(len(TASKS))[:, group.tasks] > 0, err_msg=variable.path)
            else:
                by_task = reached.reshape(len(TASKS), -1).any(axis=1)
                np.testing.assert_array_equal(np.flatnonzero(by_task), group.tasks, err_msg=variable.path)


class Ones(GramMethod):
    """Weights of ones, the plain sum, through the machinery of a Gram method."""

    def weigh(self, signals, state):
        return tf.ones_like(signals.losses), state


def gradients(architecture, features, labels, method, mode):
    """The gradient of every variable in one training step, dropout and all other randomness as in any other call."""
    losses = TaskLosses([Task(task, kind="regression") for task in TASKS], has_lists=True)
    clock = Clock(0, 0, tf.constant([0, 0], tf.int32), tf.fill([3], 1 / 3))
    groups = [group for group in architecture.variable_groups() if group.shared]
    with randomness.scope(tf.constant([3, 4], tf.int32)):
        batch = Batch(features, labels, valid=VALID)
        step = Engine(architecture, losses, method, mode).step(batch, clock, [{}] * max(1, len(groups)))
    return {id(v): tf.convert_to_tensor(g).numpy() for g, v in step.gradients}


def some_are_slow():
    """Each architecture with categories always; the rest takes long."""
    for (name, options), (kind, schema) in itertools.product(VARIANTS, [("categories", SCHEMA), ("numbers", NUMBERS)]):
        marks = [] if not options and schema is SCHEMA else [pytest.mark.slow]
        yield pytest.param(name, options, schema, id=f"{name}-{label(options)}-{kind}", marks=marks)


@pytest.mark.parametrize(("name", "options", "schema"), list(some_are_slow()))
def test_weights_of_ones_reproduce_the_plain_gradient(features, rng, name, options, schema):
    """Fails where a path from a shared variable to a loss does not cross the cut, or crosses it unseen."""
    architecture = connected(name, schema=schema, **smooth(name), **options)
    labels = {task: tf.constant(rng.normal(size=(3, LENGTH)), tf.float32) for task in TASKS}
    plain = gradients(architecture, features, labels, methods.get("ls"), "parameters")
    assert set(plain) == {id(v) for v in architecture.trainable_variables}
    for mode in ("parameters", "features"):
        ours = gradients(architecture, features, labels, Ones(), mode)
        for variable in architecture.trainable_variables:
            np.testing.assert_allclose(
                ours[id(variable)], plain[id(variable)], atol=2e-6, err_msg=f"{variable.path} {mode}"
            )


def test_scores_are_float32_per_item_and_task(features, name):
    scores = connected(name)(batch=Batch(features, valid=VALID))
    assert list(scores) == list(TASKS)
    assert all(s.shape == (3, LENGTH) and s.dtype == tf.float32 for s in scores.values())
    assert len({float(s[0, 0]) for s in scores.values()}) == 3, "tasks start differently"


def test_padding_never_influences_real_items(features, name):
    architecture = connected(name)
    clean = architecture(batch=Batch(features, valid=VALID))
    padding = ~VALID.numpy()
    dirty = {**features, "x": np.where(padding[..., None], np.nan, features["x"]).astype(np.float32),
             "brand": np.where(padding, 3, features["brand"])}
    for task, scores in architecture(batch=Batch(dirty, valid=VALID)).items():
        np.testing.assert_allclose(scores[VALID], clean[task][VALID], rtol=1e-6, atol=1e-7)
        assert np.isfinite(scores).all()


def test_padding_never_influences_a_gradient(features, rng, name):
    """Whatever stands at padded places, labels included, no variable is trained by it."""
    architecture, padding = connected(name, **smooth(name)), ~VALID.numpy()
    labels = {task: rng.normal(size=(3, LENGTH)).astype(np.float32) for task in TASKS}
    dirty = {**features, "x": tf.constant(np.where(padding[..., None], 1e3, features["x"]), tf.float32),
             "brand": tf.constant(np.where(padding, 3, features["brand"]), tf.int32)}  # fmt: skip
    given = (features, {task: tf.constant(y) for task, y in labels.items()})
    changed = (dirty, {task: tf.constant(np.where(padding, 7.0, y), tf.float32) for task, y in labels.items()})
    clean, other = (gradients(architecture, x, y, methods.get("mgda"), "features") for x, y in (given, changed))
    for variable in architecture.trainable_variables:
        np.testing.assert_array_equal(other[id(variable)], clean[id(variable)], err_msg=variable.path)


def test_permuted_items_get_permuted_scores(features, rng, name):
    architecture = connected(name)
    full = tf.ones([3, LENGTH], tf.bool)
    order = rng.permutation(LENGTH)
    permuted = {key: value if key == "age" else tf.gather(value, order, axis=1) for key, value in features.items()}
    scores = architecture(batch=Batch(features, valid=full))
    for task, moved in architecture(batch=Batch(permuted, valid=full)).items():
        np.testing.assert_allclose(moved, tf.gather(scores[task], order, axis=1), atol=1e-6)


def test_plain_rows_score_as_lists_of_one_do(features, name):
    architecture = connected(name)
    one = {"x": features["x"][:, :1], "age": features["age"], "brand": features["brand"][:, :1]}
    rows = {"x": features["x"][:, 0], "age": features["age"], "brand": features["brand"][:, 0]}
    if architecture.list_context:
        with pytest.raises(ValueError, match="needs lists"):
            architecture(batch=Batch(rows))
        return
    lists = architecture(batch=Batch(one, valid=tf.ones([3, 1], tf.bool)))
    for task, row_scores in architecture(batch=Batch(rows)).items():
        assert row_scores.shape == (3,)
        np.testing.assert_allclose(row_scores, lists[task][:, 0], atol=1e-6)


def test_one_width_is_not_a_stack_of_widths(name):
    stacks = [option.name for option in architectures.registry.options(name) if isinstance(option.default, tuple)
              and option.name.endswith("units")]
    stacks += ["head_units"] if name == "dml" else []
    assert stacks or name == "deepmtl2r"
    for option in stacks:
        for one in (64, "64"):
            with pytest.raises(TypeError, match=rf"{option} is one width per layer, such as \(64,\).*got '?64"):
                architectures.get(name, **{option: one})


def test_a_batch_of_no_lists(features, name):
    architecture, none = connected(name), {key: value[:0] for key, value in features.items()}
    assert all(s.shape == (0, LENGTH) for s in architecture(batch=Batch(none, valid=VALID[:0])).values())
    assert all(np.isfinite(seen).all() for seen in architecture.inspect(Batch(none, valid=VALID[:0])).values())


def test_dropout_acts_in_training_only(features, name):
    options = [option.name for option in architectures.registry.options(name)]
    if "dropout" not in options:
        pytest.skip("has no dropout")
    rates = {key: 0.5 for key in ("dropout", "gate_dropout") if key in options}
    architecture = connected(name, **rates, **({"penalty": 0.0} if "penalty" in options else {}))
    for weight in architecture.weights:
        if "log_alpha" in weight.path:
            weight.assign(tf.fill(weight.shape, 50.0))  # hard-concrete gates that are surely open: no noise but dropout
    train = architecture(batch=Batch(features, valid=VALID), training=True)
    evaluate = architecture(batch=Batch(features, valid=VALID))
    assert any((train[task] != evaluate[task]).numpy().any() for task in TASKS)
    for task, again in architecture(batch=Batch(features, valid=VALID)).items():
        np.testing.assert_array_equal(again, evaluate[task])


def test_what_it_decides_is_open_to_inspection(features, name):
    """Averages of gates and the like; whatever is a distribution sums to one. Looking changes nothing."""
    architecture = connected(name)
    scores = architecture(batch=Batch(features, valid=VALID))
    for key, value in architecture.inspect(batch=Batch(features, valid=VALID)).items():
        assert value.dtype == tf.float32, key
        assert np.isfinite(value).all(), key
        if "gate" in key:
            np.testing.assert_allclose(tf.reduce_sum(value, -1), np.ones(value.shape[:-1]), rtol=1e-5, err_msg=key)
    for task, again in architecture(batch=Batch(features, valid=VALID)).items():
        np.testing.assert_array_equal(again, scores[task])


def test_an_architecture_belongs_to_one_ranker(name):
    with pytest.raises(ValueError, match=r"already belongs to a ranker with the tasks .*'click'.*make a new one"):
        connected(name).connect(["other", "more"], NUMBERS)


def test_bfloat16_scores_are_close(features, name):
    """The same weights in half the precision; scores stay float32."""
    exact = connected(name)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    rounded = connected(name)
    for target, source in zip(rounded.weights, exact.weights, strict=True):
        assert target.dtype == "float32"
        target.assign(source)
    for task, scores in rounded(batch=Batch(features, valid=VALID)).items():
        assert scores.dtype == tf.float32
        np.testing.assert_allclose(scores, exact(batch=Batch(features, valid=VALID))[task], atol=0.05)


def test_bfloat16_trains_in_the_same_direction(features, rng, name):
    """The gradient of all variables, through a Gram method at the cut."""
    labels = {task: tf.constant(rng.normal(size=(3, LENGTH)), tf.float32) for task in TASKS}
    exact = connected(name, **smooth(name))
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    rounded = connected(name, **smooth(name))
    for target, source in zip(rounded.weights, exact.weights, strict=True):
        target.assign(source)
    ours, theirs = (
        np.concatenate([found[id(v)].ravel() for v in architecture.trainable_variables])
        for architecture in (rounded, exact)
        for found in [gradients(architecture, features, labels, methods.get("mgda"), "features")]
    )
    assert np.isfinite(ours).all()
    assert ours @ theirs > 0.995 * np.linalg.norm(ours) * np.linalg.norm(theirs)


def test_bfloat16_does_not_tie_items(rng, name):
    """A list of 200: hidden values may be rounded, scores are not, or a tenth of the items or more would tie."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    wide = {key: (16,) for key in ("units", "expert_units", "subnet_units", "head_units") if key in small(name)}
    wide |= {"units": 16} if isinstance(small(name).get("units"), int) else {}
    architecture = connected(name, **smooth(name), **wide)
    features = {
        "x": tf.constant(rng.normal(size=(1, 200, 3)), tf.float32), "age": tf.constant([0.5]),
        "brand": tf.constant(rng.integers(0, 4, (1, 200)), tf.int32),
    }
    for training in (False, True) if "penalty" not in small(name) else (False,):
        batch = Batch(features, valid=tf.ones([1, 200], tf.bool))
        for task, scores in architecture(batch=batch, training=training).items():
            assert len(np.unique(scores)) > 195, task


RELOAD = """
import pathlib, sys, numpy as np
import tfmtl2r
folder = pathlib.Path(sys.argv[1])
x = dict(np.load(folder / "x.npz"))
for path in sorted(folder.glob("*.keras")):
    np.savez(folder / f"{path.stem}.npz", **tfmtl2r.load(path)(x))
"""


def test_save_and_load_in_a_new_process(features, rng, tmp_path):
    """Every weight is moved from where it starts, so that one which the file forgets is missed.

    One process for all: the variables of one file must not depend on what was loaded before it.
    """
    x = {**{key: value.numpy() for key, value in features.items()}, "list_size": VALID.numpy().sum(1).astype(np.int32)}
    np.savez(tmp_path / "x.npz", **x)
    models = {}
    for name in NAMES:
        models[name] = MultiTaskRanker({"name": name, **small(name)}, TASKS, SCHEMA)
        models[name].compile("sgd")
        for weight in models[name].architecture.weights:
            weight.assign(np.array(weight) + rng.normal(size=weight.shape, scale=0.3))
        models[name].save(tmp_path / f"{name}.keras")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", RELOAD, str(tmp_path)], check=True, env=environment)
    for name, model in models.items():
        loaded, scores = np.load(tmp_path / f"{name}.npz"), model(x)
        for task in TASKS:
            np.testing.assert_allclose(loaded[task][VALID], scores[task][VALID], atol=1e-5, err_msg=name)
