"""Opening what training and exporting left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.training.model import MultiTaskRanker


def load(path: str | Path) -> MultiTaskRanker | Any:
    """Opens a ``.keras`` file as the ranker, or an export as its callable signatures.

    Args:
        path: a ``.keras`` file, a version folder of an export, or the export's folder (the newest version is taken).

    Returns:
        The compiled :class:`tfmtl2r.MultiTaskRanker`, or a mapping from signature name to a function on tensors.

    Raises:
        FileNotFoundError: when there is neither.
    """
    path = Path(path)
    if path.is_file():
        assert MultiTaskRanker  # imported, so that Keras knows the class
        return keras.saving.load_model(path)
    if not (path / "saved_model.pb").is_file():
        from tfmtl2r.serving.versions import newest

        path = newest(path)
    loaded = tf.saved_model.load(str(path))
    signatures = dict(loaded.signatures)
    for function in signatures.values():
        function._tfmtl2r_owner = loaded  # the functions do not keep the variables alive by themselves
    return signatures
