"""Normalised: a method on gradients of equal size."""

from __future__ import annotations

import dataclasses

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Signals
from tfmtl2r.methods.positive import positive
from tfmtl2r.methods.wrappers.base import RescaledGradients
from tfmtl2r.registry import Card
from tfmtl2r.types import Vector

__all__ = ["Normalised"]

CARD = Card(title="Normalised gradients around another method",
            note="each task's gradient has the same length before the method sees it")


@dataclasses.dataclass(frozen=True)
class Normalised(RescaledGradients):
    """Runs a method on normalised gradients ``g_t c / c_t``, so that no task dominates by its scale.

    ``c_t`` is ``||g_t||`` (``by="l2"``), ``loss_t`` (``"loss"``) or their product (``"loss+"``), and c is the harmonic
    mean of all ``c_t``: equal weights of the inner method still sum to T. A zero gradient stays zero.

    Differs from the code of Sener and Koltun 2018 (https://arxiv.org/abs/1810.04650): the inner method's weights belong
    to the normalised gradients that it saw, so that its guarantees hold; theirs weigh the original gradients.

    Args:
        method: the inner method.
        by: ``"l2"``, ``"loss"`` or ``"loss+"``.

    >>> from tfmtl2r import methods
    >>> methods.combine(Normalised("mgda"), [[3., 0.], [0., 1.]]).round(9).tolist()
    [1.5, 1.5]
    """

    by: str = "l2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in ("l2", "loss", "loss+"):
            raise InputError(f"Normalised: by must be 'l2', 'loss' or 'loss+', not {self.by!r}")
        if self.by != "loss" and "rows" not in self.needs:
            object.__setattr__(self, "needs", self.needs | {"gram"})
        if self.by != "l2":
            object.__setattr__(self, "positive_losses", True)

    def divisors(self, signals: Signals) -> Vector:
        """The normalisers over their harmonic mean; 1 for absent tasks and zero gradients."""
        scale = tf.ones_like(signals.losses, tf.float64)
        if self.by != "loss":
            scale *= tf.sqrt(tf.maximum(tf.cast(tf.linalg.diag_part(signals.gram), tf.float64), 0.0))
        if self.by != "l2":
            scale *= tf.cast(positive(signals.losses, signals), tf.float64)
        usable = signals.present & (scale > 0)
        inverse = tf.where(usable, 1.0 / tf.where(usable, scale, 1.0), 0.0)
        mean = tf.math.divide_no_nan(tf.reduce_sum(inverse), tf.reduce_sum(tf.cast(usable, tf.float64)))
        return tf.where(usable, scale * mean, 1.0)
