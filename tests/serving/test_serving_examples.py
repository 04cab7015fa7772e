"""Requests made from the schema alone."""

import numpy as np
import pytest
from serving_problem import SCHEMA

from tfmtl2r import Category, Dense, Schema
from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.serving.examples import merged, requests


@pytest.mark.parametrize("lists", [True, False])
def test_shapes_and_types(lists):
    made = requests(SCHEMA, lists)
    shapes = [(2, 3), (3, 11), (1, 1)] if lists else [(5,), (15,), (1,)]
    for request, shape in zip(made, shapes, strict=True):
        assert set(request) == {*SCHEMA.names, *([LIST_SIZE] if lists else [])}
        for feature in SCHEMA.features:
            value = request[feature.name]
            tail = feature.shape if isinstance(feature, Dense) else ()
            assert value.shape == ((shape[0],) if feature.context else shape) + tail
            kinds = {"string": "O", "int64": "i"}
            assert value.dtype.kind == (kinds[feature.dtype] if isinstance(feature, Category) else "f")
        if lists:
            assert request[LIST_SIZE].dtype == np.int32
            assert request[LIST_SIZE].max() == shape[1]


def test_seeded():
    for name, value in requests(SCHEMA, seed=1)[1].items():
        np.testing.assert_array_equal(value, requests(SCHEMA, seed=1)[1][name])
    assert (requests(SCHEMA, seed=1)[1]["price"] != requests(SCHEMA, seed=2)[1]["price"]).any()


def test_known_and_unknown_values():
    first, second, _ = requests(SCHEMA)
    assert set(second["brand"].flat) <= {"acme", "b c", "é"}
    assert first["brand"][-1, -1] not in {"acme", "b c", "é"}
    assert first["shop"][-1, -1] not in {7, 3, 2**40}
    assert np.isnan(first["vector"][-1, -1]).all()
    assert np.isnan([value[-1] for value in (first["age"], first["profile"][:, 0])]).all()
    assert np.isfinite(second["price"]).all()


def test_numbers_are_in_the_raw_scale():
    scale = {"mean": (4.0,), "variance": (0.25,)}
    for transform, undo in [("none", lambda x: x), ("log1p", np.expm1), ("signed_log1p", np.expm1)]:
        schema = Schema([Dense("x", transform=transform, **scale)])
        values = np.concatenate([request["x"].ravel() for request in requests(schema)[1:]])
        assert undo(2.0) < values.min() < undo(4.0) < values.max() < undo(6.0)
    negative = Schema([Dense("x", transform="log1p", mean=(-9.0,), variance=(1.0,))])
    assert (requests(negative)[1]["x"] == 0).all()
    huge = Schema([Dense("x", transform="signed_log1p", mean=(88.0,), variance=(100.0,))])
    assert np.isfinite(requests(huge)[1]["x"]).all()


def test_merging_pads_with_the_first_element():
    left = {"x": np.array([[1, 2]]), "v": np.ones([1, 2, 2]), "c": np.array([5]), "s": np.array([["a", "b"]], object)}
    right = {"x": np.array([[8], [9]]), "v": np.zeros([2, 1, 2]), "c": np.array([6, 7]),
             "s": np.array([["c"], ["d"]], object)}
    whole = merged([left, right])
    assert whole["x"].tolist() == [[1, 2], [8, 8], [9, 8]]
    assert whole["v"].shape == (3, 2, 2)
    assert whole["c"].tolist() == [5, 6, 7]
    assert whole["s"].tolist() == [["a", "b"], ["c", "c"], ["d", "c"]]
