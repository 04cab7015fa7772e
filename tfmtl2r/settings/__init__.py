"""The schema of an experiment: one class per section. Flags, files, run cards and fingerprints derive from it."""

from tfmtl2r.settings.data import Data, Feature, Fold, Split
from tfmtl2r.settings.exporting import Exporting
from tfmtl2r.settings.outcome import outcome
from tfmtl2r.settings.schema import FORMAT, Settings, checked_name
from tfmtl2r.settings.sections import Constraint, Evaluation, Goal, Sweeping, Tuning
from tfmtl2r.settings.training import Ensembling, Optimizer, Start, Teacher, Training
from tfmtl2r.settings.values import FilePath, SettingError

__all__ = [
    "FORMAT",
    "Constraint",
    "Data",
    "Ensembling",
    "Evaluation",
    "Exporting",
    "Feature",
    "FilePath",
    "Fold",
    "Goal",
    "Optimizer",
    "SettingError",
    "Settings",
    "Split",
    "Start",
    "Sweeping",
    "Teacher",
    "Training",
    "Tuning",
    "checked_name",
    "outcome",
]
