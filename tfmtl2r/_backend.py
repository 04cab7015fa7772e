"""Imports TensorFlow and Keras without start-up notices, and refuses a Keras with another backend.

Every file that needs TensorFlow or Keras imports them from this file. TensorFlow writes start-up notices to standard
error before any logging level applies. These notices are shown only if the import fails. If the user sets
``TF_CPP_MIN_LOG_LEVEL``, this level applies.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfmtl2r.errors import MissingPackageError


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Collects the output of C++ code to standard error, and shows it only after an exception."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    raise MissingPackageError(
        f"tfmtl2r needs Keras on its TensorFlow backend, but KERAS_BACKEND is {os.environ['KERAS_BACKEND']!r}: "
        "unset KERAS_BACKEND or set it to 'tensorflow'"
    )

if TYPE_CHECKING:
    import tensorflow as tf

    from tfmtl2r import _keras_types as keras
elif "TF_CPP_MIN_LOG_LEVEL" in os.environ or "tensorflow" in sys.modules:
    import keras
    import tensorflow as tf
else:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _held_back_stderr():
        import keras
        import tensorflow as tf
    del os.environ["TF_CPP_MIN_LOG_LEVEL"]  # TensorFlow has read it; child processes must not inherit it

if keras.backend.backend() != "tensorflow":  # set in keras.json
    raise MissingPackageError(
        f"tfmtl2r needs Keras on its TensorFlow backend, but Keras is configured for {keras.backend.backend()!r}: "
        "set KERAS_BACKEND to 'tensorflow'"
    )

__all__ = ["keras", "tf"]
