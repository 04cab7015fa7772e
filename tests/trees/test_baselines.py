"""Baselines: found by name, trained on the training split alone, tuned on validation, refused without their library."""

import dataclasses
import importlib.util
import warnings

import numpy as np
import pytest

from tfmtl2r import Category, Dense, Schema, Task, baselines
from tfmtl2r.baselines import Baseline, Training, Trees
from tfmtl2r.baselines.base import centred, standardised
from tfmtl2r.data import Lists

LIBRARIES = {"lightgbm": "lightgbm", "catboost": "catboost", "xgboost": "xgboost"}


def lists(count, seed, rows=False):
    """Lists of 6 items, whose labels follow one number and one category."""
    rng = np.random.default_rng(seed)
    items = 6 * count
    x, brand = rng.normal(size=items), rng.integers(0, 3, items)
    signal = x + np.array([1.0, 0.0, -1.0])[brand] + 0.3 * rng.normal(size=items)
    columns = {"x": np.where(rng.random(items) < 0.1, np.nan, x), "brand": np.array(["a", "b", "c"], object)[brand],
               "grade": np.digitize(signal, [0, 1]).astype(float), "click": (signal > 0).astype(float),
               "dwell": 3 * signal, "w": rng.integers(0, 3, items).astype(float)}
    columns["grade"][rng.random(items) < 0.1] = np.nan
    return Lists(columns, None if rows else np.arange(0, items + 1, 6))


SCHEMA = Schema([Dense("x"), Category("brand", vocabulary=("a", "b", "c"))])
TASKS = (Task("grade", metrics=("ndcg@3",)), Task("click", kind="binary", metrics=("ndcg@3",), weight_column="w"),
         Task("dwell", kind="regression", metrics=("mse",)))


def training(rows=False, tasks=TASKS):
    tasks = [dataclasses.replace(task, metrics=("auc",) if task.kind == "binary" else ("mse",))
             for task in tasks if not rows or task.kind != "graded"] if rows else tasks
    return Training(lists(40, 0, rows), lists(20, 1, rows), tuple(tasks), SCHEMA)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("name", ["lightgbm", "catboost", {"name": "catboost", "loss": "YetiRank"}, "xgboost"],
                         ids=lambda name: name if isinstance(name, str) else "yeti_rank")
def test_each_library_learns_every_kind_of_task(name, rows):
    options = {"name": name} if isinstance(name, str) else name
    if importlib.util.find_spec(LIBRARIES[options["name"]]) is None:
        pytest.skip(f"{options['name']} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        data, test = training(rows), lists(30, 2, rows)
        made = baselines.get({**options, "rounds": (3, 30), "grid": [{}]})
        fitted = made.fit(data)
        found = fitted.evaluate(test, data.tasks)
        again = made.fit(data).scores(test)
    for task, scores in fitted.scores(test).items():
        assert scores.tolist() == again[task].tolist()
        assert fitted.chosen[task]["rounds"] in (3, 30)
    assert found["dwell"]["mse"].value < 0.5 * test.columns["dwell"].var()
    if rows:
        assert found["click"]["auc"].value > 0.8
        assert 0 <= fitted.scores(test)["click"].min() <= fitted.scores(test)["click"].max() <= 1
    else:
        assert found["grade"]["ndcg@3"].value > 0.85
        assert found["click"]["ndcg@3"].value > 0.85
        assert fitted.valued == {"dwell"}


class Recorded(Trees):
    """Scores are the first input times the rounds' sign; every training is noted."""

    library = "numpy"
    settings = ({"sign": -1}, {"sign": 1})
    seen: list = []  # noqa: RUF012

    def train(self, table, objective, settings, rounds, seed):
        self.seen.append((table, objective, settings, rounds, seed))
        return settings

    def predict(self, model, inputs, rounds):
        return np.nan_to_num(inputs[:, 0]) * model["sign"] * (1 if rounds == 2 else -1)


def test_settings_are_chosen_on_validation_and_models_see_training_rows_with_a_label():
    data = training()
    Recorded.seen.clear()
    fitted = Recorded(rounds=(5, 2)).fit(data)
    assert fitted.chosen["grade"] == {"sign": -1, "rounds": 5}  # of two equally good ones, the first
    assert fitted.chosen["dwell"]["rounds"] in (2, 5)
    table, objective, settings, rounds, _ = Recorded.seen[0]
    labels = data.train.columns["grade"]
    assert (objective, settings, rounds) == ("ranking", {"sign": -1}, 5)
    assert len(table.labels) == np.isfinite(labels).sum() == table.sizes.sum()
    assert table.inputs.shape[1] == 2
    assert table.categories == (1,)
    weighted = next(table for table, *_ in Recorded.seen if len(set(table.weights)) > 1)
    assert weighted.weights.min() > 0  # rows of weight 0 are left out
    assert {objective for _, objective, *_ in Recorded.seen} == {"ranking", "regression"}


def test_a_missing_library_and_a_task_without_labels_are_refused_in_words():
    class Absent(Recorded):
        library, extra = "a_library_that_is_not_there", "'tfmtl2r[absent]'"

    with pytest.raises(ValueError, match=r"Absent needs a_library_that_is_not_there, which is not installed: pip inst"
                       r"all 'tfmtl2r\[absent\]'"):
        Absent().fit(training())
    data = training()
    bare = dataclasses.replace(data, train=data.train.with_column("grade", np.full(data.train.num_items, np.nan)))
    with pytest.raises(ValueError, match="task 'grade' has no labels in the training split"):
        Recorded().fit(bare)
    with pytest.raises(ValueError, match="rounds must be numbers of trees of at least 1"):
        Recorded(rounds=())
    with pytest.raises(ValueError, match="an average needs at least two baselines"):
        baselines.get("average", of=["lightgbm"])


def test_every_baseline_can_be_described_and_imports_its_library_late():
    assert {"average", "catboost", "lightgbm", "xgboost"} <= set(baselines.names())
    for name in baselines.names():
        made = baselines.get(name)
        assert isinstance(made, Baseline)
        assert baselines.registry.describe(made) == {"name": name}
        assert baselines.card(name).title


def test_an_average_standardises_within_the_list_and_trains_each_member_once(least_squares):
    data = training()
    wrong = {"name": least_squares, "sign": -1.0}
    mean = baselines.get("average", of=[least_squares, wrong]).fit(data)
    assert mean.scores(data.vali)["dwell"] == pytest.approx(0, abs=1e-9)
    assert len(data.fitted) == 2
    one = data.fit(baselines.get(least_squares), {"name": least_squares})
    assert len(data.fitted) == 2
    twice = baselines.get("average", of=[least_squares, least_squares]).fit(data).scores(data.vali)["dwell"]
    assert twice == pytest.approx(standardised(one.scores(data.vali)["dwell"], data.vali))
    assert len(data.fitted) == 2


def test_standardised_scores_have_the_golden_values():
    of = Lists({"x": np.zeros(5)}, np.array([0, 3, 5]))
    found = standardised(np.array([2.0, 0.0, -1.0, 3.0, 3.0]), of)
    assert found == pytest.approx([1.336306210, -0.267261242, -1.069044968, 0, 0], abs=1e-9)
    assert standardised(1e6 + 1e-3 * np.array([2.0, 0.0, -1.0, 3.0, 3.0]), of) == pytest.approx(found, abs=1e-4)
    assert centred(np.array([2.0, 0.0, 1.0, 7.0, 9.0]), of).tolist() == [1, -1, 0, -1, 1]
