"""A fingerprint is about values: neither the order of lists nor the way of storing them changes it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmtl2r.data import Lists, from_frame, write_elwc
from tfmtl2r.data.elwc import read_elwc
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.finished import Run, same_data


@pytest.fixture
def frame(rng):
    count = 60
    return pd.DataFrame({
        "q": np.sort(rng.integers(0, 20, count)), "small": rng.integers(0, 9, count),
        "id": rng.integers(0, 2**40, count), "x": rng.normal(size=count).astype(np.float32),
        "price": np.where(rng.random(count) < 0.2, np.nan, rng.normal(size=count)),
        "brand": rng.choice(["a", "bc", "", "7"], count), "click": rng.integers(0, 2, count),
    })


def other_types(frame):
    """The same values in types that other readers choose."""
    return frame.astype({"small": np.float64, "q": "int32", "x": np.float64, "click": bool, "id": str})


def test_the_way_of_storing_changes_nothing(frame, rng, tmp_path):
    want = from_frame(frame, "q").fingerprint()
    assert from_frame(other_types(frame), "q").fingerprint() == want
    assert from_frame(frame[frame.columns[::-1]], "q").fingerprint() == want
    assert from_frame(frame.assign(price=frame["price"].astype(np.float32)), "q").fingerprint() == want
    shards = [frame[frame["q"] % 3 == part] for part in (2, 0, 1)]
    for number, shard in enumerate(shards):
        shard.to_csv(tmp_path / f"{number}.csv", index=False)
    files = [tmp_path / f"{number}.csv" for number in range(3)]
    read = [pd.read_csv(file, keep_default_na=False, na_values={"price": [""]}) for file in files]
    assert from_frame(pd.concat(read), "q").fingerprint() == want
    write_elwc(from_frame(frame, "q"), tmp_path / "lists.tfrecord", list_id="q")
    assert read_elwc(tmp_path / "lists.tfrecord", list_id="q").fingerprint() == want


def test_the_order_of_lists_has_a_digest_of_its_own(frame, rng):
    lists = from_frame(frame, "q")
    shuffled = lists.select(rng.permutation(lists.num_lists))
    assert shuffled.fingerprint() == lists.fingerprint()
    assert shuffled.order() != lists.order()
    assert from_frame(other_types(frame), "q").order() == lists.order()


@pytest.mark.parametrize("column", ["small", "id", "x", "price", "brand", "click", "q"])
def test_every_value_counts(frame, column):
    want = from_frame(frame, "q").fingerprint()
    changed = frame.copy()
    changed.loc[17, column] = "other" if column == "brand" else frame[column].max() + 1
    assert from_frame(changed, "q").fingerprint() != want


def test_lists_of_one_item_are_no_plain_rows():
    columns = {"x": np.array([1.0, 2.0])}
    assert Lists(columns).fingerprint() != Lists(columns, np.array([0, 1, 2])).fingerprint()


def test_a_repeated_list_counts_twice():
    once, twice = Lists({"x": np.array([1, 2])}), Lists({"x": np.array([1, 1, 2])})
    assert len({once.fingerprint(), twice.fingerprint(), Lists({"x": np.array([1, 1, 1, 1, 2])}).fingerprint()}) == 3


def test_many_lists_in_one_piece_or_in_many(rng, monkeypatch):
    lists = Lists({"x": rng.normal(size=1000), "v": rng.normal(size=(1000, 3))}, np.append(np.arange(0, 1000, 7), 1000))
    want = lists.fingerprint()
    for rows in (1, 10, 999):
        monkeypatch.setattr("tfmtl2r.data.fingerprints._ROWS", rows)
        assert lists.fingerprint() == want


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.integers(-2**62, 2**62), st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_a_number_is_its_canonical_text(value):
    forms = [np.array([value])] if isinstance(value, int) else [np.array([value]), np.array([value], np.float32)]
    if float(value).is_integer() and abs(value) < 2**53:
        forms += [np.array([int(value)]), np.array([str(int(value))], object)]
    elif not isinstance(value, int):
        forms.append(np.array([str(value)], object))
    if isinstance(value, int) and abs(value) < 10**18:
        forms.append(np.array([str(value)], object))
    assert len({Lists({"x": form}).fingerprint() for form in forms}) == 1


@pytest.mark.parametrize("text", ["07", "1e3", "+1", "nan", "1_000", " 1", "-0", "١"])
def test_a_text_that_is_not_canonical_is_only_a_text(text):
    numbers = (1, 7, 1000, np.nan, 0)
    assert Lists({"x": np.array([text], object)}).fingerprint() not in {
        Lists({"x": np.array([number])}).fingerprint() for number in numbers}


@pytest.mark.parametrize("beside", [{}, {"y": np.arange(60.0)}])
def test_how_a_matrix_lies_in_memory_changes_nothing(beside):
    matrix, offsets = np.arange(300.0).reshape(60, 5), np.arange(0, 61, 6)
    known = Lists({"x": matrix, **beside}, offsets).fingerprint()
    for other in (np.asfortranarray(matrix), np.repeat(matrix, 2, axis=1)[:, ::2]):
        assert Lists({"x": other, **beside}, offsets).fingerprint() == known


class TestEarlierVersions:
    """Fingerprints of the first version have no version in front."""

    def test_a_card_that_cannot_be_compared_does_not_claim_that_the_data_changed(self):
        card = RunCard("old", {}, {"test": {"fingerprint": "ab" * 32}})
        with pytest.raises(ValueError, match=r"cannot be compared .* 'old': an earlier version of tfmtl2r") as error:
            card.expect("test", Lists({"x": np.array([1])}).fingerprint())
        assert "changed" not in str(error.value)
        RunCard("new", {}, {"test": {"fingerprint": "2:1"}}).expect("test", "2:1")
        with pytest.raises(ValueError, match="the test split has changed"):
            RunCard("new", {}, {"test": {"fingerprint": "2:1"}}).expect("test", "2:2")

    def test_runs_of_two_versions(self, tmp_path):
        runs = [Run(tmp_path, RunCard(name, {}, {"test": {"fingerprint": fingerprint}}))
                for name, fingerprint in (("old", "ab" * 32), ("new", "2:ab"), ("other", "2:cd"))]
        with pytest.raises(ValueError, match="'old' and 'new' cannot be compared: different versions"):
            same_data(runs[:2])
        with pytest.raises(ValueError, match="'new' and 'other' saw different data"):
            same_data(runs[1:])
