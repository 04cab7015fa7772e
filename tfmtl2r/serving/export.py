"""Exporting a ranker for TensorFlow Serving."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tfmtl2r
from tfmtl2r._backend import keras, tf
from tfmtl2r.layers.features import Lookup
from tfmtl2r.serving.check import ExportError, Subject, check
from tfmtl2r.serving.examples import Request, merged, requests
from tfmtl2r.serving.session import LoadedExport, quiet
from tfmtl2r.serving.signatures import PADDED, Signature, predict_features
from tfmtl2r.serving.versions import publish
from tfmtl2r.training.model import MultiTaskRanker

METADATA = "assets.extra/tfmtl2r.json"
TOLERANCE = 1e-5
HALF_TOLERANCE = 2e-2
"""Allowed where layers compute in 16 bits: between 1 and 2 a bfloat16 has steps of 8e-3, and TensorFlow fuses the
operations of two graphs differently."""
log = logging.getLogger("tfmtl2r")


def export(
    model: MultiTaskRanker,
    directory: str | Path,
    *,
    blend: Mapping[str, float] | None = None,
    lists: bool | None = None,
) -> Path:
    """Writes the next numbered version of a ranker as a SavedModel that a stock TensorFlow Serving loads.

    Normalisation and vocabularies are inside; requests bring raw features. The signature, under the names
    ``serving_default`` and ``predict_features``, is described at
    :func:`tfmtl2r.serving.signatures.predict_features`. Before the version becomes visible it is loaded as the server
    loads it and compared with ``model.predict``: to 1e-5 (2e-2 where layers compute in 16 bits), times the largest
    score where that is above 1. The model itself is not changed.

    Args:
        model: a ranker that knows its features.
        directory: the folder of the export; versions are its subfolders 1, 2, ...
        blend: weights of the tasks in the output ``score``, taken as they are; a task that is left out has weight 0.
            By default the model's preference, which sums to 1. Raw scores are added, so mind their scales: a softmax
            score and a regression in milliseconds do not compare.
        lists: whether the ranker ranks lists rather than plain rows. By default what it was fitted or evaluated on
            last, and lists where it never was.

    Returns:
        The version's folder. Beside the graph it holds ``assets.extra/tfmtl2r.json``, which tells tasks, inputs,
        outputs and what ``score`` reads.

    Raises:
        ExportError: when the graph fails a check; nothing is published then.
        ValueError: for a model without features, a wrong blend, or ``lists`` other than what the model was fitted on.

    >>> import tempfile
    >>> schema = tfmtl2r.Schema([tfmtl2r.Dense("price"), tfmtl2r.Category("brand", vocabulary=("a", "b"))])
    >>> ranker = MultiTaskRanker("shared_bottom", ["click", "buy"], schema)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(ranker, folder).name, export(ranker, folder).name
    ('1', '2')
    """
    if model.features is None:
        raise ValueError("this ranker does not know its features yet, so there are no inputs to export: pass "
                         "features=Schema(...), or fit it first")
    lists = _serves_lists(model, lists)
    weights = blend_weights(model, blend)
    signature = predict_features(model, weights, lists)
    return publish(directory, lambda folder: _write(model, signature, weights, lists, folder))


def blend_weights(model: MultiTaskRanker, blend: Mapping[str, float] | None = None) -> dict[str, float]:
    """The weight of every task in the blended score.

    Args:
        model: a ranker.
        blend: weights by task, negative ones for what should sink; None for the model's preference.

    Raises:
        ValueError: for an unknown task, a weight that is not finite, or no weight other than 0.

    >>> schema = tfmtl2r.Schema([tfmtl2r.Dense("price")])
    >>> ranker = MultiTaskRanker("shared_bottom", [tfmtl2r.Task("click"), tfmtl2r.Task("buy", weight=3)], schema)
    >>> blend_weights(ranker), blend_weights(ranker, {"click": 2})
    ({'click': 0.25, 'buy': 0.75}, {'click': 2.0, 'buy': 0.0})
    """
    names = [task.name for task in model.tasks]
    if blend is None:
        state = getattr(model, "method_state", None)
        shares = [task.weight for task in model.tasks] if state is None else state.preference.numpy().tolist()
        return {name: share / math.fsum(shares) for name, share in zip(names, shares, strict=True)}
    unknown = sorted(set(blend) - set(names))
    if unknown:
        raise ValueError(f"blend has a weight for {unknown[0]!r}, which is no task of this ranker; its tasks are "
                         f"{', '.join(names)}")
    weights = {name: float(blend.get(name, 0.0)) for name in names}
    if not all(map(math.isfinite, weights.values())) or not any(weights.values()):
        raise ValueError(f"blend needs finite weights, at least one of them not 0, got {dict(blend)}")
    return weights


def _serves_lists(model: MultiTaskRanker, lists: bool | None) -> bool:
    """Whether requests hold lists: as in training, which the model remembers."""
    if model.lists is None:
        return True if lists is None else lists
    if lists is not None and lists != model.lists:
        kinds = {True: "lists", False: "plain rows"}
        raise ValueError(f"lists={lists} asks for an export for {kinds[lists]}, but the ranker was fitted or evaluated "
                         f"on {kinds[model.lists]}: leave the argument out")
    return model.lists


def _write(
    model: MultiTaskRanker, signature: Signature, blend: Mapping[str, float], lists: bool, folder: Path
) -> None:
    """Fills a version's folder and checks what it holds."""
    for feature, name in signature.names.items():
        if name != feature:
            log.warning("feature %r is served as the input %r, since TensorFlow cannot name an input so", feature, name)
    signatures = {"serving_default": signature, "predict_features": signature}
    _write_graph(signatures, folder)
    _write_metadata(model, signature, blend, lists, folder)
    assert model.features is not None
    examples = requests(model.features, lists)
    predicted = _predicted(model, signature, blend, merged(examples))
    half = tf.as_dtype(model.dtype_policy.compute_dtype).size < 4
    with _opened(folder) as loaded:
        feeds = [signature.feed(request) for request in examples]
        check(Subject(loaded, signatures, feeds, predicted, HALF_TOLERANCE if half else TOLERANCE))


