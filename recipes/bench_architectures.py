"""What training steps cost against the same networks as plain Keras layers: MMoE, PLE, and many small embeddings.

    python recipes/bench_architectures.py --tasks 5 --experts 8

The peer has the same experts, gates and heads, one ``keras.layers.Dense`` stack after another, as most public code
writes them, and runs in the same ranker, on the same packed items, with the same loss and optimizer. The last row is
shared-bottom on a batch of the KuaiRand excerpt, 64 lists of 28 features, of which 18 are categories. Its peer has
``keras.layers.Embedding`` tables and Keras' Adam, where the library has its own tables and optimizer. Both run
interleaved, a few steps each in turn, so that other load on the machine hits both alike; a ratio is the median over
rounds of the ratio within a round.

    python recipes/bench_architectures.py --members 1 2 4 8

measures ensembles of a shared-bottom network against a plain step, and against as many steps of plain networks one
after another ("loop"). Two shared cores under load, 5 tasks, about 76,600 parameters, medians of 15 rounds,
plain step = 1:

| members | 1 | 2 | 4 | 8 | parameters of 8 |
| --- | --- | --- | --- | --- | --- |
| own weights (none) | .95 | 1.49 | 3.00 | 5.65 | 612,399 |
| on one trunk (trunk) | 1.00 | 1.15 | 1.48 | 2.23 | 78,831 |
| shared kernels (kernels) | .97 | 1.75 | 3.07 | 6.15 | 90,071 |
| loop of plain networks | | | | 8.0 | 8 x 76,600 |
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from tfmtl2r import Batch, Dense, MultiTaskRanker, Schema, Task, architectures, datasets
from tfmtl2r.architectures import Architecture, Group
from tfmtl2r.data import batches
from tfmtl2r.report import show

# isort: split
# After tfmtl2r, which holds back TensorFlow's start-up lines.
import keras
import tensorflow as tf

LISTS, ITEMS, FEATURES = 8, 60, 136
UNITS, HEAD_UNITS = (256, 128), (64,)


class Plain(Architecture):
    """Experts, gates and heads one after another. The cut is empty: it serves plain summed losses only."""

    def stack(self, units: Sequence[int], width: int, last: int | None = None) -> list[Any]:
        """Dense layers, and a linear one behind them where ``last`` is given."""
        layers = [keras.layers.Dense(u, activation="relu") for u in units]
        layers += [] if last is None else [keras.layers.Dense(last)]
        for layer in layers:
            layer.build((None, width))
            width = layer.units
        return layers

    def finish(self, inputs: list[Any], batch: Batch) -> dict[str, Any]:
        """One head after another."""
        return self.scores_of_items(tf.stack([run(h, z) for h, z in zip(self.heads_, inputs, strict=True)]), batch)

    def variable_groups(self) -> list[Group]:
        """All tasks reach all: nothing here is balanced."""
        return [Group(tuple(range(len(self.tasks))), self.trainable_variables)]


@architectures.register("plain_mmoe")
class PlainMMoE(Plain):
    """MMoE as a list of networks."""

    def __init__(self, num_experts: int):
        super().__init__()
        self.num_experts = num_experts

    def connect(self, tasks: Sequence[str], schema: Schema, **options: Any) -> None:
        """Makes the networks."""
        super().connect(tasks, schema, **options)
        self.experts = [self.stack(UNITS, self.encoder.width) for _ in range(self.num_experts)]
        self.gates = [self.stack((), self.encoder.width, self.num_experts) for _ in tasks]
        self.heads_ = [self.stack(HEAD_UNITS, UNITS[-1], 1) for _ in tasks]

    def call(self, batch: Batch, training: bool = False) -> dict[str, Any]:
        """Expert by expert, task by task."""
        x = self.encoder(batch=batch, training=training)
        experts = tf.stack([run(expert, x) for expert in self.experts], axis=1)
        return self.finish([mixed(run(gate, x), experts) for gate in self.gates], batch)


@architectures.register("plain_ple")
class PlainPLE(Plain):
    """PLE of two levels as a list of networks: one expert per task, the rest shared."""

    def __init__(self, shared_experts: int):
        super().__init__()
        self.shared_experts = shared_experts

    def connect(self, tasks: Sequence[str], schema: Schema, **options: Any) -> None:
        """Makes the networks."""
        super().connect(tasks, schema, **options)
        num, width = len(tasks), self.encoder.width
        self.levels = []
        for hands_on in (True, False):
            self.levels.append({
                "own": [self.stack(UNITS, width) for _ in tasks],
                "shared": [self.stack(UNITS, width) for _ in range(self.shared_experts)],
                "gates": [self.stack((), width, 1 + self.shared_experts) for _ in tasks],
                "shared_gate": self.stack((), width, num + self.shared_experts) if hands_on else [],
            })
            width = UNITS[-1]
        self.heads_ = [self.stack(HEAD_UNITS, width, 1) for _ in tasks]

    def call(self, batch: Batch, training: bool = False) -> dict[str, Any]:
        """Level by level, expert by expert, task by task."""
        shared = self.encoder(batch=batch, training=training)
        inputs = [shared] * len(self.tasks)
        for level in self.levels:
            own = [run(expert, x) for expert, x in zip(level["own"], inputs, strict=True)]
            common = [run(expert, shared) for expert in level["shared"]]
            inputs = [
                mixed(run(gate, x), tf.stack([mine, *common], axis=1))
                for gate, x, mine in zip(level["gates"], inputs, own, strict=True)
            ]
            if level["shared_gate"]:
                shared = mixed(run(level["shared_gate"], shared), tf.stack([*own, *common], axis=1))
        return self.finish(inputs, batch)


@architectures.register("plain_shared_bottom")
class PlainSharedBottom(Plain):
    """Shared-bottom with an embedding layer per category and a standardised input per number."""

    def connect(self, tasks: Sequence[str], schema: Schema, **options: Any) -> None:
        """Makes the networks. Only the numbers go through the library's encoder."""
        super().connect(tasks, Schema(f for f in schema.features if not f.embedded), **options)
        self.categories = [f for f in schema.features if f.embedded]
        self.tables = [keras.layers.Embedding(f.size, f.width) for f in self.categories]
        for table in self.tables:
            table.build(())
        self.bottom = self.stack(UNITS, self.encoder.width + sum(f.width for f in self.categories))
        self.heads_ = [self.stack(HEAD_UNITS, UNITS[-1], 1) for _ in tasks]
        self.schema = schema

    def call(self, batch: Batch, training: bool = False) -> dict[str, Any]:
        """Table by table, task by task."""
        ids = [batch.repeated(batch.features[f.name]) if f.context else batch.packed(batch.features[f.name])
               for f in self.categories]
        rows = [table(one) for table, one in zip(self.tables, ids, strict=True)]
        shared = run(self.bottom, tf.concat([self.encoder(batch=batch, training=training), *rows], axis=-1))
        return self.finish([shared] * len(self.heads_), batch)


