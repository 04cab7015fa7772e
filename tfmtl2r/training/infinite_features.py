"""Refuses infinite features in the batches that a user made, and says in words what TensorFlow's errors are about.

A missing number is NaN. An infinite number is an error in a computation, such as a logarithm of 0, but the encoder
would treat it as missing. Batches of :func:`tfmtl2r.data.batches` are checked when they are made.
"""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch, unpack
from tfmtl2r.data.passes import is_unchanged
from tfmtl2r.errors import DamagedError, InputError
from tfmtl2r.schema import Schema
from tfmtl2r.training.finite import failed

_MARK = "tfmtl2r: infinite feature number "
_INFINITE = ("is infinite in a batch of the data: mark a missing value with NaN, and find out where other infinite "
             "values come from")


class Finite:
    """Checks batches while they are read. The check of a data set runs in its own threads, not in the training step.

    Args:
        schema: the features that a ranker reads; None for all features of a batch.
    """

    def __init__(self, schema: Schema | None = None) -> None:
        self.reads = None if schema is None else {name for one in schema.features for name in one.looked_up}
        self.names: list[str] = []
        self.raised: InputError | None = None

    def watch(self, x: Any) -> Any:
        """The data with the check. Distributed data remain as they are: :func:`refused` checks them in each step.

        Args:
            x: the data; or a tuple, as of ``validation_data``, that begins with them.

        Raises:
            ValueError: for an infinite feature in arrays.
        """
        if isinstance(x, tf.data.Dataset) and not is_unchanged(x):
            return x.map(self._in_graph, num_parallel_calls=tf.data.AUTOTUNE)
        if isinstance(x, tuple) and x:
            return (self.watch(x[0]), *x[1:])
        if isinstance(x, types.GeneratorType):
            return (self.watch_batch(batch) for batch in x)
        if isinstance(x, keras.utils.PyDataset):
            return _Watched(x, self)
        return self.watch_batch(x) if isinstance(x, Mapping) else x

    @contextlib.contextmanager
    def in_words(self) -> Iterator[None]:
        """Replaces errors of TensorFlow: for an infinite feature, and for a file of a store that ends too early."""
        try:
            yield
        except tf.errors.OpError as error:
            if damaged := re.search(r"\b(?:Damaged|Input)Error: (.+)", str(error)):  # from the reader of a store
                raise DamagedError(damaged[1]) from None
            if self.raised is None and (found := re.search(_MARK + r"(\d+)", str(error))):
                self.raised = self._error(self.names[int(found.group(1))])
            if self.raised is None:
                raise
            raise self.raised from None

    def _in_graph(self, *batch: Any) -> Any:
        element = batch if len(batch) > 1 else batch[0]
        features = {name: value for name, value in self._read(element)
                    if isinstance(value, tf.Tensor) and value.dtype.is_floating}
        first, self.names = len(self.names), [*self.names, *features]
        for number, value in enumerate(features.values(), first):
            tf.debugging.Assert(~tf.reduce_any(tf.math.is_inf(value)), [f"{_MARK}{number}"])
        return element

    def watch_batch(self, batch: Any) -> Any:
        """The batch of arrays, after its check.

        Raises:
            ValueError: for an infinite feature.
        """
        for name, value in self._read(batch):
            array = np.asarray(value)
            if array.dtype.kind == "f" and np.isinf(array).any():
                self.raised = self._error(name)
                raise self.raised
        return batch

    def _read(self, batch: Any) -> Iterator[tuple[str, Any]]:
        for name, value in unpack(batch)[0].items():
            if self.reads is None or name in self.reads:
                yield name, value

    def _error(self, name: str) -> InputError:
        return InputError(f"feature {name!r} {_INFINITE}")


class _Watched(keras.utils.PyDataset):
    """A ``PyDataset`` whose batches are checked where they are made, which may be another thread or process."""

    def __init__(self, data: Any, finite: Finite):
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data, self.finite = data, finite

    @property
    def num_batches(self) -> Any:
        """The number of batches, None if the data do not tell it."""
        return self.data.num_batches

    def __getitem__(self, index: int) -> Any:
        return self.finite.watch_batch(self.data[index])

    def on_epoch_begin(self) -> None:
        """Tells the data that an epoch begins."""
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Tells the data that an epoch has ended."""
        self.data.on_epoch_end()


def refused(batch: Batch) -> Any:
    """An operation that fails with the name of an infinite feature, for batches that only a step can check."""
    floats = {name: values for name, values in batch.features.items() if tf.as_dtype(values.dtype).is_floating}
    if not floats:
        return tf.no_op()
    found = tf.stack([tf.reduce_any(tf.math.is_inf(values)) for values in floats.values()])
    name = tf.gather(tf.constant([*floats]), tf.argmax(found))
    return failed(tf.reduce_any(found), tf.strings.join(["feature '", name, f"' {_INFINITE}"]))
