"""Every architecture can read a preference: it changes the scores of every task, and no variable is left out."""

import numpy as np
import pytest
from architecture_problem import small

from tfmtl2r import MultiTaskRanker, architectures
from tfmtl2r.methods import get
from tfmtl2r.testing.architecture import SCHEMA, SIZES, TASKS, make_features
from tfmtl2r.training.engine import Engine
from tfmtl2r.training.objectives import TaskLosses

PREFERENCES = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 1]], np.float32)
ALONE = "single_task"


@pytest.mark.product
@pytest.mark.parametrize("name", [name for name in architectures.names() if name != ALONE])
def test_the_preference_reaches_every_score(rng, name):
    ranker = MultiTaskRanker({"name": name, **small(name)}, TASKS, SCHEMA, conditioned=1.0)
    losses = TaskLosses(ranker.tasks, has_lists=True)
    Engine(ranker.architecture, losses, get("mgda"), "parameters")  # every variable is in
    features = {**make_features(rng), "list_size": SIZES.astype(np.int32)}
    one, other = (ranker({**features, "preference": np.roll(PREFERENCES, turn, 1)}) for turn in (0, 1))
    for task in TASKS:
        gaps = np.abs(one[task] - other[task])
        assert gaps[:2, :2].max() > 1e-6
        assert gaps[2].max() < 1e-6, "the third list asks for the same both times"


def test_tasks_alone_cannot_be_conditioned():
    with pytest.raises(ValueError, match="each task alone"):
        MultiTaskRanker(ALONE, TASKS, SCHEMA, conditioned=1.0)
