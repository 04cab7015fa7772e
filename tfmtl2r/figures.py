"""Values of metrics as text, in any unit."""

from __future__ import annotations

import math


def figure(value: float) -> str:
    """Four decimals, and fewer for large values, so that errors in squared seconds do not widen a table.

    >>> [figure(value) for value in (0.67243, 12.34567, 457907.9, -1.5e7, float("nan"))]
    ['0.6724', '12.3457', '457908', '-1.5e+07', 'nan']
    """
    size = abs(value)
    if not 1e2 <= size < math.inf:
        return f"{value:.4f}"
    return f"{value:.{5 - int(math.log10(size))}f}" if size < 1e6 else f"{value:.4g}"


def signed(value: float) -> str:
    """The same for differences: positive ones have a sign.

    >>> signed(0.01), signed(123.4567), signed(-0.5)
    ('+0.0100', '+123.457', '-0.5000')
    """
    return figure(value) if value < 0 or math.isnan(value) else f"+{figure(value)}"
