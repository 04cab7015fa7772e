"""Everything that is fitted once the weights of a ranker are final."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.blend_choice import choose_blend
from tfmtl2r.evaluation.calibration import fit_calibrators
from tfmtl2r.evaluation.heads import measure_heads
from tfmtl2r.evaluation.scoring import fit_residuals
from tfmtl2r.evaluation.tuned_weights import Tuned, reached, tune_weights, unreachable, wish_of
from tfmtl2r.preferences import suited
from tfmtl2r.settings import Settings
from tfmtl2r.training.blending import default_of, described
from tfmtl2r.training.merged import Merged
from tfmtl2r.training.model import MultiTaskRanker

log = logging.getLogger("tfmtl2r")


def fit_after_training(
    model: MultiTaskRanker, train: Lists, vali: Lists, batch_size: int = 256, settings: Settings | None = None,
    test: Lists | None = None,
) -> dict[str, Any]:
    """Fits residuals and calibrators, measures the heads, and chooses the blend.

    The kind of blend is chosen unless the ranker has one, and its weights if the settings want them tuned.

    Args:
        model: a trained ranker.
        train: the training split, for residuals and heads.
        vali: the validation split, for calibrators and the blend.
        batch_size: lists per batch.
        settings: the experiment, if tuned weights are to be chosen.
        test: the test split, on which tuned weights are measured.

    Returns:
        How the kind of blend was chosen (:func:`tfmtl2r.evaluation.blend_choice.choose_blend`). For tuned weights also
        ``"tuned"``, the numbers on vali, with those on test under ``"test"``.
    """
    fit_residuals(model, train, batch_size)
    fit_calibrators(model, vali, batch_size)
    measure_heads(model, train, batch_size)
    chosen = model.blend is None
    found = choose_blend(model, vali, batch_size) if chosen else {"by": "given", "kind": described(default_of(model))}
    if settings is not None and settings.tunes_weights:
        found["tuned"] = _tuned(model, settings, vali, test, batch_size)
    return found


def check_tuning(model: MultiTaskRanker, settings: Settings, has_lists: bool) -> None:
    """Refuses wishes for tuned weights that the ranker cannot have, before its training.

    Raises:
        ValueError: for plain rows, a single task, an unknown task, or a metric that is no bound of an order.
    """
    if not settings.tunes_weights:
        return
    if not has_lists or len(model.tasks) < 2:
        raise InputError("export.blend.weights can be \"tuned\" for several tasks in lists only: leave it out")
    wish_of(model, _utility(settings), settings.metric_bounds)


def _tuned(
    model: MultiTaskRanker, settings: Settings, vali: Lists, test: Lists | None, batch_size: int
) -> dict[str, Any]:
    """Chooses tuned weights on vali, and measures on test what they reach."""
    own = wish_of(model, _utility(settings), ()).utility
    tuned = tune_weights(model, vali, own, settings.metric_bounds, batch_size)
    use(model, tuned)
    found = tuned.numbers()
    if problem := unreachable(found):
        log.warning("%s; the run is kept, and its weights are the nearest ones", problem)
    return found if test is None else {**found, "test": reached(model, test, tuned, own, batch_size).numbers()}


def use(model: MultiTaskRanker | Merged, tuned: Tuned) -> None:
    """Sets the tuned weights as the preference of a conditioned ranker, which reads them; others keep their own."""
    if isinstance(model, MultiTaskRanker) and model.conditioned is not None:
        model.set_preference(suited(np.array([[*tuned.weights.values()]]), model.method)[0])


def _utility(settings: Settings) -> Mapping[str, float] | None:
    return None if settings.export.blend is None else settings.export.blend.utility
