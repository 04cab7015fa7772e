"""A check tests one named property of one thing, and is a callable without arguments.

A :class:`Suite` holds all checks of one kind of thing (methods, losses, metrics, architectures) and returns those that
apply to a given thing, as plain :class:`Check` objects or as parameters for pytest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.promises import check_known


@dataclasses.dataclass(frozen=True, eq=False)
class Check:
    """One property of one thing. Calling the check tests the property.

    Args:
        name: name of the property.
        label: name of the thing in messages.
        thing: the thing to check.
        function: the test itself, a function of the thing.
        promise: the promise that the check belongs to; empty for a property of all things.
        slow: True if the check takes seconds instead of milliseconds.
    """

    name: str
    label: str
    thing: Any
    function: Callable[[Any], None]
    promise: str = ""
    slow: bool = False

    def __call__(self) -> None:
        """Tests the property.

        Raises:
            AssertionError: if the check fails. The message contains the check, the thing, the input, the expected and
                the found result. An exception of the thing itself is the cause of the error.
        """
        try:
            self.function(self.thing)
        except AssertionError as error:
            error.args = (f"{self.label} fails {self.name}: {error}",)
            raise
        except Exception as error:
            raise AssertionError(f"{self.label} fails {self.name}: {type(error).__name__}: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Entry:
    function: Callable[[Any], None]
    promise: str
    when: Callable[[Any, Collection[str]], bool]
    slow: Callable[[Any], bool]


class Suite:
    """All checks of one kind of thing.

    Args:
        kind: singular noun for messages.
        build: makes a thing from a name, a mapping or the thing itself.
        promises: the names of the promises that a thing makes; none by default.
    """

    def __init__(
        self,
        kind: str,
        build: Callable[[Any], Any],
        promises: Callable[[Any], Collection[str]] = lambda thing: (),
    ):
        self.kind = kind
        self.build = build
        self.promises = promises
        self._entries: dict[str, _Entry] = {}

    def add(
        self,
        promise: str = "",
        when: Callable[[Any, Collection[str]], bool] = lambda thing, promises: True,
        slow: Callable[[Any], bool] = lambda thing: False,
    ) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
        """Decorator: adds a function of the thing, whose name is the name of the check.

        Args:
            promise: the check applies only to things with this promise; by default to all things.
            when: a further condition on the thing and its promises.
            slow: whether the check is slow for a thing.
        """

        def keep(function: Callable[[Any], None]) -> Callable[[Any], None]:
            self._entries[function.__name__] = _Entry(function, promise, when, slow)
            return function

        return keep

    @property
    def promises_checked(self) -> set[str]:
        """The promises for which there is a check."""
        return {entry.promise for entry in self._entries.values()} - {""}

    def checks(
        self, thing: Any, only: str | Collection[str] | None = None, promises: Collection[str] | None = None
    ) -> list[Check]:
        """The checks that apply to a thing.

        Args:
            thing: a name, a mapping or the thing itself.
            only: names of the checks to return; all by default.
            promises: promises to check, in place of the promises of the thing.

        Raises:
            InputError: for a name in ``only`` that is not a check of this thing.
        """
        built = self.build(thing)
        made = self.promises(built) if promises is None else promises
        check_known(set(made) - self.promises_checked)
        found = {
            name: Check(name, _label(thing), built, entry.function, entry.promise, entry.slow(built))
            for name, entry in self._entries.items()
            if (not entry.promise or entry.promise in made) and entry.when(built, made)
        }
        wanted = found if only is None else [only] if isinstance(only, str) else only
        self._require_known(wanted, found, _label(thing))
        return [check for name, check in found.items() if name in wanted]

    def run(self, thing: Any, only: str | Collection[str] | None, promises: Collection[str] | None = None) -> list[str]:
        """Runs the checks of a thing and returns their names."""
        checks = self.checks(thing, only, promises)
        for check in checks:
            check()
        return [check.name for check in checks]

    def parameters(
        self,
        thing: Any,
        expected_failures: Mapping[str, str] | None,
        only: str | Collection[str] | None,
        marks: Callable[[Check], Collection[Any]] | None,
    ) -> list[Any]:
        """``pytest.param(check, id="thing-name")`` for each check of a thing; see :func:`method_checks`."""
        import pytest  # a user without pytest can run checks

        expected_failures = expected_failures or {}
        checks = self.checks(thing, only)
        self._require_known(expected_failures, [check.name for check in checks], _label(thing))
        for name, reason in expected_failures.items():
            if not (isinstance(reason, str) and reason.strip()):
                raise InputError(f"the expected failure of {name!r} needs a reason, not {reason!r}")
        parameters = []
        for check in checks:
            own = list(marks(check)) if marks else []
            if check.name in expected_failures:
                reason = expected_failures[check.name]
                own.append(pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True))
            parameters.append(pytest.param(check, id=f"{check.label}-{check.name}", marks=own))
        return parameters

    def _require_known(self, wanted: Collection[str], known: Collection[str], label: str) -> None:
        for name in wanted:
            if name not in known:
                what = "is not promised by" if name in self._entries else "is no check of"
                raise InputError(f"{name!r} {what} the {self.kind} {label}; its checks are {', '.join(known)}")


def require(holds: Any, given: str, expected: Any, found: Any) -> None:
    """Raises an AssertionError with input, expected and found result, unless a condition holds."""
    if not holds:
        raise AssertionError(f"given {given}: expected {_short(expected)}, found {_short(found)}")


def close(found: Any, expected: Any, given: str, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Raises an AssertionError unless ``|found - expected| <= atol + rtol |expected|``; by default they are equal."""
    found = np.asarray(found)
    expected = np.broadcast_to(np.asarray(expected), found.shape)
    if found.dtype.kind not in "fc":
        require(np.array_equal(found, expected), given, expected, found)
        return
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    same = np.isclose(found, expected, rtol=rtol, atol=atol, equal_nan=True)
    where = f" at {tuple(map(int, np.argwhere(~same)[0]))}" if found.ndim and not same.all() else ""
    require(same.all(), f"{given}{where}", expected[~same], found[~same])


def finite(found: Any, given: str) -> None:
    """Raises an AssertionError unless every number is finite."""
    require(np.isfinite(np.asarray(found, np.float64)).all(), given, "finite numbers", found)


def raises(error: type[Exception], call: Callable[[], Any], given: str, message: str = "") -> None:
    """Raises an AssertionError unless a call raises an error whose message contains a text."""
    try:
        found: Any = call()
    except error as caught:
        if message in str(caught):
            return
        found = f"{type(caught).__name__}: {caught}"
    require(False, given, f"{error.__name__} with {message!r} in its message", found)


def _short(value: Any) -> str:
    if isinstance(value, str) or not hasattr(value, "__array__"):
        return str(value)
    return np.array2string(
        np.asarray(value), precision=6, threshold=12, edgeitems=3, separator=", ", max_line_width=1000
    )


def _label(thing: Any) -> str:
    if isinstance(thing, Mapping):
        return str(thing["name"])
    return thing if isinstance(thing, str) else repr(thing)
