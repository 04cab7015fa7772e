"""The space of a search: keys of an experiment, each with a list of values or a range."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfmtl2r.errors import InputError, UserError
from tfmtl2r.experiment import Experiment
from tfmtl2r.names import did_you_mean
from tfmtl2r.settings import SettingError, files
from tfmtl2r.settings.outcome import keys_where
from tfmtl2r.settings.things import check_options

_KEYS_OF_RANGES = ("low", "high", "log")


@dataclasses.dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``, both among them.

    Args:
        low, high: the bounds.
        log: whether the logarithm is drawn evenly.
        whole: whether only whole numbers are possible.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any, key: str) -> Any:
        """The value of a trial."""
        suggest = trial.suggest_int if self.whole else trial.suggest_float
        return suggest(key, self.low, self.high, log=self.log)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values of any type."""

    values: Sequence[Any]

    def suggest(self, trial: Any, key: str) -> Any:
        """The value of a trial. Tables and lists have their text as a name."""
        names = [value if isinstance(value, (str, bool, int, float)) else json.dumps(value) for value in self.values]
        return self.values[names.index(trial.suggest_categorical(key, names))]


def checked(base: Experiment, dataset: Any) -> dict[str, Range | Choice]:
    """Returns the space of an experiment after all of its keys, bounds and values were tried on the experiment.

    Args:
        base: the experiment with ``tune.space``.
        dataset: its data set.

    Raises:
        SettingError: for an unknown key (the message contains the most similar), a value that the key cannot have, a
            range whose bounds are wrong, or a key that changes no number of a trial.
    """
    space = base.tune.space
    if not space:
        raise SettingError(["tune", "space"], 'is empty: give the keys to choose, such as {"optimizer.learning_rate" = '
                           "{low = 1e-4, high = 1e-2, log = true}, method = [\"mgda\", \"cagrad\"]}")
    found = {}
    for key, given in space.items():
        try:
            _check_key(key, space)
            found[key] = _choice(base, dataset, key, given) if isinstance(given, (list, tuple)) else \
                _range(base, dataset, key, given)
        except UserError as error:
            raise SettingError(["tune", "space", key], f"cannot be used: {error}") from None
    return found


def with_values(base: Experiment, dataset: Any, values: Mapping[str, Any]) -> Experiment:
    """Returns the experiment with other values of some keys, checked like an experiment file.

    Args:
        base: the experiment.
        dataset: its data set.
        values: dotted key -> value; an entry of a list has its name as a key, as in ``tasks.click.weight``.
    """
    tree = copy.deepcopy(base.config())
    for key, value in values.items():
        path = key.split(".")
        if path[0] == "tasks" and base.data.name is not None:  # an entry of a task must not choose this task alone
            tree["data"] = {**tree["data"], "tasks": [task.name for task in base.select(dataset)]}
        files.assign(tree, path, value)
    found = Experiment.of(tree)
    check_options(found)
    found.select(dataset)
    return found


def _check_key(key: str, space: Mapping[str, Any]) -> None:
    outer = [other for other in space if key.startswith(f"{other}.")]
    if outer:
        raise InputError(f"{outer[0]} is in the space, too, and contains it: list whole tables as values of {outer[0]}")
    if key in keys_where(outcome=False) or key.split(".")[0] in ("sweep", "tune"):
        raise InputError("no number of a trial depends on it")
    if key == "training.stop_on":
        raise InputError("trials that stop on different numbers cannot be compared: choose it by tune.objectives")


def _choice(base: Experiment, dataset: Any, key: str, given: Sequence[Any]) -> Choice:
    if not given:
        raise InputError("it is an empty list")
    if any(given.count(value) > 1 for value in given):
        raise InputError(f"a value is listed twice: {list(given)}")
    for value in given:
        with_values(base, dataset, {key: value})
    return Choice(tuple(given))


def _range(base: Experiment, dataset: Any, key: str, given: Any) -> Range:
    if not isinstance(given, Mapping) or not {"low", "high"} <= given.keys():
        raise InputError(f"expected a list of values or a range such as {{low = 1e-4, high = 1e-2, log = true}}, not "
                         f"{given!r}")
    for name in given:
        if name not in _KEYS_OF_RANGES:
            raise InputError(f"{name} is no key of a range{did_you_mean(name, _KEYS_OF_RANGES)}; these are "
                             f"{', '.join(_KEYS_OF_RANGES)}")
    low, high, log = given["low"], given["high"], given.get("log", False)
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"{name} must be a finite number, not {value!r}")
    if not isinstance(log, bool):
        raise InputError(f"log must be true or false, not {log!r}")
    if not low < high:
        raise InputError(f"low must be below high, not {low!r} and {high!r}")
    if log and low <= 0:
        raise InputError(f"low must be above 0 where log is true, not {low!r}")
    for value in (low, high):
        with_values(base, dataset, {key: value})
    return Range(low, high, log, whole=not _takes(base, dataset, {key: low + (high - low) / math.pi}))


def _takes(base: Experiment, dataset: Any, values: Mapping[str, Any]) -> bool:
    """Whether an experiment can have these values. A key of whole numbers does not take a fraction."""
    try:
        with_values(base, dataset, values)
    except UserError:
        return False
    return True
