"""Exporting a ranker for TensorFlow Serving."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tfmtl2r
from tfmtl2r import blends, transforms
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import LIST_SIZE, PREFERENCE
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.schema import Schema
from tfmtl2r.serving import readme, warmup
from tfmtl2r.serving.answers import BLENDED, probability_key, request_key, score_key, value_key
from tfmtl2r.serving.blend import Blend, resolved
from tfmtl2r.serving.check import METADATA, ExportError, problems, said
from tfmtl2r.serving.configs import write_configs
from tfmtl2r.serving.differences import allowed
from tfmtl2r.serving.examples import Request, from_rows, requests, with_extras
from tfmtl2r.serving.pruned import pruned
from tfmtl2r.serving.session import quiet
from tfmtl2r.serving.signatures import DEFAULT, Plan, Signature, planned
from tfmtl2r.serving.versions import publish
from tfmtl2r.task import Task
from tfmtl2r.training.beside import is_column
from tfmtl2r.training.blending import facts_of
from tfmtl2r.training.finite import check_weights
from tfmtl2r.training.merged import Merged
from tfmtl2r.training.model import MultiTaskRanker
from tfmtl2r.transforms import of_task, unit_of
from tfmtl2r.types import Mask

TOLERANCE = 1e-5
HALF_TOLERANCE = 2e-2
"""Tolerance if layers compute in 16 bits. A bfloat16 between 1 and 2 has steps of 8e-3, and TensorFlow fuses the
operations of two graphs in different ways."""
_VALUES = 10_000
"""Longest vocabulary that the metadata contain."""
log = logging.getLogger("tfmtl2r")


def export(
    model: MultiTaskRanker | Merged,
    directory: str | Path,
    *,
    blend: Mapping[str, float] | Blend | None = None,
    lists: bool | None = None,
    rows: Lists | None = None,
    train: Mapping[str, Any] | None = None,
    files: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the next numbered version of a ranker as a SavedModel for an unmodified TensorFlow Serving.

    Normalisation and vocabularies are part of the graph, so requests contain raw features. See
    :mod:`tfmtl2r.serving.signatures` for the inputs and outputs. A version must pass
    :func:`tfmtl2r.serving.check.check` before it becomes visible: it is loaded in the way of the server and compared
    with ``model.predict``. The tolerance is 1e-5 (2e-2 if layers compute in 16 bits), times the largest score if that
    is above 1. Units that the architecture has switched off are left out. The model itself is not changed.

    Args:
        model: a ranker that knows its features, or several trained rankers as one (:class:`tfmtl2r.Merged`).
        directory: the folder of the export; versions are its subfolders 1, 2, ... ``batching.config``,
            ``models.config`` and a README with example requests are written beside them.
        blend: task -> weight for a weighted sum as the output ``score``, or a :class:`tfmtl2r.serving.blend.Blend` for
            another kind. Weights are not scaled; a task that is left out has weight 0. The default is the model's
            own kind of blend (``deviation`` after a plain ``fit``; ``sum`` if the model does not know the deviations of
            its heads), weighted by its preference, which sums to 1. In a sum, scales matter: a softmax score and a
            regression in milliseconds are not comparable.
        lists: whether the ranker ranks lists or plain rows. The default is the kind of data it was last fitted on, or
            lists.
        rows: real data. Its first eight lists (or rows) become warm-up requests, beside requests from the schema.
        train: what the inputs of the training split contained (:func:`tfmtl2r.data.contents.contents`), for the
            metadata. ``tfmtl2r export-check`` and ``tfmtl2r client`` compare tables with it.
        files: how files of requests are read (:func:`tfmtl2r.evaluation.file_scores.how_to_read`), for the metadata.
            ``tfmtl2r score`` reads it.

    Returns:
        The folder of the version. It also contains warm-up requests and ``assets.extra/tfmtl2r.json`` with the tasks,
        the definition of ``score``, the signatures, and the signatures that the ranker cannot have.

    Raises:
        ExportError: when the export fails a check; nothing is published then.
        NotFiniteError: for weights that are NaN or infinite.
        ValueError: for a model without features, an invalid blend, or ``lists`` or ``rows`` that differ from the data
            that the model was fitted on.

    >>> import tempfile
    >>> schema = tfmtl2r.Schema([tfmtl2r.Dense("price"), tfmtl2r.Category("brand", vocabulary=("a", "b"))])
    >>> ranker = MultiTaskRanker("shared_bottom", ["click", "buy"], schema)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(ranker, folder).name
    '1'
    """
    check_weights(model.architecture.variables, f"{directory} is not written")
    lists = _serves_lists(model, lists)
    chosen = resolved(model, blend)
    served, left = pruned(model)
    plan = planned(served, chosen, lists)
    _announce(plan)
    real = [] if rows is None else from_rows(rows, model.architecture.schema, lists)
    metadata = {**_metadata(model, plan, chosen, lists, train or {}, files or {}), **({"units": left} if left else {})}
    return _published(Path(directory), model, plan, metadata, real)


