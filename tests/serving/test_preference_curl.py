"""The ranking follows the preference of a request: ``curl`` lines of an export's README against a running server."""

import itertools
import json
import shutil
import subprocess

import numpy as np
import pytest
from servicer import Server, Status
from test_serving_configs import curls

import tfmtl2r
from tfmtl2r import Dense, Schema
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import Lists
from tfmtl2r.serving.client import Client
from tfmtl2r.task import Task

pytestmark = pytest.mark.slow
NAME, SIGNATURE = "trade_off", "predict_preferred"
SIZE = 8
ALONG_THE_FRONT = ((1.0, 0.0), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0))
# One scorer for both tasks: with a tower for each there would be nothing to trade.
ONE_RANKING = {"name": "deepmtl2r", "heads": "shared", "units": 16, "num_layers": 1, "num_heads": 2, "feedforward": 32,
               "dropout": 0.0}  # fmt: skip


def items(angles):
    """Items on a quarter of a circle; ``near`` is worth the cosine and ``far`` the sine, so the goals are at odds."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)


def lists(count=128):
    angles = np.random.default_rng(0).uniform(0, np.pi / 2, (count, SIZE))
    angles[0, :2] = 0.1, 1.4  # these two are what the README shows
    x = items(angles)
    near, far = 4 * x.reshape(-1, 2).T
    return Lists({"x": x.reshape(-1, 2), "near": near, "far": far}, np.arange(0, count * SIZE + 1, SIZE))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A trained ranker, the request of its README, and the server that its export runs on."""
    keras.utils.set_random_seed(1)
    data = lists()
    tasks = [Task("near", kind="graded", metrics=()), Task("far", kind="graded", metrics=())]
    schema = Schema([Dense("x", shape=(2,), mean=(0.6, 0.6), variance=(0.1, 0.1))])
    ranker = tfmtl2r.MultiTaskRanker(ONE_RANKING, tasks, schema, conditioned=0.5)
    ranker.compile(keras.optimizers.Adam(0.01), steps_per_execution=10)
    x = {"x": data.columns["x"].reshape(-1, SIZE, 2), "list_size": np.full(data.num_lists, SIZE, np.int32)}
    y = {task.name: data.columns[task.name].reshape(-1, SIZE) for task in tasks}
    ranker.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(16).repeat(40), epochs=1, verbose=0)
    base = tfmtl2r.export(ranker, tmp_path_factory.mktemp("export") / NAME, rows=data).parent
    (request,) = [r for r in curls((base / "README.md").read_text()) if r[1]["signature_name"] == SIGNATURE]
    with Server(base, NAME) as server:
        assert server.wait_for(1) == (Status.AVAILABLE, "")
        yield ranker, request, server


def asked(inputs, preference, angles=None):
    """The README's inputs for another preference, and for one list of other items."""
    more = {} if angles is None else {"x": [items(angles).tolist()], "list_size": [len(angles)]}
    return {**inputs, **more, "preference": [list(preference)]}


def predicted(ranker, inputs, preference):
    features = {"x": np.array(inputs["x"], np.float32), "list_size": np.array(inputs["list_size"], np.int32)}
    return {task: scores[0] for task, scores in ranker.predict(features, preference=preference).items()}


def curl(url, body):
    """The status of the answer, and the answer."""
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}",
               "-d", json.dumps(body), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    answer, _, code = done.stdout.rpartition("\n")
    return int(code), json.loads(answer)


SHOWN = pytest.mark.parametrize("angles", [None, np.linspace(0.05, 1.5, SIZE)], ids=["readme", "eight items"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on the PATH")
@SHOWN
def test_one_curl_per_preference(served, angles):
    ranker, (url, body), server = served
    address = url.replace("http://localhost:8501", server.rest)
    assert address != url
    orders = []
    for preference in ALONG_THE_FRONT:
        inputs = asked(body["inputs"], preference, angles)
        code, answer = curl(address, {**body, "inputs": inputs})
        assert code == 200, answer
        outputs, expected = answer["outputs"], predicted(ranker, inputs, preference)
        assert all(np.all(row) for row in outputs["valid"])
        blend = expected.pop("score")
        for task, scores in expected.items():
            np.testing.assert_allclose(outputs[f"score_{task}"][0], scores, rtol=0, atol=1e-5)
        # The ranker was fitted, so that its blend divides each head by its deviation.
        each = [score / sd for score, sd in zip(expected.values(), ranker.head_statistics.deviations, strict=True)]
        np.testing.assert_allclose(outputs["score"][0], np.float32(preference) @ each, rtol=0, atol=1e-5)
        np.testing.assert_allclose(outputs["score"][0], blend, rtol=0, atol=1e-5)
        orders.append(np.argsort(-np.array(outputs["score"][0])).tolist())
        print("near {} : far {} -> items by score {}".format(*preference, orders[-1]))
    near_first = [np.mean([a < b for a, b in itertools.combinations(order, 2)]) for order in orders]
    assert near_first[0] > 0.85
    assert near_first[-1] < 0.15
    assert near_first == sorted(near_first, reverse=True), "each step along the front gives way to the other goal"


@SHOWN
@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_the_client_gets_the_same(served, transport, angles):
    ranker, (_, body), server = served
    with Client(server.rest if transport == "rest" else server.target, NAME, timeout=30) as client:
        for preference in ALONG_THE_FRONT:
            inputs = asked(body["inputs"], preference, angles)
            answer = client.predict(inputs, SIGNATURE)
            for task, scores in predicted(ranker, inputs, preference).items():
                name = task if task == "score" else f"score_{task}"
                np.testing.assert_allclose(answer[name][0], scores, rtol=0, atol=1e-5)
