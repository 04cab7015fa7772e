"""From facts to advice: pure rules, each with its reason. Things are found by what their cards declare."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from tfmtl2r.advice.catalogue import RARE, Candidate, candidates
from tfmtl2r.advice.facts import Advice, Facts, Goal, Pair, Sharing, Suggestion, Trial
from tfmtl2r.advice.opposition import Opposition
from tfmtl2r.evaluation.paired_tests import holm
from tfmtl2r.figures import figure

LEVEL = 0.01
"""Level of each family of tests, after Holm's correction."""
COSINE = -0.1
"""A mean cosine above this is no conflict worth a change, however certain."""
LOSS = 0.1
"""The share of a goal's gain over a constant score that must be lost before sharing counts as harmful."""
UNEQUAL = 10.0
NOISY = 20.0
"""A batch with this many times more noise than signal is small."""
FEW = 4.0
"""Useful lists (or labelled rows) of each goal in a batch."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What the facts show.

    Args:
        in_order: pairs of goals that want opposite orders.
        in_layers: pairs of goals whose gradients oppose each other in the shared layers.
        losers: goals that lose by sharing.
        silent: goals without a gradient beyond noise.
    """

    in_order: Sequence[Pair]
    in_layers: Sequence[Pair]
    losers: Sequence[Sharing]
    silent: Sequence[str]


def find(facts: Facts) -> Found:
    """Decides which goals fight, with one-sided tests and Holm's correction in each family."""
    order = [pair for pair in facts.pairs if pair.order is not None]
    layers = [pair for pair in facts.pairs if pair.layers is not None]
    adjusted = holm(one.p for one in facts.sharing)
    losers = [one for one, p in zip(facts.sharing, adjusted, strict=True)
              if p < LEVEL and one.every_seed and one.lost > LOSS * max(one.gain, 0.0)]
    silent = {name for pair in order if math.isnan(_of(pair.order).cosine) for name in (pair.first, pair.second)}
    heard = {name for pair in order if not math.isnan(_of(pair.order).cosine) for name in (pair.first, pair.second)}
    return Found(_opposed(order, [_of(pair.order) for pair in order]),
                 _opposed(layers, [_of(pair.layers) for pair in layers]), losers, sorted(silent - heard))


def advise(facts: Facts, things: Sequence[Candidate] | None = None) -> Advice:
    """What the facts of a pilot speak for.

    Args:
        facts: the facts.
        things: what may be suggested; by default everything in the registries.

    >>> from tfmtl2r.advice.facts import Goal
    >>> found = advise(Facts([Goal("click", "binary"), Goal("like", "binary")]), [])
    >>> found.equal_weights, found.verdict[0]
    (True, 'Equal weights are likely enough: nothing in this pilot speaks against them.')
    """
    found = find(facts)
    better, worse = judged(suggested(facts, things), facts.trials)
    equal = not (found.in_layers or found.losers or _unequal(facts.goals)) or bool(worse and not better)
    fights = dict.fromkeys((pair.first, pair.second) for pair in [*found.in_order, *found.in_layers])
    return Advice(equal, list(fights), [one.task for one in found.losers], _verdict(facts, found, equal, worse),
                  [*better, *_hints(facts, found)])


def _of(opposition: Opposition | None) -> Opposition:
    assert opposition is not None
    return opposition


def _opposed(pairs: Sequence[Pair], measured: Sequence[Opposition]) -> list[Pair]:
    adjusted = holm(one.p for one in measured)
    return [pair for pair, one, p in zip(pairs, measured, adjusted, strict=True) if p < LEVEL and one.cosine < COSINE]


def _unequal(goals: Sequence[Goal]) -> tuple[Goal, Goal] | None:
    """The goals with the shortest and the longest gradient, if they differ much."""
    known = sorted((goal for goal in goals if goal.length > 0), key=lambda goal: goal.length)
    return (known[0], known[-1]) if known and known[-1].length > UNEQUAL * known[0].length else None


def _verdict(facts: Facts, found: Found, equal: bool, worse: Sequence[Trial]) -> list[str]:
    lines, unequal = [], _unequal(facts.goals)
    for pair in found.in_order:
        one = _of(pair.order)
        lines.append(f"{pair.first} and {pair.second} want opposite orders of the items: their gradients of one "
                     f"common score have the cosine {one.cosine:.2f} \u00b1 {one.error:.2f}. No weights and no method "
                     "make one order good for both: choose the trade-off when you serve.")
    for pair in found.in_layers:
        one = _of(pair.layers)
        lines.append(f"{pair.first} and {pair.second} fight in the layers that they share: cosine {one.cosine:.2f} "
                     f"\u00b1 {one.error:.2f} during the pilot.")
    for loser in found.losers:
        lines.append(f"{loser.task} loses by sharing: {loser.metric} {figure(loser.together)} with equal weights, "
                     f"{figure(loser.alone)} alone ({figure(loser.lost)} \u00b1 {figure(loser.error)} worse).")
    if unequal:
        lines.append(f"The gradient of {unequal[1].name} is {unequal[1].length / unequal[0].length:.0f} times longer "
                     f"than that of {unequal[0].name}: the shared layers mostly learn {unequal[1].name}.")
    if len(found.silent) == len(facts.goals):
        lines.append("No goal has a gradient beyond noise: this pilot cannot tell which goals fight. Give it more "
                     "data, larger batches, or more time (--seconds).")
    else:
        lines += [f"{name} has no gradient beyond noise: this pilot cannot tell whether it fights."
                  for name in found.silent]
    if worse:
        gains = ", ".join(f"{one.name} (" + ("not known" if math.isnan(one.gain) else f"{100 * one.gain:+.1f} %") + ")"
                          for one in worse)
        lines.append("Tried in the pilot, and no better than equal weights in the mean over the goals, as a share of "
                     f"what equal weights gain over a constant score: {gains}.")
    if equal:
        but = " for the training" if found.in_order else ": nothing in this pilot speaks against them"
        if found.in_layers or found.losers or unequal:
            but = ": nothing that the pilot tried was better"
        elif len(found.silent) == len(facts.goals):
            but = " to begin with"
        lines.insert(0, f"Equal weights are likely enough{but}.")
    else:
        lines.insert(0, "Equal weights are likely not the best.")
    return lines


