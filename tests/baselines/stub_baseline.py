"""A cheap stand-in for trees: least squares on the inputs."""

import dataclasses

import numpy as np

from tfmtl2r.baselines import Baseline, Fitted
from tfmtl2r.baselines.trees import matrix
from tfmtl2r.data.columns import label_values


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
