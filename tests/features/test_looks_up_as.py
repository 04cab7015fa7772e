"""What looked-up values depend on: a store serves every feature that looks up as the one with which it was made."""

import dataclasses

import pytest

from tfmtl2r import Category, Dense
from tfmtl2r.features import Bag, Sequence, Time, Vector

SIDES = ({"kind": "category", "name": "action", "vocabulary": ("a", "b")},)
HISTORY = Sequence("seen", vocabulary=("u", "v"), side=("action",), sides=SIDES)


@pytest.mark.parametrize(("feature", "changes", "same"), [
    (Dense("x"), {"mean": (1.0,), "variance": (2.0,)}, True),
    (Dense("x"), {"shape": (2,)}, False),
    (Category("c", vocabulary=("a",)), {"dim": 7}, True),
    (Category("c", vocabulary=("a",)), {"vocabulary": ("a", "b")}, False),
    (Category("c", vocabulary=("a",)), {"vocabulary": ("b",)}, False),
    (Category("c", buckets=5), {"buckets": 6}, False),
    (Category("c", buckets=5), {"name": "d"}, False),
    (Bag("t", vocabulary=("a",)), {"dim": 3}, True),
    (Bag("t", vocabulary=("a",)), {"max_length": 3}, False),
    (Time("when", unit="s"), {"mean": 3.0, "variance": 1.0}, True),
    (Time("when", unit="s"), {"unit": "ms"}, False),
    (Vector("v", size=3), {"size": 4}, False),
    (HISTORY, {"dim": 3, "sides": ({**SIDES[0], "dim": 5},)}, True),
    (HISTORY, {"sides": ({**SIDES[0], "vocabulary": ("b",)},)}, False),
])
def test_what_looked_up_values_depend_on(feature, changes, same):
    other = dataclasses.replace(feature, **changes)
    assert other.looks_up_as(feature) == feature.looks_up_as(other) == same
    assert other.looks_up_as(other)


def test_another_kind_looks_up_otherwise():
    assert not Category("c", vocabulary=("a",)).looks_up_as(Bag("c", vocabulary=("a",)))
