"""The two protocols of TensorFlow Serving: gRPC and REST."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import UserError
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.serving.versions import latest

UNREACHABLE = ("no server answers at {}: start one with `tfmtl2r serve NAME`, and check the address (gRPC listens at "
               "8500, REST at http://HOST:8501 unless told otherwise)")


class ServingError(UserError, RuntimeError):
    """An error of the server, or of the connection to it.

    Args:
        message: message for the user.
        code: name of the error in gRPC (``"INVALID_ARGUMENT"``, ``"DEADLINE_EXCEEDED"``, ``"UNAVAILABLE"``, ...). For
            an error code of REST, it is ``"HTTP 400"`` or similar.
    """

    def __init__(self, message: str, code: str):
        super().__init__(message)
        self.code = code


class Transport(Protocol):
    """A connection to a server."""

    def __init__(self, target: str, model: str, version: int | str | None, timeout: float): ...

    def signatures(self) -> Mapping[str, Any]:
        """Every ``SignatureDef`` by name."""

    def predict(self, inputs: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        """Outputs by name."""

    def close(self) -> None:
        """Closes the connection."""


class Local:
    """An export that is loaded into this process, as a server loads it."""

    def __init__(self, target: str, model: str, version: int | str | None, timeout: float):
        self._export = LoadedExport(latest(target if version is None else f"{target}/{version}"))

    def close(self) -> None:
        self._export.__exit__()

    def signatures(self) -> Mapping[str, Any]:
        return self._export.meta_graph.signature_def

    def predict(self, inputs: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        return self._export.run(signature, inputs)


class Grpc:
    """gRPC with the official stubs."""

    def __init__(self, target: str, model: str, version: int | str | None, timeout: float):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(target, sizes)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._target, self._model, self._version, self._timeout = target, model, version, timeout

    def close(self) -> None:
        self._channel.close()

    def signatures(self) -> Mapping[str, Any]:
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        answer = self._call(self._stub.GetModelMetadata, request)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(definitions)
        return definitions.signature_def

    def predict(self, inputs: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        outputs = self._call(self._stub.Predict, request).outputs
        return {name: tf.make_ndarray(proto) for name, proto in outputs.items()}

    def _call(self, method: Any, request: Any) -> Any:
        import grpc

        request.model_spec.name = self._model
        if isinstance(self._version, str):
            request.model_spec.version_label = self._version
        elif self._version is not None:
            request.model_spec.version.value = self._version
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            code = error.code()
            if code == grpc.StatusCode.UNAVAILABLE:
                message = UNREACHABLE.format(self._target)
            elif code == grpc.StatusCode.DEADLINE_EXCEEDED:
                message = _late(self._target, self._timeout)
            else:
                message = f"the server at {self._target} answered {code.name} for {self._model!r}: {error.details()}"
            raise ServingError(message, code.name) from error


class Rest:
    """JSON over HTTP, in the column format of TensorFlow Serving."""

    def __init__(self, target: str, model: str, version: int | str | None, timeout: float):
        kind = "labels" if isinstance(version, str) else "versions"
        part = "" if version is None else f"/{kind}/{urllib.parse.quote(str(version), safe='')}"
        self._url = f"{target.rstrip('/')}/v1/models/{urllib.parse.quote(model, safe='')}{part}"
        self._target, self._model, self._timeout = target, model, timeout

    def close(self) -> None:
        pass

    def signatures(self) -> Mapping[str, Any]:
        from google.protobuf import json_format
        from tensorflow_serving.apis import get_model_metadata_pb2

        url, definitions = f"{self._url}/metadata", get_model_metadata_pb2.SignatureDefMap()
        answer = self._call(url, None)
        with _understood(url):
            json_format.ParseDict(answer["metadata"]["signature_def"], definitions, ignore_unknown_fields=True)
        return definitions.signature_def

    def predict(self, inputs: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        columns = {name: _json_value(value) for name, value in inputs.items()}
        body = {"signature_name": signature, "inputs": columns}
        url = f"{self._url}:predict"
        answer = self._call(url, body)
        with _understood(url):
            outputs = answer["outputs"]
            if not isinstance(outputs, dict):  # the server leaves out the name of a single output
                outputs = {"": outputs}
            return {name: np.array(value) for name, value in outputs.items()}

    def _call(self, url: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        try:
            with _understood(url), urllib.request.urlopen(request, timeout=self._timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from error
        except TimeoutError as error:
            raise ServingError(_late(self._target, self._timeout), "DEADLINE_EXCEEDED") from error
        except OSError as error:
            if isinstance(getattr(error, "reason", None), TimeoutError):
                raise ServingError(_late(self._target, self._timeout), "DEADLINE_EXCEEDED") from error
            raise ServingError(f"{UNREACHABLE.format(self._target)} ({error})", "UNAVAILABLE") from error

    def _refusal(self, error: urllib.error.HTTPError) -> ServingError:
        try:
            said = error.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException):  # the body is shorter than announced
            said = ""
        try:
            said = json.loads(said)["error"]
        except (ValueError, KeyError, TypeError):
            said = said or error.reason
        message = f"the server at {self._target} answered HTTP {error.code} for {self._model!r}: {said}"
        return ServingError(message, f"HTTP {error.code}")


@contextlib.contextmanager
def _understood(url: str) -> Iterator[None]:
    """Converts errors in reading an answer to a ServingError: the answer does not follow the server's API."""
    from google.protobuf import json_format

    try:
        yield
    except (ValueError, KeyError, TypeError, http.client.HTTPException, json_format.ParseError) as error:
        if isinstance(error, OSError):  # the connection was interrupted
            raise
        raise ServingError(f"{url} did not answer with the JSON of TensorFlow Serving ({error!r}): the address is no "
                           "TensorFlow Serving", "UNKNOWN") from error


def _late(target: str, timeout: float) -> str:
    return f"the server at {target} did not answer within {timeout:g} s: send smaller requests, or increase timeout"


def _json_value(value: np.ndarray) -> Any:
    if value.dtype != object:
        return value.tolist()
    cells = [{"b64": base64.b64encode(v).decode()} if isinstance(v, bytes) else str(v) for v in value.ravel()]
    flat = np.empty(len(cells), object)
    flat[:] = cells
    return flat.reshape(value.shape).tolist()
