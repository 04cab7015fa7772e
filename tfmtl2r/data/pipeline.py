"""Converts lists to batches: :func:`batches` makes the ``tf.data`` pipeline.

Categories are looked up once, before the first epoch. An epoch only shuffles the numbers of the lists and gathers their
items. Every random choice is a function of (seed, epoch). The same seed therefore gives the same batches, and a resumed
training receives the batches that it would have received without the interruption.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.batch import IMPORTANCE, LIST_SIZE, PROPENSITY
from tfmtl2r.data.columns import feature_values, label_values, relevance, weight_values
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.truncate import choose, cut_report, keep_first
from tfmtl2r.errors import InputError
from tfmtl2r.layers.features import Lookup
from tfmtl2r.names import did_you_mean
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task, validated
from tfmtl2r.types import Batches, Tensor

LOOKUP_ROWS = 1 << 18
log = logging.getLogger("tfmtl2r")


def batches(
    lists: Lists,
    tasks: Iterable[Task],
    schema: Schema,
    *,
    batch_size: int = 64,
    list_limit: int | None = None,
    truncate: str = "first",
    shuffle: bool = False,
    seed: int = 0,
    epoch: int | Callable[[], int] = 0,
    buckets: tuple[int, ...] | str | None = None,
    weights: Mapping[str, str] | None = None,
    propensity_weights: Mapping[str, str] | None = None,
    drop_remainder: bool = False,
) -> Batches:
    """Makes a ``tf.data`` pipeline of batches; :mod:`tfmtl2r.batch` describes a batch.

    A batch is as long as its longest list. Padded places contain 0 in features and weights, and NaN in labels. Without
    ``shuffle`` and ``buckets``, the lists keep their order.

    Args:
        lists: lists or plain rows.
        tasks: the tasks whose labels the batches contain. Without tasks, batches contain only features, as ``predict``
            needs them.
        schema: the fitted features.
        batch_size: B, lists (or plain rows) per batch.
        list_limit: the largest number of items of a list; longer lists are cut. The log shows how much is cut, see
            :func:`cut_report`. If a list has relevant items (label > 0) of a binary or graded task, one of them stays.
        truncate: ``"first"`` keeps the first items of a cut list. ``"random"`` keeps random items, different in every
            epoch. The items that stay keep their order.
        shuffle: True for a new order of the lists in every epoch.
        seed: seed of all random numbers, >= 0.
        epoch: the number of the first pass over the data set. Each further pass, even over one batch only, has the next
            number. If this is a function, it is called at the start of each pass and returns the number.
        buckets: if given, a batch contains lists of similar length, and the order of the lists changes. ``(10, 20)``
            makes buckets of lists with up to 10, up to 20, and more items. ``"auto"`` takes the
            quartiles of the lengths as bounds.
        weights: task -> column of weights >= 0, which are how much items count in the task, in losses and metrics. A
            context column contains weights of lists, another column of items.
        propensity_weights: task -> column of inverse propensities, see :mod:`tfmtl2r.data.propensity`. They multiply
            the terms of the loss, and do not enter metrics.
        drop_remainder: True to leave out batches with fewer than B lists.

    Raises:
        ValueError: for an option out of range, a missing column, or a column with invalid values.

    >>> from tfmtl2r import Dense
    >>> lists = Lists({"price": np.array([3.0, 1.0, 2.0]), "click": np.array([0, 1, 0])}, offsets=np.array([0, 2, 3]))
    >>> x, y = next(iter(batches(lists, [Task("click", kind="binary")], Schema([Dense("price")]))))
    >>> x["price"].numpy().tolist(), x["list_size"].numpy().tolist(), y["click"].numpy().tolist()
    ([[3.0, 1.0], [2.0, 0.0]], [2, 1], [[0.0, 1.0], [0.0, nan]])
    """
    tasks = tuple(tasks)
    tasks = validated(tasks) if tasks else ()
    kinds = {IMPORTANCE: dict(weights or {}), PROPENSITY: dict(propensity_weights or {})}
    columns = {(task, kind): column for kind, given in kinds.items() for task, column in given.items()}
    _check(lists, tasks, batch_size, list_limit, truncate, seed, buckets, columns)
    if list_limit is not None:
        lists = _cut(lists, tasks, list_limit, truncate)
    random = list_limit is not None and truncate == "random" and int(lists.sizes.max()) > list_limit
    limit = list_limit if random else None
    table = _Table(lists, tasks, schema, columns, limit)
    sizes = np.minimum(lists.sizes, list_limit or lists.sizes.max())
    bounds = _bounds(sizes, buckets)

    def one_epoch(number: Tensor) -> Batches:
        order_seed, key_seed = tf.unstack(tf.random.split(tf.stack([np.int64(seed), number]), 2))
        order = tf.range(lists.num_lists, dtype=tf.int64)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, seed=order_seed)
        indices = _in_batches(tf.data.Dataset.from_tensor_slices(order), sizes, bounds, batch_size, drop_remainder)
        keys = tf.random.stateless_uniform([lists.num_items], key_seed) if random else None
        return indices.map(lambda chosen: table.gather(chosen, keys), tf.data.AUTOTUNE)

    count = _cardinality(sizes, bounds, batch_size, drop_remainder)
    dataset = _epochs(epoch if shuffle or random else None).flat_map(one_epoch)
    options = tf.data.Options()
    options.deterministic = True
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count)).with_options(options)
    return dataset.prefetch(tf.data.AUTOTUNE)


class _Table:
    """All columns in a few tensors, so that one gather reads many columns.

    All scalar columns of the same type, labels and weights included, are columns of one tensor ``[N + 1, ...]``. The
    last row contains the values of padded places.
    """

    def __init__(
        self, lists: Lists, tasks: tuple[Task, ...], schema: Schema, weights: dict[Any, str], limit: int | None
    ):
        values = _looked_up(lists, schema)
        per_list = {name for name, f in schema.inputs.items() if f.context and not lists.is_rows}
        weigh = {key: weight_values(lists, key[0], column) for key, column in weights.items()}
        listed = {key for key, column in weights.items() if column in lists.context}
        self.rows = lists.is_rows
        self.limit = limit
        self.items = lists.num_items
        self.order = tuple(schema.inputs)
        by_type: dict[np.dtype, dict[tuple[str, Any], np.ndarray]] = {}
        scalars: dict[tuple[str, Any], np.ndarray] = {}
        scalars |= {("x", name): v for name, v in values.items() if name not in per_list and v.ndim == 1}
        scalars |= {("y", task.name): label_values(lists, task) for task in tasks}
        scalars |= {("w", key): value for key, value in weigh.items() if key not in listed}
        for key, value in scalars.items():
            by_type.setdefault(value.dtype, {})[key] = value
        self.packs = [_packed(columns) for columns in by_type.values()]
        self.vectors = {
            name: _padded(v, 0) for name, v in values.items() if name not in per_list and v.ndim > 1
        }
        self.per_list = {("x", name): tf.constant(values[name]) for name in self.order if name in per_list}
        self.per_list |= {("w", key): tf.constant(value) for key, value in weigh.items() if key in listed}
        if not self.rows:
            self.starts = tf.constant(lists.offsets[:-1], tf.int64)  # type: ignore[index]
            self.sizes = tf.constant(lists.sizes, tf.int32)
        if limit is not None:
            self.relevant = _padded(relevance(lists, tasks), False)

    def gather(self, chosen: Tensor, keys: Tensor | None) -> Any:
        """Returns the batch of the lists (for plain rows: the rows) with the numbers ``chosen``, ``int64[B]``."""
        parts: dict[str, dict[Any, Any]] = {"x": {}, "y": {}, "w": {}}
        items = chosen
        if not self.rows:
            items, sizes = self._items(chosen, keys)
        for names, matrix in self.packs:
            for (part, name), column in zip(names, tf.unstack(tf.gather(matrix, items), axis=-1), strict=True):
                parts[part][name] = column
        for name, matrix in self.vectors.items():
            parts["x"][name] = tf.gather(matrix, items)
        for (part, name), values in self.per_list.items():
            parts[part][name] = tf.gather(values, chosen)
        x = {name: parts["x"][name] for name in self.order}
        if not self.rows:
            x[LIST_SIZE] = sizes
        batch = (x, parts["y"], _by_task(parts["w"])) if parts["w"] else (x, parts["y"])
        return batch if parts["y"] else x

    def _items(self, chosen: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns item numbers ``int64[B, L]``, which are N at padded places, and list sizes ``int32[B]``."""
        sizes = tf.gather(self.sizes, chosen)
        places = tf.range(tf.reduce_max(sizes))[None, :]
        items = tf.gather(self.starts, chosen)[:, None] + tf.cast(places, tf.int64)
        items = tf.where(places < sizes[:, None], items, self.items)
        if self.limit is None:
            return items, sizes
        keys = tf.gather(tf.concat([keys, [np.inf]], axis=0), items)
        places, sizes = choose(keys, tf.gather(self.relevant, items), sizes, self.limit)
        return tf.gather(items, places, batch_dims=1), sizes


