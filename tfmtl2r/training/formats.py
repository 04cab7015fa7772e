"""Formats of saved rankers: the key ``format`` in their configuration. This version writes format 2.

Format 1 has no such key. Its name of the schema is ``features``, its name of the flag ``has_lists`` is ``lists``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmtl2r.errors import InputError

FORMAT = 2
_RENAMED = {"features": "schema", "lists": "has_lists"}


def current(config: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the configuration of a ranker to the current format, without the key ``format``.

    Args:
        config: a configuration of any format.

    Raises:
        ValueError: for a format that a later version wrote.

    >>> current({"tasks": [], "features": None, "lists": True})
    {'tasks': [], 'schema': None, 'has_lists': True}
    """
    config = dict(config)
    found = config.pop("format", 1)
    if found not in (1, FORMAT):
        raise InputError(f"this ranker was saved in format {found!r} by a later version of tfmtl2r; this version reads "
                         f"the formats 1 and {FORMAT}: upgrade tfmtl2r")
    return {_RENAMED.get(key, key): value for key, value in config.items()} if found == 1 else config
