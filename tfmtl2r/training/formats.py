"""What files of earlier versions mean: the configurations of a ranker carry ``format``, and this one writes 2.

Format 1 had no such key. It called the schema ``features`` and the flag ``has_lists`` ``lists``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmtl2r.errors import InputError

FORMAT = 2
_RENAMED = {"features": "schema", "lists": "has_lists"}


def current(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a ranker in today's format, without ``format``.

    Args:
        config: as any version wrote it.

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
