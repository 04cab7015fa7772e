"""Writes the README of an export: its signatures, with example requests to copy."""

from __future__ import annotations

import base64
import json
import shlex
import textwrap
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r.batch import LIST_SIZE, PREFERENCE
from tfmtl2r.schema import Schema
from tfmtl2r.serving.answers import ITEM_IDS, TOP, request_key
from tfmtl2r.serving.blend import MOST
from tfmtl2r.serving.configs import BATCHING, CANARY, MODELS, STABLE
from tfmtl2r.serving.examples import Request
from tfmtl2r.serving.server import POLL_SECONDS
from tfmtl2r.serving.signatures import CLASSIFY, DEFAULT, PREDICT, REGRESS, Plan
from tfmtl2r.writing import write_text

README = "README.md"
_ITEMS = 2
_SERVER = """\
tensorflow_model_server --rest_api_port=8501 --port=8500 --model_config_file="$PWD/{models}" \\
  --model_config_file_poll_wait_seconds={seconds} --allow_version_labels_for_unavailable_models=true \\
  --enable_batching=true --batching_parameters_file="$PWD/{batching}\""""
_NOTES = (
    "`{models}` gives the label `{canary}` to the newest version and the label `{stable}` to an earlier version. To "
    "promote a version, write its number after `{stable}` in this file. A request selects a label with "
    "`/v1/models/{name}/labels/{canary}:predict`; without a label it gets the newest version. The server loads a "
    "version as soon as its folder exists, moves the labels up to {seconds} seconds later, and keeps every version in "
    "memory until its folder is deleted. The server must be built on TensorFlow {tensorflow} or later.",
    "`score` is the {kind} (weights: {weights}). Scores are float32; a place without an item has the score -1e9, the "
    "value and probability 0, and `valid` false. If the server merges requests, an answer may be longer than the "
    "lists of its request: read only the first items. A number that is missing, NaN or infinite is replaced by the "
    "mean of the training data, and sets the indicator of a feature that was trained with `missing = true`. A category "
    "that is not in the training data is treated as unknown. JSON has no NaN, but an example may leave a feature out.",
    "A row of `blend_weights` (one number from 0 to {most:g} per task: {tasks}) replaces these weights for its list. "
    "If a row is all zeros or contains any other number, these weights apply. In an ExampleListWithContext, "
    "`blend_weights` is an optional feature of the context.",
)
_PREFERRED = (
    "A row of `preference` (one number >= 0 per task: {tasks}; only their ratio counts) is the weights of `score` for "
    "its list. For an invalid row (all 0, negative or non-finite) and in all other signatures, the weights of this "
    "export apply."
)
_CONDITIONED = (
    "The `preference` is also an input of the ranker, so that all scores depend on it. Without a valid row, the "
    "preference {preference} is the input. In `rank` and `predict_elwc`, a valid row of `blend_weights` takes the "
    "place of the `preference` in `score` alone."
)
_MERGED = (
    "The model consists of {members} members. Where the scores of a task have a unit, `value_<task>` is the mean of "
    "their values and `uncertainty_<task>` is the standard deviation of their values. Otherwise the score is the mean "
    "of their scores, which are standardised within each list, so that it depends on the other items of the list."
)
_UNIT = (
    "`value_<task>` is in the unit of the label, except for: {units}. There, the entry `transform` of the task in "
    "`assets.extra/tfmtl2r.json` leads back: `tfmtl2r.transforms.get(transform).back(values, columns)` needs the "
    "columns that the transform reads."
)
_LISTS = (
    "The server pads the requests that it merges before the graph reads them, and all of them fail if one is wrong. A "
    "caller must therefore ensure three things. Every input has one row per list, and all inputs have the same number "
    "of items. `list_size` is from 0 to that number of items. If no list has items, every list still has one place, "
    "with any values and the `list_size` 0. A wrong request that is sent alone fails, or is read up to its last item. "
    "A wrong request that is merged may get meaningless scores without any error. `tfmtl2r.serving.client.Client` "
    "checks requests before it sends them."
)