def suggested(facts: Facts, things: Sequence[Candidate] | None = None) -> list[Suggestion]:
    """Registered things that help in the situations that were found, the most promising first; none was tried.

    Args:
        facts: the facts.
        things: what may be suggested; by default everything in the registries.
    """
    found, things = find(facts), candidates(facts) if things is None else things
    rare = [goal for goal in facts.goals if goal.positive < RARE]
    situations = {
        "opposed_gradients": (found.in_layers, "gradients oppose each other in the shared layers"),
        "loses_in_sharing": (found.losers, "a goal loses by sharing"),
        "unequal_gradients": (_unequal(facts.goals), "the gradients have very different lengths"),
        "rare_labels": (rare, f"{', '.join(goal.name for goal in rare)} has few positive labels"),
    }
    holds = {name: why for name, (there, why) in situations.items() if there}
    wanted = [(one, [holds[name] for name in one.helps if name in holds]) for one in things]
    ranked = sorted((pair for pair in wanted if pair[1]), key=lambda pair: (-len(pair[1]), pair[0].cost, pair[0].name))
    taken: dict[str, int] = {}
    chosen = []
    for one, reasons in ranked:
        taken[one.kind] = taken.get(one.kind, 0) + 1
        if taken[one.kind] > 2:
            continue
        note = f" {one.note}" if one.note else ""
        chosen.append(Suggestion(one.name, f"{one.title}: {' and '.join(reasons)}. {one.price}{note}", one.changes))
    return chosen


def judged(suggestions: Sequence[Suggestion], trials: Sequence[Trial]) -> tuple[list[Suggestion], list[Trial]]:
    """Suggestions that did better than equal weights, the best first, and the trials of those that did not.

    A suggestion that was not tried is left out. Without any trial, all stay as they are.

    >>> some = [Suggestion("a", "It may help.", {"method": "a"}), Suggestion("b", "So may it.", {"method": "b"})]
    >>> better, worse = judged(some, [Trial("a", {}, -0.1, 0.01), Trial("b", {}, 0.02, 0.01)])
    >>> better[0].reason
    'So may it. In the pilot it gained 2.0 % \u00b1 1.0 % of what equal weights gain over a constant score.'
    >>> [one.name for one in worse]
    ['a']
    """
    if not trials:
        return [*suggestions], []
    places = {one.name: one for one in suggestions}
    better = sorted((one for one in trials if one.gain > 0 and one.name in places), key=lambda one: -one.gain)
    return [Suggestion(one.name, f"{places[one.name].reason} In the pilot it gained {100 * one.gain:.1f} % \u00b1 "
                       f"{100 * one.error:.1f} % of what equal weights gain over a constant score.",
                       places[one.name].changes) for one in better], [one for one in trials if not one.gain > 0]


def _hints(facts: Facts, found: Found) -> Iterable[Suggestion]:
    """What follows without the registries: batch size, and whether to condition."""
    noisiest = max(facts.goals, key=lambda goal: goal.noise if math.isfinite(goal.noise) else 0.0)
    scarce = min(facts.goals, key=lambda goal: goal.useful)
    if facts.batch_size * 8 <= facts.lists and (noisiest.noise > NOISY or scarce.useful < FEW):
        what = "lists" if facts.has_lists else "rows"
        why = (f"a batch has {scarce.useful:.1f} {what} that teach {scarce.name}" if scarce.useful < FEW else
               f"one batch's gradient of {noisiest.name} has {noisiest.noise:.0f} times more noise than signal")
        yield Suggestion("larger_batch", f"Batches of {facts.batch_size * 2} {what}: {why}.",
                         {"training.batch_size": facts.batch_size * 2})
    if len(facts.goals) < 2 or not facts.has_lists:
        return
    narrow = facts.width is not None and facts.width < 2 * len(facts.goals)
    if narrow:
        yield Suggestion("conditioned", f"A ranker that reads the preference: all heads read only {facts.width} "
                         f"numbers per item, too few for {len(facts.goals)} goals, so that the layers before them "
                         "should know the preference. A wider last layer is the other remedy. Give it 1.5 times the "
                         "epochs.",
                         {"conditioned": 1.0})
    elif found.in_order or found.in_layers:
        width = f" ({facts.width} numbers per item)" if facts.width is not None else ""
        yield Suggestion("no_conditioning", "Do not condition on the preference: the shared layers are wide enough"
                         f"{width}, and one ordinary ranker whose blend takes a preference at serving holds the "
                         "front. tfmtl2r evaluate NAME --preference ... shows its ranking.")
