"""Loads an export as TensorFlow Serving does, with TensorFlow's session loader.

The server calls the C++ function behind ``tf.compat.v1.saved_model.loader``. ``tf.saved_model.load`` works in another
way and also opens exports that the server cannot run, for example a Keras 3 model from ``tf.saved_model.save``.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.serving.values import as_array, misnamed

SERVE = "serve"


class LoadedExport:
    """A version folder loaded into its own graph and session; use it in a ``with`` statement. Threads may share it.

    Args:
        folder: the folder with ``saved_model.pb``.

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
        """Returns the outputs of a signature by name.

        As in the server, names and types are compared with the signature, while the graph checks shapes.

        Args:
            signature: name of the signature.
            inputs: all inputs of the signature by name; text as ``str`` or ``bytes``.

        Raises:
            ValueError: for an unknown signature, or an input that is missing or unknown.
            TypeError: for an input of another type, or a number that does not fit its type.
            tf.errors.OpError: the error that the server would return.
        """
        definitions = self.meta_graph.signature_def
        if signature not in definitions:
            raise InputError(f"there is no signature {signature!r}; this export has {', '.join(sorted(definitions))}")
        definition = definitions[signature]
        if wrong := misnamed(inputs, definition.inputs):
            raise InputError(f"signature {signature!r} {wrong}")
        feed = [as_array(name, inputs[name], tf.as_dtype(definition.inputs[name].dtype))
                for name in sorted(definition.inputs)]
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
                from tensorflow.core.protobuf import config_pb2  # has no public name

                chosen = config_pb2.CallableOptions()
                chosen.feed.extend(definition.inputs[name].name for name in sorted(definition.inputs))
                chosen.fetch.extend(definition.outputs[name].name for name in sorted(definition.outputs))
                # Session.run would compare shapes in Python, but the server does not compare them.
                self._callables[signature] = self._session._make_callable_from_options(chosen)
            return self._callables[signature]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses TensorFlow's messages below errors, for example about saving and loading. Threads may overlap."""
    def errors(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger = tf.get_logger()
    logger.addFilter(errors)  # each thread adds its own filter; levels could be restored in the wrong order
    try:
        yield
    finally:
        logger.removeFilter(errors)
