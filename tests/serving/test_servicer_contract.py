"""What a caller may count on, through gRPC and REST: the same against our stand-in and, where it is there, the server.

The stand-in runs the session loader; see :mod:`servicer`.
"""

import contextlib
import functools
import shutil
import socket
import subprocess
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
from servicer import Server, Status
from serving_problem import SCHEMA, asked, predicted
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfmtl2r._backend import tf
from tfmtl2r.serving.client import Client, ServingError
from tfmtl2r.serving.configs import write_configs
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
        polls = ["--file_system_poll_wait_seconds=1", "--model_config_file_poll_wait_seconds=1"]  # 0 looks once
        self._process = subprocess.Popen([*command, *polls], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
    write_configs(base)
    stand_in = functools.partial(Server, batching={}, configured=True)
    with (RealServer if request.param == BINARY else stand_in)(base) as server:
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


def proto(inputs, signature="", name=NAME, label=""):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    if label:
        request.model_spec.version_label = label
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


def without_items(request):
    """Lists of which a filter upstream left nothing."""
    per_item = {"item_ids", *(feature.name for feature in SCHEMA.features if not feature.context)}
    empty = {name: value[:, :0] if name in per_item else value for name, value in request.items()}
    return {**empty, "list_size": np.int32([0, 0])}


@pytest.mark.parametrize("signature", ["predict_features", "rank"])
def test_no_items_through_the_client(client, signature):
    """It sends one empty place, which a server can write as JSON and pad."""
    names = client.signature(signature).inputs
    request = without_items({name: value for name, value in asked(number=0).items() if name in names})
    answer = client.predict(request, signature)
    assert {value.shape for value in answer.values()} == {(2, 1)}
    assert not answer["valid"].any()
    assert (answer["score"] == np.float32(-1e9)).all()


def test_ranking(client, exported):
    names = client.signature("rank").inputs
    request = {name: value for name, value in asked().items() if name in names}
    answer, expected = client.predict(request, "rank"), exported.run(request, "rank")
    assert set(answer) == set(expected)
    for name, value in expected.items():
        assert answer[name].dtype == value.dtype, name
        compare = np.testing.assert_array_equal if value.dtype == object else \
            functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
        compare(answer[name], value)
    assert answer["ids"][0, 0].startswith(b"item ")


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


def test_requests_that_meet(exported, served):
    """Merged requests get the scores that they get alone, whatever the lengths of their lists."""
    made = [request for seed in range(3) for request in requests(SCHEMA, seed=seed)]
    expected = [exported.run(request) for request in made]
    made.append(without_items(made[0]))
    expected.append({name: value[:, :0] for name, value in expected[0].items()})
    batcher = served.model.current._batcher if isinstance(served, Server) else None
    if batcher:
        batcher._seconds = 0.2
    with Client(served.target, NAME, timeout=60) as client:
        client.signature()
        together = threading.Barrier(len(made))

        def call(request):
            together.wait()
            return client.predict(request)

        with futures.ThreadPoolExecutor(len(made)) as pool:
            answers = list(pool.map(call, made))
    if batcher:
        batcher._seconds = 0.002
        assert max(batcher.sizes) > 1
    for answer, outputs in zip(answers, expected, strict=True):
        for name, values in outputs.items():
            lists, length = values.shape
            found = answer[name]
            assert found.shape[0] == lists
            np.testing.assert_allclose(found[:, :length], values, rtol=0, atol=1e-5)
            if name == "valid":
                assert not found[:, length:].any()
            else:
                assert (found[:, length:] == (np.float32(-1e9) if name.startswith("score") else 0.0)).all()


@pytest.mark.slow
def test_versions_and_labels_change_and_a_broken_one_is_never_served(served, exported, stub):
    """The last test of this server: it moves on to version 5."""
    request = requests(SCHEMA)[0]

    def publish(number, broken=False):
        shutil.copytree(exported.folder, served.base / ".tmp-new")
        for path in (served.base / ".tmp-new" / "variables").iterdir() if broken else ():
            path.unlink()
        (served.base / ".tmp-new").rename(served.base / str(number))
        write_configs(served.base)
        return served.wait_for(number)

    def version(label=""):
        return stub.Predict(proto(request, label=label), timeout=30).model_spec.version.value

    def wait_until(label, number):
        until = time.monotonic() + 30
        while (found := version(label)) != number:
            assert time.monotonic() < until, f"{label!r} stays at {found} instead of {number}"
            time.sleep(0.05)

    assert version("canary") == version("stable") == 1
    for number in (2, 3):
        assert publish(number) == (Status.AVAILABLE, "")
        wait_until("canary", number)
        assert (version(), version("stable")) == (number, 1)
    state, message = publish(4, broken=True)
    assert state == Status.END
    assert message
    assert (version(), version("canary"), version("stable")) == (3, 3, 1)
    assert publish(5) == (Status.AVAILABLE, "")
    wait_until("canary", 5)
    assert (version(), version("stable")) == (5, 1)
