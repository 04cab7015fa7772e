"""The processes of a training: what each of them reads, computes and agrees on with the others.

All workers run the same loop. They make the same steps on their shares of the same batches, and have the same weights,
logs and decisions after each step. Each worker is one process with one device. Every worker has to take part in every
collective operation, in the same order. The number of the steps is therefore known before an epoch, and wishes that
only one worker has (a signal, the clock) are agreed on, see :class:`Agreement`.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.data.order import Seat
from tfmtl2r.errors import InputError
from tfmtl2r.training.replicas import seat_of

_SECONDS = 1.0
"""How long a wish of one worker may wait until the others learn about it."""
_MOST_STEPS = 1000
_SUMMED: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()
"""strategy -> types and shapes -> a function that sums such values. TensorFlow warns of many functions of one kind."""


class Workers:
    """The workers of a ranker, seen from one of them; a ranker without a strategy for several workers has one.

    Args:
        strategy: the strategy under which the ranker was built, or None.

    Raises:
        InputError: if a worker has several devices.
    """

    def __init__(self, strategy: Any = None):
        self.strategy = strategy
        self.seat: Seat = seat_of(strategy)
        if self.several and strategy.num_replicas_in_sync != self.seat.workers:
            raise InputError(f"{self.seat.workers} workers have {strategy.num_replicas_in_sync} devices: start a "
                             "worker per device, and let each see its own, for example with CUDA_VISIBLE_DEVICES")

    @property
    def several(self) -> bool:
        """Whether there is more than one worker."""
        return self.seat.workers > 1

    @property
    def is_chief(self) -> bool:
        """Whether this worker reads and writes the files; worker 0 does."""
        return self.seat.worker == 0

    def share(self, data: Any) -> Any:
        """This worker's share of every batch of a data set. All shares of a batch together are the batch.

        Args:
            data: a ``tf.data.Dataset`` that tells its number of batches, the same on all workers.

        Raises:
            InputError: for other data.
        """
        if not isinstance(data, tf.data.Dataset) or int(data.cardinality()) < 0:
            raise InputError("several workers need a tf.data.Dataset that tells its number of batches, as that of "
                             "tfmtl2r.data.batches does: all of them have to make the same number of steps")
        return data.at_seat(self.seat) if hasattr(data, "at_seat") else data.map(self._part)

    def compiled(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A function that makes a step on the next batch of an iterator, and returns its logs.

        Keras' function averages logs over workers, which fails for numbers. Here, each step returns the same logs on
        all workers.
        """
        def run(iterator: Any) -> Any:
            found = self.strategy.run(step, (next(iterator),))
            return tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], found)

        return tf.function(run, autograph=False)

    def evaluate(self, model: Any, data: Any, callbacks: Any = None) -> dict[str, float]:
        """What Keras' ``evaluate`` does, by all workers together.

        Args:
            model: the ranker.
            data: the data, of which each worker reads its share.
            callbacks: a Keras ``CallbackList``, or None.
        """
        share, logs = self.share(data), {}
        model.make_test_function()
        model.reset_metrics()
        if callbacks is not None:
            callbacks.on_test_begin()
        iterator = iter(share)
        for number in range(int(share.cardinality())):
            if callbacks is not None:
                callbacks.on_test_batch_begin(number)
            logs = model.test_function(iterator)
            if callbacks is not None:
                callbacks.on_test_batch_end(number, logs)
        found = {name: float(value) for name, value in logs.items()}
        if callbacks is not None:
            callbacks.on_test_end(found)
        return found

    def sum(self, values: Sequence[Any]) -> list[Any]:
        """The sums of values over all workers, as arrays. Shapes and types are the same on all workers."""
        tensors = [tf.convert_to_tensor(value) for value in values]
        return [np.array(value) for value in (self._sums(tensors) if self.several and tensors else tensors)]

    def beside(self, value: Any) -> Any:
        """A value beside zeros for the other workers: the sum over all workers is the stack of their values."""
        whole = np.zeros((self.seat.workers, *np.shape(value)), np.asarray(value).dtype)
        whole[self.seat.worker] = value
        return whole

    def of_chief(self, values: Sequence[Any]) -> list[Any]:
        """The chief's values, on every worker. Shapes and types are the same on all workers."""
        arrays = [np.asarray(value) for value in values]
        numbers = [array.astype(np.int32) if array.dtype == bool else array for array in arrays]
        found = self.sum([array if self.is_chief else np.zeros_like(array) for array in numbers])
        return [value.astype(array.dtype) for value, array in zip(found, arrays, strict=True)]

    def text_of_chief(self, text: bytes) -> bytes:
        """The chief's text, on every worker."""
        size = int(self.of_chief([np.int64(len(text))])[0])
        padded = np.zeros(-(-size // 4), np.int32)  # four bytes in a number
        if self.is_chief:
            padded.view(np.uint8)[:size] = np.frombuffer(text, np.uint8)
        return bytes(self.of_chief([padded])[0].view(np.uint8)[:size].tobytes())

    def _sums(self, values: Sequence[Any]) -> list[Any]:
        def add(*each: Any) -> list[Any]:
            context, found = tf.distribute.get_replica_context(), dict(enumerate(each))
            for dtype in sorted({value.dtype.name for value in each}):  # only numbers of one type are sent together
                places = [i for i, value in enumerate(each) if value.dtype.name == dtype]
                placed = [tf.identity(each[i]) for i in places]  # an argument has no device, which a collective needs
                found |= zip(places, context.all_reduce(tf.distribute.ReduceOp.SUM, placed), strict=True)
            return list(found.values())

        kind = tuple((value.dtype, tuple(value.shape)) for value in values)
        strategy, summed = self.strategy, _SUMMED.setdefault(self.strategy, {})
        if kind not in summed:
            # Traced here: TensorFlow counts calls that trace by the code of the function, and would warn of its kinds.
            summed[kind] = tf.function(lambda given: strategy.run(add, tuple(given)), autograph=False
                                       ).get_concrete_function([tf.TensorSpec(shape, dtype) for dtype, shape in kind])
        return [strategy.experimental_local_results(value)[0] for value in summed[kind](values)]

    def _part(self, *batch: Any) -> Any:
        def lists(values: Any) -> Any:
            return tf.boolean_mask(values, self.seat.reads(tf.range(tf.shape(values)[0])))

        found = tf.nest.map_structure(lists, batch)
        return found if len(found) > 1 else found[0]


class Agreement:
    """Lets all workers of a training do what one of them wants, after the same step.

    The workers ask each other about once a second: the chief measures its steps, and decides after how many steps the
    workers ask again.

    Args:
        workers: the workers.
    """

    def __init__(self, workers: Workers):
        self.workers = workers
        self._wait, self._made = 1, 0
        self._asked_at = time.monotonic()

    def __call__(self, steps: int, wishes: Sequence[bool]) -> list[bool]:
        """Whether any worker has each of the wishes; all False where the workers do not ask each other yet.

        Args:
            steps: number of steps since the last call; 0 to ask at once.
            wishes: this worker's wishes.
        """
        if not self.workers.several:
            return list(wishes)
        self._made += steps
        if steps and self._made < self._wait:
            return [False] * len(wishes)
        seconds = max(time.monotonic() - self._asked_at, 1e-9)
        wait = min(max(int(_SECONDS * self._made / seconds), 1), _MOST_STEPS) if self.workers.is_chief else 0
        found = self.workers.sum([np.array([*wishes, wait], np.int32)])[0]
        self._wait, self._made, self._asked_at = int(found[-1]), 0, time.monotonic()
        return [bool(count) for count in found[:-1]]
