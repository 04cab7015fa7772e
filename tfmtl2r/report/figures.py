"""Draws figures. Names of users are drawn as they are: no formula begins at a dollar sign."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from tfmtl2r.writing import written


def saved(figure: Figure, path: str | Path, dpi: int = 130) -> Path:
    """Writes a figure to a file, whole or not at all."""
    with _plain(figure), written(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return Path(path)


def pixels(figure: Figure) -> np.ndarray:
    """A figure's pixels, ``uint8[H, W, 3]``."""
    canvas: Any = figure.canvas
    with _plain(figure):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@contextlib.contextmanager
def _plain(figure: Figure) -> Iterator[None]:
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a box stands for it
        yield
