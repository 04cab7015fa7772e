"""What is behind the stand-in server of :mod:`servicer`: versions that load, warm up, merge requests and go away."""

import contextlib
import queue
import re
import threading
import time
from concurrent import futures

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from tfmtl2r._backend import tf
from tfmtl2r.serving.configs import MODELS, entry
from tfmtl2r.serving.examples import merged
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.serving.versions import numbers

WARMUP = "assets.extra/tf_serving_warmup_requests"
Status = get_model_status_pb2.ModelVersionStatus


class RefusedError(Exception):
    """A request that the server answers with an error."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Servable:
    """One version: loaded, warmed up, and closed when nobody uses it any more."""

    def __init__(self, folder, batching):
        self.version = int(folder.name)
        self.loaded = LoadedExport(folder)
        self.definitions = self.loaded.meta_graph.signature_def
        self._batcher = Batcher(self._run, **batching) if batching is not None else None
        self._users, self._idle = 1, threading.Condition()
        try:
            self._warm_up(folder / WARMUP)
        except BaseException:
            self.close()
            raise

    def acquire(self):
        with self._idle:
            if self._users:
                self._users += 1
            return bool(self._users)

    def release(self):
        with self._idle:
            self._users -= 1
            self._idle.notify_all()

    def retire(self):
        """Lets go of the version when the last request has left."""
        self.release()
        with self._idle:
            self._idle.wait_for(lambda: not self._users)
        self.close()

    def close(self):
        if self._batcher:
            self._batcher.close()
        self.loaded.__exit__()

    def definition(self, name):
        if (name or "serving_default") not in self.definitions:
            raise RefusedError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        return self.definitions[name or "serving_default"]

    def run(self, name, inputs):
        """Outputs of a signature; checks what the server checks before it runs the graph."""
        definition = self.definition(name)
        inputs = {**{key: tf.make_ndarray(value) for key, value in definition.defaults.items() if key not in inputs},
                  **inputs}
        missing, extra = set(definition.inputs) - set(inputs), set(inputs) - set(definition.inputs)
        if missing or extra:
            raise RefusedError("INVALID_ARGUMENT", "input size does not match signature: Sent extra: "
                               f"{{{','.join(sorted(extra))}}}. Missing but required: {{{','.join(sorted(missing))}}}.")
        for key, value in inputs.items():
            wanted = tf.as_dtype(definition.inputs[key].dtype)
            if tf.as_dtype(value.dtype) != wanted:
                raise RefusedError("INVALID_ARGUMENT", f"Expects {key} to be {wanted.name} but "
                                   f"{tf.as_dtype(value.dtype).name} is provided")
        if self._batcher:
            return self._batcher.run(name or "serving_default", inputs)
        return self._run(name or "serving_default", inputs)

    def _run(self, name, inputs):
        # Session.run would check shapes against the placeholders; the server's C++ session leaves them to the graph.
        definition, session = self.definitions[name], self.loaded._session
        graph = session.graph
        feeds = {graph.get_tensor_by_name(definition.inputs[key].name)._as_tf_output(): value
                 for key, value in inputs.items()}
        fetches = [graph.get_tensor_by_name(info.name)._as_tf_output() for info in definition.outputs.values()]
        return dict(zip(definition.outputs, session._call_tf_sessionrun(None, feeds, fetches, [], None), strict=True))

    def _warm_up(self, path):
        if path.is_file():
            for record in tf.data.TFRecordDataset(str(path)):
                log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
                kind = log.WhichOneof("log_type")
                {"predict_log": predict, "regress_log": regress, "classify_log": classify}[kind](
                    self, getattr(log, kind).request)


class Batcher:
    """Merges requests as the server does with pad_variable_length_inputs; what it refuses fails the whole batch."""

    def __init__(self, run, rows=64, seconds=0.002):
        self._run, self._rows, self._seconds = run, rows, seconds
        self._queue = queue.SimpleQueue()
        self.sizes = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def run(self, name, inputs):
        if len({value.shape[:1] for value in inputs.values()}) > 1 or not all(v.ndim for v in inputs.values()):
            raise RefusedError("INVALID_ARGUMENT",
                               "Batching session Run() input tensors must have equal 0th-dimension size")
        answer = futures.Future()
        self._queue.put((name, inputs, answer))
        return answer.result()

    def close(self):
        self._queue.put(None)
        self._thread.join()

    def _work(self):
        while (first := self._queue.get()) is not None:
            batch, until = [first], time.monotonic() + self._seconds
            with contextlib.suppress(queue.Empty):
                while sum(rows(inputs) for _, inputs, _ in batch) < self._rows:
                    batch.append(self._queue.get(timeout=max(until - time.monotonic(), 1e-4)))
                    if batch[-1] is None:
                        self._queue.put(batch.pop())
                        break
            for name in {name for name, _, _ in batch}:
                self._answer(name, [(inputs, answer) for key, inputs, answer in batch if key == name])

    def _answer(self, name, group):
        self.sizes.append(len(group))
        try:
            outputs = self._run(name, padded([inputs for inputs, _ in group]))
        except Exception as error:
            for _, answer in group:
                answer.set_exception(error)
            return
        start = 0
        for inputs, answer in group:
            part = slice(start, start := start + rows(inputs))
            answer.set_result({key: value[part] for key, value in outputs.items()})


def padded(requests):
    """One request from many, or the server's refusal."""
    if len(requests) == 1:
        return requests[0]
    if len({tuple(value.ndim for _, value in sorted(request.items())) for request in requests}) > 1:
        raise RefusedError("INVALID_ARGUMENT", "Tensors from different tasks have different number of dimensions")
    if not all(value.size for request in requests for value in request.values()):
        raise RefusedError("INVALID_ARGUMENT", "Got empty tensor in batch of non-empty tensors.")
    return merged(requests)


