"""Modifiers that compose with any method: log losses, smoothing, new weights every n steps, normalised gradients.

``methods.get`` builds them by name (``every``, ``log``, ``normalised``, ``smooth``, ``smooth_gram``);
``methods.names()`` leaves them out, since each needs another method.
"""

from tfmtl2r.methods.wrappers.every import Every
from tfmtl2r.methods.wrappers.log import Log
from tfmtl2r.methods.wrappers.normalised import Normalised
from tfmtl2r.methods.wrappers.smooth import Smooth
from tfmtl2r.methods.wrappers.smooth_gram import SmoothGram

__all__ = ["Every", "Log", "Normalised", "Smooth", "SmoothGram"]
