"""What one SavedModel of finished runs costs beside boosted trees, one model for each goal.

    python recipes/bench_merged.py runs/past-trees/mslr-5/{steps,taught}-cv/p0-f0of5-s0 --items 100
    python recipes/bench_merged.py runs/my-adapmtl

Exports the first run, and the merge of all, and times requests of one list through the default signature, with inputs
as raw numbers: logarithms, ranks, copies within the list and steps are computed in the graph. A ranker whose
architecture switches off units is exported twice: without them, as always, and with them. The trees are LightGBM models
of 200 rounds with 15 leaves on as many inputs, trained on random numbers. All ways run interleaved, with one thread
each; the table has medians over rounds, and the size of the files.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import lightgbm
import numpy as np

import tfmtl2r

# isort: split
# After tfmtl2r, which holds back TensorFlow's start-up lines.
import tensorflow as tf


def request(signature: Any, items: int) -> tuple[dict[str, tf.Tensor], int]:
    """Random values for all inputs of a signature, for one list, and the number of values of an item."""
    rng, values, width = np.random.default_rng(0), {}, 0
    for name, spec in signature.structured_input_signature[1].items():
        if name == "list_size":
            values[name] = tf.constant([items])
        else:
            shape = [1, *([items] if spec.shape.rank > 1 else []), *spec.shape[2:]]
            values[name] = tf.cast(rng.gamma(1.0, 10.0, shape), spec.dtype)
            width += int(np.prod(spec.shape[2:])) if spec.shape.rank > 1 else 0
    return values, width


def trees(tasks: int, width: int, items: int, rounds: int) -> Callable[[], Any]:
    """Predicts with one LightGBM model for each task."""
    rng = np.random.default_rng(0)
    rows, asked = rng.gamma(1.0, 10.0, (4000, width)), rng.gamma(1.0, 10.0, (items, width))
    settings = {"objective": "lambdarank", "num_leaves": 15, "num_threads": 1, "verbose": -1}
    models = [lightgbm.train(settings, lightgbm.Dataset(rows, rng.integers(0, 5, 4000), group=[40] * 100), rounds)
              for _ in range(tasks)]
    return lambda: [model.predict(asked, num_threads=1) for model in models]


def networks(rankers: list[Any]) -> Iterator[tuple[str, Any]]:
    """What is exported, by the names of the rows."""
    yield "1 network", rankers[0]
    if rankers[0].architecture.prunes:
        rankers[0].architecture.prunes = False
        yield "1 network, with the units that are switched off", rankers[0]
        rankers[0].architecture.prunes = True
    if len(rankers) > 1:
        yield f"{len(rankers)} networks", tfmtl2r.Merged(rankers)


def main() -> None:
    """Exports, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("runs", nargs="+", help="folders of finished runs with equal tasks and inputs")
    parser.add_argument("--items", type=int, default=100, help="size of the list")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--tree-rounds", type=int, default=200)
    options = parser.parse_args()
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    rankers = [tfmtl2r.load(f"{run}/model.keras") for run in options.runs]
    ways: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sizes: dict[str, int] = {}
        for name, made in networks(rankers):
            # A module of its own for each way: a signature lives as long as its module.
            version = tfmtl2r.export(made, f"{folder}/{len(ways)}")
            sizes[name] = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
            module = tf.saved_model.load(str(version))
            signature = module.signatures["serving_default"]
            values, width = request(signature, options.items)
            ways[name] = lambda signature=signature, values=values, module=module: signature(**values)
        ways[f"LightGBM, {len(rankers[0].tasks)} models"] = trees(len(rankers[0].tasks), width, options.items,
                                                                  options.tree_rounds)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        names = [*ways]
        for number in range(options.rounds + 5):
            # Another one begins each round: the one after the trees finds its weights out of the cache.
            for name in names[number % len(names):] + names[:number % len(names)]:
                start = time.perf_counter()
                ways[name]()
                if number >= 5:
                    seconds[name].append(time.perf_counter() - start)
    for name, found in seconds.items():
        size = f", {sizes[name] / 1e6:.2f} MB" if name in sizes else ""
        print(f"{name}: {1000 * statistics.median(found):.2f} ms for {options.items} items{size}")


if __name__ == "__main__":
    main()
