"""The ranker that an export contains: without the units that its architecture has switched off."""

from __future__ import annotations

import copy

from tfmtl2r.training.merged import Merged
from tfmtl2r.training.model import MultiTaskRanker


def pruned(model: MultiTaskRanker | Merged) -> tuple[MultiTaskRanker | Merged, dict[str, list[int]]]:
    """A copy of a ranker without the units that have no influence; the ranker itself if there are none.

    Args:
        model: a ranker that knows its features. It is not changed.

    Returns:
        The ranker, and for every part of its architecture the number of units that are left, and of units before.
    """
    if isinstance(model, Merged):
        if not any(one.architecture.prunes for one in model.rankers):
            return model, {}
        members = [pruned(one) for one in model.rankers]
        left = {f"{number}/{part}": units for number, (_, found) in enumerate(members, start=1)
                for part, units in found.items()}
        return Merged([one for one, _ in members if isinstance(one, MultiTaskRanker)]), left
    if not model.architecture.prunes:
        return model, {}
    model = copy.deepcopy(model)
    return model, {part: [*units] for part, units in model.architecture.prune().items()}
