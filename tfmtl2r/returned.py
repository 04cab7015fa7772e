"""Checks of what the methods of a part return, where the package calls them: an own class may return anything.

The checks read static shapes, so that they cost nothing in a step: a graph runs them once, when it is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.types import Tensor


def tensor(value: Any, shape: Sequence[int | None], source: str, expected: str) -> Tensor:
    """A returned value as a tensor, unless its shape is another one.

    Args:
        value: what was returned.
        shape: the shape that it needs; None where any length fits.
        source: what returned it, such as ``"Absolute.compute"``.
        expected: what should have been returned, with the names of its axes.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for another shape.

    >>> tensor([[1.0, 2.0]], (1,), "Absolute.compute", "one loss for each list, [B]")
    Traceback (most recent call last):
        ...
    tfmtl2r.errors.InputError: Absolute.compute returned the shape (1, 2), expected (1,): one loss for each list, [B]
    """
    try:
        found = tf.convert_to_tensor(value)
    except (TypeError, ValueError):
        raise InputTypeError(f"{source} returned {_shown(value)}, expected {expected}") from None
    if not found.shape.is_compatible_with(shape):
        came = "an unknown shape" if found.shape.rank is None else f"the shape {tuple(found.shape)}"
        raise InputError(f"{source} returned {came}, expected {tuple(shape)}: {expected}")
    return found


def pair(value: Any, source: str, expected: str) -> tuple[Any, Any]:
    """A returned value that consists of two things.

    Args:
        value: what was returned.
        source: what returned it.
        expected: the two things.

    Raises:
        TypeError: for anything but a tuple or list of two.

    >>> pair(1.0, "TopHit.compute", "(value, counts)")
    Traceback (most recent call last):
        ...
    tfmtl2r.errors.InputTypeError: TopHit.compute returned a float, expected two things: (value, counts)
    """
    if not (isinstance(value, (tuple, list)) and len(value) == 2):
        raise InputTypeError(f"{source} returned {_shown(value)}, expected two things: {expected}")
    return value[0], value[1]


def state(value: Any, before: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The next state of a method, which has the names and shapes of the state before.

    Args:
        value: what was returned.
        before: the state before.
        source: what returned it.

    Raises:
        TypeError: for what is no mapping.
        ValueError: for other names or shapes.

    >>> state({}, {"norms": [1.0, 1.0]}, "SlowLargest.weigh")
    Traceback (most recent call last):
        ...
    tfmtl2r.errors.InputError: SlowLargest.weigh returned a state with no entry, expected those of initial_state: norms
    """
    if not isinstance(value, Mapping):
        raise InputTypeError(f"{source} returned {_shown(value)} as the next state, expected a dictionary with the "
                             "entries of initial_state")
    if value.keys() != before.keys():
        raise InputError(f"{source} returned a state with {', '.join(value) or 'no entry'}, expected those of "
                         f"initial_state: {', '.join(before) or 'none'}")
    return {key: tensor(value[key], tf.convert_to_tensor(before[key]).shape, f"{source}, state {key!r},",
                        "the shape that it has in initial_state") for key in before}


def _shown(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return "one tensor" if tf.is_tensor(value) else f"a {type(value).__name__}"
