"""Checks that an export must pass before it is published, and that can be repeated on any copy of the export.

The checks look at the files first, then read the graph, and then run it. Each stage runs only if the stage before found
no problem. All inputs of the checks are in the folder: ``assets.extra/tfmtl2r.json`` contains the planned signatures,
and the warm-up records contain requests with the outputs of ``model.predict``. A check of the graph is a function of a
:class:`Subject` that yields one sentence for each problem.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import UserError
from tfmtl2r.reading import read_json
from tfmtl2r.serving import warmup
from tfmtl2r.serving.differences import differences
from tfmtl2r.serving.examples import merged
from tfmtl2r.serving.session import SERVE, LoadedExport
from tfmtl2r.serving.signatures import CLASSIFY, REGRESS
from tfmtl2r.serving.versions import SAVED_MODEL, is_version, latest
from tfmtl2r.serving.warmup import MOST, WARMUP, Record

METADATA = "assets.extra/tfmtl2r.json"
EXPORT_AGAIN = "export the run again (tfmtl2r export)"
"""What to do about damaged metadata."""
FILES = (SAVED_MODEL, "variables/variables.index", METADATA, WARMUP)
REFUSED = {
    r"PyFunc": "runs Python code, which the server does not have",
    r"Random|Rng|Multinomial|TruncatedNormal|StatefulUniform|StatefulStandardNormal": "draws random numbers, so that "
    "the same request would get other scores",
}
"""Pattern of forbidden operations -> reason. A signature of a served graph must not reach these operations."""
_COMPILED = "_XlaMustCompile"
_SERVED = {tf.float32, tf.int32, tf.int64, tf.string, tf.bool}
SIDES = ("inputs", "outputs")
_INITIALISES = "__saved_model_init_op"
_EXACT = {REGRESS: ({"inputs"}, {"outputs"}), CLASSIFY: ({"inputs"}, {"classes", "scores"})}


class ExportError(UserError, RuntimeError):
    """An export failed its checks."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """An export under test.

    Args:
        export: the loaded version folder.
        metadata: content of ``tfmtl2r.json``.
        records: warm-up requests with their expected outputs.
    """

    export: LoadedExport
    metadata: Mapping[str, Any]
    records: list[Record]

    @property
    def tolerance(self) -> float:
        """Allowed error of an output, relative to the largest valid number of the output or to 1, if that is larger."""
        return self.metadata["tolerance"]

    @property
    def factors(self) -> Mapping[str, float]:
        """Output -> factor of the tolerance; empty for an export of an earlier version."""
        return self.metadata.get("tolerance_factors", {})


Check = Callable[[Subject], Iterable[str]]


def check(folder: str | Path) -> Path:
    """Runs all checks on an export.

    Args:
        folder: a version folder, or the folder of an export. For an export, the checks run on the version with the
            highest number, because the server loads this version.

    Returns:
        The version folder.

    Raises:
        ExportError: when a check fails; the message lists all problems.
        FileNotFoundError: when there is no export.
    """
    folder = latest(folder)
    reasons = problems(folder)
    if reasons:
        listed = "".join(f"\n- {reason}" for reason in reasons)
        raise ExportError(f"TensorFlow Serving could not serve {folder} correctly:{listed}")
    return folder


def problems(folder: Path) -> list[str]:
    """Returns all problems of a version folder; an empty list if the folder can be served.

    Args:
        folder: the folder with ``saved_model.pb``.
    """
    reasons = list(_layout(folder))
    if reasons:
        return reasons
    try:
        metadata = read_json(folder / METADATA, EXPORT_AGAIN)
        records = list(warmup.read(folder / WARMUP))
    except (tf.errors.OpError, ValueError) as error:
        return [f"{METADATA} or {WARMUP} cannot be read: {said(error)}"]
    if not _tells_a_plan(metadata):
        return [f"{METADATA} lacks signatures or parts of them: the file is damaged, or an older tfmtl2r wrote it; "
                "export again"]
    try:
        export = LoadedExport(folder)
    except (tf.errors.OpError, RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        return [f"TensorFlow's session loader refused the export with {error}"]
    with export:
        subject = Subject(export, metadata, records)
        for group in (GRAPH, NUMBERS):
            reasons = [reason for one in group for reason in _reasons(one, subject)]
            if reasons:
                break
    return reasons


def _layout(folder: Path) -> Iterator[str]:
    if not is_version(folder):
        yield f"the folder is called {folder.name!r}; the server reads folders whose name is a number below 2**63"
    for name in FILES:
        if not (folder / name).is_file():
            yield f"the file {name} is missing: the export is incomplete, or tfmtl2r did not write it"


def _tells_a_plan(metadata: Any) -> bool:
    """Whether metadata contain everything that the checks read."""
    try:
        specs = [spec for plan in metadata["signatures"].values() for side in SIDES for spec in plan[side].values()]
        told = [_text(spec["dtype"], spec["shape"]) for spec in specs]
        methods = [plan["method"] for plan in metadata["signatures"].values()]
        return bool(told) and all(isinstance(method, str) for method in methods) and metadata["tolerance"] > 0
    except (KeyError, TypeError, AttributeError):
        return False


def one_graph(subject: Subject) -> Iterator[str]:
    """The server requires exactly one graph with exactly the tag ``serve``."""
    from tensorflow.core.protobuf import saved_model_pb2  # has no public name; TensorFlow is already imported

    path = subject.export.folder / SAVED_MODEL
    graphs = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs
    tags = [sorted(graph.meta_info_def.tags) for graph in graphs]
    if tags != [[SERVE]]:
        yield f"{SAVED_MODEL} should contain one graph with the tags [{SERVE!r}], but contains {tags}"


def signatures_as_planned(subject: Subject) -> Iterator[str]:
    """The export has exactly the planned signatures, with the planned methods, names, types and shapes."""
    planned, definitions = subject.metadata["signatures"], _definitions(subject)
    for name in sorted({*planned, *definitions}):
        if name not in definitions or name not in planned:
            yield f"the signature {name!r} is {'missing' if name in planned else 'not planned'}"
            continue
        definition, plan = definitions[name], planned[name]
        if definition.method_name != plan["method"]:
            yield f"signature {name!r}: the method should be {plan['method']!r}, but is {definition.method_name!r}"
        for side in SIDES:
            expected = {key: _text(spec["dtype"], spec["shape"]) for key, spec in plan[side].items()}
            found = {key: _text(info.dtype, _shape(info)) for key, info in getattr(definition, side).items()}
            for key in sorted({*expected, *found}):
                if expected.get(key) != found.get(key):
                    yield (f"signature {name!r}: {side[:-1]} {key!r} should be {expected.get(key, 'left out')}, "
                           f"but is {found.get(key, 'missing')}")


def batchable_signatures(subject: Subject) -> Iterator[str]:
    """Inputs and outputs are dense tensors with a free first axis, of types that JSON can represent.

    ``regress`` and ``classify`` also have the inputs and outputs that the server requires.
    """
    there = {node.name for node in subject.export.meta_graph.graph_def.node}
    for name, definition in _definitions(subject).items():
        sides = (set(definition.inputs), set(definition.outputs))
        if sides != _EXACT.get(definition.method_name, sides):
            yield f"signature {name!r}: method {definition.method_name!r} cannot have the inputs and outputs {sides}"
        for key, info in [*definition.inputs.items(), *definition.outputs.items()]:
            shape = _shape(info)
            if info.WhichOneof("encoding") != "name":
                yield f"signature {name!r}: {key!r} is no dense tensor; the server accepts only dense tensors"
            elif info.name.split(":")[0] not in there:
                yield f"signature {name!r}: {key!r} refers to {info.name!r}, which is not in the graph"
            elif not shape or shape[0] is not None:
                yield f"signature {name!r}: {key!r} has the shape {shape}; its first axis must be open, for requests"
            elif tf.as_dtype(info.dtype) not in _SERVED:
                yield f"signature {name!r}: {key!r} is {tf.as_dtype(info.dtype).name}, which the server cannot write"


def servable_operations(subject: Subject) -> Iterator[str]:
    """No signature uses an operation that the server lacks or that makes scores random."""
    for name in _definitions(subject):
        found: dict[str, set[str]] = {}
        for operation, compiled in operations(subject.export.meta_graph, name):
            for pattern, why in REFUSED.items():
                if re.search(pattern, operation):
                    found.setdefault(why, set()).add(operation)
            if compiled:
                why = "must be compiled with XLA (jit_compile=True), which the server switches off"
                found.setdefault(why, set()).add(operation)
        yield from (f"signature {name!r}: {', '.join(sorted(ops))} {why}" for why, ops in found.items())


def warmup_covers(subject: Subject) -> Iterator[str]:
    """There is a warm-up record for each signature, none for other signatures, and not too many for the server."""
    known, recorded = set(_definitions(subject)), {record.signature for record in subject.records}
    if len(subject.records) > MOST:
        yield f"{WARMUP} contains {len(subject.records)} records; the server refuses versions with more than {MOST}"
    for name in sorted(known ^ recorded):
        yield f"{WARMUP} contains " + (f"no record for {name!r}" if name in known else f"a record for {name!r}, which "
                                       "is no signature: the server would refuse the version")


def replays_warmup(subject: Subject) -> Iterator[str]:
    """Every recorded request runs and returns the outputs of ``model.predict``, also in padded places."""
    for number, record in enumerate(subject.records):
        found = subject.export.run(record.signature, record.inputs)
        what = f"signature {record.signature!r}, warm-up record {number}"
        expected = record.outputs or found
        yield from differences(what, "model.predict", found, expected, subject.tolerance, subject.factors)


def ignores_padding(subject: Subject) -> Iterator[str]:
    """A request returns the same scores alone and merged with others, as the server's batching merges requests."""
    for name in _definitions(subject):
        requests = [{key: np.asarray(value) for key, value in record.inputs.items()}
                    for record in subject.records if record.signature == name]
        requests = [request for request in requests if all(value.size for value in request.values())]
        if len(requests) < 2:
            continue
        together, start = subject.export.run(name, merged(requests)), 0
        for request in requests:
            alone = subject.export.run(name, request)
            rows = slice(start, start := start + len(next(iter(alone.values()))))
            cut = {key: value[(rows, *map(slice, alone[key].shape[1:]))] for key, value in together.items()}
            shapes = next(iter(request.values())).shape
            what = f"signature {name!r}, a request whose first input has the shape {shapes} alone"
            yield from differences(what, "the same merged with others", alone, cut, subject.tolerance, subject.factors)


