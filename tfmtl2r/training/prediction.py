"""Scores of all items, in input order."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tfmtl2r import data
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import LIST_SIZE, PREFERENCE, unpack
from tfmtl2r.data.passes import is_unchanged
from tfmtl2r.errors import InputError
from tfmtl2r.layers.features import checked
from tfmtl2r.preferences import normalised
from tfmtl2r.training.blending import SCORE, blend_scores, check_usable, default_of, facts_of
from tfmtl2r.training.infinite_features import Finite
from tfmtl2r.training.members import uncertainty_of
from tfmtl2r.types import Batches

if TYPE_CHECKING:
    from tfmtl2r.training.model import MultiTaskRanker

LAYOUTS = ("padded", "ragged", "items")


@dataclasses.dataclass(frozen=True)
class Run:
    """How batches are run, as in Keras' ``predict``.

    Args:
        batch_size: lists (or rows) per batch, for DataFrames and dicts; 64 if None.
        verbose: 0 silent, 1 a progress bar, 2 one line.
        steps: number of batches to score; all if None.
        callbacks: Keras callbacks.
    """

    batch_size: int | None = None
    verbose: int | str = 0
    steps: int | None = None
    callbacks: Any = None

    @property
    def size(self) -> int:
        """Lists (or rows) per batch."""
        return 64 if self.batch_size is None else self.batch_size


def predict(
    model: MultiTaskRanker, x: Any, run: Run, layout: str | None = None, list_id: str | None = None,
    preference: Any = None,
) -> Any:
    """Scores of every item.

    Args:
        model: a ranker.
        x: batches (``tf.data.Dataset``, ``PyDataset`` or a generator), one dict of looked-up features,
            :class:`~tfmtl2r.data.Lists`, or a DataFrame of raw rows.
        run: batch size, number of batches and callbacks.
        layout: shape of the result, except for a DataFrame. ``"padded"``: per task ``[lists, longest]`` with NaN after
            the last item. ``"ragged"``: per task a list of arrays. ``"items"``: per task one array over all real items.
            For plain rows every layout is ``[rows]``. None is ``"items"`` for Lists and ``"padded"`` for others.
        list_id: for a DataFrame of lists, the column of the list id. The rows of a list need not be adjacent.
        preference: importance of each task, which an export answers by its signature ``predict_preferred``: the weights
            of the ranker's blend, and the input of a conditioned ranker. If None, there is no blended score, and the
            preference of ``compile`` is the input.

    Returns:
        dict task -> scores, which ``model.values`` converts to the unit of the labels; with a preference also
        ``"score"``, the blended score. A conditioned ranker that does not know the deviations of its heads, such as one
        of an earlier version, has no blended score. For a DataFrame, a DataFrame on the same index with a column
        ``score_<task>`` per task, ``value_<task>`` for the tasks that have values, and ``score`` with a preference.
        An ensemble adds the standard deviation of its members' values: ``uncertainty_<task>``, or under the key
        :func:`tfmtl2r.training.members.uncertainty_of` of the task.

    Raises:
        ValueError: for an unknown layout, ``list_id`` without a DataFrame, an invalid preference, a preference for
            tasks of which one is called ``score``, ``steps`` with a DataFrame, or ``batch_size`` with batches.
    """
    layout = layout or ("items" if isinstance(x, data.Lists) else "padded")
    if layout not in LAYOUTS:
        raise InputError(f"layout must be one of {', '.join(map(repr, LAYOUTS))}, not {layout!r}")
    if preference is not None:
        if any(task.name == SCORE for task in model.tasks):
            raise InputError("a task is called 'score', like the blended score of a preference: rename the task")
        preference = normalised(preference, model.tasks).astype(np.float32)
    if isinstance(x, pd.DataFrame):
        if run.steps is not None:
            raise InputError("predict(frame) scores every row: leave out steps, or pass a part of the frame")
        return _predict_frame(model, x, list_id, run, preference)
    if list_id is not None:
        raise InputError("list_id names a column of a DataFrame; batches contain list_size instead")
    if isinstance(x, data.Lists):
        x = data.batches(x, (), model.architecture.schema, batch_size=run.size)
    elif isinstance(x, Mapping):
        x = tf.data.Dataset.from_tensor_slices(dict(x)).batch(run.size)
    elif run.batch_size is not None:
        raise InputError("predict has no argument batch_size for data that are batches already: change the size of "
                         "these batches")
    return _arrange(*_run(model, x, run, preference), layout)


def _predict_frame(
    model: MultiTaskRanker, frame: pd.DataFrame, list_id: str | None, run: Run, preference: Any
) -> pd.DataFrame:
    lists = data.from_frame(frame, list_id)
    items = predict(model, lists, run, preference=preference)
    values = model.values(items)
    found = {SCORE: items[SCORE]} if SCORE in items and preference is not None else {}
    found |= {f"score_{task.name}": items[task.name] for task in model.tasks}
    found |= {f"value_{task}": np.asarray(one) for task, one in values.items()}
    found |= {f"uncertainty_{task}": items[uncertainty_of(task)] for task in values if uncertainty_of(task) in items}
    columns = {name: lists.in_order_of_rows(one) for name, one in found.items()}
    return pd.DataFrame(columns, index=frame.index)


def _run(
    model: MultiTaskRanker, batches: Batches, run: Run, preference: Any = None
) -> tuple[dict[str, list[np.ndarray]], list[np.ndarray] | None]:
    """The scores of each batch, and its list sizes (None for plain rows)."""
    scores: dict[str, list[np.ndarray]] = {}
    sizes: list[np.ndarray] = []
    blend = None if preference is None or not _knows_a_blend(model) else _Blended(model, preference)
    if blend is not None:
        scores[SCORE] = []
    callbacks, known, finite = _callbacks(model, batches, run), is_unchanged(batches), Finite(model.schema)
    model.stop_predicting, schema = False, model.architecture.schema
    callbacks.on_predict_begin()
    for number, element in enumerate(itertools.islice(_elements(batches), run.steps)):
        callbacks.on_predict_batch_begin(number)
        given, *_ = unpack(element if known else finite.watch_batch(element))
        features = dict(given)
        if preference is not None and model.conditioned is not None:
            num_lists = len(next(iter(features.values())))
            features[PREFERENCE] = np.tile(preference, (num_lists, 1))
        for name, feature in schema.inputs.items():
            if name in features:
                features[name] = checked(feature, name, features[name], LIST_SIZE not in features)
        found = model.scores(features)
        if blend is not None:
            found = {**found, SCORE: blend(found, features.get(LIST_SIZE))}
        for task, values in found.items():
            scores.setdefault(task, []).append(values.numpy())
        if LIST_SIZE in features:
            sizes.append(np.asarray(features[LIST_SIZE]))
        callbacks.on_predict_batch_end(number, {"outputs": found})
        if model.stop_predicting:
            break
    callbacks.on_predict_end()
    if not any(scores.values()):
        raise InputError("there is nothing to predict: the data are empty")
    return scores, sizes or None


def _knows_a_blend(model: MultiTaskRanker) -> bool:
    """Whether a preference gives a blended score; a conditioned ranker of an earlier version has none."""
    return model.conditioned is None or model.blend is not None or model.head_statistics.deviations is not None


class _Blended:
    """The blended score of batches for one preference."""

    def __init__(self, model: MultiTaskRanker, preference: Any):
        self.model, self.weights, self.kind = model, tf.constant(preference[None], tf.float32), default_of(model)
        self.facts: Any = None

    def __call__(self, scores: dict[str, Any], sizes: Any) -> Any:
        if self.facts is None:
            self.facts = facts_of(self.model, sizes is not None)
            check_usable(self.kind, self.facts, sizes is not None)
        valid = None if sizes is None else tf.sequence_mask(sizes, tf.shape(next(iter(scores.values())))[1])
        return blend_scores(self.kind, self.model.tasks, scores, valid, self.weights, self.facts)


def _elements(batches: Any) -> Iterable[Any]:
    """The batches; a ``PyDataset`` has positions instead of an iterator."""
    if not isinstance(batches, keras.utils.PyDataset):
        return batches
    return map(batches.__getitem__, itertools.count() if batches.num_batches is None else range(batches.num_batches))


def _callbacks(model: MultiTaskRanker, batches: Any, run: Run) -> keras.callbacks.CallbackList:
    if isinstance(run.callbacks, keras.callbacks.CallbackList):
        return run.callbacks
    steps = run.steps
    if steps is None and isinstance(batches, tf.data.Dataset):
        count = int(batches.cardinality())
        steps = None if count < 0 else count
    return keras.callbacks.CallbackList(
        run.callbacks, add_progbar=run.verbose != 0, verbose=run.verbose, epochs=1, steps=steps, model=model,
    )


def _arrange(scores: dict[str, list[np.ndarray]], sizes: list[np.ndarray] | None, layout: str) -> dict[str, Any]:
    if sizes is None:
        return {task: np.concatenate(parts) for task, parts in scores.items()}
    arranged: dict[str, Any] = {}
    longest = max(int(size.max(initial=0)) for size in sizes)
    for task, parts in scores.items():
        lists = [row[:n] for part, size in zip(parts, sizes, strict=True) for row, n in zip(part, size, strict=True)]
        if layout == "items":
            arranged[task] = np.concatenate(lists)
        elif layout == "ragged":
            arranged[task] = lists
        else:
            arranged[task] = np.full((len(lists), longest), np.nan, np.float32)
            for row, values in zip(arranged[task], lists, strict=True):
                row[: len(values)] = values
    return arranged
