"""Label transforms: golden numbers, missing labels, statistics of the training split alone, and wrong input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import MultiTaskRanker, Task, transforms
from tfmtl2r.data import Lists, fit_schema, fit_tasks, from_frame, label_values, read_lists
from tfmtl2r.data.choose import chosen_rows
from tfmtl2r.data.targets import statistics
from tfmtl2r.rules import checked_rules
from tfmtl2r.transforms import of_task, quantile

NAN = float("nan")
WATCH = np.array([3.0, 30, 12, 0, 90, 5])
DURATION = {"duration": np.array([10.0, 20, 60, 15, 45, 0])}
TAIL = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 100])
GRADED = np.array([0.0, 0, 0, 0, 1, 2, 3, 5, 8, 20])
OPTIONS = {"ratio": {"duration": "duration"}, "clip": {"upper": 5.0}, "duration_quantile": {"duration": "duration"},
           "watch_time_gain": {"duration": "duration"}}
"""Options that a transform cannot do without."""


def made(name, **options):
    return transforms.get(name, **{**OPTIONS.get(name, {}), **options})


@pytest.mark.parametrize(("cap", "expected"), [
    (None, [.3, 1.5, .2, 0, 2, NAN]), (1, [.3, 1, .2, 0, 1, NAN]),
])
def test_a_ratio_without_a_duration_is_missing(cap, expected):
    np.testing.assert_allclose(made("ratio", cap=cap).apply(WATCH, DURATION), expected, rtol=1e-9)
    for nothing in (0.0, -3.0, NAN):
        assert np.isnan(made("ratio", cap=cap).apply(WATCH[:1], {"duration": np.array([nothing])}))


WATCHED = np.array([2.0, 4, 4, 8, 10, 20, 30, 60])
SECONDS = {"s": np.array([5.0, 6, 7, 8, 50, 60, 70, 80])}


@pytest.mark.parametrize(("name", "expected", "values", "labels"), [
    ("d2q", [.125, .5, .5, .875, .125, .375, .625, .875], [.5, .9, 0, .5, .9, 1], [4, 8, 2, 25, 60, 60]),
    ("wtg", [-1.147078669, -.229415734, -.229415734, 1.605910137, -1.069044968, -.534522484, 0, 1.603567451],
     [0, 1.605910137, 0, 1.603567451], [4.5, 8, 30, 60]),
])
def test_golden_labels_among_equally_long_items_and_their_way_back(name, expected, values, labels):
    fitted = transforms.get(name, duration="s", groups=2).fit(WATCHED, None, SECONDS)
    assert fitted.edges == (29.0,)
    np.testing.assert_allclose(fitted.apply(WATCHED, SECONDS), expected, rtol=1e-8)
    there = {"s": np.repeat([1.0, 500.0], len(values) // 2)}
    np.testing.assert_allclose(fitted.back(np.array(values), there), labels, rtol=1e-8)
    for nothing in (0.0, -3.0, NAN):
        assert np.isnan(fitted.apply(WATCHED[:1], {"s": np.array([nothing])}))
        assert np.isnan(fitted.back(WATCHED[:1], {"s": np.array([nothing])}))
    tied = transforms.get(name, duration="s", groups=9).fit(np.full(8, 7.0), None, {"s": np.repeat([3.0, 9.0], 4)})
    assert tied.apply(np.array([7.0, 7.0]), {"s": np.array([1.0, 9.0])}).tolist() == [.5 * (name == "d2q")] * 2
    weights = np.array([1.0, 2, 1, 3, 1, 1, 1, 4])
    twice = {"s": np.repeat(SECONDS["s"], weights.astype(int))}
    unweighted = transforms.get(name, duration="s", groups=1).fit(np.repeat(WATCHED, weights.astype(int)), None, twice)
    weighted = transforms.get(name, duration="s", groups=1).fit(WATCHED, weights, SECONDS)
    np.testing.assert_allclose(weighted.apply(WATCHED, SECONDS), unweighted.apply(WATCHED, SECONDS), rtol=1e-9)


def test_tables_of_long_logs_are_short_and_nearly_exact(rng):
    watch, seconds = rng.exponential(20, 50_000), rng.choice([15.0, 30, 60], 50_000)
    fitted = transforms.get("d2q", duration="s").fit(watch, None, {"s": seconds})
    assert max(len(labels) for labels, _ in fitted.tables) == 200
    share = fitted.apply(watch, {"s": seconds})
    assert np.abs(share - (watch.argsort().argsort() + 0.5) / 50_000).max() < 0.03
    np.testing.assert_allclose(np.quantile(fitted.back(share, {"s": seconds}) - watch, [0.01, 0.99]), 0, atol=0.05)


def test_gains_of_a_task_that_is_no_regression_are_refused():
    task = Task("watch", transform={"name": "wtg", "duration": "duration", "groups": 1})
    with pytest.raises(ValueError, match=r"'watch', transformed, is negative: .*use kind='regression'"):
        fit_tasks(table(), [task])
    [fitted] = fit_tasks(table(), [dataclasses.replace(task, kind="regression")])
    assert np.isnan(label_values(table(), fitted)).tolist() == [False] * 5 + [True]
    assert fitted.statistics.mean == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="'watch': no row with a label has a 'duration' above 0"):
        fit_tasks(table(duration=np.zeros(6)), [dataclasses.replace(task, kind="regression")])


def test_ways_back():
    np.testing.assert_allclose(made("ratio").back(np.array([.5, .5]), {"duration": np.array([10.0, 0])}), [5, NAN])
    np.testing.assert_allclose(made("log1p").back(np.log1p(WATCH), {}), WATCH, rtol=1e-12)
    with pytest.raises(ValueError, match="Grades has no way back"):
        made("grades").back(WATCH, {})


def test_golden_logarithms():
    np.testing.assert_allclose(made("log1p").apply(WATCH, {}), [1.386294361, 3.433987204, 2.564949357, 0, 4.510859507,
                                                                1.791759469], rtol=1e-9)
    capped = made("ratio", cap=5).apply(WATCH, DURATION)
    np.testing.assert_allclose(made("log1p").apply(capped, {}), [.262364264, .916290732, .182321557, 0, 1.098612289,
                                                                 NAN], rtol=2e-9)


@pytest.mark.parametrize(("options", "edges", "result"), [
    ({"lower": .1, "upper": .9}, (.9, 17.2), [.9, 1, 2, 3, 4, 5, 6, 7, 8, 17.2]),
    ({"lower": .1, "upper": .9, "method": "lower"}, (0, 8), [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]),
    ({"lower": .1, "upper": .9, "method": "higher"}, (1, 100), [1, 1, 2, 3, 4, 5, 6, 7, 8, 100]),
    ({"lower": .1, "upper": .9, "method": "nearest"}, (1, 8), [1, 1, 2, 3, 4, 5, 6, 7, 8, 8]),
    ({"lower": .1, "upper": .9, "method": "hazen"}, (.5, 54), [.5, 1, 2, 3, 4, 5, 6, 7, 8, 54]),
    ({"lower": .1, "upper": .9, "method": "median_unbiased"}, (.366666667, 66.266666667), None),
    ({"upper": .95}, (None, 58.6), [0, 1, 2, 3, 4, 5, 6, 7, 8, 58.6]),
])
def test_golden_winsorised_labels(options, edges, result):
    fitted = made("winsorise", **options).fit(TAIL, None)
    for found, expected in zip(fitted.edges, edges, strict=True):
        assert found == (expected if expected is None else pytest.approx(expected, rel=1e-8))
    if result is not None:
        np.testing.assert_allclose(fitted.apply(TAIL, {}), result, rtol=1e-9)


def test_golden_standardised_winsorised_labels():
    clipped = made("winsorise", lower=.1, upper=.9).fit(TAIL, None).apply(TAIL, {})
    found = statistics(clipped, np.ones(10))
    assert (found.mean, found.sd) == (pytest.approx(5.41), pytest.approx(4.560361828, rel=1e-9))
    np.testing.assert_allclose((clipped[[0, -1]] - found.mean) / found.sd, [-.988956616, 2.585321175], rtol=1e-8)
    assert statistics(np.full(3, 7.1), np.ones(3)).sd == 1.0


@pytest.mark.parametrize(("options", "edges", "grades"), [
    ({}, (0, 1.5, 4.5), [0, 0, 0, 0, 1, 2, 2, 3, 3, 3]),
    ({"zeros_apart": True}, (0, 2.666666667, 6), [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]),
])
def test_golden_grades(options, edges, grades):
    fitted = made("grades", **options).fit(GRADED, None)
    np.testing.assert_allclose(fitted.edges, edges, rtol=1e-9)
    np.testing.assert_array_equal(fitted.apply(GRADED, {}), grades)
    np.testing.assert_array_equal(fitted.apply(np.array([-3.0, 100, NAN]), {}), [0, 3, NAN])


def test_equal_edges_are_dropped_and_said(caplog):
    tied = made("grades").fit(np.full(3, 5.0), None)
    assert tied.edges == (5.0,)
    assert tied.apply(np.full(3, 5.0), {}).tolist() == [0, 0, 0]
    assert "1 of 4 grades remain" in caplog.text
    caplog.clear()
    assert made("grades").fit(GRADED, None).edges == (0, 1.5, 4.5)
    assert not caplog.text
    assert len(made("grades").fit(np.array([0.0] * 7 + [1, 2, 3]), None).edges) == 2
    assert "3 of 4 grades remain" in caplog.text


def test_weighted_quantiles():
    values = np.array([3.0, 1.0, 2.0])
    assert quantile(values, [0.2, 0.21, 0.5, 1.0], np.array([5.0, 2.0, 3.0])).tolist() == [1, 2, 2, 3]
    assert quantile(values, [0.25], np.full(3, 2.0)) == quantile(values, [0.25]) == 1.5


@pytest.mark.parametrize("name", transforms.names())
def test_every_transform_leaves_missing_labels_missing_and_can_be_saved(name):
    label = np.array([NAN, 0.0, 1.0, 4.0])
    columns = {"duration": np.array([2.0, 2, 4, 1])}
    known = {"duration": columns["duration"][1:]}
    transform = made(name).fit(label[1:], None, known)
    assert np.isnan(transform.apply(label, columns)).tolist() == [True, False, False, False]
    again = transforms.get(transforms.registry.describe(transform))
    assert again == transform
    np.testing.assert_array_equal(again.apply(label, columns), transform.apply(label, columns))
    assert transform.fit(label[2:], None, known) == transform  # statistics that are given stay
    if transform.reversible:
        there = transform.forward(label[1:])
        np.testing.assert_allclose(transform.forward(transform.inverse(there)), there, rtol=1e-12)


def table(**columns):
    columns = {"x": np.arange(6.0), "watch": WATCH, "duration": np.array([10.0, 20, 60, 15, 45, 0]), **columns}
    return Lists(columns, offsets=np.array([0, 3, 6]))


def test_a_task_is_fitted_on_the_rows_with_a_label_and_their_weights():
    task = Task("watch", kind="regression", transform={"name": "winsorise", "upper": 0.5}, weight_column="w",
                only_where={"column": "duration", "above": 0})
    [fitted] = fit_tasks(table(w=np.array([1.0, 1, 1, 1, 4, 9])), [task])
    assert of_task(fitted).edges == (None, 30.0)  # of 0, 3, 12, 30 and, four times, 90
    assert fitted.statistics.mean == pytest.approx((3 + 30 + 12 + 0 + 4 * 30) / 8)
    assert label_values(table(), fitted).tolist()[:5] == [3, 30, 12, 0, 90]  # in the unit of the label
    assert fit_tasks(table(w=np.ones(6)), [fitted]) == (fitted,)


def test_a_transform_that_is_no_regression_replaces_the_label():
    [fitted] = fit_tasks(table(), [Task("watch", transform={"name": "grades", "grades": 3})])
    assert label_values(table(), fitted).tolist() == [0, 2, 1, 0, 2, 1]
    [fitted] = fit_tasks(table(), [Task("watch", transform="log1p")])
    np.testing.assert_allclose(label_values(table(), fitted), np.log1p(WATCH), rtol=1e-6)
    share = {"name": "ratio", "duration": "duration"}
    [ratio] = fit_tasks(table(), [Task("watch", kind="regression", transform=share)])
    np.testing.assert_allclose(label_values(table(), ratio), [.3, 1.5, .2, 0, 2, NAN], rtol=1e-6)
    [below] = fit_tasks(table(watch=-WATCH), [Task("watch", transform={"name": "clip", "upper": 2})])
    assert label_values(table(watch=np.array([-3.0, 0, 1, 2, 9, NAN])), below).tolist()[1:5] == [0, 1, 2, 2]
    assert np.isnan(label_values(table(watch=np.array([-3.0, 0, 1, 2, 9, NAN])), below)[[0, 5]]).all()


@pytest.mark.parametrize(("options", "message"), [
    ({"transform": "log1p", "label": "below"}, r"below'.*-2.0 in row 1.*Log1p takes numbers from 0 on"),
    ({"transform": {"name": "ratio", "duration": "durations"}}, r"watch.*has no column 'durations'.*'duration'"),
    ({"transform": {"name": "ratio", "duration": "text"}}, r"column 'text' of transform.*text"),
    ({"transform": "grades", "label": "none"}, r"'none': no row of the training split has a label"),
    ({"label": "pairs"}, r"'pairs': expected one number per row, got lists of 2"),
    ({"weight_column": "pairs"}, r"weight column 'pairs': expected one number per row"),
    ({"transform": {"name": "ratio", "duration": "pairs"}}, r"'pairs' of transform: expected one number per row"),
    ({"transform": {"name": "wtg", "duration": "endless"}}, r"'endless' of transform is infinite: inf in row 2"),
    ({"transform": {"name": "ratio", "duration": "tiny"}}, r"'watch', transformed, is too large for float32"),
    ({"weight_column": "below"}, r"weight column 'below'.*-2.0 in row 1"),
    ({"only_where": {"column": "nowhere", "is": 1}}, r"task 'watch': only_where, .*no column 'nowhere'"),
    ({"only_where": {"column": "text", "above": 1}}, r"'text' has text, such as 'a', which cannot be compared with 1"),
    ({"only_where": {"column": "x", "is": "1"}}, r"'x' has numbers, such as 0.0, which cannot be compared with '1'"),
])
def test_wrong_input_names_task_column_row_and_value(options, message):
    lists = table(below=np.array([1.0, -2, 3, 4, 5, 6]), none=np.full(6, NAN),
                  text=np.array(["a"] * 6, object), pairs=np.ones((6, 2)), tiny=np.full(6, 1e-300),
                  endless=np.array([1, 2, np.inf, 4, 5, 6]))
    with pytest.raises(ValueError, match=message):
        fit_tasks(lists, [Task("watch", kind="regression", **options)])


@pytest.mark.parametrize(("name", "options", "message"), [
    ("clip", {}, "clip needs lower, upper or both"), ("clip", {"lower": 2, "upper": 1}, "in this order"),
    ("winsorise", {"upper": 95}, "from 0 to 1"), ("winsorise", {"upper": None}, "lower, upper or both"),
    ("d2q", {"duration": "d", "groups": 0}, "groups must be at least 1"),
    ("grades", {"grades": 1}, "2 to 31 grades"), ("ratio", {"duration": "d", "cap": 0}, "cap must be"),
])
def test_wrong_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        transforms.get(name, **options)


@pytest.mark.parametrize("task", [Task("watch", transform="grades"), Task("watch", transform="winsorise")])
def test_a_transform_that_is_not_fitted_says_where_statistics_come_from(task):
    with pytest.raises(ValueError, match="fit_tasks"):
        label_values(table(), task)


@pytest.mark.parametrize(("rules", "chosen"), [
    ({"column": "n", "above": 0}, [1, 2]), ({"column": "n", "below": 2, "above": -1}, [0, 1]),
    ({"column": "n", "is": 2}, [2]), ({"column": "n", "is_not": 2}, [0, 1, 3]), ({"column": "n", "in": [0, 2]}, [0, 2]),
    ({"column": "t", "in": ["a", "c"]}, [0, 2]), ({"column": "t", "is_not": "a"}, [1, 2, 3]),
    ({"column": "b", "is": True}, [0, 3]), ({"column": "i", "in": [2**60, 5]}, [1, 2]),
    ({"column": "when", "above": "2024-01-02"}, [2]),
    ([{"column": "t", "is_not": "b"}, {"column": "n", "above": 0}], [2]),
])
def test_rules_choose_rows_of_every_type(rules, chosen):
    lists = Lists({
        "n": np.array([0.0, 1, 2, NAN]), "t": np.array(["a", "b", "c", ""], object),
        "b": np.array([True, False, False, True]), "i": np.array([2**60 + 1, 2**60, 5, 7]),
        "when": np.array(["2024-01-01", "2024-01-02", "2024-01-03", "NaT"], "M8[s]"), "y": np.arange(4.0),
    })
    labels = label_values(lists, Task("y", kind="regression", only_where=rules))
    assert np.flatnonzero(~np.isnan(labels)).tolist() == chosen


@pytest.mark.parametrize(("column", "rule", "chosen"), [
    ("country", {"is": "NA"}, [0]), ("country", {"in": ["NA", "FR"]}, [0, 1]), ("country", {"is_not": "NA"}, [1, 2, 3]),
    ("country", {"is": "null"}, [3]), ("maybe", {"above": 0}, [0, 3]), ("maybe", {"is_not": 1}, [1, 2, 3]),
    ("narrow", {"in": [0.1, 1.0]}, [0, 2]), ("narrow", {"is": 0.1}, [0]), ("narrow", {"below": 1e300}, [0, 1, 2]),
    ("narrow", {"is_not": 0.1}, [1, 2, 3]),
    ("same", {"is": "NA"}, [0, 1, 2]), ("same", {"in": ["nan"]}, [3]), ("same", {"is": 1}, []),
    ("empty", {"is": "a"}, []), ("empty", {"is_not": "a"}, [0, 1, 2, 3]), ("empty", {"above": "2026-01-01"}, []),
    ("long", {"in": [2**63 + 1, 5]}, [1, 3]), ("group", {"is": 2}, [1]), ("group", {"below": 2}, [0, 3]),
])
def test_rules_compare_in_the_type_of_a_column(column, rule, chosen, tmp_path):
    """Text such as NA is missing in a column of numbers only, and a number has the digits that its column can hold."""
    frame = pd.DataFrame({
        "country": ["NA", "FR", "", "null"], "maybe": ["1", "NA", "", "2"], "same": ["NA", "NA", "NA", "nan"],
        "empty": [None] * 4,
        "narrow": np.array([0.1, 0.2, 1, np.nan], np.float32),
        "long": np.array([2**63, 2**63 + 1, 7, 5], np.uint64), "group": pd.Categorical([1, 2, None, 1]),
    })
    frame.to_csv(tmp_path / "a.csv", index=False)
    texts = column in ("country", "maybe", "same")
    lists = read_lists([tmp_path / "a.csv"]) if texts else from_frame(frame)
    assert np.flatnonzero(chosen_rows(lists, checked_rules({"column": column, **rule}), "data")).tolist() == chosen


@pytest.mark.parametrize(("rule", "message"), [
    ({"above": 1}, "needs a column"), ({"column": "n"}, "needs a condition"), ("n > 1", "a table or a list of tables"),
    ({"column": "n", "abov": 1}, "'abov' is no key of a rule.*'above'"), ({"column": "n", "in": 3}, "in takes a list"),
    ({"column": "n", "above": True}, "above takes a number"), ({"column": "n", "is": [1]}, "is takes one value"),
    (7, "a table or a list of tables"),
])
def test_wrong_rules(rule, message):
    with pytest.raises(ValueError, match=f"task 'y': only_where.*{message}"):
        Task("y", only_where=rule)


def test_columns_of_labels_weights_and_rules_are_no_features():
    lists = table(w=np.ones(6), p=np.ones(6), shown=np.arange(6.0), x=np.arange(6.0))
    task = Task("watch", kind="regression", weight_column="w", propensity_column="p",
                only_where={"column": "shown", "above": 0}, transform={"name": "ratio", "duration": "duration"})
    assert fit_schema(lists, [task]).names == ("x", "duration")  # known for an item that is not watched yet
    assert fit_schema(lists, [task], ["x", "shown"]).names == ("x", "shown")
    for column, what in (("w", "weight column"), ("p", "propensity column"), ("watch", "label")):
        with pytest.raises(ValueError, match=f"'{column}' is the {what} of task 'watch'"):
            fit_schema(lists, [task], [column])


def test_a_fitted_task_survives_the_file_of_a_ranker():
    task = Task("watch", kind="regression", weight_column="w", only_where=[{"column": "x", "in": [1, 2]}],
                transform={"name": "winsorise", "upper": 0.5})
    [fitted] = fit_tasks(table(w=np.ones(6)), [task])
    ranker = MultiTaskRanker("shared_bottom", [fitted], fit_schema(table(w=np.ones(6)), [fitted]))
    [again] = MultiTaskRanker.from_config(ranker.get_config()).tasks
    assert of_task(again) == of_task(fitted)
    assert dataclasses.replace(again, transform=fitted.transform) == fitted
