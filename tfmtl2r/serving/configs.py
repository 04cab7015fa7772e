"""What the server reads beside the versions: ``batching.config`` and ``models.config``.

``models.config`` serves two versions under labels: ``canary`` is the newest, ``stable`` the one that was newest before
the first export that came after it. An export moves ``canary`` only; ``stable`` moves by hand, when the file's number
is changed, which the server notices with ``--model_config_file_poll_wait_seconds``.
"""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import Any

from tfmtl2r.serving.versions import numbers

BATCHING = "batching.config"
MODELS = "models.config"
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
    """Writes both files beside the versions; an existing ``batching.config`` and the label ``stable`` are kept.

    Args:
        base: the folder of an export, which has a version. Its name is that of the model.
    """
    base = base.resolve()
    if not (base / BATCHING).exists():
        replace(base / BATCHING, _BATCHING)
    path = base / MODELS
    try:
        config = _read(path)
    except (ValueError, OSError) as error:
        log.warning("%s is left as it is, since it cannot be read: %s", path, error)
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
    for model in _read(path).model_config_list.config:
        if model.name == path.resolve().parent.name:
            return dict(model.version_labels)
    return {}


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
            raise ValueError(f"it is no ModelServerConfig ({error})") from error
    return config


def _label(config: Any, base: Path) -> None:
    """Points the labels of this export's model at its versions; other models in the file stay."""
    models = [model for model in config.model_config_list.config if model.name == base.name]
    model = models[0] if models else config.model_config_list.config.add(name=base.name)
    versions = numbers(base)
    stable = model.version_labels.get(STABLE)
    if stable not in versions:
        stable = versions[-2] if len(versions) > 1 else versions[-1]
    model.base_path = str(base)
    model.model_platform = "tensorflow"
    model.version_labels[STABLE] = stable
    model.version_labels[CANARY] = versions[-1]
    chosen = model.model_version_policy.specific.versions
    chosen[:] = sorted(set(model.version_labels.values()) & set(versions))
