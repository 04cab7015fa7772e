"""Compares two sets of outputs and describes their differences in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from tfmtl2r.serving.answers import PADDED


def differences(
    what: str, other: str, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float,
    factors: Mapping[str, float] | None = None,
) -> Iterator[str]:
    """Yields one sentence for each output that differs or contains numbers that are not finite.

    If there is an output ``indices``, items are sorted by ``score``. Items whose scores are equal up to the tolerance
    may then be in any order.

    Args:
        what: name of the source of ``found``, for the message.
        other: name of the source of ``expected``.
        found, expected: output name -> values.
        tolerance: allowed error, relative to the largest valid number of the output or to 1, if that is larger.
        factors: output name -> factor of its tolerance; 1 for other outputs.

    >>> list(differences("a", "b", {"score": np.array([0.5])}, {"score": np.array([0.25])}, 1e-5))
    ["a: 'score' is off from b by up to 0.25 (allowed: 1e-05)"]
    """
    factors = factors or {}
    compared = _settled(expected, tolerance * factors.get("score", 1.0)) if "indices" in expected else None
    for name in sorted({*found} - {*expected}):
        yield f"{what}: {name!r} is not expected from {other}"
    for name, values in expected.items():
        if name not in found or found[name].shape != values.shape:
            shape = found[name].shape if name in found else "missing"
            yield f"{what}: {name!r} has the shape {shape}, expected {values.shape} as from {other}"
            continue
        where = compared if compared is not None and name not in ("score", "valid") else np.ones(values.shape, bool)
        if values.dtype.kind == "f":
            own = tolerance * factors.get(name, 1.0)
            yield from _numbers(f"{what}: ", name, found[name], values, other, own, where)
        elif (wrong := (found[name] != values) & where).any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            yield (f"{what}: {name!r} differs from {other} in {int(wrong.sum())} of {wrong.size} places, such as "
                   f"{place}: {found[name][place]!r} for {values[place]!r}")


def _numbers(
    what: str, name: str, found: np.ndarray, values: np.ndarray, other: str, tolerance: float, where: np.ndarray
) -> Iterator[str]:
    if not np.isfinite(found).all():
        count = int((~np.isfinite(found)).sum())
        yield (f"{what}{count} of {found.size} values of {name!r} are not finite; if model.predict gives such scores "
               "too, the training diverged: try a lower learning rate")
        return
    most = allowed(values, tolerance)
    off = np.abs(found - values.astype(np.float64))[where].max(initial=0.0)
    if not off <= most:
        yield f"{what}{name!r} is off from {other} by up to {off:.3g} (allowed: {most:.3g})"


def allowed(values: np.ndarray, tolerance: float) -> float:
    """The allowed error of an output: the tolerance times its largest valid number, or times 1 if that is larger.

    >>> float(allowed(np.array([0.5, 32.0, -1e9]), 1e-3))  # the last place is padded
    0.032
    """
    numbers = values.astype(np.float64)
    return tolerance * np.abs(numbers[np.isfinite(numbers) & (numbers > PADDED / 2)]).max(initial=1.0)


def _settled(expected: Mapping[str, np.ndarray], tolerance: float) -> np.ndarray:
    """Places of a ranking where only one item is possible.

    The score must differ from its neighbours. The last place is excluded, because the item after it may have the same
    score.
    """
    scores, valid = expected["score"].astype(np.float64), expected["valid"]
    if not scores.size:
        return valid
    near = np.abs(np.diff(scores, axis=1)) <= 2 * allowed(scores, tolerance)
    edge = np.zeros((len(scores), 1), bool)
    last = valid & ~np.concatenate([valid[:, 1:], edge], axis=1)
    return ~(np.concatenate([near, edge], axis=1) | np.concatenate([edge, near], axis=1) & valid | last) | ~valid
