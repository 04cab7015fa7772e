"""Rows whose two labels cooperate or conflict."""

import numpy as np
import pytest

from tfmtl2r import datasets
from tfmtl2r.data.conflict import conflict_rows


def agreement(cosine, mix, split="train"):
    columns = conflict_rows(20_000, cosine=cosine, mix=mix, seed=0, split=split).columns
    labels = np.stack([columns["label_1"], columns["label_2"]])
    assert set(np.unique(labels)) == {0, 1}
    np.testing.assert_allclose(labels.mean(axis=1), 0.5, atol=0.03)
    return (labels[0] == labels[1]).mean()


def test_as_printed_only_the_sign_matters():
    for size in (0.2, 1.0):
        assert agreement(size, "literal") > 0.99
        assert agreement(-size, "literal") < 0.01


@pytest.mark.parametrize("split", ["train", "test"])
def test_orthogonal_conflict_is_gradual(split):
    """For normal responses labels agree with probability 1 - theta / pi."""
    for cosine in (-1.0, -0.6, 0.0, 0.6, 1.0):
        assert agreement(cosine, "orthogonal", split) == pytest.approx(1 - np.arccos(cosine) / np.pi, abs=0.05)


def test_the_first_label_written_out():
    """A row's responses do not depend on the other rows, nor on the cosine."""
    lists = conflict_rows(5000, cosine=0.3, seed=3, split="vali", mix="literal").columns
    x = lists["features"][:, :6].astype(np.float64)
    response = (4 * x**2 / np.linalg.norm(x**2, axis=1, keepdims=True)
                + 5 * np.exp(x / np.linalg.norm(x, axis=1, keepdims=True)) + 6 * np.sin(x)).sum(axis=1)
    order = np.argsort(response)
    label = lists["label_1"][order]
    errors = np.minimum(np.cumsum(label), np.cumsum(1 - label[::-1])[::-1])  # on the wrong side of any one threshold
    assert errors.max() < 100
    other = conflict_rows(5000, cosine=-0.9, seed=3, split="vali", mix="literal").columns
    np.testing.assert_array_equal(other["label_1"], lists["label_1"])
    assert (x >= 0).all()


def test_splits_differ_and_repeat():
    dataset = datasets.get("synthetic_conflict", rows=200, cosine=-0.5)
    assert [dataset.lists(split).num_items for split in dataset.splits] == [200, 20, 20]
    assert (dataset.lists("vali").columns["features"] != dataset.lists("test").columns["features"]).any()
    again = datasets.get("synthetic_conflict", rows=200, cosine=-0.5)
    assert again.lists("test").fingerprint() == dataset.lists("test").fingerprint()


@pytest.mark.parametrize(("options", "message"), [
    ({"cosine": 1.5}, r"cosine must lie in \[-1, 1\], not 1.5"),
    ({"mix": "other"}, "mix must be one of 'literal', 'orthogonal', not 'other'"),
    ({"signals": 17}, "2 x 17 signal features need 1 to 32"),
])
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        conflict_rows(10, **{"cosine": 0.0, "seed": 0, "split": "train", **options})
