"""Reports about CatBoost's ranker."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Category, Task
from tfmtl2r.data import Lists, feature_values, fit_schema, from_frame, read_letor
from tfmtl2r.datasets.table import Table
from tfmtl2r.evaluation.split_metrics import evaluate


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_category_may_not_be_missing(missing):
    """A missing category is an error ("bad object for id: nan", https://github.com/catboost/catboost/issues/482)."""
    lists = from_frame(pd.DataFrame({"country": ["USA", "ILS", missing], "y": [1, 0, 1]}))
    feature = fit_schema(lists, [Task("y")]).features[0]
    assert feature.vocabulary == ("ILS", "USA")
    assert feature_values(lists, feature)["country"].tolist() == ["USA", "ILS", ""]


def test_a_float_may_not_be_a_category():
    """A declared category of floats such as 2.0 is refused (https://github.com/catboost/catboost/issues/1502)."""
    lists = from_frame(pd.DataFrame({"week": [2.0, 3.0, np.nan, 2.0], "y": [1, 0, 1, 0]}))
    feature = fit_schema(lists, [Task("y")], [Category("week")]).features[0]
    assert (feature.dtype, feature.vocabulary) == ("int64", (2, 3))
    assert feature_values(lists, feature)["week"].tolist() == [2, 3, -1, 2]


def test_metrics_depend_on_the_names_of_groups():
    """The same documents have another NDCG under other group ids
    (https://github.com/catboost/catboost/issues/2206)."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"q": rng.integers(0, 9, 40), "y": rng.integers(0, 3, 40), "s": rng.normal(size=40)})

    def ndcg(ids):
        lists = from_frame(frame.assign(q=ids), "q")
        return evaluate({"y": lists.columns["s"]}, lists, [Task("y", metrics=("ndcg@3",))])["y"]["ndcg@3"].value

    ids = [frame["q"], 100 - frame["q"], frame["q"].astype(str), [Decimal(int(q)) for q in frame["q"]]]
    assert [ndcg(one) for one in ids] == pytest.approx([ndcg(frame["q"])] * 4)


def test_groups_that_are_not_adjacent_are_not_named(tmp_path):
    """The message is "queryIds should be grouped" (https://github.com/catboost/catboost/issues/1481)."""
    (tmp_path / "a.txt").write_text("1 qid:1 1:1\n0 qid:2 1:2\n1 qid:1 1:3\n")
    with pytest.raises(ValueError, match=r"a\.txt:3: query 1 comes again .* line 1\. .*sort=True \(--sort\)"):
        read_letor(tmp_path / "a.txt", zero_based=False)
    assert read_letor(tmp_path / "a.txt", zero_based=False, sort=True).sizes.tolist() == [2, 1]


def test_float_group_ids_are_unsuitable():
    """Group ids such as 1.0 are refused (https://github.com/catboost/catboost/pull/1704)."""
    whole = from_frame(pd.DataFrame({"q": [1, 2, 1], "y": [0, 1, 2]}), "q")
    floats = from_frame(pd.DataFrame({"q": [1.0, 2.0, 1.0], "y": [0, 1, 2]}), "q")
    assert floats.offsets.tolist() == whole.offsets.tolist()
    assert floats.ids.tolist() == whole.ids.tolist()


def test_a_random_split_cuts_groups_apart(tmp_path):
    """Documents of a group stand in training and test (https://github.com/catboost/catboost/issues/367)."""
    frame = pd.DataFrame({"q": np.arange(300) % 60, "x": np.arange(300.0), "y": np.arange(300) % 2})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    data = Table(str(tmp_path / "rows.csv"), list_id="q", goals=[Task("y")])
    ids = [set(data.lists(split).ids.tolist()) for split in data.splits]
    assert len(set.union(*ids)) == sum(map(len, ids)) == 60
    assert all(set(data.lists(split).sizes) == {5} for split in data.splits)


def test_a_missing_label_of_a_second_task_is_refused(shop, make):
    """NaN in one task's labels is an error, though the other tasks have labels
    (https://github.com/catboost/catboost/issues/3079)."""
    dwell = shop.frame["dwell"].where(shop.frame.index % 2 == 0)
    lists = from_frame(shop.frame.assign(dwell=dwell), "search")
    from tfmtl2r.data import batches

    found = make(shop.ranker.schema).evaluate(batches(lists, shop.ranker.tasks, shop.ranker.schema), return_dict=True,
                                              verbose=0)
    whole = shop.ranker.evaluate(shop.batches(), return_dict=True, verbose=0)
    assert found["click_loss"] == pytest.approx(whole["click_loss"], rel=1e-5)
    assert np.isfinite(found["dwell_loss"])
    assert found["dwell_loss"] != pytest.approx(whole["dwell_loss"], rel=1e-3)


def test_options_of_a_metric_are_dropped_in_scoring():
    """``score`` computes NDCG without top and type that were given (https://github.com/catboost/catboost/issues/2081).
    """
    lists = Lists({"y": np.array([0.0, 2.0, 1.0])}, np.array([0, 3]))
    tasks = [Task("y", metrics=({"name": "ndcg", "k": 2, "gain": "linear"}, "ndcg"))]
    row = list(evaluate({"y": np.array([3.0, 2.0, 1.0])}, lists, tasks)["y"].values())
    d = 1 / np.log2([2, 3, 4])
    assert row[0].value == pytest.approx(2 * d[1] / (2 * d[0] + d[1]))
    assert row[1].value == pytest.approx((3 * d[1] + d[2]) / (3 * d[0] + d[1]))
    assert [one.conventions["gain"] for one in row] == ["linear", "exp2"]