def _published(
    base: Path, model: MultiTaskRanker | Merged, plan: Plan, metadata: Mapping[str, Any], real: list[Request]
) -> Path:
    """Publishes the version and writes the files beside it. Warm-up requests are from real data and from the schema."""
    schema, name = model.architecture.schema, base.resolve().name
    asked = [with_extras(request, schema, len(model.tasks))
             for request in [*real, *requests(schema, metadata["lists"])]]
    version = publish(base, lambda folder: _write(model, plan, metadata, asked, folder, name))
    try:
        write_configs(base)
        # The README shows the second request from the schema, because the first has missing values.
        readme.write(base / readme.README, name, plan, schema, asked[0 if real else 1], metadata)
    except OSError as error:
        log.warning("%s is published, but a file beside it could not be written: %s", version, error)
    return version


def _announce(plan: Plan) -> None:
    """Logs renamed inputs and missing signatures."""
    for feature, name in plan.names.items():
        if name != feature:
            log.warning("feature %r is served as the input %r, since TensorFlow does not allow its name", feature, name)
    for name, reason in plan.left_out.items():
        log.info("the export has no signature %r: %s", name, reason)


def _serves_lists(model: MultiTaskRanker | Merged, lists: bool | None) -> bool:
    """Whether requests contain lists: the same kind of data as in training, if the model was trained."""
    if model.schema is None:
        raise InputError("this ranker does not know its features yet, so there are no inputs to export: pass "
                         "schema=Schema(...), or fit it first")
    if model.has_lists is None:
        return True if lists is None else lists
    if lists is not None and lists != model.has_lists:
        kinds = {True: "lists", False: "plain rows"}
        raise InputError(f"lists={lists} requests an export for {kinds[lists]}, but the ranker was fitted or evaluated "
                         f"on {kinds[model.has_lists]}: leave the argument out")
    return model.has_lists


def _write(
    model: MultiTaskRanker | Merged, plan: Plan, metadata: Mapping[str, Any], asked: list[Request], folder: Path,
    name: str,
) -> None:
    """Fills the folder of a version and checks it."""
    _write_graph(plan, folder)
    records, factors = _records(model, plan, asked, metadata["tolerance"])
    complete(folder, name, {**metadata, "tolerance_factors": factors}, records)


def complete(
    folder: Path, name: str, metadata: Mapping[str, Any], records: list[tuple[str, warmup.Record]]
) -> None:
    """Writes metadata and warm-up records beside a SavedModel, and runs the checks.

    Args:
        folder: the folder of the SavedModel, which is not published yet.
        name: name of the model.
        metadata: metadata with ``signatures`` (:func:`described`), the ``tolerance`` of the checks, and its
            ``tolerance_factors`` (:func:`factors`).
        records: pairs of a signature's method and a request with its expected outputs; at least one per signature.

    Raises:
        ExportError: when a check fails; the message lists all problems.
    """
    path = folder / METADATA
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    warmup.write(folder / warmup.WARMUP, name, records)
    reasons = problems(folder)
    if reasons:
        listed = "".join(f"\n- {reason}" for reason in reasons)
        raise ExportError(f"the export was not published, since TensorFlow Serving could not serve it:{listed}")


def _write_graph(plan: Plan, folder: Path) -> None:
    # Traced functions: Keras' ExportArchive holds functions of Python, which TensorFlow traces once more to save them.
    traced = {name: signature.function for name, signature in plan.signatures.items()}
    whole = tf.Module()
    whole.lookup = plan.lookup  # has the tables
    # Not the model, which has the state of the balancing method and the running metrics, too.
    whole.used = [*{id(v): v for function in traced.values() for v in function.graph.variables}.values()]
    with quiet():
        tf.saved_model.save(whole, str(folder), signatures=traced)
    _name_methods(plan, folder)


