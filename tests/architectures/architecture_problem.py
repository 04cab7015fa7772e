"""Every architecture, made small, on lists with every kind of feature."""

import numpy as np

from tfmtl2r import Category, Dense, Schema, architectures
from tfmtl2r._backend import tf
from tfmtl2r.architectures import registry

TASKS = ("click", "buy", "like")
SIZES = np.array([5, 2, 1])
LENGTH = 5
VALID = tf.sequence_mask(SIZES, LENGTH)
SCHEMA = Schema([
    Dense("x", shape=(3,)), Dense("age", context=True), Category("brand", vocabulary=("a", "b", "c"), dim=2),
])
NUMBERS = Schema(f for f in SCHEMA.features if not f.embedded)
SMALL = {
    "units": (6, 5), "head_units": (4,), "expert_units": (6, 5), "subnet_units": (6,), "num_experts": 3,
    "task_experts": 2, "shared_experts": 2, "num_subnets": 3, "num_layers": 1, "num_heads": 2, "feedforward": 8,
    "position": ("age",),
}
WIDTH = 6


def small(name):
    """The options that make an architecture small, of those that it has; where it takes one width, not several."""
    options = {option.name: option.default for option in registry.options(name)}
    sizes = {key: size for key, size in SMALL.items() if key in options}
    if isinstance(options.get("units"), int):
        sizes["units"] = WIDTH
    return {**sizes, **({"dropout": 0.0} if "dropout" in options else {})}


def connected(name, tasks=TASKS, schema=SCHEMA, **options):
    """A small architecture with its variables made."""
    architecture = architectures.get(name, **{**small(name), **options})
    architecture.connect(tasks, schema)
    return architecture


def make_features(rng):
    """A batch of three lists, of 5, 2 and 1 items."""
    return {
        "x": tf.constant(rng.normal(size=(3, LENGTH, 3)), tf.float32),
        "age": tf.constant(rng.normal(size=3), tf.float32),
        "brand": tf.constant(rng.integers(0, 4, (3, LENGTH)), tf.int32),
    }
