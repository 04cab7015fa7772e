"""Converts exports to ONNX files, for example for ONNX Runtime. The extra ``[onnx]`` installs the libraries."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.errors import InputError, MissingPackageError, UserError
from tfmtl2r.serving.check import METADATA
from tfmtl2r.serving.differences import differences
from tfmtl2r.serving.onnx_operations import Tables, handlers
from tfmtl2r.serving.session import LoadedExport, quiet
from tfmtl2r.serving.versions import SAVED_MODEL, newest
from tfmtl2r.writing import written

OPSET = 18
TOLERANCE = 1e-4
"""Tolerance between the two runtimes, which sum in different orders; times the largest score if that is above 1."""
_SHAPES = ((2, 3), (1, 1), (3, 11))


class OnnxError(UserError, RuntimeError):
    """An export cannot be represented in ONNX, or its ONNX file returns other outputs; nothing was written."""


def export_onnx(export: str | Path, path: str | Path, *, signature: str = "predict_features") -> Path:
    """Writes a signature of an export as an ONNX file with the same input and output names.

    Normalisation and vocabularies are part of the file. Before the file is written, it is run with ONNX Runtime and
    compared with the export, on requests of several sizes with known and unknown categories and missing numbers.

    Args:
        export: a version folder, or the folder of an export (its newest version is used).
        path: the ``.onnx`` file; an existing file is replaced.
        signature: a signature of raw tensors. ONNX has no operations that parse serialized examples.

    Returns:
        The path.

    Raises:
        ImportError: when tf2onnx, onnx or onnxruntime is missing; the message contains the ``pip install`` command.
        ValueError: for an unknown signature, or a path that does not end in ``.onnx``.
        OnnxError: when ONNX lacks an operation (for example for hashed categories), or the outputs differ.
    """
    path, folder = Path(path), Path(export)
    if path.suffix != ".onnx":
        raise InputError(f"{path}: expected a file that ends in .onnx")
    if not (folder / SAVED_MODEL).is_file():
        folder = newest(folder)
    _libraries()
    with LoadedExport(folder) as loaded:
        definitions = loaded.meta_graph.signature_def
        if signature not in definitions:
            raise InputError(f"{folder} has no signature {signature!r}; it has {', '.join(sorted(definitions))}")
        model, tables = _converted(folder, signature)
        content = model.SerializeToString()
        _compare(content, loaded, signature, tables)
    with written(path) as temporary:
        temporary.write_bytes(content)
    return path


def _libraries() -> None:
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(f"export_onnx needs {error.name}: pip install 'tfmtl2r[onnx]'") from error


def _converted(folder: Path, signature: str) -> tuple[Any, Tables]:
    """The ONNX model, and the vocabularies in it: table -> keys and ids."""
    import onnx
    from tf2onnx import optimizer, tf_loader, tfonnx

    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it reports each missing operation many times; the error below reports it once
    try:
        with quiet():
            # tf2onnx finds some of the tables, but not all, and removes them from the function that it loads.
            owner = tf.saved_model.load(str(folder))
            function = owner.signatures[signature]
            frozen, inputs, outputs, names = tf_loader.from_saved_model(
                str(folder), None, None, tag="serve", signatures=[signature], return_tensors_to_rename=True,
            )
            tables = _tables(frozen, {inner.name.split(":")[0]: outer for outer, inner in function.graph.captures})
            with tf.Graph().as_default() as graph:
                tf.import_graph_def(frozen, name="")
                made = tfonnx.process_tf_graph(
                    graph, opset=OPSET, input_names=inputs, output_names=outputs, tensors_to_rename=names,
                    initialized_tables={}, custom_op_handlers=handlers(tables),
                )
            del owner  # no longer needed to keep the tables alive
            model = optimizer.optimize_graph(made).make_model(f"tfmtl2r {signature}")
        missing = sorted({node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type, node.domain)})
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            # In ONNX, a size 0 means "copy this size from the input" by default. tf2onnx uses such zeros itself, but a
            # computed 0 is an empty list.
            if node.op_type == "Reshape" and 0 not in constants.get(node.input[1], ()):
                node.attribute.append(onnx.helper.make_attribute("allowzero", 1))
        if missing:
            raise OnnxError(f"ONNX has no {', '.join(missing)}{_advice(missing)}: {folder} cannot become an ONNX file")
        return model, tables
    except ValueError as error:
        raise OnnxError(f"{folder} cannot become an ONNX file: error of tf2onnx: {error}") from error
    finally:
        logger.setLevel(level)


def _advice(missing: list[str]) -> str:
    if any("Hash" in name for name in missing):
        return " (a hashed category needs a vocabulary instead)"
    if any(re.search("DecodeProto|ParseExample", name) for name in missing):
        return " (a parser of serialized examples: take predict_features)"
    return ""


def _tables(frozen: Any, handles: Mapping[str, Any]) -> Tables:
    """Name of the table's node -> keys and ids, for every lookup table that a graph uses."""
    nodes = {node.name: node for node in frozen.node}
    tables = {}
    for node in frozen.node:
        if node.op == "LookupTableFindV2":
            table = nodes[node.input[0].split(":")[0]]
            while table.op == "Identity":
                table = nodes[table.input[0].split(":")[0]]
            keys, ids = tf.raw_ops.LookupTableExportV2(
                table_handle=handles[table.name], Tkeys=node.attr["Tin"].type, Tvalues=node.attr["Tout"].type)
            tables[table.name] = keys.numpy(), ids.numpy()
    return tables


