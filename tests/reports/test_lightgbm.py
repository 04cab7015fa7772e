"""Reports about LightGBM's ranker."""

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Task, metrics
from tfmtl2r.data import fit_schema, from_frame, label_values, read_letor


def test_columns_in_another_order_give_other_scores(shop):
    """Scores depend on the order of a frame's columns (https://github.com/lightgbm-org/LightGBM/issues/4102)."""
    scores = shop.ranker.predict(shop.frame, list_id="search")
    pd.testing.assert_frame_equal(shop.ranker.predict(shop.frame.iloc[:, ::-1], list_id="search"), scores)


def test_categories_in_another_order_are_mixed_up(shop):
    """Codes of a pandas category may differ between training and use
    (https://github.com/lightgbm-org/LightGBM/issues/2826)."""
    other = shop.frame.assign(brand=shop.frame["brand"].cat.set_categories([*"zcba"], ordered=True))
    assert (other["brand"].cat.codes != shop.frame["brand"].cat.codes).any()
    scores = shop.ranker.predict(shop.frame, list_id="search")
    pd.testing.assert_frame_equal(shop.ranker.predict(other, list_id="search"), scores)


def test_an_unseen_category_corrupts_the_frame(shop):
    """Prediction changes the caller's column of categories (https://github.com/lightgbm-org/LightGBM/issues/6195)."""
    frame = shop.frame.assign(brand=pd.Categorical(["a", "new", None] * 10))
    before = frame.copy(deep=True)
    assert np.isfinite(shop.ranker.predict(frame, list_id="search")).all(axis=None)
    pd.testing.assert_frame_equal(frame, before)


def test_unseen_categories_get_a_score_that_depends_on_their_name(shop):
    """It is unclear how a category is scored that training did not contain
    (https://github.com/lightgbm-org/LightGBM/issues/1936)."""
    scores = [shop.ranker.predict(shop.frame.assign(brand=name), list_id="search") for name in ("new", "other", "")]
    for other in scores[1:]:
        pd.testing.assert_frame_equal(other, scores[0])


def test_names_with_json_characters_are_refused(shop, make):
    """Feature names may not contain brackets, commas or letters of other scripts
    (https://github.com/lightgbm-org/LightGBM/issues/6202)."""
    names = {"price": "[bio].{mean}", "stars": 'distance, "km"', "brand": "sub_type_Сумки: д/мыши"}
    frame = shop.frame.rename(columns=names)
    ranker = make(fit_schema(from_frame(frame, "search"), shop.ranker.tasks))
    assert ranker.schema.names == tuple(names.values())
    ranker.set_weights(shop.ranker.get_weights())
    pd.testing.assert_frame_equal(ranker.predict(frame, list_id="search"),
                                  shop.ranker.predict(shop.frame, list_id="search"))


def test_a_query_of_one_document_has_an_ndcg():
    """The NDCG of a single document is an error elsewhere, and a number here
    (https://github.com/lightgbm-org/LightGBM/issues/6823)."""
    ndcg = metrics.get("ndcg@5")
    value, count = ndcg.per_list([[2.0], [0.0]], [[-7.0], [3.0]], [[True], [True]])
    assert (value.numpy().tolist(), count.numpy().tolist()) == ([1.0, 0.0], [1.0, 0.0])


def test_tied_scores_take_the_better_order():
    """A constant model has an NDCG of 1 where ties fall in its favour
    (https://github.com/lightgbm-org/LightGBM/issues/3363)."""
    discount = 1 / np.log2(np.arange(2, 5))
    value, _ = metrics.get("ndcg").per_list([[1.0, 0.0, 0.0]], [[5.0, 5.0, 5.0]], [[True] * 3])
    assert float(value[0]) == pytest.approx(discount.mean())


def test_a_label_of_72_stops_the_training():
    """A count as a grade fails inside of the training (https://github.com/lightgbm-org/LightGBM/issues/4808)."""
    lists = from_frame(pd.DataFrame({"q": [1, 1, 2], "views": [3, 72, 9]}), "q")
    with pytest.raises(ValueError, match=r"'views' is too large: 72.* in row 1 .*list 1.*transform = .grades."):
        label_values(lists, Task("views"))
    assert label_values(lists, Task("views", kind="regression")).tolist() == [3, 72, 9]


@pytest.mark.parametrize(("groups", "message"), [
    ("2\n0\n1\n", "line 2|:2"),  # https://github.com/lightgbm-org/LightGBM/issues/1104: a crash
    ("2\n2\n", "has 3 rows, but the lists of .* add up to 4"),  # https://github.com/lightgbm-org/LightGBM/issues/392
    ("2\n", "has 3 rows, but the lists of .* add up to 2"),
])
def test_a_group_file_that_does_not_fit_crashes(tmp_path, groups, message):
    """An empty group crashes the training, and wrong sums are reported without the files
    (https://github.com/lightgbm-org/LightGBM/issues/1104)."""
    (tmp_path / "a.txt").write_text("1 1:1\n0 1:2\n1 1:3\n")
    (tmp_path / "a.txt.query").write_text(groups)
    with pytest.raises(ValueError, match=message):
        read_letor(tmp_path / "a.txt", group=tmp_path / "a.txt.query")


def test_text_as_a_query_in_a_file_is_a_format_error_without_a_line(tmp_path):
    """A text that stands for the query gives "Input format error"
    (https://github.com/lightgbm-org/LightGBM/issues/6242)."""
    (tmp_path / "a.txt").write_text("1 qid:1 1:1\n1 qid:1 1:1 88:0001c944-92e4_17\n")
    with pytest.raises(ValueError, match=r"a\.txt:2: .*feature 88.*0001c944-92e4_17"):
        read_letor(tmp_path / "a.txt", zero_based=False)
