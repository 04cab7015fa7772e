"""Reads files of format 1, in which the settings of an experiment had no sections yet.

- Run cards are read completely. Flat settings become sections (:func:`nested`), a preference becomes a table by task,
  the count ``lists`` becomes ``num_lists``, and logged values get their current names. Every command that reads runs
  works on them.
- ``pareto``, ``compare`` and ``report`` read the names of the planned runs from a sweep's store (``sweep.json``). Such
  a sweep cannot be continued, because fingerprints of settings differ. Its runs remain; new runs need a new name.
- Format 1 had no experiment files.

A file whose format is newer than :data:`tfmtl2r.settings.FORMAT` raises an error that names the version that wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfmtl2r.errors import InputError
from tfmtl2r.names import current
from tfmtl2r.settings import FORMAT
from tfmtl2r.settings.files import assign

_PLACES = {
    "learning_rate": "optimizer.learning_rate", "list_limit": "data.max_list_size", "truncate": "data.truncate",
    "curve": "evaluation.preferences",
    **{name: f"training.{name}" for name in ("epochs", "patience", "validate_every", "batch_size", "train_metrics",
                                             "telemetry_every", "steps_per_execution", "seed")},
}  # fmt: skip
_DROPPED = ("overwrite",)


def read(card: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the content of a run card in the current format.

    Args:
        card: the content of ``run.json``.
        where: the file, for messages.

    Raises:
        ValueError: for a newer format; the message names the version that wrote the card.
    """
    check_format(card, where)
    if card.get("format", 1) == FORMAT:
        return dict(card)
    tasks = [name for split in card.get("results", {}).values() for name in split]
    found = {**card, "format": FORMAT, "config": nested(card["config"], [*dict.fromkeys(tasks)])}
    found["history"] = {current(name): values for name, values in card.get("history", {}).items()}
    found["data"] = {split: _counted(about) for split, about in card.get("data", {}).items()}
    found["results"] = {split: {task: {metric: _counted(score) for metric, score in row.items()}
                                for task, row in results.items()} for split, results in card.get("results", {}).items()}
    return found


def check_format(content: Mapping[str, Any], where: str) -> None:
    """Raises an error for a format that a newer version wrote."""
    if (found := content.get("format", 1)) > FORMAT:
        writer = content.get("versions", {}).get("tfmtl2r", "(a newer one)")
        raise InputError(f"{where} has format {found}, which version {writer} of tfmtl2r wrote; this version reads "
                         f"formats 1 and {FORMAT}; install the version that wrote it")


def nested(config: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """Returns the settings of a run card of format 1 in sections.

    Args:
        config: settings of the run card.
        tasks: names of the run's tasks, in the order of its preference.

    >>> nested({"name": "a", "data": "mslr", "seed": 3, "list_limit": None, "preference": [1, 3]}, ["x", "y"])
    {'name': 'a', 'data': {'name': 'mslr'}, 'training': {'seed': 3}, 'preference': {'x': 1, 'y': 3}, 'format': 2}
    """
    tree: dict[str, Any] = {}
    for name, value in config.items():
        if value is None or name in _DROPPED or (value in ("", [], {}) and name != "name"):
            continue
        if name == "data":
            value = _table(value) if isinstance(value, Mapping) else {"name": value}
        elif name == "tasks":
            value = [{"name": one} if isinstance(one, str) else {k: v for k, v in one.items() if v is not None}
                     for one in value]
        elif name == "preference":
            value = dict(zip(tasks, value, strict=True))
        elif name == "constraints":
            value = [_constraint(task, bound) for task, bound in value.items()]
        assign(tree, _PLACES.get(name, name).split("."), value)
    data = tree.get("data", {})
    if data and "name" not in data:
        tree["tasks"] = _goals(config["data"]["labels"])
        if features := _parts(config["data"].get("feature_columns", ())):
            tree["features"] = [{"name": name} for name in features]
        chosen = [one if isinstance(one, str) else one["name"] for one in config.get("tasks", ())]
        data.update({"tasks": chosen} if chosen else {})
    return {**tree, "format": FORMAT}


def _table(data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the former data set ``table``, with comma-separated texts; its files are keys of ``data`` now."""
    if "labels" not in data or "path" not in data:
        return dict(data)
    found = {"files": data["path"], "list_id": data.get("list_id"),
             **{key: list(_parts(data.get(key, ""))) for key in ("context", "leave_out")}}
    return {key: value for key, value in found.items() if value}


def _goals(labels: Any) -> list[dict[str, str]]:
    goals = []
    for entry in _parts(labels):
        left, _, kind = entry.partition(":")
        name, _, label = left.partition("=")
        goals.append({key: value.strip() for key, value in (("name", name), ("label", label), ("kind", kind)) if value})
    return goals


def _constraint(task: str, bound: Any) -> dict[str, Any]:
    if isinstance(bound, Mapping):
        known = {key: value for key, value in bound.items() if value}
        if "at_most" in known:
            return {"task": task, "at_most": known["at_most"]}
        share = known.get("relative")
        return {"task": task, "loses_at_most": f"{100 * share:g}%" if share else float(known.get("absolute", 0.0))}
    text = str(bound).strip()
    return {"task": task, **({"loses_at_most": text} if text[-1] == "%" or text[0] == "+" else
                             {"at_most": float(text)})}


def _parts(value: Any) -> list[str]:
    return [part.strip() for part in (value.split(",") if isinstance(value, str) else value) if part.strip()]


def _counted(about: Mapping[str, Any]) -> dict[str, Any]:
    return {"num_lists" if key == "lists" else key: value for key, value in about.items()}
