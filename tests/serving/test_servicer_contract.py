"""What a caller may count on, through gRPC and REST: the same against our stand-in and, where it is there, the server.

The stand-in runs the session loader; see :mod:`servicer`.
"""

import contextlib
import shutil
import socket
import subprocess
import threading
import time

import grpc
import numpy as np
import pytest
from servicer import Server, Status
from serving_problem import SCHEMA, predicted
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfmtl2r._backend import tf
from tfmtl2r.serving.client import Client, ServingError
from tfmtl2r.serving.examples import requests
from tfmtl2r.serving.server import BINARY, Serving

NAME = "ranker"


class RealServer:
    """``tensorflow_model_server``, with the face of :class:`servicer.Server`."""

    def __init__(self, base):
        ports = []
        for _ in range(2):
            with socket.create_server(("localhost", 0)) as free:
                ports.append(free.getsockname()[1])
        command = Serving(base, NAME, *ports).command()
        self._process = subprocess.Popen([*command, "--file_system_poll_wait_seconds=0"],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.target, self.rest = f"localhost:{ports[0]}", f"http://localhost:{ports[1]}"
        self._channel = grpc.insecure_channel(self.target)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()
        self._process.terminate()
        self._process.wait()

    def wait_for(self, version, seconds=60):
        stub = model_service_pb2_grpc.ModelServiceStub(self._channel)
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = NAME
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(grpc.RpcError):
                for one in stub.GetModelStatus(request).model_version_status:
                    if one.version == version and one.state in (Status.AVAILABLE, Status.END):
                        return one.state, one.status.error_message
            time.sleep(0.1)
        raise AssertionError(f"version {version} was not looked at within {seconds} s")


@pytest.fixture(scope="module", params=["stand-in", BINARY])
def served(request, exported, tmp_path_factory):
    if request.param == BINARY and not shutil.which(BINARY):
        pytest.skip(f"{BINARY} is not on the PATH: the contract was tested against the stand-in only")
    base = tmp_path_factory.mktemp("served") / NAME
    shutil.copytree(exported.folder, base / "1")
    with (RealServer if request.param == BINARY else Server)(base) as server:
        assert server.wait_for(1) == (Status.AVAILABLE, "")
        server.base = base
        yield server


@pytest.fixture(params=["grpc", "rest"])
def client(request, served):
    with Client(served.target if request.param == "grpc" else served.rest, NAME, timeout=30) as client:
        yield client


@pytest.fixture
def stub(served):
    with grpc.insecure_channel(served.target) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def proto(inputs, signature="", name=NAME):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def refused(stub, request):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request, timeout=30)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize("signature", ["serving_default", "predict_features"])
def test_scores_are_those_of_predict(client, exported, signature):
    for request in requests(SCHEMA, seed=4):
        answer = client.predict(request, signature)
        expected = exported.run(request)
        assert set(answer) == set(expected)
        for name, value in answer.items():
            assert value.dtype == expected[name].dtype
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-5)
        valid = answer["valid"]
        for task, scores in predicted(exported.ranker, request).items():
            np.testing.assert_allclose(answer[f"score_{task}"][valid], scores[valid], rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 5000])
def test_short_and_long_lists(client, exported, length):
    request = {name: np.repeat(value[:1, :1], length, axis=1) if value.shape[:2] == (2, 3) else value[:1]
               for name, value in requests(SCHEMA)[0].items()} | {"list_size": np.int32([length])}
    answer = client.predict(request)
    assert answer["score"].shape == (1, length)
    np.testing.assert_allclose(answer["score"], exported.run(request)["score"], rtol=0, atol=1e-5)


def test_no_items(stub):
    first = requests(SCHEMA)[0]
    request = {name: value[:, :0] if value.shape[:2] == (2, 3) else value for name, value in first.items()}
    answer = stub.Predict(proto({**request, "list_size": np.int32([0, 0])}), timeout=30)
    assert {tuple(tf.make_ndarray(value).shape) for value in answer.outputs.values()} == {(2, 0)}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_become_the_mean(client, exported, value):
    request = requests(SCHEMA, seed=4)[1]
    answer = client.predict({**request, "vector": np.full_like(request["vector"], value)})
    mean = exported.run({**request, "vector": np.broadcast_to(np.float32([1, 2, 3, 4]), (3, 11, 4))})
    np.testing.assert_allclose(answer["score"], mean["score"], rtol=0, atol=1e-5)


