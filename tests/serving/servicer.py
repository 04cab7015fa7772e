"""A stand-in for TensorFlow Serving, for tests: its gRPC and REST over the session loader that the server calls too.

It is our own reading of the server (version watching, warm-up as a gate, merging with padding, status codes) and proves
nothing about the server itself. The tests that use it run against ``tensorflow_model_server`` too where that is there.
"""

import json
import re
import threading
import time
from base64 import b64decode
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import grpc
import numpy as np
from google.protobuf import json_format
from servable import Model, RefusedError, Status, classify, predict, regress, specify
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfmtl2r._backend import tf

CODES = {code.value[0]: code for code in grpc.StatusCode}
HTTP = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "NOT_FOUND": 404, "ABORTED": 409,
        "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504}


class Service(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """The official services."""

    def __init__(self, model):
        self.model = model

    def Predict(self, request, context):
        return self._answer(predict, request, context)

    def Regress(self, request, context):
        return self._answer(regress, request, context)

    def Classify(self, request, context):
        return self._answer(classify, request, context)

    def GetModelMetadata(self, request, context):
        return self._answer(metadata, request, context)

    def GetModelStatus(self, request, context):
        return status(self.model)

    def _answer(self, function, request, context):
        try:
            with self.model.servable(request.model_spec) as servable:
                return function(servable, request)
        except RefusedError as error:
            context.abort(grpc.StatusCode[error.code], str(error))
        except tf.errors.OpError as error:
            context.abort(CODES[error.error_code], error.message)


def metadata(servable, request):
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    specify(answer, servable, request)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.definitions.items():
        definitions.signature_def[name].CopyFrom(definition)
    answer.metadata["signature_def"].Pack(definitions)
    return answer


def status(model):
    answer = get_model_status_pb2.GetModelStatusResponse()
    for number, (state, message) in sorted(model.states.items(), reverse=True):
        one = answer.model_version_status.add(version=number, state=state)
        one.status.error_code = 2 if message else 0
        one.status.error_message = message
    return answer


class Rest(BaseHTTPRequestHandler):
    """``:predict``, metadata and status of one model."""

    model = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = re.fullmatch(r"/v1/models/([^/:]+)((?:/(?:versions|labels)/[^/:]+)?)(/metadata)?", self.path)
        self._answer(path, lambda request: self._get(request, bool(path[3])))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = re.fullmatch(r"/v1/models/([^/:]+)((?:/(?:versions|labels)/[^/:]+)?):predict", self.path)
        self._answer(path, lambda request: self._predict(request, body))

    def _get(self, request, described):
        if not described:
            return json_format.MessageToDict(status(self.model), preserving_proto_field_name=True)
        with self.model.servable(request.model_spec) as servable:
            answer = metadata(servable, request)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(definitions)
        return {"model_spec": {"name": self.model.name, "signature_name": "", "version": str(servable.version)},
                "metadata": {"signature_def": json_format.MessageToDict(definitions, preserving_proto_field_name=True)}}

    def _predict(self, request, body):
        try:
            given = json.loads(body)
        except ValueError as error:
            raise RefusedError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
        with self.model.servable(request.model_spec) as servable:
            name = given.get("signature_name", "")
            infos = servable.definition(name).inputs
            inputs = {key: from_json(value, key, infos) for key, value in given.get("inputs", {}).items()}
            outputs = servable.run(name, inputs)
        columns = {key: to_json(value) for key, value in outputs.items()}
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}

    def _answer(self, path, function):
        code = 200
        try:
            if path is None:
                raise RefusedError("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
            request = predict_pb2.PredictRequest()
            request.model_spec.name = unquote(path[1])
            if path[2].startswith("/versions/"):
                request.model_spec.version.value = int(path[2].split("/")[2])
            elif path[2]:
                request.model_spec.version_label = path[2].split("/")[2]
            answer = function(request)
        except RefusedError as error:
            code, answer = HTTP.get(error.code, 500), {"error": str(error)}
        except tf.errors.OpError as error:
            code, answer = HTTP.get(CODES[error.error_code].name, 500), {"error": error.message}
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def from_json(value, name, infos):
    if name not in infos:
        raise RefusedError("INVALID_ARGUMENT", f"JSON object: does not have named input: {name}")
    dtype = tf.as_dtype(infos[name].dtype)

    def cells(part):
        if isinstance(part, list):
            return [cells(one) for one in part]
        if isinstance(part, dict) and dtype == tf.string:
            return b64decode(part["b64"])
        kinds = (str,) if dtype == tf.string else (int, float) if dtype.is_floating else (int,)
        if not isinstance(part, kinds):
            raise RefusedError("INVALID_ARGUMENT", f"JSON Value: {part!r} is not of expected type: {dtype.name}")
        return part

    try:
        return np.array(cells(value), dtype.as_numpy_dtype)
    except ValueError as error:
        raise RefusedError("INVALID_ARGUMENT", f"Expecting tensor of one size: {error}") from error


def to_json(value):
    if value.dtype == object:
        return np.vectorize(lambda text: text.decode(), otypes=[object])(value).tolist()
    if not np.isfinite(value).all():
        raise RefusedError("INTERNAL", "numbers that JSON cannot hold")
    return value.tolist()


class Server:
    """One model behind gRPC and REST on free ports of this machine; use it in a ``with`` statement.

    Args:
        base: the folder with the versions.
        name: of the model.
        batching: options of :class:`Batcher`; None answers each request by itself.
        configured: whether ``models.config`` says which versions are served under which labels.
        poll: seconds between looks at the folder.
    """

    def __init__(self, base, name="ranker", batching=None, configured=False, poll=0.05):
        self.model = Model(base, name, batching, configured, poll)
        self._grpc = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
        service = Service(self.model)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, self._grpc)
        self.target = f"localhost:{self._grpc.add_insecure_port('localhost:0')}"
        handler = type("Handler", (Rest,), {"model": self.model})
        self._http = ThreadingHTTPServer(("localhost", 0), handler)
        self._http.daemon_threads = True
        self.rest = f"http://localhost:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    def __enter__(self):
        self.model.start()
        self._grpc.start()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None).wait()
        self.model.close()

    def wait_for(self, version, seconds=120):
        """Waits until a version was loaded or refused; its state."""
        until = time.monotonic() + seconds
        while self.model.states.get(version, (Status.LOADING,))[0] == Status.LOADING:
            assert time.monotonic() < until, f"version {version} was not looked at: {self.model.states}"
            time.sleep(0.01)
        return self.model.states[version]