def rows(inputs):
    return len(next(iter(inputs.values())))


class Model:
    """Watches a folder: the newest version that loads is served, or those that ``models.config`` asks for.

    The file is read in the order of the server's ``ReloadConfig``: first its labels, of which a known one moves only to
    a version that is loaded; where one cannot move, nothing of the file counts, the versions that it asks for included.
    """

    def __init__(self, base, name, batching, configured, poll):
        self.base, self.name, self.labels = base, name, {}
        self._batching, self._configured, self._poll = batching, configured, poll
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._policy = model_server_config_pb2.ModelConfig().model_version_policy
        self.servables, self.states, self.log, self.refused = {}, {}, [], []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self):
        self._thread.start()

    def close(self):
        self._stop.set()
        self._thread.join()
        for servable in self.servables.values():
            servable.retire()

    @property
    def current(self):
        return self.servables[max(self.servables)] if self.servables else None

    @contextlib.contextmanager
    def servable(self, spec):
        if spec.name != self.name:
            raise RefusedError("NOT_FOUND", f"Servable not found for request: Latest({spec.name})")
        with self._lock:
            if spec.version_label and spec.version_label not in self.labels:
                raise RefusedError("INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}")
            wanted = self.labels[spec.version_label] if spec.version_label else \
                spec.version.value if spec.HasField("version") else None
            servable = self.current if wanted is None else self.servables.get(wanted)
            if servable is None or not servable.acquire():
                raise RefusedError("NOT_FOUND", f"Servable not found for request: {self.name} {wanted or 'Latest'}")
        try:
            yield servable
        finally:
            servable.release()

    def look(self):
        """Reads the file, then the folder."""
        if self._configured:
            self._reload(entry(self.base / MODELS, self.name))
        wanted = self._wanted(numbers(self.base))
        for number in wanted:
            if number not in self.states:
                self._load(number)
        if any(number in self.servables for number in wanted):  # what serves stays until there is something else
            for number in set(self.servables) - set(wanted):
                with self._lock:
                    old = self.servables.pop(number)
                old.retire()
                self.states[number] = (Status.END, "")

    def _watch(self):
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._poll)

    def _reload(self, config):
        for label, version in config.version_labels.items():
            if self.labels.get(label, version) != version and version not in self.servables:
                self.refused.append(f"Request to assign label to version {version} of model {self.name}, which is not "
                                    "currently available for inference")
                return
        with self._lock:
            self.labels = dict(config.version_labels)
        self._policy = config.model_version_policy

    def _wanted(self, there):
        kind = self._policy.WhichOneof("policy_choice")
        if kind == "all":
            return there
        return [n for n in there if n in self._policy.specific.versions] if kind == "specific" else there[-1:]

    def _load(self, number):
        folder = next(path for path in self.base.iterdir() if re.fullmatch(f"0*{number}", path.name))
        self.states[number] = (Status.LOADING, "")
        try:
            servable = Servable(folder, self._batching)
        except Exception as error:
            self.states[number] = (Status.END, str(error))
            return
        with self._lock:
            self.servables[number] = servable
        self.states[number] = (Status.AVAILABLE, "")
        self.log.append(number)


def predict(servable, request):
    outputs = servable.run(request.model_spec.signature_name,
                           {name: tf.make_ndarray(value) for name, value in request.inputs.items()})
    answer = predict_pb2.PredictResponse()
    specify(answer, servable, request)
    for name in request.output_filter or outputs:
        if name not in outputs:
            raise RefusedError("INVALID_ARGUMENT", f"output tensor alias not found in signature: {name}")
        answer.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
    return answer


def regress(servable, request):
    outputs = servable.run(request.model_spec.signature_name, {"inputs": _examples(request.input)})
    answer = regression_pb2.RegressionResponse()
    specify(answer, servable, request)
    for value in outputs["outputs"].reshape(-1):
        answer.result.regressions.add().value = value
    return answer


def classify(servable, request):
    outputs = servable.run(request.model_spec.signature_name, {"inputs": _examples(request.input)})
    answer = classification_pb2.ClassificationResponse()
    specify(answer, servable, request)
    for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
        one = answer.result.classifications.add()
        for label, score in zip(labels, scores, strict=True):
            one.classes.add(label=label, score=score)
    return answer


def _examples(given):
    """Serialized examples; the bytes of a context go in front of each, as in the server."""
    context, listed = b"", given.example_list
    if given.WhichOneof("kind") == "example_list_with_context":
        listed = given.example_list_with_context
        context = listed.context.SerializeToString()
    if not listed.examples:
        raise RefusedError("INVALID_ARGUMENT", "Input is empty.")
    return np.array([context + example.SerializeToString() for example in listed.examples], object)


def specify(answer, servable, request):
    answer.model_spec.name = request.model_spec.name
    answer.model_spec.signature_name = request.model_spec.signature_name or "serving_default"
    answer.model_spec.version.value = servable.version
