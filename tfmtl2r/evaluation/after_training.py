"""Everything that is fitted once the weights of a ranker are final."""

from __future__ import annotations

from typing import Any

from tfmtl2r.data import Lists
from tfmtl2r.evaluation.blend_choice import choose_blend
from tfmtl2r.evaluation.calibration import fit_calibrators
from tfmtl2r.evaluation.heads import measure_heads
from tfmtl2r.evaluation.scoring import fit_residuals
from tfmtl2r.training.blending import described
from tfmtl2r.training.model import MultiTaskRanker


def fit_after_training(
    model: MultiTaskRanker, train: Lists, vali: Lists, batch_size: int = 256
) -> dict[str, Any]:
    """Fits residuals and calibrators, measures the heads, and chooses the kind of blend unless the ranker has one.

    Args:
        model: a trained ranker.
        train: the training split, for residuals and heads.
        vali: the validation split, for calibrators and the blend.
        batch_size: lists per batch.

    Returns:
        How the kind of blend was chosen (:func:`tfmtl2r.evaluation.blend_choice.choose_blend`).
    """
    fit_residuals(model, train, batch_size)
    fit_calibrators(model, vali, batch_size)
    measure_heads(model, train, batch_size)
    if model.blend is None:
        return choose_blend(model, vali, batch_size)
    return {"by": "given", "kind": described(model.blend)}
