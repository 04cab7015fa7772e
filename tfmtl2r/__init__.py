"""Multi-task learning to rank in TensorFlow and Keras 3.

Rows of a table are grouped into lists. An architecture scores every item once per task. Each task has a loss over
lists. A method turns the losses or their gradients into one update. The trained graph is exported as a SavedModel for
TensorFlow Serving.

Names are imported on first use, so that ``import tfmtl2r`` and ``tfmtl2r --help`` do not load TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl2r import _import_hook, _lazy

if TYPE_CHECKING:
    from tfmtl2r import (
        architectures,
        baselines,
        blends,
        calibrators,
        data,
        datasets,
        errors,
        evaluation,
        features,
        layers,
        linalg,
        losses,
        methods,
        metrics,
        pages,
        pareto,
        penalties,
        plugins,
        preferences,
        presets,
        ranking,
        report,
        runs,
        serving,
        sweeps,
        testing,
        training,
        transforms,
    )
    from tfmtl2r._keras2 import recommenders
    from tfmtl2r.batch import Batch
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.features.category import Category
    from tfmtl2r.features.dense import Dense
    from tfmtl2r.registry import Card
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.schema import Schema
    from tfmtl2r.serving.export import export
    from tfmtl2r.serving.load import load
    from tfmtl2r.task import Task
    from tfmtl2r.training.merged import Merged
    from tfmtl2r.training.model import MultiTaskRanker
    from tfmtl2r.training.optimizers import Adagrad, LazyAdam
else:
    __getattr__, __dir__ = _lazy.attach(__name__)

_import_hook.install()

__version__ = "0.2.0"
__all__ = [
    "Adagrad", "Batch", "Card", "Category", "Dense", "Experiment", "LazyAdam", "Merged", "MultiTaskRanker", "RunCard",
    "Schema", "Task", "architectures", "baselines", "blends", "calibrators", "data", "datasets", "errors",
    "evaluation", "export", "features", "layers", "linalg", "load", "losses", "methods", "metrics", "pages", "pareto",
    "penalties", "plugins", "preferences", "presets", "ranking", "recommenders", "report", "runs", "serving", "sweeps",
    "testing", "training", "transforms",
]
