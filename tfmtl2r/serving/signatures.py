"""The signatures of an export: functions of named tensors and of serialized examples, traced for the server.

A request has B lists with at most L items. The input ``list_size`` contains the lengths of lists. A mask would not
work: when the server merges requests, it pads a tensor with its own first element, so that a mask would be padded with
True. Every input has one row per list, because the server merges requests along this axis and refuses inputs without
it. There are therefore no scalars, and no inputs with defaults. An optional input is instead a signature of its own
(``predict_features``, ``predict_blended``), or a feature in the context of an ``ExampleListWithContext``.

=================== ================================================= ==============================================
signature           inputs                                            outputs
=================== ================================================= ==============================================
``predict_features`` every feature, ``list_size: int32[B]``            ``score_<task>``, ``value_<task>``,
                                                                      ``probability_<task>``, ``score``,
                                                                      ``valid``: ``[B, L]``; if merged also
                                                                      ``uncertainty_<task>``
``predict_blended`` the same and ``blend_weights: float32[B, T]``     the same
``predict_preferred`` features, ``list_size``, ``preference:           the same
                    float32[B, T]``
``predict_elwc``    ``inputs: string[B]``, ExampleListWithContext     the same
``rank``            the same as ``predict_blended`` and               ``indices``, ``ids``, ``score``,
                    ``item_ids: string[B, L]``, ``k: int32[B]``       ``score_<task>``, ``valid``: ``[B, max k]``
``regress``         ``inputs: string[N]``, tf.Example                 ``outputs: float32[N]``, the blended score
``classify``        the same                                          ``classes``, ``scores``: ``[N, T + 1]``
=================== ================================================= ==============================================

``serving_default`` is ``predict_features``. For plain rows, there are no ``list_size``, no axis of items, and no
signatures ``predict_elwc`` and ``rank``. ``regress`` and ``classify`` score every item alone. A ranker that scores an
item in the context of its list, or has such a blend, does not have them. The ``preference`` of a request is the
weights of its blend, and the input of a conditioned ranker. ``predict_elwc`` reads it from the context, and ``rank`` of
a conditioned ranker has it as an input; ``blend_weights`` take precedence there. If a row of ``preference`` is invalid
(negative, non-finite or all zero), the weights of the export and the preference of the training apply. The residuals
in ``value_<task>`` (:mod:`tfmtl2r.training.readings`) are those of the preference of the training.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE, PREFERENCE
from tfmtl2r.features.base import size_of
from tfmtl2r.layers.features import Lookup
from tfmtl2r.names import digest, served_as
from tfmtl2r.schema import Schema
from tfmtl2r.serving.answers import BLEND_WEIGHTS, ITEM_IDS, TOP, Answers, request_key
from tfmtl2r.serving.blend import Blend
from tfmtl2r.serving.parsing import Request, item_messages, list_messages, one_item_lists, parse_items, parse_lists
from tfmtl2r.serving.shapes import checked
from tfmtl2r.training.blending import check_usable, facts_of
from tfmtl2r.training.merged import Merged, MergedLookup
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.types import Mask, TaskScores

DEFAULT = "serving_default"
PREDICT, REGRESS, CLASSIFY = (f"tensorflow/serving/{method}" for method in ("predict", "regress", "classify"))


@dataclasses.dataclass(frozen=True)
class Signature:
    """A served function.

    Args:
        function: a traced function of one dict of tensors.
        inputs: input name -> spec.
        outputs: output name -> spec.
        extras: names of inputs of a request that are no features.
        method: the server's API for this signature.
        view: converts a raw request to the form of this signature: whole lists, or every item alone.
        feed: converts a request in this form to inputs by name.
        answer: computes the expected outputs from the scores by task, the mask and the further inputs.
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
    """All signatures of an export.

    Args:
        signatures: name -> signature.
        names: raw input of a feature, or ``list_size`` -> its input name in the signatures.
        left_out: signature that this ranker cannot have -> reason.
        lookup: the layer with the lookup tables, which an archive must track.
    """

    signatures: dict[str, Signature]
    names: dict[str, str]
    left_out: dict[str, str]
    lookup: Lookup | MergedLookup


