"""Converts lists to batches: :func:`batches` makes the ``tf.data`` pipeline.

Categories are looked up once, before the first epoch. An epoch only orders the numbers of the lists
(:mod:`tfmtl2r.data.order`) and takes them from their source (:mod:`tfmtl2r.data.sources`). Every random choice is a
function of (seed, epoch). The same seed therefore gives the same batches, and a resumed training receives the batches
that it would have received without the interruption.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.batch import IMPORTANCE, PROPENSITY
from tfmtl2r.data.columns import relevance
from tfmtl2r.data.lists import Lists
from tfmtl2r.data.order import Order, Seat, bounds_of
from tfmtl2r.data.passes import Passes
from tfmtl2r.data.sources import MemorySource, Source
from tfmtl2r.data.truncate import cut_report, keep_first
from tfmtl2r.errors import InputError
from tfmtl2r.names import did_you_mean
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task, validated
from tfmtl2r.types import Batches, Tensor

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
    epoch: int | Callable[[], int] | None = None,
    buckets: tuple[int, ...] | str | None = None,
    weights: Mapping[str, str] | None = None,
    propensity_weights: Mapping[str, str] | None = None,
    drop_remainder: bool = False,
    draws: int = 1,
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
        shuffle: True for a new order of the lists in every epoch, see :class:`tfmtl2r.data.order.Order`.
        seed: seed of all random numbers, >= 0.
        epoch: the number of the epoch that every pass over the data set reads, or a function that is called at the
            start of each pass and returns the number. By default, ``fit`` of a ranker sets the number: it is the
            ranker's own count of epochs, which files and checkpoints contain. Passes outside of ``fit`` have the number
            0, so that a look at the first batch changes nothing.
        buckets: if given, a batch contains lists of similar length, and the order of the lists changes. ``(10, 20)``
            makes buckets of lists with up to 10, up to 20, and more items. ``"auto"`` takes the
            quartiles of the lengths as bounds.
        weights: task -> column of weights >= 0, which are how much items count in the task, in losses and metrics. A
            context column contains weights of lists, another column of items. By default the task's
            ``weight_column``.
        propensity_weights: task -> column of inverse propensities, see :mod:`tfmtl2r.data.propensity`. They multiply
            the terms of the loss, and do not enter metrics. By default the task's ``propensity_column``.
        drop_remainder: True to leave out batches with fewer than B lists.
        draws: number of independent orders of the lists, for an ensemble whose members have batches of their own. A
            batch has B lists of each order, in turn; see :class:`tfmtl2r.data.order.Order`.

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
    own = {IMPORTANCE: {task.name: task.weight_column for task in tasks},
           PROPENSITY: {task.name: task.propensity_column for task in tasks}}
    kinds = {IMPORTANCE: dict(weights or {}), PROPENSITY: dict(propensity_weights or {})}
    columns = {(task, kind): column for kind, given in kinds.items()
               for task, column in {**own[kind], **given}.items() if column}
    _check(lists, tasks, batch_size, list_limit, truncate, seed, buckets, columns)
    if list_limit is not None:
        lists = _cut(lists, tasks, list_limit, truncate)
    longer = list_limit is not None and int(lists.sizes.max()) > list_limit
    random = longer and truncate == "random"
    source: Source
    if lists.prepared is None:
        source = MemorySource(lists, tasks, schema, columns, list_limit if random else None)
    else:
        source = lists.prepared.source(tasks, schema, columns, list_limit if longer else None, random)
    sizes = np.minimum(lists.sizes, list_limit or lists.sizes.max())
    order = Order(sizes, batch_size, shuffle=shuffle, seed=seed, bounds=bounds_of(sizes, buckets),
                  drop_remainder=drop_remainder, draws=draws)
    return _pipeline(source, order, Passes(epoch))


def _pipeline(source: Source, order: Order, passes: Passes, first: int = 0, seat: Seat | None = None) -> Batches:
    """Makes a data set whose passes read an epoch of an order from a source.

    Its attribute ``from_step`` is a function that makes a data set of the same passes without their first steps. It
    reads none of the lists that it skips, unlike ``skip``. Its attribute ``at_seat`` is a function that makes a data
    set of a worker's share of each batch, which may be empty (:class:`tfmtl2r.data.order.Seat`). Its attribute
    ``largest`` is the number of lists of a batch and the number of items of the longest list.
    """

    def read(_: Any) -> tuple[Tensor, Tensor, Tensor]:
        def now() -> tuple[np.ndarray, ...]:
            epoch = passes()
            return np.asarray(epoch, np.int64), *order.epoch(epoch)

        epoch, numbers, starts = tf.numpy_function(now, [], (tf.int64, tf.int64, tf.int64))
        for value, shape in ((epoch, []), (numbers, [None]), (starts, [None])):
            value.set_shape(shape)
        return epoch, numbers, starts

    def one_epoch(epoch: Tensor, numbers: Tensor, starts: Tensor) -> Batches:
        keys = source.keys(order.seed, epoch)
        steps = tf.data.Dataset.range(first, order.num_batches)
        chosen = steps.map(lambda step: numbers[starts[step] : starts[step + 1]])
        if seat is not None:
            chosen = chosen.map(lambda lists: tf.boolean_mask(lists, seat.reads(tf.range(tf.size(lists)))))
        return chosen.map(lambda lists: source.take(lists, keys), tf.data.AUTOTUNE)

    start = passes.mark(tf.data.Dataset.range(1).map(read))
    options = tf.data.Options()
    options.deterministic = True
    count = tf.data.experimental.assert_cardinality(order.num_batches - first)
    dataset = start.flat_map(one_epoch).apply(count).with_options(options).prefetch(tf.data.AUTOTUNE)
    dataset.from_step = lambda step: _pipeline(source, order, passes, step, seat)
    dataset.at_seat = lambda seat: _pipeline(source, order, passes, first, seat)
    dataset.largest = (order.batch_size * order.draws, order.longest)
    return passes.mark(dataset)


def _cut(lists: Lists, tasks: tuple[Task, ...], limit: int, truncate: str) -> Lists:
    """Logs how much a limit cuts. Cuts lists in memory if the same items stay in every epoch."""
    report = cut_report(lists, limit)
    log.info("list_limit=%d cuts %d of %d items, from %d of %d lists (%s)", limit, report["items_cut"],
             report["items"], report["lists_cut"], lists.num_lists, truncate)
    if truncate == "random" or not report["items_cut"] or lists.prepared is not None:
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