def test_requests_that_the_signature_does_not_take(stub):
    good = requests(SCHEMA)[0]
    missing = {name: value for name, value in good.items() if name != "price"}
    code, message = refused(stub, proto(missing))
    assert code == "INVALID_ARGUMENT"
    assert "price" in message
    code, message = refused(stub, proto({**missing, "prise": good["price"]}))
    assert code == "INVALID_ARGUMENT"
    assert "pri" in message
    for changed in ({"price": good["price"].astype(np.float64)}, {"brand": good["price"]}, {"shop": good["brand"]},
                    {"list_size": good["list_size"].astype(np.int64)}, {"vector": good["vector"][..., :3]},
                    {"price": good["price"][:, :2]}, {"price": good["price"].ravel()}, {"age": good["age"][:1]},
                    {"list_size": np.int32(3)}):
        code, message = refused(stub, proto({**good, **changed}))
        assert code == "INVALID_ARGUMENT", (changed, code, message)
        assert message
    assert stub.Predict(proto(good), timeout=30).outputs


def test_unknown_names(stub, served):
    request = requests(SCHEMA)[0]
    assert refused(stub, proto(request, signature="predct"))[0] == "FAILED_PRECONDITION"
    assert refused(stub, proto(request, name="other"))[0] == "NOT_FOUND"
    for target, code in ((served.target, "NOT_FOUND"), (served.rest, "HTTP 404")):
        with Client(target, NAME, version=99) as client, pytest.raises(ServingError) as caught:
            client.predict(request)
        assert caught.value.code == code


def test_only_the_outputs_asked_for(stub):
    request = proto(requests(SCHEMA)[0])
    request.output_filter.append("score")
    answer = stub.Predict(request, timeout=30)
    assert list(answer.outputs) == ["score"]
    assert answer.model_spec.version.value == 1
    request.output_filter.append("scored")
    assert refused(stub, request)[0] == "INVALID_ARGUMENT"


def test_the_signature_as_the_server_tells_it(client):
    signature = client.signature()
    assert set(signature.inputs) == {*SCHEMA.names, "list_size"}
    assert signature.inputs["vector"].shape.as_list() == [None, None, 4]
    assert signature.inputs["shop"].dtype == tf.int64
    assert signature.outputs["valid"].dtype == tf.bool


def test_requests_that_meet(exported):
    """Merged requests get the scores that they get alone, whatever the lengths of their lists."""
    made = [request for seed in range(3) for request in requests(SCHEMA, seed=seed)]
    expected = [exported.run(request) for request in made]
    answers, failures = {}, []
    together = threading.Barrier(len(made))
    with Server(exported.folder.parent, batching={"seconds": 0.2}) as server:
        server.wait_for(1)
        with Client(server.target, "ranker", timeout=60) as client:
            client.signature()

            def call(number):
                together.wait()
                try:
                    answers[number] = client.predict(made[number])
                except Exception as error:  # a thread's exception would be lost
                    failures.append(error)

            threads = [threading.Thread(target=call, args=(number,)) for number in range(len(made))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        sizes = server.model.current._batcher.sizes
    assert not failures
    assert max(sizes) > 1
    for number, outputs in enumerate(expected):
        for name, values in outputs.items():
            lists, length = values.shape
            found = answers[number][name]
            assert found.shape[0] == lists
            np.testing.assert_allclose(found[:, :length], values, rtol=0, atol=1e-5)
            if name == "valid":
                assert not found[:, length:].any()
            else:
                assert (found[:, length:] == (0.0 if name.startswith("probability") else np.float32(-1e9))).all()


@pytest.mark.slow
def test_versions_change_and_a_broken_one_is_never_served(served, exported, stub):
    """The last test of this server: it moves on to version 3."""
    request = requests(SCHEMA)[0]
    broken = served.base / ".tmp-broken"
    shutil.copytree(exported.folder, broken)
    for path in (broken / "variables").iterdir():
        path.unlink()
    broken.rename(served.base / "2")
    state, message = served.wait_for(2)
    assert state == Status.END
    assert message
    assert stub.Predict(proto(request), timeout=30).model_spec.version.value == 1
    shutil.copytree(exported.folder, served.base / ".tmp-sound")
    (served.base / ".tmp-sound").rename(served.base / "3")
    assert served.wait_for(3) == (Status.AVAILABLE, "")
    assert stub.Predict(proto(request), timeout=30).model_spec.version.value == 3