def _by_task(weights: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Weights by (task, kind) as ``sample_weight`` of a batch: the importance alone, or a dict of kinds."""
    kinds: dict[str, dict[str, Any]] = {}
    for (task, kind), values in weights.items():
        kinds.setdefault(task, {})[kind] = values
    return {task: found[IMPORTANCE] if set(found) == {IMPORTANCE} else found for task, found in kinds.items()}


def _looked_up(lists: Lists, schema: Schema) -> dict[str, np.ndarray]:
    """Looks up the features of all items, and the context features of all lists, in chunks."""
    found: dict[str, np.ndarray] = {}
    for context in (False, True):
        features = [f for f in schema.features if f.context == context]
        if not features:
            continue
        raw = {name: values for f in features for name, values in feature_values(lists, f).items()}
        lookup = Lookup(Schema(features))
        rows = len(next(iter(raw.values())))
        chunks = [
            lookup({name: tf.convert_to_tensor(values[i : i + LOOKUP_ROWS]) for name, values in raw.items()})
            for i in range(0, rows, LOOKUP_ROWS)
        ]
        for name in raw:
            found[name] = np.concatenate([chunk[name].numpy() for chunk in chunks])
    return found


def _packed(columns: dict[tuple[str, Any], np.ndarray]) -> tuple[tuple[tuple[str, Any], ...], Any]:
    matrix = np.stack(list(columns.values()), axis=1)
    fill = [np.nan if part == "y" else 0 for part, _ in columns]
    return tuple(columns), tf.constant(np.concatenate([matrix, np.array([fill], matrix.dtype)]))


def _padded(values: np.ndarray, fill: Any) -> Any:
    return tf.constant(np.concatenate([values, np.full((1, *values.shape[1:]), fill, values.dtype)]))


def _epochs(epoch: int | Callable[[], int] | None) -> Batches:
    """Makes a data set of one number, the epoch of the pass. None, for a pipeline without random choices, gives 0."""
    if epoch is None:
        return tf.data.Dataset.from_tensors(np.int64(0))
    # The counter is in Python: a strategy would mirror a tf.Variable, and tf.data cannot capture a mirrored variable.
    current = epoch if callable(epoch) else itertools.count(int(epoch)).__next__

    def number(_: Any) -> Tensor:
        value = tf.numpy_function(lambda: np.int64(current()), [], tf.int64)
        value.set_shape(())
        return value

    return tf.data.Dataset.range(1).map(number)


def _in_batches(
    indices: Batches, sizes: np.ndarray, bounds: list[int], batch_size: int, drop_remainder: bool
) -> Batches:
    """Makes batches of list numbers. With bounds, the lists of a batch have similar lengths."""
    if not bounds:
        return indices.batch(batch_size, drop_remainder=drop_remainder)
    size_of = tf.constant(sizes, tf.int32)
    return indices.bucket_by_sequence_length(
        lambda chosen: tf.gather(size_of, chosen),
        bucket_boundaries=[bound + 1 for bound in bounds],  # TensorFlow's boundaries belong to the bucket above
        bucket_batch_sizes=[batch_size] * (len(bounds) + 1),
        drop_remainder=drop_remainder,
    )


def _bounds(sizes: np.ndarray, buckets: tuple[int, ...] | str | None) -> list[int]:
    """Returns the length of the longest list of each bucket except the last bucket."""
    if buckets is None:
        return []
    if buckets == "auto":
        buckets = tuple(np.quantile(sizes, [0.25, 0.5, 0.75], method="higher"))
    return sorted({int(bound) for bound in buckets if bound < sizes.max()})


def _cardinality(sizes: np.ndarray, bounds: list[int], batch_size: int, drop_remainder: bool) -> int:
    """Returns the number of batches in an epoch. The last batch of each bucket may be smaller than the others."""
    counts = np.bincount(np.searchsorted(bounds, sizes))
    batches_ = counts // batch_size if drop_remainder else -(-counts // batch_size)
    if batches_.sum() == 0:
        raise InputError(f"drop_remainder leaves no batch: {len(sizes)} lists, batch_size {batch_size}; make the "
                         "batches smaller, or keep the remainder")
    return int(batches_.sum())


def _cut(lists: Lists, tasks: tuple[Task, ...], limit: int, truncate: str) -> Lists:
    """Logs how much a limit cuts. Cuts the lists if the same items stay in every epoch."""
    report = cut_report(lists, limit)
    log.info("list_limit=%d cuts %d of %d items, from %d of %d lists (%s)", limit, report["items_cut"],
             report["items"], report["lists_cut"], lists.num_lists, truncate)
    if truncate == "random" or not report["items_cut"]:
        return lists
    return lists.keep(keep_first(lists.offsets, relevance(lists, tasks), limit))  # type: ignore[arg-type]


def _check(
    lists: Lists, tasks: tuple[Task, ...], batch_size: int, list_limit: int | None, truncate: str, seed: int,
    buckets: tuple[int, ...] | str | None, weights: dict[Any, str],
) -> None:
    protecting = [task.name for task in tasks if task.kind != "regression"]
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    if seed < 0:
        raise InputError(f"seed must be 0 or more, not {seed}")
    if truncate not in ("first", "random"):
        raise InputError(f"truncate must be 'first' or 'random', not {truncate!r}")
    if lists.is_rows and (list_limit is not None or buckets is not None):
        raise InputError("plain rows have no lists to cut or to sort by length: leave out list_limit and buckets, "
                         "or give a list id to from_frame")
    if list_limit is not None and list_limit < max(1, len(protecting)):
        raise InputError(f"list_limit={list_limit} cannot keep a relevant item for each of {len(protecting)} tasks "
                         f"({', '.join(protecting)}); it must be at least {max(1, len(protecting))}")
    if isinstance(buckets, str) and buckets != "auto":
        raise InputError(f"buckets must be 'auto' or list lengths such as (10, 20), not {buckets!r}")
    if not isinstance(buckets, str) and any(bound < 1 for bound in buckets or ()):
        raise InputError(f"buckets must be list lengths of at least 1, not {buckets}")
    names = [task.name for task in tasks]
    for task, _ in weights:
        if task not in names:
            raise InputError(f"weights are given for {task!r}, which is not a task{did_you_mean(task, names)}; "
                             f"tasks: {', '.join(names)}")
