"""Values of options as plain data, which files can hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfmtl2r.errors import InputError


def plain(value: Any, where: str, describe: Callable[[Any], dict[str, Any]]) -> Any:
    """Converts registered things to descriptions, and tuples and arrays to lists.

    Args:
        value: the value of an option.
        where: the option, for the message.
        describe: describes a registered thing.

    Raises:
        ValueError: for a value that no file can hold.
    """
    if isinstance(value, (tuple, list)):
        return [plain(entry, where, describe) for entry in value]
    if isinstance(value, Mapping):
        return {key: plain(entry, where, describe) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) or hasattr(value, "given_options"):
        return describe(value)
    raise InputError(f"{where}={value!r}, which cannot be saved: an option is a number, a text, a list or a mapping of "
                     "those, or a registered thing. What is a function belongs into the class, as a method")


def listed(value: Any) -> Any:
    """A default as files hold it: tuples are lists."""
    return [*map(listed, value)] if isinstance(value, (tuple, list)) else value
