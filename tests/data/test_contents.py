"""What inputs contain, and what is reported if later data differ: ids, numbers, vectors, lists, missing values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Dense, Task
from tfmtl2r.data import fit_schema, from_frame, read_lists
from tfmtl2r.data.contents import contents, of_table, worth_a_look
from tfmtl2r.features import Bag, Category, Time


def frame(rows=200, seed=0, **changes):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({
        "q": np.repeat(np.arange(rows // 4), 4), "user": np.repeat(rng.integers(0, 9, rows // 4), 4),
        "brand": rng.choice(["a", "b", "c"], rows), "price": rng.uniform(1, 2, rows),
        "vector": list(rng.uniform(0, 1, (rows, 2))), "tags": [list(rng.choice(["x", "y"], rng.integers(1, 3)))
                                                               for _ in range(rows)],
        "shown": 1_700_000_000 + np.arange(rows), "click": rng.integers(0, 2, rows),
    })  # fmt: skip
    return table.assign(**changes)


FEATURES = [Category("user", dtype="int64", context=True), Category("brand"), Dense("price"),
            Dense("vector", shape=(2,)), Bag("tags"), Time("shown", unit="s")]
TRAIN = from_frame(frame(), "q", context=["user"])
SCHEMA = fit_schema(TRAIN, [Task("click", kind="binary")], FEATURES)
SEEN = contents(TRAIN, SCHEMA)


def looked(**changes):
    lists = from_frame(frame(seed=1, **changes), "q", context=["user"])
    return worth_a_look(contents(lists, SCHEMA, SEEN), SEEN, "train")


def test_contents_by_hand():
    assert SEEN["user"] == {"rows": 50, "missing": 0.0, "unknown": 0.0}
    assert SEEN["tags"] == {"rows": 200, "missing": 0.0, "unknown": 0.0, "listed": True}
    price = TRAIN.column("price").astype(np.float32)
    assert SEEN["price"] == {"rows": 200, "missing": 0.0, "lowest": float(price.min()), "highest": float(price.max())}
    assert np.shape(SEEN["vector"]["lowest"]) == (2,)
    assert SEEN["shown"] == {"rows": 200, "missing": 0.0}  # later times are always outside
    assert "outside" in contents(TRAIN, SCHEMA, SEEN)["price"]
    assert worth_a_look(contents(TRAIN, SCHEMA, SEEN), SEEN) == []


@pytest.mark.parametrize(("changes", "lines"), [
    ({}, []),
    ({"brand": ["a", "new"] * 100}, ["brand: 50.0 % of the ids are unknown (train: 0.0 %)"]),
    ({"brand": ["a", None, "b", "c"] * 50}, ["brand: 25.0 % missing (train: 0.0 %)"]),
    ({"user": np.repeat(np.arange(50), 4)}, ["user: 82.0 % of the ids are unknown (train: 0.0 %)"]),
    ({"price": [1.5, 9, 1.5, np.nan] * 50}, [
        f"price: 33.3 % of the numbers are outside of {SEEN['price']['lowest']:.6g} to {SEEN['price']['highest']:.6g}, "
        "the range in train", "price: 25.0 % missing (train: 0.0 %)"]),
    ({"vector": [[0.5, 7.0]] * 200}, [
        f"vector[2]: 100.0 % of the numbers are outside of {SEEN['vector']['lowest'][1]:.6g} to "
        f"{SEEN['vector']['highest'][1]:.6g}, the range in train"]),
    ({"tags": [["x", "z"], []] * 100}, ["tags: 50.0 % missing (train: 0.0 %)",
                                        "tags: 50.0 % of the ids are unknown (train: 0.0 %)"]),
    ({"shown": 1_800_000_000}, []), ({"shown": -1}, ["shown: 100.0 % missing (train: 0.0 %)"]),
])  # fmt: skip
def test_what_differs_is_reported_once(changes, lines):
    found = looked(**changes)
    assert found == lines or {line.split(" to ")[0] for line in found} == {line.split(" to ")[0] for line in lines}
    assert len(found) == len(lines)


def test_a_table_without_features_is_compared_in_the_same_way():
    """As an export's metadata describe the training data: with vocabularies, and with other names of inputs."""
    known = {feature.name: list(feature.known_values) for feature in SCHEMA.features if feature.known_values}
    seen = {name.upper(): {**entry, **({"values": known[name]} if name in known else {})}
            for name, entry in SEEN.items()}  # fmt: skip
    columns = {name: name.lower() for name in seen}
    table = frame(seed=1, brand=["a", "new"] * 100, price=5.0, tags=[["x", "z"], []] * 100, vector=[[0.5, 7.0]] * 200)
    lines = worth_a_look(of_table(from_frame(table), seen, columns), seen)
    expected = worth_a_look(contents(from_frame(table, "q", context=["user"]), SCHEMA, SEEN), SEEN)
    assert [line.lower() for line in lines] == expected
    assert len(lines) == 5
    assert of_table(from_frame(table[["q", "price"]]), seen, columns).keys() == {"PRICE"}
    assert worth_a_look(of_table(from_frame(table.assign(price="text")), seen, columns), seen) != lines


