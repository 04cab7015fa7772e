"""Warm-up records: requests that the server runs when it loads a version, with their expected outputs.

``assets.extra/tf_serving_warmup_requests`` is an uncompressed TFRecord file of ``PredictionLog``. The server runs the
requests and ignores the outputs. ``tfmtl2r export-check`` compares the outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError

WARMUP = "assets.extra/tf_serving_warmup_requests"
MOST = 1000
"""The maximum number of records; with more records, the server refuses to load the version."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A request and its expected outputs.

    Args:
        signature: name of the signature.
        inputs: input name -> values.
        outputs: output name -> values; empty if the record has no outputs.
    """

    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


def write(path: Path, model: str, records: Iterable[tuple[str, Record]]) -> None:
    """Writes records.

    Args:
        path: the file.
        model: name of the served model; the server does not compare it.
        records: pairs of a signature's method, for example ``"tensorflow/serving/predict"``, and a record.
    """
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for method, record in records:
            writer.write(_LOGS[method.rpartition("/")[2]](model, record).SerializeToString(deterministic=True))


def read(path: Path) -> Iterator[Record]:
    """Reads records as the server does.

    Args:
        path: the file.

    Raises:
        tf.errors.DataLossError: when the file is damaged, compressed or not a TFRecord file.
        ValueError: when a record is not a request of predict, regress or classify.
    """
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    for number, serialized in enumerate(tf.data.TFRecordDataset(str(path))):
        try:
            log = prediction_log_pb2.PredictionLog.FromString(serialized.numpy())
        except DecodeError as error:
            raise InputError(f"record {number} (counted from 0) is no PredictionLog: {error}") from error
        kind = log.WhichOneof("log_type")
        if kind not in _RECORDS:
            raise InputError(f"record {number} (counted from 0) contains {kind or 'nothing'}, expected one of "
                             f"{', '.join(_RECORDS)}")
        yield _RECORDS[kind](getattr(log, kind))


def _log(model: str, record: Record, kind: str) -> tuple[Any, Any, Any]:
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    filled = getattr(log, kind)
    filled.request.model_spec.name = model
    filled.request.model_spec.signature_name = record.signature
    return log, filled.request, filled.response


def _predict_log(model: str, record: Record) -> Any:
    log, request, response = _log(model, record, "predict_log")
    for target, values in ((request.inputs, record.inputs), (response.outputs, record.outputs)):
        for name, value in values.items():
            target[name].CopyFrom(tf.make_tensor_proto(np.asarray(value)))
    return log


def _regress_log(model: str, record: Record) -> Any:
    log, request, response = _log(model, record, "regress_log")
    _add_examples(request, record)
    for value in record.outputs["outputs"].tolist():
        response.result.regressions.add(value=value)
    return log


def _classify_log(model: str, record: Record) -> Any:
    log, request, response = _log(model, record, "classify_log")
    _add_examples(request, record)
    for classes, scores in zip(record.outputs["classes"].tolist(), record.outputs["scores"].tolist(), strict=True):
        item = response.result.classifications.add()
        for label, score in zip(classes, scores, strict=True):
            item.classes.add(label=label.decode(), score=score)
    return log


def _add_examples(request: Any, record: Record) -> None:
    for serialized in record.inputs["inputs"]:
        request.input.example_list.examples.add().ParseFromString(serialized)


def _predict_record(log: Any) -> Record:
    values = [{name: tf.make_ndarray(proto) for name, proto in side.items()}
              for side in (log.request.inputs, log.response.outputs)]
    return Record(log.request.model_spec.signature_name, *values)


def _regress_record(log: Any) -> Record:
    values = np.array([item.value for item in log.response.result.regressions], np.float32)
    outputs = {"outputs": values} if len(values) else {}
    return Record(log.request.model_spec.signature_name, _examples(log.request), outputs)


def _classify_record(log: Any) -> Record:
    items = log.response.result.classifications
    outputs = {
        "classes": np.array([[c.label.encode() for c in item.classes] for item in items], object),
        "scores": np.array([[c.score for c in item.classes] for item in items], np.float32),
    }
    return Record(log.request.model_spec.signature_name, _examples(log.request), outputs if items else {})


def _examples(request: Any) -> dict[str, np.ndarray]:
    """The input as the server passes it to the graph: serialized examples, each merged with the context."""
    if request.input.WhichOneof("kind") == "example_list_with_context":
        lists = request.input.example_list_with_context
        context = lists.context.SerializeToString()
        examples = [context + example.SerializeToString() for example in lists.examples]
    else:
        examples = [example.SerializeToString() for example in request.input.example_list.examples]
    return {"inputs": np.array(examples, object)}


_LOGS = {"predict": _predict_log, "regress": _regress_log, "classify": _classify_log}
_RECORDS = {"predict_log": _predict_record, "regress_log": _regress_record, "classify_log": _classify_record}
