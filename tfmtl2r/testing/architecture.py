"""Checks of architectures: groups, gradients, padding, order, rows, precision, files."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r import architectures, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.features.category import Category
from tfmtl2r.features.dense import Dense
from tfmtl2r.layers import randomness
from tfmtl2r.methods.base import GramMethod, Signals, State
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.testing.checks import Check, Suite, close, finite, raises, require
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.training.objectives import TaskLosses

TASKS = ("click", "buy", "like")
SIZES = np.array([5, 2, 1])
LENGTH = 5
VALID = np.arange(LENGTH) < SIZES[:, None]
SCHEMA = Schema([
    Dense("x", shape=(3,)), Dense("age", context=True), Category("brand", vocabulary=("a", "b", "c"), dim=2),
])
NUMBERS = Schema(f for f in SCHEMA.features if not f.embedded)


def _description(architecture: Any) -> dict[str, Any]:
    """An architecture belongs to one ranker, so each check builds its own."""
    if isinstance(architecture, str):
        return {"name": architecture}
    if isinstance(architecture, Mapping):
        return dict(architecture)
    if inspect.isclass(architecture):
        return {"name": architectures.registry.name_of(architecture)}
    return architectures.registry.describe(architecture)


SUITE = Suite("architecture", _description)


def check_architecture(architecture: Any, *, only: str | Collection[str] | None = None) -> list[str]:
    """Checks an architecture against what all architectures keep to.

    Each check builds the architecture anew, on three small lists. An activation without dead units, such as tanh,
    shows every path of a gradient; small widths are quick. The checks set the random seed of Keras.

    Args:
        architecture: a name, a mapping ``{"name": ..., **options}``, or a registered class or instance of one.
        only: names of the checks to run; all by default.

    Returns:
        The names of the checks that were run.

    Raises:
        AssertionError: naming the first check that fails, the architecture, what was given, expected and found.

    >>> small = {"name": "shared_bottom", "units": [4], "head_units": [], "activation": "tanh"}
    >>> check_architecture(small, only=["groups_match_gradients", "padding_trains_nothing"])
    ['groups_match_gradients', 'padding_trains_nothing']
    """
    return SUITE.run(architecture, only)


def architecture_checks(
    architecture: Any,
    expected_failures: Mapping[str, str] | None = None,
    *,
    only: str | Collection[str] | None = None,
    marks: Callable[[Check], Collection[Any]] | None = None,
) -> list[Any]:
    """The checks of an architecture as parameters for pytest; the arguments are those of :func:`method_checks`."""
    return SUITE.parameters(architecture, expected_failures, only, marks)


def connected(description: Mapping[str, Any], schema: Schema = SCHEMA) -> Any:
    """The architecture with its variables made, equal ones each time."""
    keras.utils.set_random_seed(1)
    architecture = architectures.get(description)
    architecture.connect(TASKS, schema)
    return architecture


def make_features(rng: np.random.Generator) -> dict[str, Any]:
    """The features of three lists, of 5, 2 and 1 items."""
    return {
        "x": tf.constant(rng.normal(size=(3, LENGTH, 3)), tf.float32),
        "age": tf.constant(rng.normal(size=3), tf.float32),
        "brand": tf.constant(rng.integers(0, 4, (3, LENGTH)), tf.int32),
    }


class Ones(GramMethod):
    """Weights of ones, the plain sum, through the machinery of a Gram method."""

    def weigh(self, signals: Signals, state: State) -> tuple[Any, State]:
        return tf.ones_like(signals.losses), state


def gradients(architecture: Any, features: Any, labels: Any, method: Any, mode: str) -> dict[int, np.ndarray]:
    """id -> gradient of every variable in one training step, with the same randomness in each call."""
    losses = TaskLosses([Task(task, kind="regression") for task in TASKS], has_lists=True)
    clock = Clock(0, 0, tf.constant([0, 0], tf.int32), tf.fill([3], 1 / 3))
    groups = [group for group in architecture.groups() if group.shared]
    labels = {task: tf.constant(values, tf.float32) for task, values in labels.items()}
    with randomness.scope(tf.constant([3, 4], tf.int32)):
        batch = Batch(features, labels, valid=tf.constant(VALID))
        step = Engine(architecture, losses, method, mode).step(batch, clock, [{}] * max(1, len(groups)))
    return {id(v): tf.convert_to_tensor(g).numpy() for g, v in step.gradients}


def _features() -> dict[str, Any]:
    return make_features(np.random.default_rng(0))


def _labels() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {task: rng.normal(size=(3, LENGTH)).astype(np.float32) for task in TASKS}


def _batch(features: dict[str, Any] | None = None, valid: np.ndarray = VALID) -> Batch:
    return Batch(_features() if features is None else features, valid=tf.constant(valid))


def _with_padding(features: dict[str, Any], number: float) -> dict[str, Any]:
    """The features with a number, and another category, at padded places."""
    return {**features, "x": tf.where(VALID[..., None], features["x"], number),
            "brand": tf.where(VALID, features["brand"], 3)}  # fmt: skip


@contextlib.contextmanager
def _bfloat16() -> Iterator[None]:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def _exact_and_rounded(description: Mapping[str, Any]) -> tuple[Any, Any]:
    """The architecture in float32 and in mixed bfloat16, with the same weights."""
    exact = connected(description)
    with _bfloat16():
        rounded = connected(description)
    for target, source in zip(rounded.weights, exact.weights, strict=True):
        require(target.dtype == "float32", "mixed bfloat16", "weights of float32", target.dtype)
        target.assign(source)
    return exact, rounded


def require_groups(description: Mapping[str, Any], schema: Schema, features: dict[str, Any] | None = None) -> None:
    """Raises an AssertionError unless each variable is in the group of the tasks whose scores reach it.

    Args:
        description: ``{"name": ..., **options}``.
        schema: of the features.
        features: of the three lists; those of :func:`make_features` by default.
    """
    architecture = connected(description, schema)
    groups = architecture.groups()
    listed = sorted(id(v) for group in groups for v in group.variables)
    every = sorted(id(v) for v in architecture.trainable_variables)
    require(listed == every, "groups()", f"each of {len(every)} variables in one group", len(listed))
    with tf.GradientTape(persistent=True) as tape:
        scores = architecture(batch=_batch(features))
        totals = [tf.reduce_sum(scores[task] ** 2) for task in TASKS]
    values = [v.value for group in groups for v in group.variables]
    per_task = [iter(tape.gradient(total, values, unconnected_gradients="zero")) for total in totals]
    for group in groups:
        for variable in group.variables:
            reached = np.array([tf.convert_to_tensor(next(found)) for found in per_task]) != 0
            given = f"{variable.path}, the tasks whose scores it reaches"
            if group.stacked:
                by_slice = reached.reshape(len(TASKS), len(group.tasks), -1).any(axis=2)
                close(by_slice, np.eye(len(TASKS))[:, group.tasks] > 0, given)
            else:
                by_task = np.flatnonzero(reached.reshape(len(TASKS), -1).any(axis=1))
                require(by_task.tolist() == list(group.tasks), given, group.tasks, by_task)


@SUITE.add()
def groups_match_gradients(description: Mapping[str, Any]) -> None:
    """Each variable (each slice of a stacked one) is in the group of the tasks whose scores reach it."""
    require_groups(description, SCHEMA)


@SUITE.add()
def groups_match_gradients_on_numbers(description: Mapping[str, Any]) -> None:
    """The same without embeddings."""
    require_groups(description, NUMBERS)


def require_plain_sum(description: Mapping[str, Any], schema: Schema, features: dict[str, Any] | None = None) -> None:
    """Raises an AssertionError unless weights of 1 give the gradient of the summed losses, in both modes.

    The arguments are those of :func:`require_groups`.
    """
    architecture, features, labels = connected(description, schema), features or _features(), _labels()
    plain = gradients(architecture, features, labels, methods.get("linear_scalarization"), "parameters")
    trained = set(plain) == {id(v) for v in architecture.trainable_variables}
    require(trained, "a training step", "a gradient for each variable", f"gradients for {len(plain)} variables")
    for mode in ("parameters", "features"):
        ours = gradients(architecture, features, labels, Ones(), mode)
        for variable in architecture.trainable_variables:
            given = f"weights of 1 in the mode {mode!r}, the gradient of {variable.path}"
            close(ours[id(variable)], plain[id(variable)], given, rtol=1e-7, atol=2e-6)


@SUITE.add()
def ones_are_the_plain_sum(description: Mapping[str, Any]) -> None:
    """Weights of 1 give the gradient of the summed losses: all paths from shared variables to losses cross the cut."""
    require_plain_sum(description, SCHEMA)


@SUITE.add(slow=lambda description: True)
def ones_are_the_plain_sum_on_numbers(description: Mapping[str, Any]) -> None:
    """The same without embeddings."""
    require_plain_sum(description, NUMBERS)


@SUITE.add()
def scores_are_float32_per_item(description: Mapping[str, Any]) -> None:
    """A dict of ``float32[..., B, L]``, one entry per task; tasks start differently."""
    scores = connected(description)(batch=_batch())
    require(list(scores) == list(TASKS), "three tasks", TASKS, list(scores))
    for task, values in scores.items():
        good = values.shape[-2:] == (3, LENGTH) and values.dtype == tf.float32
        require(good, f"the scores of {task}", f"float32 (..., 3, {LENGTH})", f"{values.dtype.name} {values.shape}")
    first = [float(tf.reduce_mean(values[..., 0, 0])) for values in scores.values()]
    require(len(set(first)) == 3, "fresh variables", "another score for each task", first)


@SUITE.add()
def padding_has_no_influence(description: Mapping[str, Any]) -> None:
    """Features at padded places, NaN included, change no score of a real item, and no score is NaN."""
    architecture, features = connected(description), _features()
    clean = architecture(batch=_batch(features))
    for task, scores in architecture(batch=_batch(_with_padding(features, np.nan))).items():
        found, expected = (one.numpy()[..., VALID] for one in (scores, clean[task]))
        close(found, expected, f"NaN in padding, {task}", rtol=1e-6, atol=1e-7)
        finite(scores, f"NaN in padding, {task}")


@SUITE.add()
def padding_trains_nothing(description: Mapping[str, Any]) -> None:
    """Features and labels at padded places change no gradient."""
    architecture, features, labels = connected(description), _features(), _labels()
    mgda = methods.get("mgda")
    clean = gradients(architecture, features, labels, mgda, "features")
    dirty = {task: np.where(VALID, values, 7.0) for task, values in labels.items()}
    other = gradients(architecture, _with_padding(features, 1e3), dirty, mgda, "features")
    for variable in architecture.trainable_variables:
        close(other[id(variable)], clean[id(variable)], f"other padding, the gradient of {variable.path}")


@SUITE.add()
def permuted_items_have_permuted_scores(description: Mapping[str, Any]) -> None:
    """The order of the items in a list does not matter."""
    architecture, features, full = connected(description), _features(), np.ones_like(VALID)
    order = np.random.default_rng(2).permutation(LENGTH)
    permuted = {key: value if key == "age" else tf.gather(value, order, axis=1) for key, value in features.items()}
    scores = architecture(batch=_batch(features, full))
    for task, moved in architecture(batch=_batch(permuted, full)).items():
        close(moved, tf.gather(scores[task], order, axis=-1), f"items in the order {order}, {task}", atol=5e-6)


@SUITE.add()
def rows_are_lists_of_one(description: Mapping[str, Any]) -> None:
    """Plain rows have the scores of lists of one item; an architecture with list context refuses rows."""
    architecture, features = connected(description), _features()
    one = {key: value if key == "age" else value[:, :1] for key, value in features.items()}
    rows = Batch({key: value if key == "age" else value[:, 0] for key, value in features.items()})
    if architecture.list_context:
        raises(ValueError, lambda: architecture(batch=rows), "plain rows", "needs lists")
        return
    lists = architecture(batch=_batch(one, np.ones([3, 1], bool)))
    for task, scores in architecture(batch=rows).items():
        require(scores.shape[-1:] == (3,), f"three rows, {task}", "shape (..., 3)", scores.shape)
        close(scores, lists[task][..., 0], f"three rows, {task}", rtol=1e-7, atol=1e-6)


@SUITE.add()
def batch_of_no_lists(description: Mapping[str, Any]) -> None:
    """A batch of no lists has no scores, and everything open to inspection stays finite."""
    architecture = connected(description)
    batch = _batch({key: value[:0] for key, value in _features().items()}, VALID[:0])
    for task, scores in architecture(batch=batch).items():
        require(scores.shape[-2:] == (0, LENGTH), f"no lists, {task}", (0, LENGTH), scores.shape)
    for key, seen in architecture.inspect(batch).items():
        finite(seen, f"no lists, {key}")


@SUITE.add()
def evaluation_is_repeatable(description: Mapping[str, Any]) -> None:
    """Scores outside training are the same each time, after a call in training and an inspection too."""
    architecture, batch = connected(description), _batch()
    scores = architecture(batch=batch)
    architecture(batch=batch, training=True)
    architecture.inspect(batch=batch)
    for task, again in architecture(batch=batch).items():
        close(again, scores[task], f"a second evaluation, {task}")


@SUITE.add()
def inspection_is_finite(description: Mapping[str, Any]) -> None:
    """What is open to inspection is finite float32; entries called gates sum to 1."""
    for key, value in connected(description).inspect(batch=_batch()).items():
        require(value.dtype == tf.float32, key, "float32", value.dtype)
        finite(value, key)
        if "gate" in key:
            close(tf.reduce_sum(value, -1), 1.0, f"{key}, its sum", rtol=1e-5)


@SUITE.add()
def belongs_to_one_ranker(description: Mapping[str, Any]) -> None:
    """An architecture that is connected refuses to be connected again."""
    architecture = connected(description)
    raises(ValueError, lambda: architecture.connect(["other", "more"], NUMBERS), "a second connect",
           "already belongs to a ranker with the tasks")


@SUITE.add()
def bfloat16_scores_are_close(description: Mapping[str, Any]) -> None:
    """Half the precision inside changes scores by less than .05; scores stay float32."""
    exact, rounded = _exact_and_rounded(description)
    expected = exact(batch=_batch())
    for task, scores in rounded(batch=_batch()).items():
        require(scores.dtype == tf.float32, f"mixed bfloat16, {task}", "float32", scores.dtype)
        close(scores, expected[task], f"mixed bfloat16, {task}", rtol=1e-7, atol=0.05)


@SUITE.add()
def bfloat16_trains_in_the_same_direction(description: Mapping[str, Any]) -> None:
    """The gradient of all variables, through a Gram method at the cut, has a cosine above .99 with the exact one."""
    theirs, ours = (
        np.concatenate([found[id(v)].ravel() for v in architecture.trainable_variables])
        for architecture in _exact_and_rounded(description)
        for found in [gradients(architecture, _features(), _labels(), methods.get("mgda"), "features")]
    )
    finite(ours, "mixed bfloat16, the gradient")
    cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    require(cosine > 0.99, "mixed bfloat16, the gradient", "a cosine above .99", cosine)


def _distinct_scores(description: Mapping[str, Any], training: bool) -> None:
    rng = np.random.default_rng(0)
    features = {
        "x": tf.constant(rng.normal(size=(1, 200, 3)), tf.float32), "age": tf.constant([0.5]),
        "brand": tf.constant(rng.integers(0, 4, (1, 200)), tf.int32),
    }
    with _bfloat16():
        architecture = connected(description)
        scores = architecture(batch=_batch(features, np.ones([1, 200], bool)), training=training)
    for task, values in scores.items():
        require(len(np.unique(values)) > 195, f"200 items in bfloat16, {task}", "more than 195 distinct scores",
                len(np.unique(values)))


@SUITE.add()
def bfloat16_does_not_tie_items(description: Mapping[str, Any]) -> None:
    """Scores of 200 items are distinct: hidden values may be rounded, scores are not."""
    _distinct_scores(description, training=False)


@SUITE.add()
def bfloat16_does_not_tie_items_in_training(description: Mapping[str, Any]) -> None:
    """The same in training, where a listwise loss would see the ties."""
    _distinct_scores(description, training=True)


@SUITE.add(slow=lambda description: True)
def file_rebuilds_it(description: Mapping[str, Any]) -> None:
    """A saved and loaded ranker has the same scores, whatever values its weights have."""
    rng = np.random.default_rng(0)
    ranker = MultiTaskRanker(dict(description), TASKS, SCHEMA)
    ranker.compile("sgd")
    for weight in ranker.architecture.weights:
        weight.assign(np.array(weight) + rng.normal(size=weight.shape, scale=0.3))
    inputs = {**_features(), "list_size": tf.constant(SIZES, tf.int32)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ranker.keras"
        ranker.save(path)
        loaded = keras.saving.load_model(path)(inputs)
    for task, scores in ranker(inputs).items():
        close(loaded[task].numpy()[VALID], scores.numpy()[VALID], f"a loaded ranker, {task}", rtol=1e-7, atol=1e-5)
