"""What an export has to pass before anybody can see it.

A check is a function of a :class:`Subject` that returns what is wrong, in sentences. The first group reads the graph;
the second runs it, and only where the first found nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.serving.examples import Request, merged
from tfmtl2r.serving.session import SERVE, LoadedExport
from tfmtl2r.serving.signatures import PADDED, Signature
from tfmtl2r.serving.versions import SAVED_MODEL

REFUSED = {
    r"PyFunc": "runs Python code, which the server does not have",
    r"Random|Rng|Multinomial|TruncatedNormal|StatefulUniform|StatefulStandardNormal": "draws random numbers, so that "
    "the same request would get other scores",
}
"""Operations that no served graph may reach, as patterns, and why."""
_COMPILED = "_XlaMustCompile"


class ExportError(RuntimeError):
    """An export failed its checks; nothing was published."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """An export under test.

    Args:
        export: the version folder, opened.
        signatures: what it should answer to, by name.
        requests: raw requests, by input name.
        predicted: the outputs that the merged requests should give.
        tolerance: how far a number may be off, as a share of the largest real one of its output, at least of 1.
    """

    export: LoadedExport
    signatures: Mapping[str, Signature]
    requests: Sequence[Request]
    predicted: Mapping[str, np.ndarray]
    tolerance: float


Check = Callable[[Subject], Iterable[str]]


def check(subject: Subject) -> None:
    """Runs all checks.

    Args:
        subject: what to check.

    Raises:
        ExportError: with every reason found.
    """
    for group in (GRAPH, NUMBERS):
        reasons = [reason for one in group for reason in _reasons(one, subject)]
        if reasons:
            listed = "".join(f"\n- {reason}" for reason in reasons)
            raise ExportError(f"the export was not published, since TensorFlow Serving could not serve it:{listed}")


def one_graph(subject: Subject) -> Iterator[str]:
    """The server wants exactly one graph, tagged exactly ``serve``."""
    from tensorflow.core.protobuf import saved_model_pb2  # it has no public name; TensorFlow is imported by now

    path = subject.export.folder / SAVED_MODEL
    graphs = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs
    tags = [sorted(graph.meta_info_def.tags) for graph in graphs]
    if tags != [[SERVE]]:
        yield f"{SAVED_MODEL} should hold one graph with the tags [{SERVE!r}], it holds {tags}"


def signatures_as_planned(subject: Subject) -> Iterator[str]:
    """Every signature is there, with its names, types and shapes, and a free batch axis."""
    for name, planned in subject.signatures.items():
        if name not in subject.export.meta_graph.signature_def:
            yield f"the signature {name!r} is missing"
            continue
        definition = subject.export.meta_graph.signature_def[name]
        for side, specs in (("input", planned.inputs), ("output", planned.outputs)):
            expected = {key: _text(spec.dtype, spec.shape) for key, spec in specs.items()}
            infos = getattr(definition, f"{side}s")
            found = {key: _text(info.dtype, tf.TensorShape(info.tensor_shape)) for key, info in infos.items()}
            for key in sorted({*expected, *found}):
                if expected.get(key) != found.get(key):
                    yield (f"signature {name!r}: {side} {key!r} should be {expected.get(key, 'left out')}, "
                           f"but is {found.get(key, 'missing')}")


def servable_operations(subject: Subject) -> Iterator[str]:
    """No operation that the server lacks, or that makes scores random."""
    for name in subject.signatures:
        found: dict[str, set[str]] = {}
        for operation, compiled in operations(subject.export.meta_graph, name):
            for pattern, why in REFUSED.items():
                if re.search(pattern, operation):
                    found.setdefault(why, set()).add(operation)
            if compiled:
                why = "must be compiled with XLA (jit_compile=True), which the server switches off"
                found.setdefault(why, set()).add(operation)
        yield from (f"signature {name!r}: {', '.join(sorted(ops))} {why}" for why, ops in found.items())


def agrees_with_predict(subject: Subject) -> Iterator[str]:
    """Raw requests give what ``model.predict`` gives; padded places are filled."""
    whole = merged(subject.requests)
    for name in subject.signatures:
        found = subject.export.run(name, whole)
        yield from differences(f"signature {name!r}", "model.predict", found, subject.predicted, subject.tolerance)


def ignores_padding(subject: Subject) -> Iterator[str]:
    """A request gives the same scores alone and merged with others, as the server's batching merges them."""
    for name in subject.signatures:
        together = subject.export.run(name, merged(subject.requests))
        start = 0
        for request in subject.requests:
            alone = subject.export.run(name, request)
            rows = slice(start, start := start + len(alone["score"]))
            cut = {key: value[(rows, *map(slice, alone[key].shape[1:]))] for key, value in together.items()}
            what = f"signature {name!r}, a request of shape {alone['score'].shape} alone"
            yield from differences(what, "the same merged with others", alone, cut, subject.tolerance)


