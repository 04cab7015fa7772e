"""Hashed ids: the model tells known values apart as before, and no file contains a value."""

import json

import pandas as pd
import pytest

from tfmtl2r import Category, Schema, Task
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import fit_schema, from_frame
from tfmtl2r.data.columns import feature_values
from tfmtl2r.features import Bag, Sequence
from tfmtl2r.layers.features import Encoder, Lookup
from tfmtl2r.serving.examples import from_rows, requests

FRAME = pd.DataFrame({
    "user": ["anna-17", "berta-4", "anna-17", ""], "video": [710_001, 710_002, -1, 710_003],
    "tags": [["t-one", "t-two"], ["t-two"], [], ["t-two", "t-four"]],
    "seen": [[710_002], [710_001, 710_002], [], [710_009]], "y": [0, 1, 0, 1],
})
NAMES = ("anna-17", "berta-4", "t-one", "t-two", "t-four", *map(str, range(710_001, 710_010)))


def schema(hashed):
    given = [Category("user", hash=hashed), Category("video", hash=hashed), Bag("tags", hash=hashed, min_count=2),
             Sequence("seen", shares="video")]
    return fit_schema(from_frame(FRAME), [Task("y", kind="binary")], given)


def looked_up(schema, frame):
    lists, raw = from_frame(frame), {}
    for feature in schema.features:
        raw |= feature_values(lists, feature)
    return {name: value.numpy() for name, value in Lookup(schema)(
        {name: tf.constant(value.tolist()) for name, value in raw.items()}).items()}


def test_known_values_have_rows_of_their_own():
    """The rows are those of the values, in another order: known together, unknown together, missing unknown."""
    plain, hashed = schema(False), schema(True)
    assert [f.size for f in hashed.features[:3]] == [f.size for f in plain.features[:3]] == [3, 4, 2]
    later = FRAME.assign(user=["berta-4", "carla-1", "", "anna-17"], video=[710_003, 5, -1, 710_001])
    theirs, ours = looked_up(plain, later), looked_up(hashed, later)
    for name, values in theirs.items():
        pairs = {*zip(values.ravel().tolist(), ours[name].ravel().tolist(), strict=True)}
        assert len(pairs) == len({*values.ravel()}) == len({*ours[name].ravel()}), name
        assert (values == 0).tolist() == (ours[name] == 0).tolist(), name
    assert Encoder(hashed)(batch=Batch(looked_up(hashed, FRAME))).shape[0] == 4


def test_no_value_is_in_the_schema_or_in_a_request_for_files():
    found = schema(True)
    text = json.dumps(found.get_config())
    assert not [name for name in NAMES if name in text]
    assert [name for name in NAMES if name in json.dumps(schema(False).get_config())]
    again = Schema.from_config(json.loads(text))
    assert again == found
    refitted = fit_schema(from_frame(FRAME), [Task("y", kind="binary")], again)
    assert refitted == found
    for request in [*from_rows(from_frame(FRAME), found, lists=False), *requests(found, lists=False)]:
        shown = str({name: value.tolist() for name, value in request.items()})
        assert not [name for name in NAMES if name in shown]
        Lookup(found)({name: tf.constant(value.tolist()) for name, value in request.items()})
    assert "anna-17" in str(from_rows(from_frame(FRAME), schema(False), lists=False))


def test_what_does_not_fit():
    for make, message in [
        (lambda: Category("user", hash=True, vocabulary=("a",)), "with hash, the vocabulary contains hashes"),
        (lambda: Category.of_entry("user", FRAME["user"].to_numpy(), False, {"hash": True, "vocabulary": [1]}),
         "with hash, the vocabulary is fitted"),
        (lambda: Schema([Category("user", vocabulary=("a",)), Bag("tags", shares="user", hash=True)]),
         "give hash to that feature"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
