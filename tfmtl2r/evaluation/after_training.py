"""Everything that is fitted once the weights of a ranker are final."""

from __future__ import annotations

from tfmtl2r.data import Lists
from tfmtl2r.evaluation.calibration import fit_calibrators
from tfmtl2r.evaluation.heads import measure_heads
from tfmtl2r.evaluation.scoring import fit_residuals
from tfmtl2r.training.model import MultiTaskRanker


def fit_after_training(model: MultiTaskRanker, train: Lists, vali: Lists, batch_size: int = 256) -> None:
    """Fits residuals and calibrators, and measures the heads.

    Args:
        model: a trained ranker.
        train: the training split, for residuals and heads.
        vali: the validation split, for calibrators.
        batch_size: lists per batch.
    """
    fit_residuals(model, train, batch_size)
    fit_calibrators(model, vali, batch_size)
    measure_heads(model, train, batch_size)
