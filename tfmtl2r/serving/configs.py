"""What the server reads beside the versions: ``batching.config`` and ``models.config``.

``models.config`` serves every version in the folder, two of them under labels: ``canary`` is the newest, ``stable`` the
one that was newest before the first export that came after it. An export moves ``canary`` only; ``stable`` moves by
hand, when the file's number is changed. The server notices either with ``--model_config_file_poll_wait_seconds``.

It has to be every version: the server moves a label before it looks at the versions that a changed file asks for, and
refuses the whole file where the label's version is not loaded yet. So a new version is loaded because it is there, and
its label follows at the next look. An old version stays in memory until its folder is deleted.
"""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import Any

from filelock import FileLock

from tfmtl2r.errors import InputError
from tfmtl2r.serving.versions import numbers

BATCHING = "batching.config"
MODELS = "models.config"
LOCK = ".lock"
STABLE, CANARY = "stable", "canary"
_BATCHING = """\
# For --enable_batching --batching_parameters_file. A batch counts lists (regress and classify: items).
max_batch_size { value: 8192 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 1000 }
# Lists of different lengths can only be merged padded; every signature here knows its real items.
pad_variable_length_inputs: true
"""
log = logging.getLogger("tfmtl2r")


def write_configs(base: Path) -> None:
    """Writes both files beside the versions.

    What a user wrote is kept: ``batching.config``, and in ``models.config`` the label ``stable``, the path and which
    versions are served.

    Args:
        base: the folder of an export, which has a version. Its name is that of the model.
    """
    base = base.resolve()
    # The numbers that are read and the label that is written belong together: no other export may come in between.
    with FileLock(base / LOCK):
        if not (base / BATCHING).exists():
            replace(base / BATCHING, _BATCHING)
        path = base / MODELS
        try:
            config = _read(path)
        except (ValueError, OSError) as error:
            log.warning("%s is left as it is: %s", MODELS, error)
            return
        _label(config, base)
        from google.protobuf import text_format

        replace(path, text_format.MessageToString(config))


def labels(path: Path) -> dict[str, int]:
    """The labels of the model of a ``models.config``, and their versions.

    Args:
        path: the file; its folder's name is the model's.

    Raises:
        ValueError: for a file that is no ``ModelServerConfig``.
    """
    return {} if (model := entry(path, path.resolve().parent.name)) is None else dict(model.version_labels)


def entry(path: Path, name: str) -> Any:
    """What a ``models.config`` says about a model, a ``ModelConfig``; None if nothing.

    Args:
        path: the file.
        name: of the model.

    Raises:
        ValueError: for a file that is no ``ModelServerConfig``.
    """
    return next((model for model in _read(path).model_config_list.config if model.name == name), None)


def replace(path: Path, text: str) -> None:
    """Writes a file in one step, since the server may read it at any time."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    """Points the labels of this export's model at its versions; other models in the file stay."""
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