def _compare(content: bytes, loaded: LoadedExport, signature: str, tables: Tables) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    path = loaded.folder / METADATA
    factors = json.loads(path.read_text(encoding="utf-8")).get("tolerance_factors", {}) if path.is_file() else {}
    for request in _requests(loaded.meta_graph.signature_def[signature], tables):
        found = {name: _as_bytes(value) for name, value in zip(names, session.run(None, request), strict=True)}
        expected = loaded.run(signature, request)
        for difference in differences("the ONNX file", "the export", found, expected, TOLERANCE, factors):
            raise OnnxError(f"{difference}; nothing was written")


def _as_bytes(value: np.ndarray) -> np.ndarray:
    """Converts text to bytes, as in outputs of TensorFlow."""
    if value.dtype.kind not in "OU":
        return value
    return np.array([text.encode() for text in value.ravel()], object).reshape(value.shape)


def _requests(definition: Any, tables: Tables) -> Iterator[dict[str, np.ndarray]]:
    """Requests of several sizes, with known and unknown categories, numbers of all magnitudes, NaN, and empty lists."""
    random = np.random.default_rng(0)
    keys: dict[str, list[Any]] = {"string": [b"<unknown>"], "int64": [-7]}
    for known, _ in tables.values():
        keys["int64" if known.dtype.kind == "i" else "string"].extend(known)
    for lists, length in _SHAPES:
        request = {}
        for name, info in sorted(definition.inputs.items()):  # the order of a protobuf map varies between processes
            sizes = [dim.size for dim in info.tensor_shape.dim]
            free = iter((lists, length, length))
            shape = [next(free) if size < 0 else size for size in sizes]
            dtype = tf.as_dtype(info.dtype)
            if dtype == tf.int32:  # lengths
                values = random.integers(0, length, shape, endpoint=True).astype(np.int32)
            elif dtype.name in keys:
                chosen = [keys[dtype.name][i] for i in random.integers(len(keys[dtype.name]), size=np.prod(shape))]
                texts = [key.decode() if isinstance(key, bytes) else key for key in chosen]
                values = np.array(texts, dtype.as_numpy_dtype).reshape(shape)
            else:
                values = (random.normal(size=shape) * 10.0 ** random.uniform(-8, 4, shape)).astype(dtype.as_numpy_dtype)
                if dtype.is_floating:
                    values[(-1,) * len(shape)] = np.nan
            request[name] = values
        yield request
    if LIST_SIZE in request:
        yield {**request, LIST_SIZE: np.zeros_like(request[LIST_SIZE])}