def _name_methods(plan: Plan, folder: Path) -> None:
    """Sets the method of each signature: TensorFlow writes predict for all, and a server that compares refuses that."""
    with quiet():
        updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
        for name, signature in plan.signatures.items():
            updater.replace_method_name(signature_key=name, method_name=signature.method)
        updater.save()


def _records(
    model: MultiTaskRanker | Merged, plan: Plan, asked: list[Request], tolerance: float
) -> tuple[list[tuple[str, warmup.Record]], dict[str, float]]:
    """Every request for every signature, with the outputs that follow from ``model.predict``, and :func:`factors`."""
    predicted: dict[tuple[Any, ...], Any] = {}
    records, found = [], dict[str, float]()
    for name, signature in plan.signatures.items():
        for number, request in enumerate(asked):
            request = {**request, **signature.view(request)}
            preferred = [PREFERENCE] if PREFERENCE in signature.extras else []
            key = (signature.view, number, *preferred)
            if key not in predicted:
                predicted[key] = _predicted(model, plan, request, preferred)
            scores, valid = predicted[key]
            answer = _answer(signature, scores, valid, request, model.architecture.schema)
            records.append((signature.method, warmup.Record(name, signature.feed(request), answer)))
            for error in moved(scores, tolerance):
                off = _answer(signature, error, valid, request, model.architecture.schema)
                for output, factor in factors(answer, off, tolerance).items():
                    found[output] = max(factor, found.get(output, 1.0))
    return records, found


def moved(scores: Mapping[str, Any], tolerance: float) -> Iterator[dict[str, Any]]:
    """Yields scores that are off by the allowed error, with columns beside them that are not; NaN is padding.

    All scores move up, and down, since a curve may be steep on one side only. Then the items move in opposite
    directions, each two of them at least once: where two items have equal scores, rounding decides which is first.
    """
    largest = {task: tolerance * np.nanmax(np.abs(each), initial=1.0) for task, each in scores.items()}
    places = np.arange(next(iter(scores.values())).shape[-1])
    for bit in range(-1, int(places.size - 1).bit_length()):
        up = np.float32(1) if bit < 0 else np.where(places >> bit & 1, np.float32(1), np.float32(-1))
        for sign in (up, -up):
            yield {task: each if is_column(task) else each + sign * largest[task] for task, each in scores.items()}


def factors(
    answer: Mapping[str, np.ndarray], off: Mapping[str, np.ndarray], tolerance: float
) -> dict[str, float]:
    """Output -> what its tolerance must be multiplied by, since an error of a score grows in what is computed from it.

    Examples are the value of a regression of logarithms, and a blend of ranks, where an item takes the place of another
    item with the same score.

    Args:
        answer: output -> numbers.
        off: the same outputs for scores that are off (:func:`moved`).
        tolerance: allowed error of scores and values, relative to the largest or to 1.
    """
    found = {}
    computed = (value_key(""), probability_key(""))
    for output in (name for name in answer if name in BLENDED or name.startswith(computed)):
        numbers = answer[output].astype(np.float64)
        if not (np.isfinite(numbers) & np.isfinite(off[output])).all():
            continue  # such an answer is refused by its comparison
        error = np.abs(off[output] - numbers).max(initial=0.0)
        # Twice: of several items with equal scores, the half that moved up took the mean place of the upper half.
        found[output] = max(1.0, float(2 * error / allowed(numbers, tolerance)))
    return found


def _predicted(
    model: MultiTaskRanker | Merged, plan: Plan, request: Request, preferred: list[str]
) -> tuple[dict[str, Any], Any]:
    """Task -> scores from ``model.predict``, and the mask of real places."""
    assert model.schema is not None
    names = [*model.architecture.schema.inputs, *([LIST_SIZE] if LIST_SIZE in request else [])]
    tensors = {name: tf.convert_to_tensor(request[name]) for name in names}
    try:
        asked = {**plan.lookup(tensors), **{name: tf.convert_to_tensor(request[name]) for name in preferred}}
        scores = model.predict(asked, batch_size=len(request[names[0]]))
    except tf.errors.OpError as error:
        shapes = {name: value.shape for name, value in tensors.items()}
        raise ExportError(f"the export was not published, since model.predict cannot score a request of the shapes "
                          f"{shapes}: {said(error)}") from error
    tensors = {task: tf.constant(values) for task, values in scores.items()}
    if LIST_SIZE not in request:
        return tensors, None
    return tensors, tf.sequence_mask(request[LIST_SIZE], tensors[model.tasks[0].name].shape[1])