def planned(model: MultiTaskRanker | Merged, blend: Blend, lists: bool) -> Plan:
    """Traces every signature that a ranker can have. The graph of the ranker itself is traced once.

    Args:
        model: a ranker that knows its features, or several that are merged.
        blend: a blend with a weight for every task (:func:`tfmtl2r.serving.blend.resolved`).
        lists: whether requests contain lists.

    Raises:
        ValueError: for a blend that the ranker cannot serve.
    """
    check_usable(blend.made, facts_of(model, lists), lists)
    graphs = _Graphs(model, blend, lists)
    answers = graphs.answers
    rows = "the ranker scores plain rows, which have no lists"
    alone = None
    if within := model.architecture.schema.list_context:
        alone = (f"the input {', '.join(map(repr, within))} is standardised within the list (within_list), so that an "
                 "item alone has no score")
    elif model.list_context:
        alone = "this ranker scores an item in the context of its list, so that an item alone has no score"
    elif blend.made.list_context:
        alone = "the blend compares the items of a list, so that an item alone has no blended score"
    weights = {BLEND_WEIGHTS: tf.TensorSpec([None, len(model.tasks)], tf.float32)}
    preferred = {PREFERENCE: tf.TensorSpec([None, len(model.tasks)], tf.float32)}
    ranking = {**weights, **(preferred if model.conditioned else {}),
               ITEM_IDS: tf.TensorSpec([None, None], tf.string), TOP: tf.TensorSpec([None], tf.int32)}
    makers: dict[str, tuple[str | None, Callable[[], Signature]]] = {
        "predict_features": (None, lambda: graphs.raw({}, answers.scores, answers.score_specs())),
        "predict_blended": (None, lambda: graphs.raw(weights, answers.scores, answers.score_specs())),
        "predict_preferred": (None, lambda: graphs.raw(preferred, answers.scores, answers.score_specs())),
        "predict_elwc": (None if lists else rows, lambda: graphs.elwc({**weights, **preferred})),
        "rank": (None if lists else rows, lambda: graphs.raw(ranking, answers.best, answers.best_specs())),
        "regress": (alone, lambda: graphs.items(answers.regressed, answers.regressed_specs(), REGRESS)),
        "classify": (alone, lambda: graphs.items(answers.classified, answers.classified_specs(), CLASSIFY)),
    }
    signatures = {name: make() for name, (reason, make) in makers.items() if reason is None}
    left_out = {name: reason for name, (reason, _) in makers.items() if reason is not None}
    signatures = {DEFAULT: signatures["predict_features"], **signatures}
    return Plan(signatures, graphs.names, left_out, graphs.lookup)


