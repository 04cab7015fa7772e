"""A schema with every kind of feature, tasks of every kind of score, and rankers on them."""

import numpy as np

import tfmtl2r
from tfmtl2r import Category, Dense, Schema
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import Lists
from tfmtl2r.layers.features import Lookup
from tfmtl2r.serving.examples import merged, requests, with_extras
from tfmtl2r.task import Task

SCHEMA = Schema([
    Dense("price", transform="log1p", mean=(3.0,), variance=(2.0,)),
    Dense("gain", transform="signed_log1p", mean=(0.5,), variance=(1.0,)),
    Dense("vector", shape=(4,), mean=(1, 2, 3, 4), variance=(1, 1, 4, 9)),
    Dense("age", context=True, mean=(40.0,), variance=(100.0,)),
    Dense("profile", shape=(2,), context=True),
    Category("brand", vocabulary=("acme", "b c", "é"), dim=3),
    Category("shop", vocabulary=(7, 3, 2**40), dtype="int64", dim=2),
    Category("hashed", buckets=11),
    Category("hashed_id", buckets=5, dtype="int64"),
    Category("country", vocabulary=("de", "fr"), context=True),
])
TASKS = (
    Task("click", kind="binary", metrics=()),
    Task("buy", kind="binary", loss="bce", weight=3.0, metrics=()),
    Task("dwell", kind="regression", metrics=()),
)
SMALL = {"name": "shared_bottom", "units": (8,), "head_units": (4,)}


def make_ranker(schema=SCHEMA, tasks=TASKS, cls=tfmtl2r.MultiTaskRanker, **options):
    keras.utils.set_random_seed(3)
    ranker = cls(SMALL, tasks, schema, **options)
    ranker.compile(keras.optimizers.SGD(0.01))
    return ranker


def looked_up(ranker, request):
    return Lookup(ranker.schema)({name: tf.convert_to_tensor(value) for name, value in request.items()})


def predicted(ranker, request):
    """``model.predict`` on one raw request, in one batch; ``[B, longest]``."""
    return ranker.predict(looked_up(ranker, request), batch_size=len(next(iter(request.values()))))


def training_data(ranker, batch=4):
    request = merged(requests(ranker.schema, seed=9))
    random = np.random.default_rng(0)
    shape = request["price"].shape
    labels = {task.name: random.integers(0, 2, shape).astype(np.float32) for task in ranker.tasks}
    return tf.data.Dataset.from_tensor_slices((looked_up(ranker, request), labels)).batch(batch)


def asked(seed=4, number=1):
    """A request of three lists of 11, 4 and no items (``number=0``: of 3 and 2) with all further inputs."""
    return with_extras(requests(SCHEMA, seed=seed)[number], SCHEMA, len(TASKS))


def rows(schema, lists=10, seed=2):
    """A table of lists of one to four items, as a data set would bring."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 5, lists)
    items = requests(schema, lists=False, seed=seed)[1]
    columns = {}
    for feature in schema.features:
        per_list = np.resize(items[feature.name], (lists, *items[feature.name].shape[1:]))
        per_item = np.resize(items[feature.name], (sizes.sum(), *items[feature.name].shape[1:]))
        columns[feature.name] = np.repeat(per_list, sizes, axis=0) if feature.context else per_item
    context = tuple(feature.name for feature in schema.features if feature.context)
    return Lists(columns, np.concatenate([[0], np.cumsum(sizes)]), context=context)
