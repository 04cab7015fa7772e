"""What an export answers to: functions on named tensors and on serialized examples, traced for the server.

B requests' lists, L items in the longest of them. The list length comes in as ``list_size`` and never as a mask: the
server pads a tensor with its own first element when it merges requests, and a mask would be padded with True. Every
input has one row per list, also the further ones: the server merges requests along that axis, and refuses what has
none, so that there are neither scalars nor defaults that a request could leave out. What may be left out is a signature
of its own (``predict_features``, ``predict_blended``), or a feature of the context of an ``ExampleListWithContext``.

=================== ================================================= ==============================================
signature           inputs                                            outputs
=================== ================================================= ==============================================
``predict_features`` every feature, ``list_size: int32[B]``            ``score_<task>``, ``probability_<task>``,
                                                                      ``score``, ``valid``: ``[B, L]``
``predict_blended`` the same and ``blend_weights: float32[B, T]``     the same
``predict_preferred`` these and ``preference: float32[B, T]``          the same
``predict_elwc``    ``inputs: string[B]``, ExampleListWithContext     the same
``rank``            the same as ``predict_blended`` and               ``indices``, ``ids``, ``score``,
                    ``item_ids: string[B, L]``, ``k: int32[B]``       ``score_<task>``, ``valid``: ``[B, max k]``
``regress``         ``inputs: string[N]``, tf.Example                 ``outputs: float32[N]``, the blended score
``classify``        the same                                          ``classes``, ``scores``: ``[N, T + 1]``
=================== ================================================= ==============================================

``serving_default`` is ``predict_features``. Plain rows have no ``list_size`` and no list axis, and neither
``predict_elwc`` nor ``rank``. A ranker that scores an item in the context of its list, and a blend that fuses ranks,
have no ``regress`` and ``classify``, for which every item stands alone. Only a ranker that is conditioned on the
preference has ``predict_preferred``; its ``rank`` reads the ``preference`` too, and its ``predict_elwc`` finds it in
the context. A row that is no preference (all 0, or a number below 0 or not finite) asks for the one of the training.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE, PREFERENCE
from tfmtl2r.errors import InputError
from tfmtl2r.layers.features import Lookup
from tfmtl2r.schema import Schema
from tfmtl2r.serving.answers import BLEND_WEIGHTS, ITEM_IDS, TOP, Answers
from tfmtl2r.serving.blend import Blend
from tfmtl2r.serving.parsing import Request, item_messages, list_messages, one_item_lists, parse_items, parse_lists
from tfmtl2r.serving.shapes import checked
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.types import Mask, TaskScores

DEFAULT = "serving_default"
PREDICT, REGRESS, CLASSIFY = (f"tensorflow/serving/{method}" for method in ("predict", "regress", "classify"))


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function to serve.

    Args:
        function: a traced ``tf.function`` of one dict of tensors.
        inputs: what it reads, by input name.
        outputs: what it returns, by output name.
        extras: what it reads of a request beside features.
        method: the API of the server that calls it.
        view: a raw request as this signature reads it: whole lists, or every item alone.
        feed: a request so viewed as inputs by name.
        answer: what it should return, from the scores by task, the mask and such a request.
    """

    function: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    extras: tuple[str, ...]
    method: str
    view: Callable[[Request], Request]
    feed: Callable[[Request], dict[str, Any]]
    answer: Callable[[Mapping[str, Any], Any, Mapping[str, Any]], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that an export is to answer to.

    Args:
        signatures: by name.
        names: what each input of a feature, and ``list_size``, is called in the signatures.
        left_out: signatures that this ranker cannot have, and why.
        lookup: the layer with the lookup tables, which an archive has to track.
    """

    signatures: dict[str, Signature]
    names: dict[str, str]
    left_out: dict[str, str]
    lookup: Lookup


def planned(model: MultiTaskRanker, blend: Blend, lists: bool) -> Plan:
    """Traces every signature that a ranker can have; the graph of the ranker itself is traced once.

    Args:
        model: a ranker that knows its features.
        blend: resolved.
        lists: whether requests hold lists.

    Raises:
        ValueError: for a blend that fuses ranks of plain rows, or features whose inputs would share a name.
    """
    if blend.kind == "rank" and not lists:
        raise InputError("a blend of the kind 'rank' needs lists, but this ranker scores plain rows: choose "
                         "'sum' or 'product'")
    graphs = _Graphs(model, blend, lists)
    answers = graphs.answers
    rows = "the ranker scores plain rows, which have no lists"
    alone = None
    if getattr(model.architecture, "list_context", False):
        alone = "this architecture scores an item in the context of its list, so that an item alone has no score"
    elif blend.kind == "rank":
        alone = "the blend fuses the ranks of the items of a list, and an item alone has none"
    weights = {BLEND_WEIGHTS: tf.TensorSpec([None, len(model.tasks)], tf.float32)}
    asked = {PREFERENCE: tf.TensorSpec([None, len(model.tasks)], tf.float32)} if model.conditioned else {}
    weighed = {**weights, **asked}
    ranking = {**weighed, ITEM_IDS: tf.TensorSpec([None, None], tf.string), TOP: tf.TensorSpec([None], tf.int32)}
    makers: dict[str, tuple[str | None, Callable[[], Signature]]] = {
        "predict_features": (None, lambda: graphs.raw({}, answers.scores, answers.score_specs())),
        "predict_blended": (None, lambda: graphs.raw(weights, answers.scores, answers.score_specs())),
        "predict_elwc": (None if lists else rows, lambda: graphs.elwc(weighed)),
        "rank": (None if lists else rows, lambda: graphs.raw(ranking, answers.best, answers.best_specs())),
        "regress": (alone, lambda: graphs.items(answers.regressed, answers.regressed_specs(), REGRESS)),
        "classify": (alone, lambda: graphs.items(answers.classified, answers.classified_specs(), CLASSIFY)),
    }
    if asked:
        makers["predict_preferred"] = None, lambda: graphs.raw(weighed, answers.scores, answers.score_specs())
    signatures = {name: make() for name, (reason, make) in makers.items() if reason is None}
    left_out = {name: reason for name, (reason, _) in makers.items() if reason is not None}
    signatures = {DEFAULT: signatures["predict_features"], **signatures}
    return Plan(signatures, graphs.names, left_out, graphs.lookup)


class _Graphs:
    """Makes signatures around one traced graph from raw features to scores."""

    def __init__(self, model: MultiTaskRanker, blend: Blend, lists: bool):
        self.model, self.schema, self.lists = model, model.architecture.schema, lists
        self.lookup = Lookup(self.schema)
        self.answers = Answers(model.tasks, blend, lists)
        taken = {*self.answers.score_specs(), *self.answers.best_specs(), BLEND_WEIGHTS, ITEM_IDS, TOP}
        if model.conditioned is not None:
            taken.add(PREFERENCE)
        self.names = input_names(self.schema, taken, lists)
        if BLEND_WEIGHTS in self.schema.inputs:
            raise InputError(f"a feature may not be called {BLEND_WEIGHTS!r}: requests give the blend's weights under "
                             "that name; rename it in the schema")
        self.features = {name: f.raw[name].spec([None, None] if lists and not f.context else [None])
                         for name, f in self.schema.inputs.items()}
        if lists:
            self.features[LIST_SIZE] = tf.TensorSpec([None], tf.int32)
        self.score = tf.function(self._score, input_signature=[self.features], autograph=False)
        asked = {**self.features, PREFERENCE: tf.TensorSpec([None, len(model.tasks)], tf.float32)}
        self.score_asked = tf.function(self._score, input_signature=[asked], autograph=False)

    def raw(self, extras: Mapping[str, Any], finish: Any, outputs: dict[str, Any]) -> Signature:
        """A signature of named tensors: features and further inputs."""
        names = {**self.names, **{name: name for name in extras}}
        specs = {names[name]: spec for name, spec in {**self.features, **extras}.items()}
        per_item = [f.name for f in self.schema.features if not f.context]
        items = self.names[per_item[0]] if self.lists and per_item else None

        def serve(tensors: dict[str, Any]) -> dict[str, Any]:
            tensors = checked(tensors, specs, items)
            scores, valid = self._scored({name: tensors[names[name]] for name in self.features}, tensors)
            return finish(scores, valid, {name: tensors[name] for name in extras})

        def feed(request: Request) -> dict[str, Any]:
            return {name: request[feature] for feature, name in names.items()}

        return self._signature(serve, specs, outputs, tuple(extras), PREDICT, _same, feed, finish)

    def elwc(self, extras: Mapping[str, Any]) -> Signature:
        """The signature of serialized lists; further inputs are features of the context."""
        context = {name: spec.shape[1] for name, spec in extras.items()}

        def serve(tensors: dict[str, Any]) -> dict[str, Any]:
            raw = parse_lists(tensors["inputs"], self.schema, context)
            scores, valid = self._scored({name: raw[name] for name in self.features}, raw)
            return self.answers.scores(scores, valid, {name: raw[name] for name in extras})

        def feed(request: Request) -> dict[str, Any]:
            return {"inputs": _serialized(list_messages(request, self.schema, context))}

        specs, outputs = {"inputs": tf.TensorSpec([None], tf.string)}, self.answers.score_specs()
        return self._signature(serve, specs, outputs, tuple(extras), PREDICT, _same, feed, self.answers.scores)

    def items(self, finish: Any, outputs: dict[str, Any], method: str) -> Signature:
        """A signature of serialized items, each scored alone."""
        def serve(tensors: dict[str, Any]) -> dict[str, Any]:
            raw = parse_items(tensors["inputs"], self.schema, self.lists)
            return finish(*self.score(raw), {})

        def feed(request: Request) -> dict[str, Any]:
            return {"inputs": _serialized(item_messages(request, self.schema))}

        specs = {"inputs": tf.TensorSpec([None], tf.string)}
        return self._signature(serve, specs, outputs, (), method, self._alone if self.lists else _same, feed, finish)

    def _signature(
        self, serve: Any, specs: dict[str, Any], outputs: dict[str, Any], extras: tuple[str, ...], *rest: Any
    ) -> Signature:
        def stated(tensors: dict[str, Any]) -> dict[str, Any]:
            answers = serve(tensors)
            for name, value in answers.items():  # ranks: a request parser needs them where the graph leaves them open
                value.set_shape(outputs[name].shape)
            return answers

        named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()}
        function = tf.function(stated, input_signature=[named], autograph=False)
        function.get_concrete_function()
        return Signature(function, named, outputs, extras, *rest)

    def _alone(self, request: Request) -> Request:
        return one_item_lists(request, self.schema)

    def _scored(self, features: dict[str, Any], tensors: dict[str, Any]) -> tuple[TaskScores, Mask | None]:
        """Scores with the preference of the request, if this ranker reads one and the request has it."""
        if self.model.conditioned is None or PREFERENCE not in tensors:
            return self.score(features)
        return self.score_asked({**features, PREFERENCE: tensors[PREFERENCE]})

    def _score(self, raw: dict[str, Any]) -> tuple[TaskScores, Mask | None]:
        """Raw features to ``({task: float32[B, L]}, valid)``."""
        looked_up = self.lookup(raw)
        if PREFERENCE in raw and self.model.conditioned is not None:
            looked_up[PREFERENCE] = raw[PREFERENCE]
        batch = self.model.batch(looked_up)
        scores = self.model.architecture(batch=batch, training=False)
        return {task: tf.cast(score, tf.float32) for task, score in scores.items()}, batch.valid


def input_names(schema: Schema, taken: Iterable[str], lists: bool) -> dict[str, str]:
    """What inputs are called in signatures: their own name wherever TensorFlow lets an input have it.

    Others (``"BM25 body"``, ``"1"``) get ``_`` for each character that is no letter, digit or underscore, and
    ``feature_`` in front of what does not start with a letter or is the name of an output or a further input.

    Args:
        schema: the features.
        taken: names of outputs, since converters break where an input shares one, and of further inputs.
        lists: whether there is a ``list_size``.

    Raises:
        ValueError: when two features would share an input.

    >>> from tfmtl2r import Dense
    >>> input_names(Schema([Dense("price"), Dense("BM25 body"), Dense("1")]), [], lists=False)
    {'price': 'price', 'BM25 body': 'BM25_body', '1': 'feature_1'}
    """
    reserved = {*taken, "self"}
    names: dict[str, str] = {}
    used: dict[str, str] = {}
    for feature in [*schema.inputs, *([LIST_SIZE] if lists else [])]:
        name = re.sub(r"[^A-Za-z0-9_]", "_", feature)
        if not name[:1].isalpha() or name in reserved:
            name = f"feature_{name}"
        # TensorFlow makes names differ by more than capitals.
        if name.lower() in used:
            raise InputError(f"the features {used[name.lower()]!r} and {feature!r} would both be served as the input "
                             f"{name!r} (TensorFlow tells neither capitals nor signs apart there): rename one of them "
                             "in the schema")
        names[feature] = name
        used[name.lower()] = feature
    return names


def _same(request: Request) -> Request:
    return request


def _serialized(messages: list[Any]) -> np.ndarray:
    # Objects: numpy's own bytes would lose zeros at the end of a message.
    return np.array([message.SerializeToString(deterministic=True) for message in messages], object)