class _Graphs:
    """Makes signatures around one traced graph from raw features to scores."""

    def __init__(self, model: MultiTaskRanker | Merged, blend: Blend, lists: bool):
        self.model, self.schema, self.lists = model, model.architecture.schema, lists
        self.lookup = model.lookup() if isinstance(model, Merged) else Lookup(self.schema)
        self.answers = Answers.of(model, blend, lists)
        taken = {*self.answers.score_specs(), *self.answers.best_specs(), BLEND_WEIGHTS, PREFERENCE, ITEM_IDS, TOP}
        self.names = input_names(self.schema, taken, lists)
        self.features = {name: f.raw[name].spec([None, None] if lists and not f.context else [None])
                         for name, f in self.schema.inputs.items()}
        if lists:
            self.features[LIST_SIZE] = tf.TensorSpec([None], tf.int32)
        self.score = tf.function(self._score, input_signature=[self.features], autograph=False)
        asked = {**self.features, PREFERENCE: tf.TensorSpec([None, len(model.tasks)], tf.float32)}
        self.score_asked = tf.function(self._score, input_signature=[asked], autograph=False)

    def raw(self, extras: Mapping[str, Any], finish: Any, outputs: dict[str, Any]) -> Signature:
        """A signature with named tensors as inputs: features and further inputs."""
        specs = {**{self.names[name]: spec for name, spec in self.features.items()}, **extras}
        names = {**self.names, **{request_key(name, self.schema): name for name in extras}}
        per_item = [self.names[name] for name, f in self.schema.inputs.items() if self.lists and not f.context]
        items = next(iter(per_item), None)
        per_item += [ITEM_IDS] if ITEM_IDS in extras else []

        def serve(tensors: dict[str, Any]) -> dict[str, Any]:
            tensors = checked(tensors, specs, items, per_item)
            scores, valid = self._scored({name: tensors[self.names[name]] for name in self.features}, tensors)
            return finish(scores, valid, {name: tensors[name] for name in extras})

        def feed(request: Request) -> dict[str, Any]:
            return {name: request[feature] for feature, name in names.items()}

        return self._signature(serve, specs, outputs, tuple(extras), PREDICT, _same, feed, finish)

    def elwc(self, extras: Mapping[str, Any]) -> Signature:
        """The signature with serialized lists as input; further inputs are features of the context.

        A feature with the name of a further input is read in its place.
        """
        extras = {name: spec for name, spec in extras.items() if name not in self.schema.inputs}
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
        """A signature with serialized items as input; each item is scored alone."""
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
            for name, value in answers.items():  # parsers of requests need the ranks, which the graph may leave open
                value.set_shape(outputs[name].shape)
            return answers

        named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()}
        function = tf.function(stated, input_signature=[named], autograph=False).get_concrete_function()
        return Signature(function, named, outputs, extras, *rest)

    def _alone(self, request: Request) -> Request:
        return one_item_lists(request, self.schema)

    def _scored(self, features: dict[str, Any], tensors: dict[str, Any]) -> tuple[TaskScores, Mask | None]:
        """Computes scores, with the preference of the request if the ranker is conditioned and the request has one."""
        if self.model.conditioned is None or PREFERENCE not in tensors:
            return self.score(features)
        return self.score_asked({**features, PREFERENCE: tensors[PREFERENCE]})

    def _score(self, raw: dict[str, Any]) -> tuple[TaskScores, Mask | None]:
        """Computes ``({task: float32[B, L]}, valid)`` from raw features."""
        looked_up = self.lookup(raw)
        if PREFERENCE in raw and self.model.conditioned is not None:
            looked_up[PREFERENCE] = raw[PREFERENCE]
        scores = self.model(looked_up, training=False)
        return {name: tf.cast(score, tf.float32) for name, score in scores.items()}, self.model.batch(looked_up).valid


def input_names(schema: Schema, taken: Iterable[str], lists: bool) -> dict[str, str]:
    """Names of inputs in signatures: the name of the feature's raw input, if TensorFlow allows it.

    Other names change as in :func:`tfmtl2r.names.served_as`. If several features would have the same input name, each
    of them gets a digest of its own name.

    Args:
        schema: the features.
        taken: names of outputs and of further inputs. Converters fail if an input has the name of an output.
        lists: whether there is a ``list_size``.

    >>> from tfmtl2r import Dense
    >>> input_names(Schema([Dense("price"), Dense("BM25 body"), Dense("1")]), [], lists=False)
    {'price': 'price', 'BM25 body': 'BM25_body', '1': 'feature_1'}
    >>> input_names(Schema([Dense("a b"), Dense("a/b")]), [], lists=False)
    {'a b': 'a_b_c8687a08', 'a/b': 'a_b_c14cddc0'}
    """
    protocol = {LIST_SIZE: LIST_SIZE} if lists else {}
    taken = {*taken, *protocol}
    sizes = {size_of(name): name for f in schema.features for name, values in f.raw.items() if None in values.shape}
    names = {name: served_as(name, taken) for name in schema.inputs if name not in sizes}
    names |= {size: size_of(names[name]) for size, name in sizes.items()}
    alike: set[str] = set(names)
    while alike:  # a digest may make a name equal to the name of yet another feature
        # In TensorFlow, names must differ in more than their case.
        count = collections.Counter(name.lower() for name in [*names.values(), *taken])
        alike = {feature for feature, name in names.items()
                 if feature not in sizes and (count[name.lower()] > 1 or count[size_of(name).lower()] > 1)}
        names |= {feature: f"{names[feature]}_{digest(feature)}" for feature in alike}
    return {name: size_of(names[sizes[name]]) if name in sizes else names[name] for name in schema.inputs} | protocol


def _same(request: Request) -> Request:
    return request


def _serialized(messages: list[Any]) -> np.ndarray:
    # An object array, because numpy's type for bytes would drop zeros at the end of a message.
    return np.array([message.SerializeToString(deterministic=True) for message in messages], object)
