"""An export as TensorFlow Serving sees it: through TensorFlow's session loader.

The server calls the C++ function behind ``tf.compat.v1.saved_model.loader``. ``tf.saved_model.load`` takes another path
and opens exports that the server cannot run, such as a Keras 3 model that ``tf.saved_model.save`` wrote.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import tf

SERVE = "serve"


class LoadedExport:
    """A version folder in a graph and session of its own; use it in a ``with`` statement. Threads may share it.

    Args:
        folder: what holds ``saved_model.pb``.

    Raises:
        RuntimeError: when the folder has no graph for serving.
        OSError: when the folder has no SavedModel.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._callables: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default(), quiet():
                self.meta_graph = tf.compat.v1.saved_model.loader.load(self._session, [SERVE], str(folder))
        except BaseException:
            self._session.close()
            raise

    def __enter__(self) -> LoadedExport:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._callables.clear()
        self._session.close()

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The outputs of a signature by name.

        As in the server, names and types are compared with the signature, and shapes are left to the graph.

        Args:
            signature: its name.
            inputs: all inputs of the signature by name; text as ``str`` or ``bytes``.

        Raises:
            ValueError: for an unknown signature, and an input that is missing or unknown.
            TypeError: for an input of another type.
            tf.errors.OpError: what the server would answer instead of outputs.
        """
        definitions = self.meta_graph.signature_def
        if signature not in definitions:
            raise ValueError(f"there is no signature {signature!r}; this export has {', '.join(sorted(definitions))}")
        definition = definitions[signature]
        _compare(signature, definition.inputs, inputs)
        feed = [_array(signature, name, inputs[name], definition.inputs[name]) for name in sorted(definition.inputs)]
        try:
            values = self._callable(signature)(*feed)
        except UnicodeDecodeError as error:  # TensorFlow's message repeats the bytes of the request
            said = error.object.decode(errors="backslashreplace")
            raise tf.errors.InvalidArgumentError(None, None, said) from error
        return dict(zip(sorted(definition.outputs), values, strict=True))

    def _callable(self, signature: str) -> Any:
        with self._lock:
            if signature not in self._callables:
                definition = self.meta_graph.signature_def[signature]
                from tensorflow.core.protobuf import config_pb2  # it has no public name

                chosen = config_pb2.CallableOptions()
                chosen.feed.extend(definition.inputs[name].name for name in sorted(definition.inputs))
                chosen.fetch.extend(definition.outputs[name].name for name in sorted(definition.outputs))
                # Session.run would compare shapes in Python, where the server compares none.
                self._callables[signature] = self._session._make_callable_from_options(chosen)
            return self._callables[signature]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back TensorFlow's notices about saving and loading; its errors pass."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _compare(signature: str, expected: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    missing, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    if missing or unknown:
        near = {name: difflib.get_close_matches(name, missing, n=1) for name in unknown}
        hints = "".join(f"; did you mean {match[0]!r} by {name!r}?" for name, match in near.items() if match)
        raise ValueError(f"signature {signature!r} reads {', '.join(sorted(expected))}; missing: "
                         f"{', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}{hints}")


def _array(signature: str, name: str, value: Any, info: Any) -> np.ndarray:
    dtype = tf.as_dtype(info.dtype)
    wanted = np.dtype(dtype.as_numpy_dtype)
    if isinstance(value, np.ndarray) and value.dtype == wanted and dtype != tf.string:
        return value
    # Objects: numpy's own bytes would lose zeros at the end of a message.
    array = np.array(value, object) if dtype == tf.string else np.asarray(value)
    if dtype == tf.string:
        found = next((type(item).__name__ for item in array.flat if not isinstance(item, (str, bytes))), None)
    else:
        found = None if np.can_cast(array.dtype, wanted, "same_kind") or not array.size else array.dtype.name
    if found is not None:
        raise TypeError(f"signature {signature!r}: input {name!r} takes {dtype.name}, not {found} values")
    return array.astype(wanted)
