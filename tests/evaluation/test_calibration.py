"""Calibration of a ranker: metrics of levels in training, reports and slices, and tasks that have no level."""

import numpy as np
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task, metrics
from tfmtl2r._backend import keras
from tfmtl2r.data import Lists, batches
from tfmtl2r.evaluation import evaluate
from tfmtl2r.evaluation.scoring import described, score, score_slices
from tfmtl2r.evaluation.slices import slicing
from tfmtl2r.evaluation.stopping import check_stop_on
from tfmtl2r.report.tables import results_table, slice_tables

SMALL = {"name": "shared_bottom", "units": (4,), "head_units": ()}
LEVELS = ("auc", "ece", "normalised_entropy", "calibration_ratio")
X = Schema([Dense("x")])


def lists(number=200, seed=0):
    """Lists of five items whose clicks depend on x, some of them missing."""
    random = np.random.default_rng(seed)
    x = random.normal(size=5 * number)
    click = (random.random(x.size) < 1 / (1 + np.exp(1 - 2 * x))).astype(float)
    click[random.random(x.size) < 0.1] = np.nan
    click[:3] = -1
    return Lists({"x": x, "click": click, "w": random.integers(0, 4, x.size).astype(float),
                  "device": np.repeat(random.integers(0, 2, number), 5), "dwell": np.exp(x)},
                 offsets=np.arange(0, x.size + 1, 5))


LISTS = lists()


def ranker_of(*tasks, epochs=2, **options):
    keras.utils.set_random_seed(0)
    ranker = MultiTaskRanker(SMALL, tasks, X, has_lists=True, **options)
    ranker.compile(keras.optimizers.Adam(0.05), train_metrics=False)
    ranker.fit(batches(LISTS, tasks, X, batch_size=64), epochs=epochs, verbose=0)
    return ranker


@pytest.fixture(scope="module")
def trained():
    return ranker_of(Task("click", kind="binary", loss="bce", metrics=LEVELS, weight_column="w"),
                     Task("dwell", kind="regression", metrics=("mse", "calibration_ratio")))


def test_metrics_of_levels_read_probabilities_everywhere(trained):
    """In training, in reports and in slices: weighted, without missing labels, and of sigmoid(score)."""
    p = 1 / (1 + np.exp(-trained.predict(batches(LISTS, (), X), layout="items")["click"]))
    y, w, device = (LISTS.columns[name] for name in ("click", "w", "device"))
    known = y >= 0
    expected = {name: metrics.get(name).exact(y[known], p[known], w[known]) for name in LEVELS[1:]}
    found = score(trained, LISTS)["click"]
    logs = trained.evaluate(batches(LISTS, trained.tasks, X), return_dict=True, verbose=0)
    slices = score_slices(trained, LISTS, [slicing(LISTS, "device")])["device"]
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-4)
        assert logs[f"click_{name}"] == pytest.approx(value, rel=1e-4)
        part = known & (device == 1)
        in_part = slices["slices"]["1"]["results"]["click"][name]
        assert in_part["value"] == pytest.approx(metrics.get(name).exact(y[part], p[part], w[part]), rel=1e-4)
        if name != "calibration_ratio":
            calibrated = metrics.get(name).if_calibrated()
            assert in_part["if_calibrated"] == pytest.approx(calibrated.exact(y[part], p[part], w[part]), rel=1e-4)
    dwell = np.asarray(trained.values({"dwell": trained.predict(batches(LISTS, (), X), layout="items")["dwell"]})["dwell"])
    assert score(trained, LISTS)["dwell"]["calibration_ratio"].value == pytest.approx(
        dwell.sum() / LISTS.columns["dwell"].sum(), rel=1e-4)


def test_tables_show_what_a_calibrated_model_would_show(trained, capsys):
    results = {"mine": described(score(trained, LISTS)), "other": described(score(trained, LISTS))}
    from rich.console import Console

    console = Console(width=200)
    console.print(results_table(results, "test"))
    for table in slice_tables(score_slices(trained, LISTS, [slicing(LISTS, "device")])["device"], "device", 200):
        console.print(table)
    text, ece = capsys.readouterr().out, results["mine"]["click"]["ece"]
    assert f"{ece['value']:.4f} ({ece['if_calibrated']:.4f})" in text
    assert text.count("(0.") >= 2 * 2 + 2 * 2


@pytest.mark.parametrize(("task", "message"), [
    (Task("click", kind="binary", metrics=("ece",)), "ece reads probabilities, but the scores of the loss Softmax are"),
    (Task("click", kind="binary", loss="mse", metrics=("normalised_entropy",)), "of the loss MSE are none"),
    (Task("click", metrics=("ece",), loss="bce"), "of a label of 0 or 1, but the task is graded"),
    (Task("dwell", kind="regression", loss="pairwise_mse", metrics=("calibration_ratio",)),
     "calibration_ratio reads values in the label's unit, .* such as 'mse'"),
])
def test_a_task_without_a_level_is_refused_before_training(task, message):
    with pytest.raises(ValueError, match=message):
        MultiTaskRanker(SMALL, [task], X, has_lists=True)
    ranker = MultiTaskRanker(SMALL, [task], X)  # the data decide whether there are lists
    ranker.compile()
    with pytest.raises(ValueError, match=message):
        ranker.fit(batches(LISTS, [task], X), verbose=0)


def test_a_ranking_without_values_has_no_metric_of_levels():
    task = Task("click", kind="binary", metrics=LEVELS)
    scores = {"click": np.random.default_rng(0).normal(size=LISTS.num_items)}
    assert list(evaluate(scores, LISTS, [task])["click"]) == ["auc"]
    levels = {"click": np.full(LISTS.num_items, 0.5)}
    assert list(evaluate(scores, LISTS, [task], levels=levels)["click"]) == list(LEVELS)


@pytest.mark.parametrize(("names", "stop_on", "message"), [
    (("ece", "auc"), None, "ece of click has none: the base rate"),
    (("calibration_ratio",), None, "calibration_ratio of click has none"),
    (("auc", "calibration_ratio"), "val_click_calibration_ratio", "which has no better side"),
])
def test_early_stopping_needs_a_better_side(names, stop_on, message):
    ranker = MultiTaskRanker(SMALL, [Task("click", kind="binary", loss="bce", metrics=names)], X, has_lists=True)
    ranker.compile()
    with pytest.raises(ValueError, match=message):
        check_stop_on(ranker, LISTS, stop_on)
    check_stop_on(ranker, LISTS, f"val_click_{names[0]}" if names[0] == "ece" else "val_click_loss")
