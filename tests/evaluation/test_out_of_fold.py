"""Out-of-fold values: each value is at its list, differences are paired, and their errors are those of a bootstrap."""

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from tfmtl2r import Task
from tfmtl2r.data import Lists
from tfmtl2r.evaluation import out_of_fold
from tfmtl2r.evaluation.fold_tables import tables
from tfmtl2r.evaluation.out_of_fold import MEAN, Part, differences, gathered, jackknife, load, overall, save
from tfmtl2r.evaluation.split_metrics import COUNTS, ORDER, WITHOUT, evaluate
from tfmtl2r.runs.identity import PER_LIST

LISTS, FOLDS = 60, 3


@pytest.fixture
def made(tmp_path):
    """Makes a ranker from ``value(task, partition, seed)``, ``[LISTS]``."""
    rng = np.random.default_rng(3)
    folds = [rng.integers(0, FOLDS, LISTS) for _ in range(2)]
    places = {(p, f): np.flatnonzero(folds[p] == f) for p in range(2) for f in range(FOLDS)}
    orders = {place: f"order {place}" for place in places}

    def make(name, value, tasks=("a", "b"), seeds=(0,), change=None):
        parts = []
        for (partition, fold), at in places.items():
            for seed in seeds:
                folder = tmp_path / f"{name}-{partition}-{fold}-{seed}"
                folder.mkdir()
                arrays = {f"{ORDER}test": np.array(orders[partition, fold])}
                results = {}
                for task in tasks:
                    values = value(task, partition, seed)[at]
                    arrays |= {f"test/{task}/ndcg@10": values,
                               f"{COUNTS}test/{task}/ndcg@10": (~np.isnan(values)).astype(float)}
                    results[task] = {"ndcg@10": {"value": np.nanmean(values), "direction": "max"},
                                     "auc": {"value": 0.5 + 0.1 * fold, "direction": "max"}}
                np.savez(folder / PER_LIST, **(change or (lambda found: found))(arrays))
                parts.append(Part(partition, fold, seed, results, folder))
        return gathered(name, parts, places, orders)

    return make


def test_every_value_is_at_its_list_and_seeds_are_averaged(made):
    def value(task, partition, seed):
        return np.where(np.arange(LISTS) % 7 == 0, np.nan, np.arange(LISTS) + 100.0 * partition + seed)

    row = made("ours", value, seeds=(0, 2))
    counted = np.arange(LISTS) % 7 != 0
    for partition in range(2):
        assert np.array_equal(row.values["a", "ndcg@10"][partition], value("a", partition, 1), equal_nan=True)
        assert row.totals["a", "ndcg@10"][partition] == pytest.approx(np.arange(LISTS)[counted].mean() + 1
                                                                     + 100 * partition)
    assert row.counts["a", "ndcg@10"].tolist() == [counted.tolist()] * 2
    assert np.diff(row.seeds["a", "ndcg@10"]) == pytest.approx(2)
    assert row.totals["a", "auc"] == pytest.approx(0.6)  # the mean over folds
    assert ("a", "auc") not in row.values


def test_differences_are_paired_and_their_error_is_that_of_the_mean_over_lists(made):
    rng = np.random.default_rng(0)
    hard, noise = 10 * rng.normal(size=LISTS), rng.normal(size=(2, 2, LISTS))
    ours = made("ours", lambda task, p, s: hard + 0.5 + noise["ab".index(task), p])
    theirs = made("theirs", lambda task, p, s: hard)
    found = differences(ours, theirs)
    apart = {task: 0.5 + noise["ab".index(task)].mean(axis=0) for task in "ab"}
    for task, row in apart.items():
        assert found[task].value == pytest.approx(row.mean())
        assert found[task].error == pytest.approx(row.std() / np.sqrt(LISTS), rel=0.06)
        assert found[task].by_partition == pytest.approx(0.5 + noise["ab".index(task)].mean(axis=1))
    both = (apart["a"] + apart["b"]) / 2
    assert found[MEAN].value == pytest.approx(both.mean())
    assert found[MEAN].error == pytest.approx(both.std() / np.sqrt(LISTS), rel=0.06)
    assert overall(ours) - overall(theirs) == pytest.approx(found[MEAN].by_partition)
    assert found["a"].better
    assert not differences(theirs, ours)["a"].better


@pytest.mark.parametrize("name", ["auc", pytest.param("ece", marks=pytest.mark.slow)])
def test_the_error_of_a_metric_over_all_items_is_its_deviation_between_data_sets(name):
    """Lists whose items depend on one another: the error by jackknife is the deviation over other sets of lists."""
    rng, task = np.random.default_rng(1), Task("y", kind="binary", loss="bce", metrics=(name,))
    found, errors = [], []
    for _ in range(60):
        level = np.repeat(rng.normal(size=60), 5)
        clicked = (rng.random(300) < 1 / (1 + np.exp(-level))).astype(float)
        lists = Lists({"y": clicked}, offsets=np.arange(0, 301, 5))
        both = [1 / (1 + np.exp(-(level + spread * rng.normal(size=300) - bias))) for spread, bias in ((1, 0), (2, 1))]
        results = [evaluate({"y": p}, lists, [task], levels={"y": p}, jackknife=True)["y"][name] for p in both]
        found.append(results[0].value - results[1].value)
        errors.append(jackknife((results[0].without - results[1].without)[None, None]))
    ratio = np.sqrt(np.mean(np.square(errors))) / np.std(found)
    assert 0.65 < ratio < (1.6 if name == "ece" else 1.35)  # bins make the error of ECE too large rather than too small


