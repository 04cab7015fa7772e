"""An export as TensorFlow Serving sees it: through TensorFlow's session loader.

The server calls the C++ function behind ``tf.compat.v1.saved_model.loader``. ``tf.saved_model.load`` takes another path
and opens exports that the server cannot run, such as a Keras 3 model that ``tf.saved_model.save`` wrote.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import tf

SERVE = "serve"


class LoadedExport:
    """A version folder in a graph and session of its own; use it in a ``with`` statement.

    Args:
        folder: what holds ``saved_model.pb``.

    Raises:
        RuntimeError: when the folder has no graph for serving.
        OSError: when the folder has no SavedModel.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
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
        self._session.close()

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The outputs of a signature by name.

        Args:
            signature: its name.
            inputs: all inputs of the signature by name; text as ``str`` or ``bytes``.

        Raises:
            tf.errors.OpError: what the server would answer instead of outputs.
        """
        definition = self.meta_graph.signature_def[signature]
        feed = {definition.inputs[name].name: value for name, value in inputs.items()}
        return self._session.run({name: info.name for name, info in definition.outputs.items()}, feed)


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
