"""Importance of features: what is exchanged, and that the drops are those of the metric."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tfmtl2r import Category, Dense, Schema, Task
from tfmtl2r.data import Lists, from_frame
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.exchanging import measured, units
from tfmtl2r.report.tables import importance_tables

SCHEMA = Schema([Dense("price"), Dense("unused"), Dense("age", context=True), Category("city"), Dense("v", shape=(2,))])
TASKS = (Task("sold", kind="graded", metrics=("ndcg@1",)), Task("click", kind="binary", metrics=("auc", "ndcg@5")))


def log(lists=60, size=2, seed=0):
    rng = np.random.default_rng(seed)
    rows = lists * size
    price, age = rng.random(rows), np.repeat(rng.normal(size=lists), size)
    return pd.DataFrame({
        "q": np.repeat(np.arange(lists), size), "price": price, "unused": rng.random(rows), "age": age,
        "city": np.repeat(rng.choice(["Rome", "Oslo"], lists), size), "v": list(rng.random((rows, 2))),
        "sold": (price.reshape(-1, size) == price.reshape(-1, size).max(axis=1)[:, None]).ravel().astype(int),
        "click": (age + 0.1 * rng.normal(size=rows) > 0).astype(int),
    })  # fmt: skip


def lists_of(frame):
    found = from_frame(frame, "q", context=["age"])
    return found.with_column("v", np.stack(frame["v"].to_numpy()))


LISTS = lists_of(log())


class Ranker:
    """Scores by the columns of the lists alone, and counts its passes."""

    def __init__(self):
        self.seen = []

    def __call__(self, lists):
        self.seen.append(lists)
        vector = lists.column("v")[:, 1] if "v" in lists.columns else 0.0
        return {"sold": lists.column("price"), "click": lists.column("age") + 0.5 * vector}, {}, {}


def test_what_is_exchanged_and_by_whom():
    assert [(unit.name, unit.of) for unit in units(LISTS, SCHEMA)] == [
        ("price", "items"), ("unused", "items"), ("age", "lists"), ("city", "lists"), ("v[0]", "items"),
        ("v[1]", "items")]  # a city is declared as a feature of the items, but is the same for all items of a list
    both, vector = units(LISTS, SCHEMA, ["age+price", "v"])
    assert (both.name, both.of, vector.columns) == ("age+price", "items and lists", (("v", None, "items"),))


@pytest.mark.parametrize("among", ["list", "split"])
def test_items_exchange_values_within_their_list_or_anywhere(among):
    unit = units(LISTS, SCHEMA, ["price+v[1]+age"])[0]
    found = unit.exchanged(LISTS, np.random.default_rng(0), among)
    before, after = (lists.column("price").reshape(-1, 2) for lists in (LISTS, found))
    assert np.array_equal(np.sort(before.ravel()), np.sort(after.ravel()))
    assert not np.array_equal(before, after)
    assert np.array_equal(np.sort(before), np.sort(after)) == (among == "list")
    places = [LISTS.column("price").tolist().index(value) for value in found.column("price")]
    assert np.array_equal(found.column("v")[:, 1], LISTS.column("v")[places, 1])  # moved together
    assert np.array_equal(found.column("v")[:, 0], LISTS.column("v")[:, 0])
    ages = found.column("age").reshape(-1, 2)
    assert np.array_equal(ages[:, 0], ages[:, 1])
    assert not np.array_equal(ages, LISTS.column("age").reshape(-1, 2))


def test_drops_of_a_known_ranker():
    """Of two items, a random order swaps every second pair, and each swap costs a whole ndcg@1."""
    ranker, told = Ranker(), []
    found = measured(ranker, LISTS, TASKS, SCHEMA, repeats=4, tell=told.append)
    assert len(ranker.seen) == 1 + 6 * 4
    assert "6 features, exchanged 4 times each: 24 passes" in told[0]
    assert found["metrics"] == {"sold": "ndcg@1", "click": "auc"}
    assert found["base"]["sold"] == 1.0
    rows = {row["name"]: row["tasks"] for row in found["features"]}
    assert [row["name"] for row in found["features"]][:2] == ["price", "age"]
    sold = rows["price"]["sold"]
    assert sold["drop"] == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(60 * 4))
    assert sold["error"] == pytest.approx(0.5 / math.sqrt(60 * 4), rel=0.3)
    assert rows["age"]["click"]["drop"] > 0.3 > 4 * rows["age"]["click"]["error"] > 0
    assert rows["v[1]"]["click"]["drop"] != 0
    zero = {"drop": 0.0, "error": 0.0}
    assert rows["unused"] == {"sold": zero, "click": zero} == rows["v[0]"]
    assert rows["age"]["sold"] == zero == rows["price"]["click"]  # a list keeps its order if its level moves


def test_a_metric_that_is_minimised_drops_upwards_and_repeats_are_reproducible():
    tasks = [Task("price2", kind="regression", metrics=("mse",))]
    frame = log()
    lists = from_frame(frame.assign(price2=frame["price"]), "q")

    def reads(lists):
        return {"price2": lists.column("price")}, {}, {}

    found = measured(reads, lists, tasks, Schema([Dense("price")]), repeats=3)
    assert found["base"]["price2"] == 0
    assert found["features"][0]["tasks"]["price2"]["drop"] > 0.02
    assert found == measured(reads, lists, tasks, Schema([Dense("price")]), repeats=3)
    assert found != measured(reads, lists, tasks, Schema([Dense("price")]), repeats=3, seed=1)
    wide = measured(reads, lists, tasks, Schema([Dense("price")]), repeats=3, among="split")
    assert wide["features"][0]["tasks"]["price2"]["drop"] > 1.4 * found["features"][0]["tasks"]["price2"]["drop"]


def test_plain_rows_exchange_values_with_each_other():
    rows = Lists({name: LISTS.column(name) for name in ("price", "age", "click")})
    found = measured(Ranker(), rows, [TASKS[1]], Schema([Dense("price"), Dense("age")]), repeats=2)
    assert [(row["name"], row["of"]) for row in found["features"]] == [("age", "rows"), ("price", "rows")]
    assert found["features"][0]["tasks"]["click"]["drop"] > 0.3


@pytest.mark.parametrize(("options", "message"), [
    ({"features": ["prize"]}, "no feature 'prize' to exchange; did you mean 'price'"), ({"among": "all"}, "not 'all'"),
    ({"repeats": 0}, "not 0 times"), ({"features": ["v[2]"]}, "no feature 'v[2]'"),
])  # fmt: skip
def test_refused(options, message):
    with pytest.raises(InputError) as refused:
        measured(Ranker(), LISTS, TASKS, SCHEMA, **options)
    assert message in str(refused.value)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(width):
    names = ["click", "long view", "watch time of the session", "like", "follow"]
    drops = {name: {"drop": 0.0123, "error": 0.001 if name != "like" else math.nan} for name in names}
    found = {"metrics": dict.fromkeys(names, "ndcg@10"),
             "features": [{"name": f"a feature with a long name {i}", "of": "items", "tasks": drops}
                          for i in range(25)]}
    console = Console(width=width, record=True)
    for table in importance_tables(found, width):
        console.print(table)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "\u2026" in text
    assert "5 less important features" in " ".join(text.split())
    assert text.count("0.0123 \u00b1 0.0020*") == 4 * 20
