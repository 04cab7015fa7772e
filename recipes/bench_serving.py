"""What an answer costs: an export through the session loader, next to the bare model and to ONNX Runtime.

    python recipes/bench_serving.py --items 1 20 100 1000

One list of each size, 136 features, MMoE with three tasks. All ways run interleaved in this process, a few calls each
in turn, so that other load on the machine hits all alike; a ratio is the median over rounds of the ratio within one.
The network, and what a server does besides, are not in these numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import tfmtl2r
from tfmtl2r import Dense
from tfmtl2r.serving import export_onnx

# isort: split
# After tfmtl2r, which holds back TensorFlow's start-up lines.
import keras
import tensorflow as tf

FEATURES = 136
TASKS = ("click", "buy", "dwell")
BARE, RAW, ELWC, ONNX = "bare model", "raw signature", "ELWC signature", "ONNX Runtime"
GOALS = {RAW: (BARE, 1.15), ONNX: (RAW, 2.5), ELWC: (RAW, 2.5)}
"""How many times as long as another way may take; for ONNX Runtime the raw signature may."""


def main() -> None:
    """Measures and prints a table per size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--items", type=int, nargs="+", default=[1, 20, 100, 1000], help="sizes of the list")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=10, help="calls of each way in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="callers for the throughput")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long throughput is measured")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    scale = {"mean": (0.0,) * FEATURES, "variance": (1.0,) * FEATURES}
    ranker = tfmtl2r.MultiTaskRanker("mmoe", TASKS, tfmtl2r.Schema([Dense("x", shape=(FEATURES,), **scale)]))
    with tempfile.TemporaryDirectory() as folder:
        version = tfmtl2r.export(ranker, folder)
        with contextlib.closing(tf.compat.v1.Session(graph=tf.Graph())) as session:
            made = ways(ranker, version, Path(folder) / "ranker.onnx", session)
            for items in options.items:
                calls = {name: functools.partial(way, *request(items)) for name, way in made.items()}
                check_alike(calls)
                show(items, measure(calls, options.rounds, options.calls),
                     {name: throughput(call, options.threads, options.seconds) for name, call in calls.items()})


def request(items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One list: features, its size, and both as a serialized list of examples."""
    from tensorflow_serving.apis import input_pb2

    x = np.random.default_rng(0).normal(size=(1, items, FEATURES)).astype(np.float32)
    message = input_pb2.ExampleListWithContext()
    for row in x[0]:
        message.examples.add().features.feature["x"].float_list.value.extend(row.tolist())
    return x, np.array([items], np.int32), np.array([message.SerializeToString()], object)


def ways(
    ranker: tfmtl2r.MultiTaskRanker, version: Path, onnx: Path, session: Any
) -> dict[str, Callable[..., np.ndarray]]:
    """Each way as a function of a request that returns the scores of the first task; the session is an empty one."""
    @tf.function(input_signature=[tf.TensorSpec([None, None, FEATURES]), tf.TensorSpec([None], tf.int32)])
    def forward(x, list_size):
        return ranker({"x": x, "list_size": list_size}, training=False)

    model = forward.get_concrete_function()

    def bare(x, size, _):
        scores = {task: values.numpy() for task, values in model(tf.constant(x), tf.constant(size)).items()}
        return scores[TASKS[0]]

    made = {BARE: bare}
    with session.graph.as_default():
        definitions = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(version)).signature_def

    def prepared(signature: str, inputs: tuple[str, ...]) -> Callable[..., np.ndarray]:
        definition = definitions[signature]
        outputs = sorted(definition.outputs)
        call = session.make_callable([definition.outputs[name].name for name in outputs],
                                     [session.graph.get_tensor_by_name(definition.inputs[n].name) for n in inputs])
        first = outputs.index(f"score_{TASKS[0]}")
        return lambda *values: call(*values)[first]

    raw = prepared("predict_features", ("x", "list_size"))
    made[RAW] = lambda x, size, _: raw(x, size)
    if "predict_elwc" in definitions:
        elwc = prepared("predict_elwc", ("inputs",))
        made[ELWC] = lambda x, size, serialized: elwc(serialized)
    try:
        import onnxruntime

        runtime = onnxruntime.InferenceSession(export_onnx(version, onnx), providers=["CPUExecutionProvider"])
        first = [output.name for output in runtime.get_outputs()].index(f"score_{TASKS[0]}")
        made[ONNX] = lambda x, size, _: runtime.run(None, {"x": x, "list_size": size})[first]
    except ImportError as error:
        print(f"without ONNX Runtime: {error}")
    return made


def check_alike(calls: dict[str, Callable[[], np.ndarray]]) -> None:
    """A way that computes something else is no competitor."""
    expected = calls[BARE]()
    for name, call in calls.items():
        np.testing.assert_allclose(call(), expected, rtol=1e-4, atol=1e-5, err_msg=name)


def measure(calls: dict[str, Callable[[], np.ndarray]], rounds: int, repeats: int) -> dict[str, np.ndarray]:
    """Milliseconds of each call, ``[rounds, repeats]`` by way."""
    times = {name: np.zeros([rounds, repeats]) for name in calls}
    for turn in range(-1, rounds):  # the first round warms up
        for name, call in calls.items():
            for number in range(repeats):
                start = time.perf_counter()
                call()
                if turn >= 0:
                    times[name][turn, number] = (time.perf_counter() - start) * 1e3
    return times


def throughput(call: Callable[[], np.ndarray], threads: int, seconds: float) -> float:
    """Answers per second with several callers."""
    until, counts = time.perf_counter() + seconds, [0] * threads

    def work(number: int) -> None:
        while time.perf_counter() < until:
            call()
            counts[number] += 1

    callers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return sum(counts) / seconds


def show(items: int, times: dict[str, np.ndarray], answers: dict[str, float]) -> None:
    """Prints one size; the ratio of the raw signature to ONNX Runtime is that of the second to the first."""
    load = os.getloadavg()[0]
    table = Table(title=f"{items} items x {FEATURES} features, {len(TASKS)} tasks, load {load:.1f}")
    for name in ("way", "p50 ms", "p99 ms", "answers/s", "ratio", "goal"):
        table.add_column(name, justify="left" if name in ("way", "ratio") else "right")
    middle = {name: np.median(values, axis=1) for name, values in times.items()}
    for name, values in times.items():
        other, goal = GOALS.get(name, (name, 0.0))
        above, below = (other, name) if name == ONNX else (name, other)
        ratio = f"{np.median(middle[above] / middle[below]):.2f} x {below}" if goal else ""
        ratio = f"{above} {ratio}" if name == ONNX else ratio
        table.add_row(name, f"{np.median(values):.2f}", f"{np.percentile(values, 99):.2f}", f"{answers[name]:.0f}",
                      ratio, f"{goal}" if goal else "")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