def test_metrics_over_all_items_have_errors_of_folds_and_seeds(made, tmp_path):
    """Values without groups are averaged over seeds, kept in the file, and paired."""
    rng = np.random.default_rng(2)

    def with_groups(shift):
        return lambda found: found | {f"{WITHOUT}test/{task}/auc": shift + rng.normal(size=10) for task in "ab"}

    def first(row):
        keys = {("a", "auc"): "max"}
        return dataclasses.replace(row, metrics=keys, values={}, totals={key: row.totals[key] for key in keys})

    ours = made("ours", lambda *_: np.ones(LISTS), seeds=(0, 1), change=with_groups(0.0))
    theirs = made("theirs", lambda *_: np.ones(LISTS), change=with_groups(5.0))
    assert ours.without["a", "auc"].shape == (2, FOLDS, 10)
    assert ours.without["a", "auc"].std() == pytest.approx(np.sqrt(0.5), rel=0.25)
    found = differences(first(ours), first(theirs))["a"]
    apart = ours.without["a", "auc"] - theirs.without["a", "auc"]
    assert found.error == pytest.approx(np.sqrt((9 * apart.var(axis=-1)).sum(axis=-1).mean()) / FOLDS)
    (tmp_path / "first-cv").mkdir()
    save([ours], "these", tmp_path / "first-cv" / out_of_fold.FILE)
    np.testing.assert_array_equal(load(tmp_path / "first-cv", "these").without["a", "auc"], ours.without["a", "auc"])
    text = io.StringIO()
    for table in tables([first(ours), first(theirs)], {"theirs": {"a": found}}, 80):
        Console(file=text, width=80).print(table)
    assert f"±{found.error:.4f}" in text.getvalue()
    assert "by jackknife" in " ".join(text.getvalue().split())
    bare = made("bare", lambda *_: np.ones(LISTS))
    assert np.isnan(differences(first(ours), first(bare))["a"].error)


def test_what_does_not_belong_together_is_refused(made, tmp_path):
    ours = made("ours", lambda *_: np.ones(LISTS))
    fewer = made("fewer", lambda *_: np.where(np.arange(LISTS) < 5, np.nan, 1.0))
    with pytest.raises(ValueError, match="ours and fewer were not measured on the same lists"):
        differences(ours, fewer)
    with pytest.raises(ValueError, match="ours and other have no task and metric in common"):
        differences(ours, made("other", lambda *_: np.ones(LISTS), tasks=("c",)))
    with pytest.raises(ValueError, match=r"was trained on other data: the lists of fold 0 \(partition 0\) have chan"):
        made("old", lambda *_: np.ones(LISTS), change=lambda found: found | {f"{ORDER}test": np.array("another")})
    folder = tmp_path / "first-cv"
    folder.mkdir()
    save([ours, fewer], "these", folder / out_of_fold.FILE)
    again = load(folder, "these")
    assert again.name == "first"
    assert again.metrics == ours.metrics
    for field in ("values", "counts", "totals", "seeds"):
        assert {key: array.tolist() for key, array in getattr(again, field).items()} == {
            key: array.tolist() for key, array in getattr(ours, field).items()}
    with pytest.raises(ValueError, match="has values of other lists, folds or partitions"):
        load(folder, "others")
    with pytest.raises(FileNotFoundError, match="neither a baseline"):
        load(tmp_path / "nowhere", "these")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("tasks", [("a",), ("relevance", "quality", "quality2", "clicks", "dwell", "a_task_of[me]")])
def test_tables_fit_their_width(made, width, tasks):
    ours = made("ours", lambda *_: np.linspace(0, 1, LISTS), tasks, seeds=(0, 1))
    theirs = made("theirs", lambda *_: np.full(LISTS, 0.25), tasks)
    theirs = dataclasses.replace(theirs, name="catboost:loss='YetiRank'!")
    text = io.StringIO()
    console = Console(file=text, width=width)
    for table in tables([ours, theirs], {theirs.name: differences(ours, theirs)}, width):
        console.print(table)
    shown = text.getvalue()
    assert max(map(len, shown.split("\n"))) <= width
    assert all(part in shown for part in ("0.5000", "0.2500", "+0.2500", "±0.0", *tasks))
    assert ("mean" in shown) == (len(tasks) > 1)
    assert "…" not in shown.replace("catboost:loss='YetiRank…", "")
    assert shown.count("by partition") == 1
