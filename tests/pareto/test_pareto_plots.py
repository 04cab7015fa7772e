"""Pictures of trade-offs stay readable whatever the names and the number of groups are."""

import types

import numpy as np
import pytest

from tfmtl2r.pareto import plots
from tfmtl2r.runs.finished import Objectives


@pytest.mark.product
@pytest.mark.parametrize("tasks", [2, 4])
@pytest.mark.parametrize(("groups", "length"), [(1, 1), (14, 12), (5, 90), (2, 300)])
def test_legends_leave_room_for_the_axes(tmp_path, looked_at, tasks, groups, length):
    rng = np.random.default_rng(groups)
    labels = tuple(f"task {i} ndcg@10 (test)" for i in range(tasks))
    run = types.SimpleNamespace(seed=0)
    found = {
        f"{i} {'method option=0.5 ' * 20}"[:length]:
        Objectives((run,) * 4, rng.random((4, tasks)), (True,) * tasks, labels, labels)
        for i in range(groups)
    }
    chosen = next(iter(found.values())).values[0]
    for path in plots.save(
        {"front": plots.front(found, chosen=chosen)} if tasks == 2 else
        {"parallel": plots.parallel_coordinates(found, chosen), "pairs": plots.pairwise(found, chosen)}, tmp_path,
    ):
        looked_at(path)
