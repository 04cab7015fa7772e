"""A day in the life of a server: many callers, new versions, a broken one; nobody gets an error or a wrong score."""

import gc
import itertools
import os
import random
import shutil
import threading
import time

import grpc
import numpy as np
import pytest
from servicer import Server, Status
from serving_problem import TASKS, looked_up, make_ranker
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import tfmtl2r
from tfmtl2r import Category, Dense, Schema
from tfmtl2r._backend import tf
from tfmtl2r.serving.blend import resolved
from tfmtl2r.serving.check import ExportError
from tfmtl2r.serving.examples import requests

pytestmark = pytest.mark.slow
REQUESTS = int(os.environ.get("TFMTL2R_SOAK_REQUESTS", "6000"))
"""How many; more, such as 30,000, for a long look."""
THREADS = 8
VERSIONS = (2, 3, 5, 6, 7)
BROKEN = 4
MEGABYTES = 60
"""What memory may grow by from the second version to the end: this process also traces and checks every export."""
SCHEMA = Schema([
    Dense("price", mean=(3.0,), variance=(4.0,)), Dense("vector", shape=(4,)), Dense("age", context=True),
    Category("brand", vocabulary=("acme", "b c"), dim=3), Category("shop", buckets=11, dtype="int64"),
])


class NotFinite(tfmtl2r.MultiTaskRanker):
    """A ranker that diverged."""

    def call(self, inputs, training=False):
        return {task: score / 0.0 for task, score in super().call(inputs, training=training).items()}


def pool():
    """Requests of mixed sizes: 1 to 100 items in 1 to 4 lists."""
    made = []
    for seed in range(6):
        made += requests(SCHEMA, seed=seed)
    long = requests(SCHEMA, seed=7)[1]
    for length in (20, 50, 100):
        made.append({name: np.resize(value, (3, length, *value.shape[2:])) if value.shape[:2] == (3, 11) else value
                     for name, value in long.items()} | {"list_size": np.int32([length, 1, length // 2])})
    return made


def expected_scores(ranker, made):
    """The outputs that ``predict`` gives each of the requests, blended too; NaN at padded places."""
    weights, expected = resolved(ranker).weights, []
    for request in made:
        scores = ranker.predict(looked_up(ranker, request), batch_size=4)
        blend = sum(weight * scores[task] for task, weight in weights.items())
        expected.append({"score": blend, **{f"score_{task}": values for task, values in scores.items()}})
    return expected


def as_protos(made):
    protos = []
    for request in made:
        proto = predict_pb2.PredictRequest()
        proto.model_spec.name = "ranker"
        for name, value in request.items():
            proto.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        protos.append(proto)
    return protos


class Caller(threading.Thread):
    """Sends requests until the last version is out and has answered, and compares every score with ``predict`` of that
    version."""

    def __init__(self, number, count, target, protos, expected, published):
        super().__init__()
        self.count, self.target, self.protos, self.expected = count, target, protos, expected
        self.random, self.published = random.Random(number), published
        self.wrong, self.versions, self.slowest = [], [], 0.0

    def run(self):
        with grpc.insecure_channel(self.target) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            last = False
            while not last:
                last = self.published.is_set() and len(self.versions) + len(self.wrong) >= self.count - 1
                which = self.random.randrange(len(self.protos))
                start = time.perf_counter()
                try:
                    self.look(stub.Predict(self.protos[which], timeout=60), which)
                except Exception as error:  # a thread's exception would be lost
                    self.wrong.append(repr(error)[:500])
                self.slowest = max(self.slowest, time.perf_counter() - start)

    def look(self, answer, which):
        version = answer.model_spec.version.value
        self.versions.append(version)
        outputs = {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}
        for name, scores in self.expected[version][which].items():
            found, valid = outputs[name], outputs["valid"][:, : scores.shape[1]]
            real = np.isfinite(scores)
            off = np.abs(found[:, : real.shape[1]] - scores)[real].max()
            if not (np.array_equal(valid, real) and outputs["valid"].sum() == real.sum() and off <= 1e-5
                    and (found[~outputs["valid"]] == np.float32(-1e9)).all()):
                self.wrong.append(f"version {version}, request {which}, {name}: {found} instead of {scores}")


def megabytes():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory from /proc")
def test_soak(tmp_path):
    base, made = tmp_path / "ranker", pool()
    protos, expected = as_protos(made), {}
    ranker = make_ranker(SCHEMA, TASKS)
    tfmtl2r.export(ranker, base)
    expected[1] = expected_scores(ranker, made)
    with Server(base, batching={}) as server:
        assert server.wait_for(1) == (Status.AVAILABLE, "")
        published = threading.Event()
        callers = [Caller(i, REQUESTS // THREADS, server.target, protos, expected, published) for i in range(THREADS)]
        start = time.perf_counter()
        for caller in callers:
            caller.start()
        memory, merged = [], [server.model.current._batcher.sizes]  # by version
        for turn, number in enumerate(VERSIONS, start=1):
            # The versions are spread over the requests; the scores to expect are there before the version is.
            due = REQUESTS * turn / (len(VERSIONS) + 1)
            while sum(len(c.versions) + len(c.wrong) for c in callers) < due:
                time.sleep(0.02)
            memory.append(megabytes())
            ranker.set_weights([weight * np.float32(0.9) + np.float32(0.01) for weight in ranker.get_weights()])
            expected[number] = expected_scores(ranker, made)
            if number == BROKEN + 1:
                attempt_broken_exports(base, server)
            assert tfmtl2r.export(ranker, base).name == str(number)
            assert server.wait_for(number) == (Status.AVAILABLE, "")
            merged.append(server.model.current._batcher.sizes)
        published.set()
        for caller in callers:
            caller.join()
        seconds = time.perf_counter() - start
        memory.append(megabytes())
    wrong = list(itertools.chain(*(caller.wrong for caller in callers)))
    assert not wrong, (len(wrong), wrong[:3])
    answered = list(itertools.chain(*(caller.versions for caller in callers)))
    assert len(answered) >= REQUESTS // THREADS * THREADS
    assert set(answered) == {1, *VERSIONS}
    for caller in callers:  # a caller never falls back to an older version
        assert caller.versions == sorted(caller.versions)
    assert server.model.log == [1, *VERSIONS]
    merged = [*itertools.chain(*merged)]
    assert max(merged) > 1  # requests did meet
    assert memory[-1] - memory[1] < MEGABYTES, memory
    slowest = max(caller.slowest for caller in callers)
    print(f"\n{len(answered)} requests in {seconds:.0f} s ({len(answered) / seconds:.0f}/s), slowest {slowest:.2f} s, "
          f"merged {np.mean(merged):.1f} on average, memory in MB {[round(m) for m in memory]}")


def attempt_broken_exports(base, server):
    """One that the checks refuse, and one that somebody copied in by hand without its variables."""
    before = sorted(path.name for path in base.iterdir())
    broken = make_ranker(SCHEMA, TASKS, cls=NotFinite)
    with pytest.raises(ExportError, match="not finite"):
        tfmtl2r.export(broken, base)
    assert sorted(path.name for path in base.iterdir()) == before
    shutil.copytree(base / str(BROKEN - 1), base / ".tmp-hand")
    shutil.rmtree(base / ".tmp-hand" / "variables")
    (base / ".tmp-hand").rename(base / str(BROKEN))
    state, message = server.wait_for(BROKEN)
    assert state == Status.END
    assert message
    assert server.model.current.version == BROKEN - 1
