"""The page ``tfmtl2r`` of TensorBoard: conflicts, shares of the update, gates, and the results of all runs.

TensorBoard imports this module for every user who has the package installed, so that it imports nothing heavy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboard.plugins import base_plugin

NAME = "tfmtl2r"
_FILES = {"/plugin.js": "text/javascript", "/plugin.css": "text/css"}
_POINTS = 10
"""Points of a series that are read. The last one contains the whole history."""


class Page(base_plugin.TBPlugin):
    """The page.

    Args:
        context: what TensorBoard gives to its plugins.
    """

    plugin_name = NAME

    def __init__(self, context: Any):
        super().__init__(context)
        self._provider = context.data_provider

    def get_plugin_apps(self) -> dict[str, Callable[..., Iterable[bytes]]]:
        """The addresses of the page: its files, and its data."""
        return {"/data": _safe(self._data), **{path: _file(path, kind) for path, kind in _FILES.items()}}

    def is_active(self) -> bool:
        """Always False, with which TensorBoard itself looks whether there are data."""
        return False

    def data_plugin_names(self) -> tuple[str]:
        """The data that make the page appear among the tabs."""
        return (NAME,)

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """What TensorBoard shows of the page."""
        return base_plugin.FrontendMetadata(es_module_path="/plugin.js", tab_name=NAME)

    def _data(self, environ: Mapping[str, Any]) -> Any:
        """run -> tag -> what the history is, its steps, and its values; numbers that were not measured are null."""
        from tensorboard import plugin_util

        asked = {"experiment_id": plugin_util.experiment_id(environ), "plugin_name": NAME}
        ctx = plugin_util.context(environ)
        series = self._provider.list_tensors(ctx, **asked) or {}
        read = self._provider.read_tensors(ctx, downsample=_POINTS, **asked) or {}
        found: dict[str, dict[str, Any]] = {}
        for run, tags in series.items():
            for tag, one in tags.items():
                points = read.get(run, {}).get(tag)
                if not points:  # a file that is written at this moment
                    continue
                values = points[-1].numpy
                found.setdefault(run, {})[tag.removeprefix(f"{NAME}/")] = {
                    **json.loads(one.plugin_content),
                    "steps": [int(row[0]) for row in values],
                    "values": [[_number(value) for value in row[1:]] for row in values],
                }
        return found


def _number(value: Any) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _file(path: str, kind: str) -> Callable[..., Iterable[bytes]]:
    def app(environ: Mapping[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        return _answer(start, "200 OK", kind, Path(__file__).with_name(path[1:]).read_bytes())

    return app


def _safe(read: Callable[[Mapping[str, Any]], Any]) -> Callable[..., Iterable[bytes]]:
    """An application that answers with JSON. Data that cannot be read are told on the page, not by a broken page."""
    def app(environ: Mapping[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        try:
            return _answer(start, "200 OK", "application/json", json.dumps(read(environ)).encode())
        except Exception as error:  # also faults of TensorBoard's readers: the page says what it was
            told = {"error": f"{type(error).__name__}: {error}"}
            return _answer(start, "500 Internal Server Error", "application/json", json.dumps(told).encode())

    return app


def _answer(start: Callable[..., Any], status: str, kind: str, body: bytes) -> Iterable[bytes]:
    start(status, [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))),
                   ("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-cache")])
    return [body]
