"""Reports about RecBole: ids of users, and lists without a positive."""

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Task, metrics
from tfmtl2r.data import from_frame
from tfmtl2r.evaluation.split_metrics import evaluate


@pytest.mark.slow
def test_scores_belong_to_internal_ids(shop):
    """Users are numbered anew, and scores come back under these numbers
    (https://github.com/RUCAIBox/RecBole/issues/979)."""
    frame = shop.frame.assign(search=[f"user {i % 10}" for i in range(30)]).sample(frac=1, random_state=0)
    frame.index = [f"row {i}" for i in frame.index]
    together = shop.ranker.predict(frame, list_id="search")
    assert together.index.equals(frame.index)
    for _, rows in frame.groupby("search"):
        alone = shop.ranker.predict(rows, list_id="search")
        pd.testing.assert_frame_equal(alone, together.loc[rows.index], rtol=1e-5)


def test_an_unknown_user_has_no_score(shop):
    """"token is not existed in user_id" for a user that training did not contain
    (https://github.com/RUCAIBox/RecBole/issues/1313)."""
    later = shop.frame.assign(search=[f"new {i}" for i in shop.frame["search"]])
    pd.testing.assert_frame_equal(shop.ranker.predict(later, list_id="search"),
                                  shop.ranker.predict(shop.frame, list_id="search"))


def test_ids_of_lists_are_lost():
    """Ids that are sparse or text have to be mapped by hand (https://github.com/RUCAIBox/RecBole/issues/1307)."""
    for ids in ([5000, 3597, 5000], ["a", "[PAD]", "a"], [0, -1, 0]):
        assert from_frame(pd.DataFrame({"user": ids, "x": [1, 2, 3]}), "user").ids.tolist() == ids[:2]


def test_the_gain_of_ndcg_is_not_said():
    """It is unclear whether a gain is the label or ``2**label`` (https://github.com/RUCAIBox/RecBole/issues/726)."""
    labels, scores, valid = [[1.0, 3.0]], [[2.0, 1.0]], [[True, True]]
    discount = 1 / np.log2([2, 3])
    for gain, (low, high) in {"exp2": (1, 7), "linear": (1, 3)}.items():
        ndcg = metrics.get("ndcg", gain=gain)
        expected = (low * discount[0] + high * discount[1]) / (high * discount[0] + low * discount[1])
        assert float(ndcg.per_list(labels, scores, valid)[0][0]) == pytest.approx(expected)
        assert ndcg.conventions()["gain"] == gain


def test_a_user_without_a_positive_fails_in_ndcg():
    """NDCG of labelled data fails for some users (https://github.com/RUCAIBox/RecBole/issues/2035)."""
    lists = from_frame(pd.DataFrame({"u": [1, 1, 2, 2, 3], "y": [0, 1, 0, 0, np.nan]}), "u")
    task = Task("y", kind="binary", metrics=("ndcg@5", "mrr", "map", "precision@1", "recall@1"))
    for score in evaluate({"y": np.array([0.0, 1, 2, 3, 4])}, lists, [task])["y"].values():
        assert (score.value, score.num_lists) == (1.0, 1)
        assert np.isnan(score.per_list).tolist() == [False, True, True]


def test_an_order_by_equal_scores_depends_on_the_file(shop):
    """Equal items of a list get scores by their place (https://github.com/RUCAIBox/RecBole/issues/1447 asks where
    items went)."""
    twice = pd.concat([shop.frame, shop.frame])
    scores = shop.ranker.predict(twice, list_id="search")
    np.testing.assert_allclose(scores[:30], scores[30:], rtol=1e-6)