def _predicted(
    model: MultiTaskRanker, signature: Signature, blend: Mapping[str, float], request: Request
) -> dict[str, np.ndarray]:
    """What the signature should answer, by way of ``model.predict``."""
    assert model.features is not None
    tensors = {name: tf.convert_to_tensor(value) for name, value in request.items()}
    scores = model.predict(Lookup(model.features)(tensors), batch_size=len(next(iter(request.values()))))
    outputs = {f"score_{task}": values for task, values in scores.items()}
    with np.errstate(invalid="ignore"):  # inf - inf of a ranker that diverged: the check says so
        outputs["score"] = np.sum([weight * scores[task].astype(np.float64) for task, weight in blend.items()], axis=0)
    for name in signature.outputs:
        task = name.removeprefix("probability_")
        if task != name:
            outputs[name] = tf.sigmoid(scores[task]).numpy()
    if "valid" not in signature.outputs:
        return outputs
    sizes = request[signature.names["list_size"]]
    valid = np.arange(outputs["score"].shape[1]) < sizes[:, None]
    filled = {name: np.where(valid, values, 0.0 if name.startswith("probability_") else PADDED)
              for name, values in outputs.items()}
    return {**filled, "valid": valid}


def _write_graph(signatures: Mapping[str, Signature], folder: Path) -> None:
    archive = keras.export.ExportArchive()
    for signature in {id(signature): signature for signature in signatures.values()}.values():
        for holder in signature.tracked:
            archive.track(holder)
    # The archive finds the variables of its endpoints. Tracking the model as well would write each one twice, and the
    # state of the balancing method and the running metrics with them.
    for name, signature in signatures.items():
        archive.add_endpoint(name, signature.function)
    with quiet():
        archive.write_out(str(folder), verbose=False)


def _write_metadata(
    model: MultiTaskRanker, signature: Signature, blend: Mapping[str, float], lists: bool, folder: Path
) -> None:
    """Says in plain data what the export is; the server ignores this file."""
    def described(specs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}

    features = {name: feature for feature, name in signature.names.items()}
    inputs = {name: {**spec, "feature": features[name]} for name, spec in described(signature.inputs).items()}
    metadata = {
        "tasks": [{"name": task.name, "kind": task.kind} for task in model.tasks],
        "lists": lists,
        "score": "sum over tasks of blend[task] * score_<task>, on raw scores",
        "blend": dict(blend),
        "inputs": inputs,
        "outputs": described(signature.outputs),
        "versions": {"tfmtl2r": tfmtl2r.__version__, "tensorflow": tf.__version__, "keras": keras.__version__},
    }
    path = folder / METADATA
    path.parent.mkdir()
    path.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def _opened(folder: Path) -> LoadedExport:
    try:
        return LoadedExport(folder)
    except (tf.errors.OpError, RuntimeError, OSError) as error:
        raise ExportError(f"the export was not published: TensorFlow's session loader refused it with {error}") \
            from error
