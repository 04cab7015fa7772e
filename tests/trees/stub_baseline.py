"""A cheap stand-in for trees, least squares on the inputs, and trainings without graphs."""

import contextlib
import dataclasses
import warnings

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.baselines import Baseline, Fitted
from tfmtl2r.baselines.trees import matrix
from tfmtl2r.data.columns import label_values


@contextlib.contextmanager
def eagerly():
    """Runs trainings of a few steps without graphs, which would take most of the time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Even though the `tf.config.experimental_run_functions_eagerly`")
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)


@dataclasses.dataclass(frozen=True)
class LeastSquares(Baseline):
    """Scores are a linear map of the inputs; ``sign = -1`` ranks the wrong way round."""

    sign: float = 1.0

    def fit(self, training):
        inputs = _filled(matrix(training.train, training.schema)[0])
        fits = {}
        for task in training.tasks:
            labels = label_values(training.train, task)
            known = np.isfinite(labels)
            fits[task.name] = np.linalg.lstsq(inputs[known], labels[known], rcond=None)[0]

        def scorer(weights):
            return lambda lists: self.sign * _filled(matrix(lists, training.schema)[0]) @ weights

        return Fitted({name: scorer(weights) for name, weights in fits.items()})


def _filled(inputs):
    return np.column_stack([np.nan_to_num(inputs), np.ones(len(inputs))])
