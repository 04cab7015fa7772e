"""Loads ``.keras`` files and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputTypeError, MissingFileError
from tfmtl2r.serving.values import as_array, misnamed
from tfmtl2r.serving.versions import SAVED_MODEL, newest
from tfmtl2r.training.model import MultiTaskRanker


class ServedSignature:
    """A signature of an export as a function of named raw tensors.

    Args:
        function: the function of the loaded SavedModel.
        owner: the loaded SavedModel. Its functions do not keep it alive, so it is stored here.
    """

    def __init__(self, function: Any, owner: Any):
        self._function = function
        self._owner = owner
        self.inputs: dict[str, Any] = dict(function.structured_input_signature[1])
        self.outputs: dict[str, Any] = dict(function.structured_outputs)

    def __call__(self, **tensors: Any) -> dict[str, Any]:
        """The outputs by name.

        Args:
            **tensors: all inputs by name, as tensors, arrays or nested lists.

        Raises:
            TypeError: for a missing or unknown input, or values of another type than the input's.
        """
        if wrong := misnamed(tensors, self.inputs):
            raise InputTypeError(f"this signature {wrong}")
        return self._function(**{name: _tensor(name, tensors[name], spec) for name, spec in self.inputs.items()})


def load(path: str | Path) -> MultiTaskRanker | dict[str, ServedSignature]:
    """Opens a ``.keras`` file or a run as the ranker, or an export as its callable signatures.

    Args:
        path: a ``.keras`` file; a folder with one, such as that of a finished run; a version folder of an export, or
            the folder of an export (its newest version is used).

    Returns:
        The compiled :class:`tfmtl2r.MultiTaskRanker`, or signature name -> function of named inputs.

    Raises:
        FileNotFoundError: when the path is neither a file, nor a finished run, nor an export.
    """
    path = Path(path)
    rankers = [path] if path.suffix == ".keras" or path.is_file() else [*path.glob("*.keras")]
    if len(rankers) == 1:
        if not rankers[0].is_file():
            raise MissingFileError(f"{path}: there is no such file; a run has its ranker when it is finished")
        return keras.saving.load_model(rankers[0])
    if not (path / SAVED_MODEL).is_file():
        path = newest(path)
    loaded = tf.saved_model.load(str(path))
    return {name: ServedSignature(function, loaded) for name, function in loaded.signatures.items()}


def _tensor(name: str, value: Any, spec: Any) -> Any:
    try:
        return tf.convert_to_tensor(value if tf.is_tensor(value) else as_array(name, value, spec.dtype), spec.dtype)
    except ValueError as error:
        raise InputTypeError(f"input {name!r} takes {spec.dtype.name} of shape {spec.shape}: {error}") from error
