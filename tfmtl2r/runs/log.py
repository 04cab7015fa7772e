"""The log of a run: a line for each epoch, and every warning of this package, with the time."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfmtl2r._backend import keras
from tfmtl2r.runs.places import LOG


@contextlib.contextmanager
def logged(folder: Path) -> Iterator[list[keras.callbacks.Callback]]:
    """Adds lines to ``log.txt`` in a folder during the block.

    Nothing is added where the standard output of the process already goes to this file, as in a sweep.

    Yields:
        The callbacks of the training that write its epochs.
    """
    handler = logging.FileHandler(folder / LOG, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger("tfmtl2r")
    try:
        with contextlib.suppress(OSError):  # the process may have no standard output
            if os.path.samestat(os.fstat(1), os.stat(handler.baseFilename)):
                yield []
                return
        package.addHandler(handler)
        yield [_Epochs(handler)]
    finally:
        package.removeHandler(handler)
        handler.close()


class _Epochs(keras.callbacks.Callback):
    def __init__(self, handler: logging.Handler):
        super().__init__()
        self.handler = handler

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        values = "  ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())
        self.handler.emit(logging.LogRecord("tfmtl2r", logging.INFO, "", 0, f"epoch {epoch + 1}: {values}", None, None))
