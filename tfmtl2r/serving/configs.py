"""The configuration files of the server beside the versions: ``batching.config`` and ``models.config``.

With ``models.config``, the server serves every version in the folder. Two versions have labels. ``canary`` is the
newest version; every export moves this label. ``stable`` starts at the first version and moves only if a user changes
its number in the file. (If the labelled version or the file was deleted, ``stable`` becomes the version before the
newest.) The server notices changes of the file with ``--model_config_file_poll_wait_seconds``.

The file must request all versions, for the following reason. When the file changes, the server moves labels before it
loads versions, and refuses the whole file if the version of a label is not loaded yet. A new version must therefore be
loaded because its folder exists; its label follows at the next poll. An old version stays in memory until its folder is
deleted.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from filelock import FileLock

from tfmtl2r.errors import InputError
from tfmtl2r.serving.versions import numbers
from tfmtl2r.writing import write_text

BATCHING = "batching.config"
MODELS = "models.config"
LOCK = ".lock"
STABLE, CANARY = "stable", "canary"
_BATCHING = """\
# For --enable_batching --batching_parameters_file. Batch sizes count lists (regress and classify: items).
max_batch_size { value: 8192 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 1000 }
# Lists of different lengths must be padded to be merged. Every signature here ignores padding.
pad_variable_length_inputs: true
"""
log = logging.getLogger("tfmtl2r")


def write_configs(base: Path) -> None:
    """Writes both files beside the versions.

    Changes by a user are kept: all of ``batching.config``, and in ``models.config`` the label ``stable``, the path and
    the served versions.

    Args:
        base: the folder of an export with at least one version. Its name is the name of the model.
    """
    base = base.resolve()
    # No other export may write a label between reading the version numbers and writing the label.
    with FileLock(base / LOCK):
        if not (base / BATCHING).exists():
            write_text(base / BATCHING, _BATCHING)
        path = base / MODELS
        try:
            config = _read(path)
        except (ValueError, OSError) as error:
            log.warning("%s is left as it is: %s", MODELS, error)
            return
        _label(config, base)
        from google.protobuf import text_format

        write_text(path, text_format.MessageToString(config))


def labels(path: Path) -> dict[str, int]:
    """Label -> version of the model in a ``models.config``.

    Args:
        path: the file; the name of its folder is the name of the model.

    Raises:
        ValueError: when the file is not a ``ModelServerConfig``.
    """
    return {} if (model := entry(path, path.resolve().parent.name)) is None else dict(model.version_labels)


def entry(path: Path, name: str) -> Any:
    """The ``ModelConfig`` of a model in a ``models.config``; None if the file does not contain the model.

    Args:
        path: the file.
        name: name of the model.

    Raises:
        ValueError: when the file is not a ``ModelServerConfig``.
    """
    return next((model for model in _read(path).model_config_list.config if model.name == name), None)


def _read(path: Path) -> Any:
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    if path.exists():
        try:
            text_format.Parse(path.read_text(encoding="utf-8"), config)
        except text_format.ParseError as error:
            raise InputError(f"{path} is no ModelServerConfig ({error})") from error
    return config


def _label(config: Any, base: Path) -> None:
    """Sets the labels of this export's model to its versions; other models in the file are kept."""
    models = [model for model in config.model_config_list.config if model.name == base.name]
    if models:
        model = models[0]
    else:
        model = config.model_config_list.config.add(name=base.name, base_path=str(base), model_platform="tensorflow")
        model.model_version_policy.all.SetInParent()
    versions = numbers(base)
    listed = model.model_version_policy.specific.versions
    if listed and versions[-1] not in listed:
        log.warning("%s serves the versions %s of %s only, so the new version %d is not loaded and gets no label: "
                    "write 'model_version_policy { all { } }' there to serve each one",
                    base / MODELS, ", ".join(map(str, listed)), base.name, versions[-1])
        return
    stable = model.version_labels.get(STABLE)
    if stable not in versions:
        stable = versions[-2] if len(versions) > 1 else versions[-1]
    model.version_labels[STABLE] = stable
    model.version_labels[CANARY] = versions[-1]
