"""What TensorFlow's parameter servers offer for large embedding tables with Keras 3: two servers, a worker, loopback.

    python recipes/bench_parameter_servers.py --rows 1e5 1e6

A table of width 8 is divided between two servers. Prints which variables are divided, the time of a look-up of 512 ids
by ``tf.nn.embedding_lookup`` and by a layer of Keras, of a step of gradient descent that changes only the rows of a
batch, and what Keras' ``fit`` says. A layer that brings the whole table to the worker grows with the table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

WIDTH, IDS, CALLS = 8, 512, 10


def main() -> None:
    """Starts the servers, and measures tables of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5, 1e6], help="of the table")
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    cluster = {"ps": [_address(), _address()], "worker": [_address()]}
    context = multiprocessing.get_context("spawn")
    for kind, places in cluster.items():
        for number in range(len(places)):
            context.Process(target=serve, args=(cluster, kind, number), daemon=True).start()
    measure(cluster, [int(rows) for rows in options.rows])


def serve(cluster: dict[str, list[str]], kind: str, number: int) -> None:
    """A server of variables, or a worker."""
    import tensorflow as tf

    tf.distribute.Server(tf.train.ClusterSpec(cluster), job_name=kind, task_index=number, protocol="grpc").join()


def measure(cluster: dict[str, list[str]], sizes: list[int]) -> None:
    """Prints a line for each size, and what ``fit`` says."""
    import keras
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(tf.train.ClusterSpec(cluster), rpc_layer="grpc")
    halves = tf.distribute.experimental.partitioners.FixedShardsPartitioner(2)
    strategy = tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=halves)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)

    def milliseconds(work: Callable[[], Any]) -> float:
        traced, times = tf.function(work), []
        for _ in range(2 + CALLS):
            began = time.perf_counter()
            coordinator.schedule(traced)
            coordinator.join()
            times.append(time.perf_counter() - began)
        return 1000 * statistics.median(times[2:])

    for rows in sizes:
        print(one_size(strategy, milliseconds, rows), flush=True)
    with strategy.scope():
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensor_slices((np.ones((8, 3), np.float32), np.ones((8, 1), np.float32))).batch(4)
    try:
        model.fit(data.repeat(), steps_per_epoch=2, verbose=0, shuffle=False)
        print("Keras' fit: trains")
    except (ValueError, RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
        print(f"Keras' fit: {type(error).__name__}: {str(error).splitlines()[0]}")


def one_size(strategy: Any, milliseconds: Callable[[Callable[[], Any]], float], rows: int) -> str:
    """The line for a table."""
    import keras
    import tensorflow as tf

    with strategy.scope():
        table = tf.Variable(tf.random.stateless_uniform([rows, WIDTH], [1, 2], -0.05, 0.05))
        layer = keras.layers.Embedding(rows, WIDTH)
        layer.build()

    def ids() -> Any:
        return tf.random.stateless_uniform([IDS], [3, 4], 0, rows, tf.int64)

    def look_up() -> Any:
        return tf.reduce_mean(tf.nn.embedding_lookup(table, ids()))

    def by_layer() -> Any:
        return tf.reduce_mean(layer(ids()))

    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.nn.embedding_lookup(table, ids()) - 1.0) ** 2)
        for part, change in zip(table.variables, tape.gradient(loss, table.variables), strict=True):
            part.scatter_sub(change)

    parts = len(table.variables), len(layer.embeddings.value.variables)
    times = [f"{name} {milliseconds(work):.0f}" for name, work in (
        ("look-up", look_up), ("look-up by Keras' layer", by_layer), ("step", step))]
    return f"{rows:,} rows: {parts[0]} parts of the variable, {parts[1]} of Keras' layer; ms: {', '.join(times)}"


def _address() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


if __name__ == "__main__":
    main()
