"""The order of the lists in training: a function of (seed, epoch, step).

Neither the source of the lists nor the number of workers enters the order. A training that was stopped continues with
exactly the batches that it would have read.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmtl2r.errors import InputError

WINDOW = 100_000
STREAMS = 16


@dataclasses.dataclass(frozen=True)
class Seat:
    """The place of a worker among all workers, which decides the lists that it reads of every batch.

    Args:
        worker: number of the worker, below ``workers``.
        workers: number of workers, at most the number of streams.
        streams: number of streams, see :class:`Order`.

    >>> seat = Seat(1, 2)
    >>> seat.reads(np.arange(5)).tolist(), seat.place(np.arange(2)).tolist()
    ([False, True, False, True, False], [1, 3])
    """

    worker: int = 0
    workers: int = 1
    streams: int = STREAMS

    def __post_init__(self) -> None:
        if not 0 <= self.worker < self.workers <= self.streams:
            raise InputError(f"worker {self.worker} of {self.workers}: expected 0 <= worker < workers <= "
                             f"{self.streams}")

    def reads(self, places: Any) -> Any:
        """Whether the worker reads the lists at some places of a batch, as an array or a tensor."""
        return places % self.streams % self.workers == self.worker

    def place(self, number: Any) -> Any:
        """The place in the whole batch of the worker's list of a number; the inverse of :meth:`reads`."""
        in_a_round = len(range(self.worker, self.streams, self.workers))
        return number // in_a_round * self.streams + self.worker + number % in_a_round * self.workers


class Order:
    """The numbers of the lists in each batch of each epoch.

    An epoch reads every list once. With ``shuffle``, the numbers 0..N-1 are divided into windows of consecutive lists.
    Each epoch draws an order of the windows, and an order of the lists inside each window. A source therefore reads at
    most one window at a time, and a table that is not larger than a window is shuffled as a whole.

    The lists of a batch go round the streams: the list at place i of a batch belongs to stream ``i mod streams``, and
    stream ``s`` to worker ``s mod workers``. The batches therefore do not depend on the number of workers.

    Args:
        sizes: ``int[N]``, the number of items of each list.
        batch_size: B, lists in a batch of all workers together.
        shuffle: True for another order in every epoch. False keeps the order of the numbers.
        seed: seed of the order, >= 0.
        bounds: ascending list lengths. If given, all lists of a batch have lengths between two neighbouring bounds. A
            batch comes as soon as B lists of similar length have come; the remaining lists come last.
        drop_remainder: True to leave out batches with fewer than B lists.
        window: largest number of lists that are shuffled together.
        streams: number of streams.
        draws: number of independent orders. A batch then has B lists of each, and the list at place i is one of the
            order ``i mod draws``. An epoch reads every list once in each order. The first order is that of one draw.

    >>> order = Order([1, 1, 1, 1, 1], batch_size=2, shuffle=True, seed=3)
    >>> order.num_batches, sorted(np.concatenate([order.batch(0, step) for step in range(3)]).tolist())
    (3, [0, 1, 2, 3, 4])
    """

    def __init__(
        self, sizes: Sequence[int] | np.ndarray, batch_size: int, *, shuffle: bool = False, seed: int = 0,
        bounds: Sequence[int] = (), drop_remainder: bool = False, window: int = WINDOW, streams: int = STREAMS,
        draws: int = 1,
    ):
        if draws > 1 and (len(bounds) or not shuffle):
            raise InputError("several draws of the lists need a shuffled order without buckets, since the batches of "
                             "all draws are equally long")
        self.num_lists = len(sizes)
        self.longest = int(np.max(sizes, initial=0))
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_remainder = drop_remainder
        self.window = window
        self.streams = streams
        self.draws = draws
        self._buckets = np.searchsorted(np.asarray(bounds), sizes)
        counts = np.bincount(self._buckets)
        full = counts // batch_size if drop_remainder else -(-counts // batch_size)
        self.num_batches = int(full.sum())
        if self.num_batches == 0:
            raise InputError(f"drop_remainder leaves no batch: {self.num_lists} lists, batch_size {batch_size}; make "
                             "the batches smaller, or keep the remainder")
        self._last = functools.lru_cache(maxsize=1)(self._epoch)

    def batch(self, epoch: int, step: int) -> np.ndarray:
        """The numbers of the lists of one batch, ``int64[<= draws B]``.

        Args:
            epoch: number of the epoch, >= 0.
            step: number of the batch in the epoch, below :attr:`num_batches`.
        """
        numbers, starts = self.epoch(epoch)
        return numbers[starts[step] : starts[step + 1]]

    def share(self, epoch: int, step: int, worker: int, workers: int) -> np.ndarray:
        """The numbers of the lists of one batch that one worker reads.

        Args:
            epoch: number of the epoch.
            step: number of the batch in the epoch.
            worker: number of the worker, below ``workers``.
            workers: number of workers, at most the number of streams.
        """
        numbers = self.batch(epoch, step)
        return numbers[Seat(worker, workers, self.streams).reads(np.arange(len(numbers)))]

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """All batches of an epoch: the numbers of the lists, and where each batch starts, ``int64[num_batches + 1]``.

        The last epoch that was asked for is kept.
        """
        return self._last(epoch if self.shuffle else 0)

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        each = [self._draw(epoch, number) for number in range(self.draws)]
        starts = each[0][1]
        return np.stack([numbers for numbers, _ in each], axis=1).ravel(), self.draws * starts

    def _draw(self, epoch: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = self._sequence(epoch, draw)
        buckets = self._buckets[numbers]
        by_bucket = np.argsort(buckets, kind="stable")  # places in the sequence, bucket by bucket
        starts = np.concatenate([[0], np.cumsum(np.bincount(buckets))])
        found = []
        for start, end in itertools.pairwise(starts):
            for first in range(start, end, self.batch_size):
                places = by_bucket[first : min(first + self.batch_size, end)]
                full = len(places) == self.batch_size
                if full or not self.drop_remainder:
                    found.append((places[-1] if full else self.num_lists, places))
        found.sort(key=lambda one: one[0])
        parts = [numbers[places] for _, places in found]
        return np.concatenate(parts), np.cumsum([0, *map(len, parts)])

    def _sequence(self, epoch: int, draw: int) -> np.ndarray:
        """The numbers of all lists, in the order in which an epoch reads them."""
        if not self.shuffle:
            return np.arange(self.num_lists)
        random = np.random.default_rng([self.seed, epoch, *([draw] if draw else [])])
        starts = range(0, self.num_lists, self.window)
        windows = [start + random.permutation(min(self.window, self.num_lists - start)) for start in starts]
        return np.concatenate([windows[i] for i in random.permutation(len(windows))])


def bounds_of(sizes: np.ndarray, buckets: tuple[int, ...] | str | None) -> list[int]:
    """The lengths of the longest lists of all buckets but the last, for :class:`Order`.

    Args:
        sizes: the number of items of each list.
        buckets: ``(10, 20)`` makes buckets of lists with up to 10, up to 20, and more items. ``"auto"`` takes the
            quartiles of the sizes. None makes no buckets.

    >>> bounds_of(np.array([3, 7, 12, 30]), (10, 20, 99))
    [10, 20]
    """
    if buckets is None:
        return []
    if buckets == "auto":
        buckets = tuple(np.quantile(sizes, [0.25, 0.5, 0.75], method="higher"))
    return sorted({int(bound) for bound in buckets if bound < sizes.max()})