GRAPH: tuple[Check, ...] = (one_graph, signatures_as_planned, batchable_signatures, servable_operations, warmup_covers)
NUMBERS: tuple[Check, ...] = (replays_warmup, ignores_padding)


def operations(meta_graph: object, signature: str) -> Iterator[tuple[str, bool]]:
    """Yields every operation that a signature can reach (also in functions), and whether it must be compiled with XLA.

    Args:
        meta_graph: a ``MetaGraphDef``.
        signature: name of the signature.
    """
    graph = meta_graph.graph_def  # type: ignore[attr-defined]
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function for function in graph.library.function}
    outputs = meta_graph.signature_def[signature].outputs.values()  # type: ignore[attr-defined]
    todo = [nodes[name] for info in outputs if (name := info.name.split(":")[0]) in nodes]
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
        # Names inside a function are local to it, and the whole body of the function is already on the list.
        for name in (re.sub(r"^\^|:.*$", "", source) for source in node.input):
            if name in nodes and nodes[name] is not node and name not in seen_nodes:
                seen_nodes.add(name)
                todo.append(nodes[name])


def _definitions(subject: Subject) -> dict[str, Any]:
    definitions = subject.export.meta_graph.signature_def
    return {name: definitions[name] for name in sorted(definitions) if name != _INITIALISES}


def _reasons(one: Check, subject: Subject) -> list[str]:
    try:
        return list(one(subject))
    except (tf.errors.OpError, ValueError, TypeError, KeyError) as error:
        return [f"the graph cannot run: {said(error)}"]


def said(error: Exception) -> str:
    """The message of a TensorFlow error without its stack traces."""
    traces = r"Graph execution error|Detected at|<stack|\[\[|File |$"
    lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines()]
    return " ".join(line for line in lines if not re.match(traces, line))[:500]


def _shape(info: Any) -> list[int | None] | None:
    shape = tf.TensorShape(info.tensor_shape)
    return None if shape.rank is None else shape.as_list()


def _text(dtype: Any, shape: list[int | None] | None) -> str:
    return f"{tf.as_dtype(dtype).name}{'(unknown)' if shape is None else tuple(shape)}"