def _answer(
    signature: Signature, scores: Mapping[str, Any], valid: Mask | None, request: Request, schema: Schema
) -> dict[str, np.ndarray]:
    extras = {name: tf.convert_to_tensor(request[request_key(name, schema)]) for name in signature.extras}
    return {name: value.numpy() for name, value in signature.answer(scores, valid, extras).items()}


def _metadata(
    model: MultiTaskRanker | Merged, plan: Plan, blend: Blend, lists: bool, train: Mapping[str, Any],
    files: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of ``tfmtl2r.json``, which the server ignores."""
    features = {name: feature for feature, name in plan.names.items()}
    signatures = {name: described(one.method, one.inputs, one.outputs) for name, one in plan.signatures.items()}
    default = signatures[DEFAULT]
    inputs = {name: {**spec, "feature": features[name]} for name, spec in default["inputs"].items()}
    half = tf.as_dtype(model.dtype_policy.compute_dtype).size < 4
    asked = {} if model.conditioned is None else {"preference": np.asarray(model.preference, np.float64).tolist()}
    return {
        "tasks": [{"name": task.name, "kind": task.kind, "score": score_key(task.name), **_unit(task)}
                  for task in model.tasks],
        "lists": lists,
        **({"members": model.num_members} if model.has_members else {}),
        "score": blend.made.definition,
        "blend": dict(blend.weights or {}),
        **_kind(model, blend),
        **asked,
        "inputs": inputs,
        "train": _contents(model.architecture.schema, plan, train),
        **({"files": dict(files)} if files else {}),
        "outputs": default["outputs"],
        "signatures": signatures,
        "left_out": plan.left_out,
        "tolerance": HALF_TOLERANCE if half else TOLERANCE,
        "versions": {"tfmtl2r": tfmtl2r.__version__, "tensorflow": tf.__version__, "keras": keras.__version__},
    }


def _unit(task: Task) -> dict[str, Any]:
    """The unit of a task's values if it is not that of the label, and the fitted transform, which leads back."""
    if not (unit := unit_of(task)):
        return {}
    return {"value_unit": unit, "transform": transforms.registry.describe(of_task(task))}


def _kind(model: MultiTaskRanker | Merged, blend: Blend) -> dict[str, Any]:
    """The kind of the blend, its options, the numbers that it reads, and how it was chosen."""
    kind, facts = blends.registry.describe(blend.made), facts_of(model)
    numbers = {"deviations": facts.deviations, "constants": facts.constants}
    return {
        "blend_kind": kind.pop("name"),
        **({"blend_options": kind} if kind else {}),
        **{f"blend_{name}": dict(zip(blend.weights or {}, found.tolist(), strict=True))
           for name, found in numbers.items() if name in blend.made.needs and found is not None},
        "blend_choice": dict(blend.choice),
    }


def _contents(schema: Schema, plan: Plan, train: Mapping[str, Any]) -> dict[str, Any]:
    """Served input -> contents of the training split, with the vocabulary if it is short."""
    owners = {feature.name: feature for feature in schema.features}
    found: dict[str, Any] = {}
    for name, entry in train.items():
        feature = owners.get(name)
        owner = owners.get(feature.shares) if feature is not None and feature.shares else feature
        # Requests contain no hashes, so that a vocabulary of hashes is of no use.
        known = None if owner is None or getattr(owner, "hash", False) else owner.known_values
        short = known is not None and len(known) <= _VALUES
        found[plan.names.get(name, name)] = {**entry, **({"values": list(known)} if short and known else {})}
    return found


def described(method: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Describes a signature as plain data.

    Args:
        method: the server's API for this signature.
        inputs, outputs: name -> tensor or spec.
    """
    sides = {"inputs": inputs, "outputs": outputs}
    return {"method": method, **{
        side: {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}
        for side, specs in sides.items()}}
