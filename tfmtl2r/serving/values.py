"""Converts values of a request to arrays of the types that the inputs require, and checks names of inputs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, InputTypeError
from tfmtl2r.names import did_you_mean


def misnamed(given: Collection[str], expected: Collection[str], optional: Collection[str] = ()) -> str:
    """Describes missing and unknown inputs in a sentence; empty if there are none.

    Args:
        given: names in the request.
        expected: names of the signature's inputs.
        optional: inputs that may be left out.

    >>> misnamed(["prise"], ["price", "size"], ["size"])
    "reads price, size; missing: price; unknown: prise ('prise'; did you mean 'price'?)"
    >>> misnamed(["price"], ["price"])
    ''
    """
    missing = sorted(set(expected) - set(given) - set(optional))
    unknown = sorted(set(given) - set(expected))
    if not missing and not unknown:
        return ""
    hints = "".join(f" ({name!r}{hint})" for name in unknown if (hint := did_you_mean(name, missing)))
    return (f"reads {', '.join(sorted(expected))}; missing: {', '.join(missing) or 'none'}; unknown: "
            f"{', '.join(unknown) or 'none'}{hints}")


def as_array(name: str, value: Any, dtype: Any) -> np.ndarray:
    """Converts a value to the array that an input requires; text becomes an object array of ``str`` or ``bytes``.

    Args:
        name: name of the input.
        value: an array or nested lists.
        dtype: type of the input, a ``tf.DType``.

    Raises:
        TypeError: for values of another kind, or numbers that do not fit the type.

    >>> as_array("size", [2**32 + 1], tf.int32)
    Traceback (most recent call last):
    tfmtl2r.errors.InputTypeError: input 'size' takes int32: 4294967297 does not fit
    """
    try:
        return _texts(value) if dtype == tf.string else _numbers(value, dtype)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"input {name!r} takes {dtype.name}: {error}") from error


def _texts(value: Any) -> np.ndarray:
    # An object array, because numpy's type for bytes would drop zeros at the end of a message.
    array = np.array(value, object)
    odd = [cell for cell in array.ravel() if not isinstance(cell, (str, bytes))]
    if odd:
        raise InputTypeError(f"expected text, got {odd[0]!r}")
    return array


def _numbers(value: Any, dtype: Any) -> np.ndarray:
    array, wanted = np.asarray(value), dtype.as_numpy_dtype
    if array.dtype == wanted or not array.size:
        return array.astype(wanted, copy=False)
    if array.dtype.kind not in ("biuf" if dtype.is_floating else "b" if dtype.is_bool else "iu"):
        raise InputTypeError(f"expected numbers of this type, got {array.dtype}")
    with np.errstate(over="ignore"):
        numbers = array.astype(wanted)
    # A float may lose digits, but must not become infinite.
    lost = np.isfinite(array) & ~np.isfinite(numbers) if dtype.is_floating else numbers != array
    if lost.any():
        raise InputError(f"{array[lost][0]} does not fit")
    return numbers