def text(name: str, plan: Plan, schema: Schema, request: Request, metadata: Mapping[str, Any]) -> str:
    """Returns the text of the README.

    Args:
        name: name of the model.
        plan: the signatures of the export.
        schema: schema of the features.
        request: the request to show, with all further inputs; it is cut to one list of two items (or two rows).
        metadata: content of ``tfmtl2r.json``.
    """
    versions, blend = metadata["versions"], metadata["blend"]
    values = {
        "name": urllib.parse.quote(name), "tensorflow": ".".join(versions["tensorflow"].split(".")[:2]),
        "tasks": ", ".join(blend), "most": MOST, "seconds": POLL_SECONDS,
        "kind": metadata["score"], "models": MODELS, "batching": BATCHING, "canary": CANARY,
        "weights": ", ".join(f"{task} {value:.4g}" for task, value in blend.items()), "stable": STABLE,
    }
    what = ("SavedModels of a multi-task ranker, one folder per version, written and checked by tfmtl2r "
            f"{versions['tfmtl2r']}. `tfmtl2r export-check .` checks the newest again. TensorFlow Serving takes them "
            "as they are:")
    server = f"```\n{_SERVER.format(**values)}\n```\n"
    if conditioned := PREFERENCE in metadata:
        values[PREFERENCE] = " : ".join(f"{value:.4g}" for value in metadata[PREFERENCE])
    values["members"] = metadata.get("members", 1)
    units = {task["name"]: task["value_unit"] for task in metadata["tasks"] if "value_unit" in task}
    values["units"] = ", ".join(f"{task} ({unit})" for task, unit in units.items())
    further = {_UNIT: bool(units), _MERGED: "members" in metadata, _PREFERRED: "predict_preferred" in plan.signatures,
               _CONDITIONED: conditioned, _LISTS: metadata["lists"]}
    chosen = (*_NOTES, *(note for note, there in further.items() if there))
    notes = [_paragraph(note.format(**values)) for note in chosen]
    parts = [f"# {name}\n", _paragraph(what), server, *notes]
    short = _cut(request, schema)
    lean = np.array([[2.0] + [1.0] * (len(blend) - 1)] * len(short[PREFERENCE]), np.float32)
    for signature in plan.signatures:
        if signature == DEFAULT:
            continue
        default = f", also `{DEFAULT}`" if plan.signatures[signature] is plan.signatures[DEFAULT] else ""
        shown = {**short, PREFERENCE: lean} if signature == "predict_preferred" else short  # zeros select the default
        outputs = ", ".join(f"`{output}`" for output in plan.signatures[signature].outputs)
        parts.append(f"## {signature}{default}\n\nReturns {outputs}.\n\n```\n"
                     f"{_curl(name, signature, plan, schema, shown)}\n```\n")
    if plan.left_out:
        parts.append("## Left out\n\n" + "".join(f"- `{key}`: {why}\n" for key, why in plan.left_out.items()))
    return "\n".join(parts)


def _paragraph(line: str) -> str:
    return textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def write(path: Path, *arguments: Any) -> None:
    """Writes :func:`text` of these arguments."""
    write_text(path, text(*arguments))


def _curl(name: str, signature: str, plan: Plan, schema: Schema, request: Request) -> str:
    planned = plan.signatures[signature]
    if planned.method == PREDICT:
        inputs = {key: _plain(np.asarray(value)) for key, value in planned.feed(request).items()}
        body: dict[str, Any] = {"signature_name": signature, "inputs": inputs}
    else:
        body = {"signature_name": signature, **_examples(request, schema)}
    method = {PREDICT: "predict", REGRESS: "regress", CLASSIFY: "classify"}[planned.method]
    body_text = json.dumps(body, ensure_ascii=False)
    url = f"http://localhost:8501/v1/models/{urllib.parse.quote(name)}:{method}"
    return f"curl -d {shlex.quote(body_text)} {shlex.quote(url)}"


def _examples(request: Request, schema: Schema) -> dict[str, Any]:
    """Items of one list (or rows) as the server's JSON for examples. The context of the list is written once."""
    lists = LIST_SIZE in request

    def example(context: bool, place: tuple[int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for feature in schema.features:
            if not lists or feature.context == context:
                values |= feature.in_example({name: request[name][place] for name in feature.raw})
        return {name: _plain(value) for name, value in values.items() if np.size(value)}

    count = max(int(request[LIST_SIZE][0]), 1) if lists else len(request[schema.names[0]])
    context = example(True, (0,)) if lists else {}
    examples = [example(False, (0, item) if lists else (item,)) for item in range(count)]
    return {"context": context, "examples": examples} if context else {"examples": examples}


def _cut(request: Request, schema: Schema) -> Request:
    """Cuts a request to one list of two items (or two rows), and replaces values that JSON cannot represent."""
    lists = LIST_SIZE in request
    per_item = {name for name, f in schema.inputs.items() if not f.context} | {request_key(ITEM_IDS, schema)}
    cut = {name: value[: 1 if lists else _ITEMS] for name, value in request.items()}
    if lists:
        cut = {name: value[:, :_ITEMS] if name in per_item else value for name, value in cut.items()}
        length = min(_ITEMS, max(int(request[LIST_SIZE][0]), 1))
        cut[LIST_SIZE] = cut[request_key(TOP, schema)] = np.array([length], np.int32)
    for feature in schema.features:
        cut |= feature.written({name: cut[name] for name in feature.raw})
    return cut


def _plain(value: Any) -> Any:
    """An array or scalar as JSON data. Floats are written with a decimal point, because the server requires it."""
    value = np.asarray(value)
    if value.dtype.kind == "S" or (value.dtype == object and value.size and isinstance(value.flat[0], bytes)):
        return [{"b64": base64.b64encode(item).decode()} for item in value.tolist()]
    if value.dtype.kind == "f":
        return np.vectorize(lambda number: float(f"{number:.4g}"), otypes=[np.float64])(value).tolist()
    return value.tolist()
