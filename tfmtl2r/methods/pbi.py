"""PBI: penalty-based boundary intersection."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Scalarisation, Signals, State, count_present
from tfmtl2r.methods.positive import ray
from tfmtl2r.registry import Card
from tfmtl2r.types import Losses, Tensor

__all__ = ["PBI"]

CARD = Card(
    title="PBI (penalty-based boundary intersection)",
    paper="Zhang and Li 2007, https://doi.org/10.1109/TEVC.2007.892759",
    promises=("sums_to_tasks", "permutation_equivariant", "ends_on_the_ray"),
    note="Far from the ray, the weight of a task can be negative, which raises its loss. Needs losses of one scale."
    " Behind equal weights on most data sets of the study.",
)

_ON_THE_RAY = 1e-6


@dataclasses.dataclass(frozen=True)
class PBI(Scalarisation):
    """Minimises ``sqrt(T) (d1 + theta d2)``: the distance along the ray of the preference, and the one from this ray.

    With the preference r, the ray is ``u = (1/r) / ||1/r||``, where ``r_t loss_t`` is the same for every task;
    ``d1 = <loss, u>`` and ``d2 = ||loss - d1 u||``. On the ray of equal preferences all task weights are 1. The
    reference point is 0, the smallest possible loss.

    Differs from LibMTL's code: the ray has the direction ``1/r``, since a preference is an importance here. The
    direction r would favour the wrong task.

    Args:
        theta: weight of the distance from the ray.

    >>> from tfmtl2r import methods
    >>> methods.combine("pbi", [[1., 0.], [0., 1.]], losses=[1., 2.]).round(6).tolist()  # 1 - theta, 1 + theta
    [-4.0, 6.0]
    """

    theta: float = 5.0
    takes_preference: ClassVar[bool] = True
    positive_preference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.theta >= 0:
            raise InputError(f"pbi: theta must be >= 0, not {self.theta}")

    def objective(self, losses: Losses, signals: Signals, state: State) -> tuple[Tensor, State]:
        """``d1 + theta d2`` among the present tasks; d2 has no gradient on the ray."""
        direction = ray(signals, losses.dtype)
        along = tf.reduce_sum(losses * direction)
        beside = losses * tf.cast(signals.present, losses.dtype) - along * direction
        off = tf.norm(tf.stop_gradient(beside)) > _ON_THE_RAY * tf.norm(tf.stop_gradient(losses))
        distance = tf.where(off, tf.norm(tf.where(off, beside, 1.0)), 0.0)
        return tf.sqrt(count_present(signals, losses.dtype)) * (along + self.theta * distance), state
