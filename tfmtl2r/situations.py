"""The situations in which the card of a thing can claim to help. ``tfmtl2r advise`` finds them in a pilot."""

from __future__ import annotations

from collections.abc import Iterable

from tfmtl2r.errors import InputError

SITUATIONS: dict[str, str] = {
    "opposed_gradients": "The gradients of two goals oppose each other in the layers that they share.",
    "loses_in_sharing": "A goal becomes worse than if it were trained alone.",
    "unequal_gradients": "The gradient of one goal is much longer than that of another one.",
    "rare_labels": "A goal has few positive labels.",
}


def check_situations(names: Iterable[str]) -> None:
    """Refuses a situation that does not exist.

    Raises:
        InputError: naming the situation, and all that exist.

    >>> check_situations(["rain"])
    Traceback (most recent call last):
    tfmtl2r.errors.InputError: no situation is called 'rain'; a card can help in opposed_gradients, ...
    """
    for name in names:
        if name not in SITUATIONS:
            raise InputError(f"no situation is called {name!r}; a card can help in {', '.join(SITUATIONS)}")