GRAPH: tuple[Check, ...] = (one_graph, signatures_as_planned, servable_operations)
NUMBERS: tuple[Check, ...] = (agrees_with_predict, ignores_padding)


def operations(meta_graph: object, signature: str) -> Iterator[tuple[str, bool]]:
    """Every operation that a signature can reach, function bodies included, and whether it must be compiled.

    Args:
        meta_graph: a ``MetaGraphDef``.
        signature: the name of a signature.
    """
    graph = meta_graph.graph_def  # type: ignore[attr-defined]
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function for function in graph.library.function}
    outputs = meta_graph.signature_def[signature].outputs.values()  # type: ignore[attr-defined]
    todo = [nodes[info.name.split(":")[0]] for info in outputs]
    seen_nodes, seen_functions = {node.name for node in todo}, set()
    while todo:
        node = todo.pop()
        called = [value.func.name for value in node.attr.values() if value.func.name]
        called += [func.name for value in node.attr.values() for func in value.list.func]
        bodies = [functions[name] for name in called if name in functions]
        yield node.op, any(thing.attr[_COMPILED].b for thing in (node, *bodies) if _COMPILED in thing.attr)
        for body in bodies:
            if body.signature.name not in seen_functions:
                seen_functions.add(body.signature.name)
                todo.extend(body.node_def)
        # Names inside a function are its own; its whole body is on the list already.
        for name in (re.sub(r"^\^|:.*$", "", source) for source in node.input):
            if name in nodes and nodes[name] is not node and name not in seen_nodes:
                seen_nodes.add(name)
                todo.append(nodes[name])


def differences(
    what: str, other: str, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float
) -> Iterator[str]:
    """Where two sets of outputs differ, or hold numbers that are not finite.

    Args:
        what: whose ``found`` is, for the message.
        other: whose ``expected`` is.
        found, expected: outputs by name.
        tolerance: see :class:`Subject`.

    >>> list(differences("a", "b", {"score": np.array([0.5])}, {"score": np.array([0.25])}, 1e-5))
    ["a: 'score' is off from b by up to 0.25 (allowed: 1e-05)"]
    """
    for name, values in expected.items():
        if name not in found or found[name].shape != values.shape:
            shape = found[name].shape if name in found else "missing"
            yield f"{what}: {name!r} has the shape {shape}, expected {values.shape} as from {other}"
        elif not np.isfinite(found[name]).all():
            count = int((~np.isfinite(found[name])).sum())
            yield (f"{what}: {count} of {found[name].size} values of {name!r} are not finite; if model.predict gives "
                   "such scores too, the training diverged: try a lower learning rate")
        else:
            numbers = values.astype(np.float64)
            largest = np.abs(numbers[np.isfinite(numbers) & (numbers > PADDED / 2)]).max(initial=1.0)
            off = np.abs(found[name] - numbers).max(initial=0.0)
            if not off <= tolerance * largest:
                yield f"{what}: {name!r} is off from {other} by up to {off:.3g} (allowed: {tolerance * largest:.3g})"


def _reasons(one: Check, subject: Subject) -> list[str]:
    try:
        return list(one(subject))
    except tf.errors.OpError as error:
        lines = [line.strip() for line in error.message.splitlines()]
        said = [line for line in lines if line and not re.match(r"Graph execution error|Detected at|<stack|\[\[", line)]
        return [f"the graph cannot run: {' '.join(said)[:500]}"]


def _text(dtype: int, shape: object) -> str:
    return f"{tf.as_dtype(dtype).name}{shape}"