def run(layers: Sequence[Any], value: Any) -> Any:
    """Layers in order."""
    for layer in layers:
        value = layer(value)
    return value


def mixed(logits: Any, experts: Any) -> Any:
    """Softmax gates ``[n, E]`` over experts ``[n, E, D]``."""
    return tf.squeeze(tf.matmul(tf.nn.softmax(logits)[:, None], experts), axis=1)


def numbers(tasks: int) -> tuple[Schema, list[Task], Any]:
    """A batch of random numbers: its features, its tasks, and inputs with labels."""
    rng = np.random.default_rng(0)
    names = [f"task_{t}" for t in range(tasks)]
    x = {
        "x": tf.constant(rng.normal(size=(LISTS, ITEMS, FEATURES)), tf.float32),
        "list_size": tf.constant(rng.integers(ITEMS // 2, ITEMS + 1, LISTS), tf.int32),
    }
    y = {name: tf.constant(rng.integers(0, 5, (LISTS, ITEMS)), tf.float32) for name in names}
    return Schema([Dense("x", (FEATURES,))]), [Task(n, loss="softmax") for n in names], (x, y)


def impressions() -> tuple[Schema, list[Task], Any]:
    """A batch of the KuaiRand excerpt."""
    data = datasets.get("kuairand_excerpt")
    schema, tasks = data.schema(), list(data.select(data.default_tasks))
    return schema, tasks, next(iter(batches(data.lists("train"), tasks, schema, batch_size=64)))


def compiled_step(
    architecture: Any, data: tuple[Schema, list[Task], Any], optimizer: Any = "adam"
) -> tuple[Callable[[], dict], int, float]:
    """A traced training step on one constant batch, its number of parameters, and seconds of tracing."""
    keras.utils.set_random_seed(0)
    schema, tasks, batch = data
    model = MultiTaskRanker(architecture, tasks, schema)
    model.compile(optimizer, train_metrics=False)
    model.prepare(batch[0])
    start = time.perf_counter()
    step = tf.function(model.train_step).get_concrete_function(batch)
    return lambda: step(batch), model.count_params(), time.perf_counter() - start


def measure(steps: list[Callable[[], dict]], rounds: int, repeats: int) -> np.ndarray:
    """Milliseconds per step, ``[rounds, variants]``."""
    times = np.zeros([rounds + 1, len(steps)])
    for round_ in range(rounds + 1):
        for variant, step in enumerate(steps):
            start = time.perf_counter()
            for _ in range(repeats):
                logs = step()
            float(logs["loss"])
            times[round_, variant] = (time.perf_counter() - start) / repeats * 1e3
    return times[1:]  # the first round warms up


def ensembles(tasks: int, members: Sequence[int], rounds: int, repeats: int) -> None:
    """Prints the cost of a step of ensembles, as multiples of a plain step."""
    data, base = numbers(tasks), {"name": "shared_bottom", "units": (*UNITS, 64), "head_units": ()}
    many = [compiled_step(base, data) for _ in range(max(members))]
    plain, size, _ = many[0]

    def loop(count: int) -> Callable[[], dict]:
        return lambda: [step() for step, *_ in many[:count]][-1]

    table = Table(title=f"{tasks} tasks, {LISTS} lists x {ITEMS} items x {FEATURES} features, {size:,} parameters, "
                        f"load {os.getloadavg()[0]:.1f}")
    for name in ("share", "members", "parameters", "ms", "plain steps", "quartiles", "loop", "tracing s"):
        table.add_column(name, justify="left" if name == "share" else "right")
    for share in ("none", "trunk", "kernels"):
        for count in members:
            described = {"name": "ensemble", "base": base, "members": count, "share": share}
            step, parameters, traced = compiled_step(described, data)
            times = measure([plain, step, loop(count)], rounds, repeats)
            low, middle, high = np.percentile(times[:, 1] / times[:, 0], [25, 50, 75])
            table.add_row(share, str(count), f"{parameters:,}", f"{np.median(times[:, 1]):.1f}", f"{middle:.2f}",
                          f"{low:.2f}-{high:.2f}", f"{np.median(times[:, 2] / times[:, 0]):.2f}", f"{traced:.1f}")
    show(table)


def main() -> None:
    """Measures both architectures, or ensembles, and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--experts", type=int, default=8, help="of MMoE; of PLE one per task, the rest shared")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=3, help="steps of a variant in each round")
    parser.add_argument("--members", type=int, nargs="+", help="measures ensembles of these numbers of members")
    options = parser.parse_args()
    if options.members:
        ensembles(options.tasks, options.members, options.rounds, options.steps)
        return
    shared = options.experts - options.tasks
    if shared < 1:
        parser.error(f"PLE needs more experts than tasks, got {options.experts} experts for {options.tasks} tasks")
    sizes = {"expert_units": UNITS, "head_units": HEAD_UNITS}
    data, real = numbers(options.tasks), impressions()
    pairs = {
        "mmoe": (({"name": "mmoe", "num_experts": options.experts, **sizes}, data), (PlainMMoE(options.experts), data)),
        "ple": (({"name": "ple", "shared_experts": shared, **sizes}, data), (PlainPLE(shared), data)),
        "shared_bottom, KuaiRand": (
            ({"name": "shared_bottom", "units": UNITS, "head_units": HEAD_UNITS}, real),
            (PlainSharedBottom(), real, keras.optimizers.Adam()),
        ),
    }
    title = f"{options.tasks} tasks, {options.experts} experts, {LISTS} lists x {ITEMS} items x {FEATURES} features"
    table = Table(title=f"{title}, load {os.getloadavg()[0]:.1f}")
    for name in ("architecture", "parameters", "ms", "plain ms", "faster", "quartiles", "tracing s", "plain"):
        table.add_column(name, justify="left" if name == "architecture" else "right")
    for name, pair in pairs.items():
        (ours, size, traced), (plain, plain_size, plain_traced) = (compiled_step(*each) for each in pair)
        assert size == plain_size, f"{name}: {size} parameters against {plain_size}"
        times = measure([ours, plain], options.rounds, options.steps)
        low, middle, high = np.percentile(times[:, 1] / times[:, 0], [25, 50, 75])
        table.add_row(name, f"{size:,}", *(f"{t:.1f}" for t in np.median(times, axis=0)), f"{middle:.2f}x",
                      f"{low:.2f}-{high:.2f}", f"{traced:.1f}", f"{plain_traced:.1f}")
    show(table)


if __name__ == "__main__":
    main()
