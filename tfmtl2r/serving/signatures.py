"""What an export answers to: functions on named tensors, traced for the server.

B requests' lists, L items in the longest of them. The list length comes in as ``list_size`` and never as a mask: the
server pads a tensor with its own first element when it merges requests, and a mask would be padded with True.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from tfmtl2r import losses
from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE, Batch
from tfmtl2r.layers.features import Lookup
from tfmtl2r.losses._base import default_name
from tfmtl2r.schema import Category, Dense, Schema
from tfmtl2r.task import Task
from tfmtl2r.training.model import MultiTaskRanker

PADDED = -1e9
"""The score of a padded place: lower than any item's, and finite, since JSON knows no infinity."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function to serve.

    Args:
        function: a traced ``tf.function`` of one dict of tensors.
        inputs: what it reads, by input name.
        outputs: what it returns, by output name.
        names: the input of each feature, and of ``list_size``.
        tracked: what holds its lookup tables.
    """

    function: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    names: dict[str, str]
    tracked: tuple[Any, ...]

    def feed(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A request by feature name, renamed to inputs."""
        return {self.names[name]: value for name, value in request.items()}


def predict_features(model: MultiTaskRanker, blend: Mapping[str, float], lists: bool) -> Signature:
    """All scores from raw features.

    Inputs: every feature by name, ``float32``, ``string`` or ``int64``, ``[B, L]`` or ``[B, L, D]`` per item and
    ``[B]`` or ``[B, D]`` per list, and ``list_size``, ``int32[B]`` (what is below 0 or above L counts as 0 or L).
    Plain rows have no ``list_size``, and ``[B]`` or ``[B, D]`` for every feature.

    Outputs, ``[B, L]`` (plain rows: ``[B]``): ``score_<task>``, the raw ranking score; ``probability_<task>`` for
    tasks that are :func:`calibrated`; ``score``, the sum of the tasks' raw scores times ``blend``; for lists ``valid``,
    True for real items. Padded places have the scores -1e9 and the probability 0. Numbers are float32.

    Args:
        model: a ranker that knows its features.
        blend: a weight for each task.
        lists: whether requests hold lists.
    """
    schema = model.features
    assert schema is not None
    lookup = Lookup(schema)
    probabilities = [task.name for task in model.tasks if calibrated(task, lists)]
    outputs = _output_specs(model.tasks, probabilities, lists)
    names = input_names(schema, outputs, lists)
    features = {feature.name: _spec(feature, names[feature.name], lists) for feature in schema.features}
    if lists:
        features[LIST_SIZE] = tf.TensorSpec([None], tf.int32, LIST_SIZE)

    def serve(raw: dict[str, Any]) -> dict[str, Any]:
        looked_up = lookup(raw)
        valid = None
        if lists:
            valid = model.valid(Batch(looked_up, {}, {}, looked_up[LIST_SIZE]))
            looked_up[LIST_SIZE] = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)  # now between 0 and L
        scores = {task: tf.cast(score, tf.float32) for task, score in model(looked_up, training=False).items()}
        served = {f"score_{task}": score for task, score in scores.items()}
        served["score"] = tf.add_n([weight * scores[task] for task, weight in blend.items()])
        served |= {f"probability_{task}": tf.sigmoid(scores[task]) for task in probabilities}
        return _at_real_places(served, valid, outputs)

    function = tf.function(serve, input_signature=[features], autograph=False)
    function.get_concrete_function()
    inputs = {names[name]: spec for name, spec in features.items()}
    return Signature(function, inputs, outputs, names, tracked=(lookup,))


def calibrated(task: Task, lists: bool) -> bool:
    """Whether the sigmoid of a task's score is a probability: a binary task with a pointwise loss on relevance (bce).

    A listwise loss fixes differences within a list, not the level of the scores, and squared error fits the score
    itself to the label: the sigmoid of either is a number between 0 and 1 without a meaning.

    Args:
        task: the task.
        lists: whether it was trained on lists, which decides about its default loss.

    >>> calibrated(Task("buy", kind="binary", loss="bce"), True), calibrated(Task("buy", kind="binary"), True)
    (True, False)
    """
    loss = losses.get(task.loss or default_name(task.kind, lists))
    return task.kind == "binary" and not loss.listwise and loss.relevance


def input_names(schema: Schema, outputs: Mapping[str, Any], lists: bool) -> dict[str, str]:
    """The input of each feature: its own name wherever TensorFlow lets an input have it.

    Others (``"BM25 body"``, ``"1"``) get ``_`` for each character that is no letter, digit or underscore, and
    ``feature_`` in front of what does not start with a letter or is the name of an output.

    Args:
        schema: the features.
        outputs: by name; converters break where an input shares one.
        lists: whether there is a ``list_size``.

    Raises:
        ValueError: when two features would share an input.

    >>> input_names(Schema([Dense("price"), Dense("BM25 body"), Dense("1")]), {}, lists=False)
    {'price': 'price', 'BM25 body': 'BM25_body', '1': 'feature_1'}
    """
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for feature in [*schema.names, *([LIST_SIZE] if lists else [])]:
        name = re.sub(r"[^A-Za-z0-9_]", "_", feature)
        if not name[:1].isalpha() or name in outputs or name == "self":
            name = f"feature_{name}"
        # TensorFlow makes names differ by more than capitals.
        if name.lower() in taken:
            raise ValueError(f"the features {taken[name.lower()]!r} and {feature!r} would both be served as the input "
                             f"{name!r} (TensorFlow tells neither capitals nor signs apart there): rename one of them "
                             "in the schema")
        names[feature] = name
        taken[name.lower()] = feature
    return names


def _spec(feature: Dense | Category, name: str, lists: bool) -> Any:
    axes: list[int | None] = [None, None] if lists and not feature.context else [None]
    if isinstance(feature, Category):
        return tf.TensorSpec(axes, tf.as_dtype(feature.dtype), name)
    return tf.TensorSpec([*axes, *feature.shape], tf.float32, name)


def _output_specs(tasks: tuple[Task, ...], probabilities: list[str], lists: bool) -> dict[str, Any]:
    names = [*(f"score_{task.name}" for task in tasks), *(f"probability_{task}" for task in probabilities), "score"]
    shape = [None, None] if lists else [None]
    specs = {name: tf.TensorSpec(shape, tf.float32, name) for name in names}
    return {**specs, "valid": tf.TensorSpec(shape, tf.bool, "valid")} if lists else specs


def _at_real_places(served: dict[str, Any], valid: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Fills padded places; ranks are stated, since a request parser needs them where the graph leaves them open."""
    if valid is not None:
        served = {name: tf.where(valid, value, 0.0 if name.startswith("probability_") else PADDED)
                  for name, value in served.items()}
        served["valid"] = valid
    for name, value in served.items():
        value.set_shape(outputs[name].shape)
    return served
