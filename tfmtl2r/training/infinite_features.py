"""Refuses infinite features in the batches that a user made.

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

from tfmtl2r._backend import tf
from tfmtl2r.batch import unpack
from tfmtl2r.data.passes import is_unchanged
from tfmtl2r.errors import InputError

_MARK = "tfmtl2r: infinite feature number "


class Finite:
    """Checks batches while they are read. The check of a data set runs in its own threads, not in the training step."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.raised: InputError | None = None

    def watch(self, x: Any) -> Any:
        """The data with the check. Data of another kind than a data set, a generator or arrays are not checked.

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
            return (self._at_once(batch) for batch in x)
        return self._at_once(x) if isinstance(x, Mapping) else x

    @contextlib.contextmanager
    def in_words(self) -> Iterator[None]:
        """Names the feature in the error of TensorFlow that stands for an infinite one."""
        try:
            yield
        except tf.errors.InvalidArgumentError as error:
            if self.raised is None and (found := re.search(_MARK + r"(\d+)", str(error))):
                self.raised = self._error(self.names[int(found.group(1))])
            if self.raised is None:
                raise
            raise self.raised from None

    def _in_graph(self, *batch: Any) -> Any:
        element = batch if len(batch) > 1 else batch[0]
        features = {name: value for name, value in unpack(element)[0].items()
                    if isinstance(value, tf.Tensor) and value.dtype.is_floating}
        first, self.names = len(self.names), [*self.names, *features]
        for number, value in enumerate(features.values(), first):
            tf.debugging.Assert(~tf.reduce_any(tf.math.is_inf(value)), [f"{_MARK}{number}"])
        return element

    def _at_once(self, batch: Any) -> Any:
        for name, value in unpack(batch)[0].items():
            array = np.asarray(value)
            if array.dtype.kind == "f" and np.isinf(array).any():
                self.raised = self._error(name)
                raise self.raised
        return batch

    def _error(self, name: str) -> InputError:
        return InputError(f"feature {name!r} is infinite in a batch of the data: mark a missing value with NaN, and "
                          "find out where other infinite values come from")
