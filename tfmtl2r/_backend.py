"""Imports TensorFlow and Keras, and refuses a Keras with another backend.

Every file that needs TensorFlow or Keras imports them from this file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tfmtl2r.errors import MissingPackageError

if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    raise MissingPackageError(
        f"tfmtl2r needs Keras on its TensorFlow backend, but KERAS_BACKEND is {os.environ['KERAS_BACKEND']!r}: "
        "unset KERAS_BACKEND or set it to 'tensorflow'"
    )

if TYPE_CHECKING:
    import tensorflow as tf

    from tfmtl2r import _keras_types as keras
else:
    import keras
    import tensorflow as tf

if keras.backend.backend() != "tensorflow":  # set in keras.json
    raise MissingPackageError(
        f"tfmtl2r needs Keras on its TensorFlow backend, but Keras is configured for {keras.backend.backend()!r}: "
        "set KERAS_BACKEND to 'tensorflow'"
    )

__all__ = ["keras", "tf"]
