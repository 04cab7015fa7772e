"""What can be suggested: registered things, by the claims of their cards and by what they declare."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfmtl2r import architectures, losses, methods
from tfmtl2r.advice.facts import Facts

_BY_PROMISE = {
    "non_conflicting": "opposed_gradients",
    "non_conflicting_if_independent": "opposed_gradients",
    "ignores_row_scale": "unequal_gradients",
    "ignores_loss_scale": "unequal_gradients",
}
"""What a promise of a method means for a situation. A card's own claims go further."""


RARE = 0.02
"""A goal with a smaller share of positive labels is rare."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Something that can be suggested.

    Args:
        kind: such as ``"method"``; only a few of each kind are suggested.
        name: its name.
        title, note: from its card.
        helps: the situations in which it helps.
        cost: place in the order of costs, the cheapest first.
        price: a sentence about its cost.
        changes: dotted key of the experiment -> value.
    """

    kind: str
    name: str
    title: str
    note: str
    helps: Sequence[str]
    cost: float
    price: str
    changes: Mapping[str, Any]


def candidates(facts: Facts) -> list[Candidate]:
    """All methods, architectures and losses whose cards claim to help in a situation.

    Args:
        facts: the facts of a pilot; methods whose gradients can be taken at the cut of the architecture are cheaper.
    """
    found = []
    for name in methods.names():
        card = methods.registry.card(name)
        helps = tuple(dict.fromkeys([*card.helps, *(_BY_PROMISE[one] for one in card.promises if one in _BY_PROMISE)]))
        if helps:
            found.append(_method(name, card, helps))
    for name in architectures.names():
        card = architectures.registry.card(name)
        if card.helps:
            found.append(Candidate("architecture", name, card.title, card.note, card.helps, 2.0,
                                   "It has more parameters.", {"architecture": name}))
    for name in losses.names():
        card = losses.registry.card(name)
        rare = [goal.name for goal in facts.goals if goal.positive < RARE and goal.loss != name]
        changes = {f"tasks.{goal}.loss": name for goal in rare}
        if card.helps and changes and (facts.has_lists or not losses.registry.constructor(name).listwise):
            found.append(Candidate("loss", name, card.title, card.note, card.helps, 0.0, "It costs the same.", changes))
    return found


def _method(name: str, card: Any, helps: Sequence[str]) -> Candidate:
    """A method with its cost: losses alone, gradients at the cut, gradients of all parameters, or stored gradients."""
    cls = methods.registry.constructor(name)
    claims = 0.0 if card.helps else 0.5  # a card that names the situation goes before one that only has the promise
    at_cut = "features" in cls.modes
    if not cls.needs & {"gram", "rows"}:
        cost, price, changes = 0.0, "It reads losses only, and costs as much as equal weights.", {"method": name}
    elif at_cut:
        cost, price = 1.0, "With gradients at the cut, a step takes 1.1 to 1.3 times as long."
        changes = {"method": name, "gradients": "features"}
    else:
        cost, price = 2.0, "It needs a backward pass for each goal."
        changes = {"method": name, "gradients": "parameters"}
    return Candidate("method", name, card.title, card.note, helps, cost + claims + cls.per_parameter, price, changes)