@pytest.mark.parametrize("ids", [["a", "b", "a", "c"], [7, 8, 7, 9]])
def test_hashed_ids_are_known_by_their_hashes(ids):
    """A vocabulary of hashes says nothing to a client, and is not part of an export."""
    train = from_frame(pd.DataFrame({"u": ids, "click": [0, 1, 0, 1]}))
    schema = fit_schema(train, [Task("click", kind="binary")], [Category("u", hash=True)])
    assert contents(train, schema)["u"]["unknown"] == 0
    other = from_frame(pd.DataFrame({"u": [ids[0], type(ids[0])(5)]}))
    assert contents(other, schema)["u"]["unknown"] == 0.5


def test_integers_beside_missing_ones_are_the_same_ids():
    """As pandas and Arrow write them: numbers with a fraction of 0."""
    table = from_frame(pd.DataFrame({"user": [1.0, 2.0, np.nan, 9.0]}))
    found = of_table(table, {"user": {"rows": 9, "missing": 0.0, "unknown": 0.0, "values": [1, 2]}})
    assert found["user"] == {"rows": 4, "missing": 0.25, "unknown": pytest.approx(1 / 3)}


@pytest.mark.parametrize("cells", [["True", "False", ""], ["true", "", "false"], ["1", "0", ""], ["1.0", "0.0", ""]])
def test_text_of_a_file_is_compared_as_what_it_spells_if_the_training_had_numbers(tmp_path, cells):
    """As a request reads it; a column of truth values was trained as 0 and 1."""
    (tmp_path / "new.csv").write_text("prime,x\n" + "".join(f"{cell},1\n" for cell in cells))
    found = of_table(read_lists([tmp_path / "new.csv"]), {"prime": {"rows": 9, "missing": 0.0, "values": [0, 1]}})
    assert found["prime"] == {"rows": 3, "missing": pytest.approx(1 / 3), "unknown": 0.0}


def test_an_input_that_only_training_reads_is_not_compared():
    assert worth_a_look({"position": {"rows": 99, "missing": 1.0, "unknown": 1.0}}, SEEN) == []


@pytest.mark.parametrize(("before", "now", "rows", "told"), [
    (0.35, 0.27, 190, False), (0.35, 0.27, 20_000, True), (0.0, 0.5, 2, True), (0.0, 0.04, 200, False),
    (0.0, 0.06, 200, True), (0.0, 0.009, 10**6, False), (0.2, 0.22, 10**6, True),
])  # fmt: skip
def test_chance_is_not_reported(before, now, rows, told):
    found = worth_a_look({"x": {"rows": rows, "missing": now}}, {"x": {"rows": 10**6, "missing": before}})
    assert bool(found) == told
