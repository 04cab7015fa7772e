"""Tests list by list: exact where they can be, with the right error rates, and adjusted for how many there are."""

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from tfmtl2r import evaluation
from tfmtl2r.evaluation import significance
from tfmtl2r.evaluation.significance import grouped, mean_results, single_runs
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.finished import Run
from tfmtl2r.runs.identity import PER_LIST


def test_permutations_are_exact_for_few_lists(rng):
    difference = rng.normal(size=6)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    expected = np.mean(abs((signs * difference).mean(axis=1)) >= abs(difference.mean()) - 1e-12)
    assert evaluation.permutation_test(difference, np.zeros(6)) == expected
    assert evaluation.permutation_test(-difference, np.zeros(6)) == expected
    # Lists without a difference, or that do not count, change nothing.
    padded = np.concatenate([difference, np.zeros(30), [np.nan]])
    assert evaluation.permutation_test(padded, np.zeros(37)) == expected
    assert evaluation.permutation_test([1.0, 2.0], [1.0, 2.0]) == 1.0


@pytest.mark.parametrize("count", [1, 2, 11, 14])
def test_permutations_are_exact_whatever_the_number_of_lists(count, rng):
    signs = np.array(list(itertools.product((-1, 1), repeat=count)))
    for difference in (rng.normal(size=count), rng.integers(-2, 3, count) / 10 + 0.3):  # the latter with ties
        expected = np.mean(abs(signs @ difference) >= abs(difference.sum()) - 1e-9)
        assert evaluation.permutation_test(difference, np.zeros(count)) == expected
    assert evaluation.permutation_test(np.tile([1.0, -1.0], 8), np.zeros(16)) == 1.0


def test_exact_and_random_permutations_agree(rng):
    difference = rng.normal(0.3, 1, 32)
    exact = evaluation.permutation_test(difference, np.zeros(32))
    random = evaluation.permutation_test(np.r_[difference, 1e-9], np.zeros(33), draws=200_000)
    assert 0.001 < exact < 0.5
    np.testing.assert_allclose(random, exact, atol=4 * np.sqrt(exact / 10_000))


def test_draws_grow_with_the_number_of_comparisons(monkeypatch):
    seen = []
    monkeypatch.setattr(significance, "_tested", lambda compared, *rest: seen.append(rest[-1]) or dataclasses.replace(
        compared, p=1 / (1 + rest[-1])))
    results = {f"t{i}": {"m": {"value": 1.0, "direction": "max"}} for i in range(300)}
    run = Run(Path("x"), RunCard("x", {}, {"test": {"fingerprint": "f"}}, {"test": results}))
    found = significance.compare({"a": [run], "b": [run], "c": [run]}, "a")
    assert len(found) == 600
    assert {*seen} == {240_000}
    assert max(c.adjusted for c in found) < 0.05  # 600 comparisons that could not be clearer can be significant


def test_permutations_flip_what_a_list_adds_to_the_weighted_mean(rng):
    difference, weights = rng.normal(size=7), rng.integers(1, 9, 7).astype(float)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 7)).reshape(7, -1).T
    means = abs((signs * difference * weights).sum(axis=1) / weights.sum())
    expected = np.mean(means >= abs(np.average(difference, weights=weights)) - 1e-12)
    assert evaluation.permutation_test(difference, np.zeros(7), weights=weights) == expected
    assert evaluation.permutation_test(difference, np.zeros(7)) != expected
    padded = np.r_[difference, 9.0], np.zeros(8), 10_000, 0, np.r_[weights, 0.0]  # counts not once
    assert evaluation.permutation_test(*padded) == expected


def test_random_permutations_agree_with_the_normal_approximation(rng):
    difference = rng.normal(0.2, 1, 100)
    z = difference.sum() / np.sqrt((difference**2).sum())
    normal = math.erfc(abs(z) / math.sqrt(2))
    np.testing.assert_allclose(evaluation.permutation_test(difference, np.zeros(100)), normal, atol=0.015)
    assert evaluation.permutation_test(np.ones(50), np.zeros(50)) == 1 / 10_001
    first, second = (evaluation.permutation_test(difference, np.zeros(100)) for _ in range(2))
    assert first == second


def test_equal_rankers_are_called_different_as_rarely_as_promised(rng):
    p = [evaluation.permutation_test(rng.normal(size=9), np.zeros(9)) for _ in range(300)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09
    np.testing.assert_allclose(np.mean(p), 0.5, atol=0.05)


def test_paired_values_are_checked():
    with pytest.raises(ValueError, match="same lists"):
        evaluation.permutation_test([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no list counts"):
        evaluation.permutation_test([np.nan], [1.0])


def test_holm_steps_down():
    np.testing.assert_allclose(evaluation.holm([0.01, 0.04, 0.03, 0.005]), [3 * 0.01, 0.06, 0.06, 4 * 0.005])
    np.testing.assert_allclose(evaluation.holm([0.6, 0.7]), [1, 1])
    assert evaluation.holm([]).shape == (0,)
    p = np.random.default_rng(0).random(20)
    adjusted = evaluation.holm(p)
    assert (adjusted >= p).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        evaluation.holm([1.5])


def test_delta_m_counts_each_metric_in_its_direction():
    def results(ndcg, auc, mse):
        return {"click": {"ndcg@5": {"value": ndcg, "direction": "max"}, "auc": {"value": auc, "direction": "max"}},
                "price": {"mse": {"value": mse, "direction": "min"}}}

    single = results(0.5, 0.8, 2.0)
    assert evaluation.delta_m(single, single) == 0
    expected = 100 * np.mean([np.mean([-(0.6 - 0.5) / 0.5, -(0.76 - 0.8) / 0.8]), (2.2 - 2.0) / 2.0])
    np.testing.assert_allclose(evaluation.delta_m(results(0.6, 0.76, 2.2), single), expected)
    with pytest.raises(ValueError, match="single-task value other than 0 of price mse"):
        evaluation.delta_m(single, {"click": single["click"]})
    for bad in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="single-task value other than 0 of price mse"):
            evaluation.delta_m(single, results(0.5, 0.8, bad))
    with pytest.raises(ValueError, match="finite value of click auc, got nan"):
        evaluation.delta_m(results(0.5, math.nan, 2.0), single)
    lower_is_better = evaluation.delta_m(results(0.5, 0.8, -3.0), results(0.5, 0.8, -2.0))
    np.testing.assert_allclose(lower_is_better, -25)


def make(tmp_path, name, values, seed=0, direction="max", fingerprint="f", counts=None, **config):
    """A finished run with given values per list: task -> [lists], each of which counts so many times."""
    settings = {"name": name, "method": "mgda", "architecture": {"name": "shared_bottom"}, "data": {"name": "x"},
                "tasks": [{"name": task} for task in values], **config,
                "training": {"seed": seed, "patience": 0, "epochs": 1, **config.get("training", {})}}
    card = RunCard(name, settings, {"test": {"fingerprint": fingerprint}}, {
        "test": {task: {"ndcg@5": {"value": mean(v, counts), "direction": direction, "num_lists": len(v)}}
                 for task, v in values.items()}
    })
    card.save(tmp_path / name)
    arrays = {f"test/{task}/ndcg@5": v for task, v in values.items()}
    if counts is not None:
        arrays |= {f"counts/{key}": counts for key in arrays}
    np.savez(tmp_path / name / PER_LIST, **arrays)
    return Run(tmp_path / name, card)


def mean(values, counts=None):
    """Of the lists that count."""
    weights = (np.ones_like(values) if counts is None else counts) * ~np.isnan(values)
    return float(np.nansum(values * weights) / weights.sum()) if weights.any() else np.nan


def test_comparison_finds_the_planted_difference_and_only_that(tmp_path, rng):
    base = {task: rng.random(200) for task in ("click", "buy")}
    noise = {task: rng.normal(0, 0.05, 200) for task in base}
    runs = [
        make(tmp_path, "a", base), make(tmp_path, "a2", base, seed=1),
        make(tmp_path, "b", {"click": base["click"] + 0.05 + noise["click"], "buy": base["buy"] + noise["buy"]},
             method="epo"),
        make(tmp_path, "c", {"click": base["click"] + noise["buy"], "buy": base["buy"] - 0.05 + noise["click"]},
             method={"name": "cagrad", "c": 0.5}),
    ]
    groups = grouped(runs)
    assert {name: len(of) for name, of in groups.items()} == {"mgda": 2, "epo": 1, "cagrad c=0.5": 1}
    found = {(c.ours, c.task): c for c in evaluation.compare(groups, "mgda")}
    assert {key: c.mark for key, c in found.items()} == {
        ("epo", "click"): "+", ("epo", "buy"): "", ("cagrad c=0.5", "click"): "", ("cagrad c=0.5", "buy"): "-",
    }
    epo = found["epo", "click"]
    assert epo.low < 0.05 < epo.high
    assert epo.num_lists == 200
    assert epo.adjusted == pytest.approx(4 * epo.p)
    np.testing.assert_allclose(mean_results(groups["mgda"])["click"]["ndcg@5"]["value"], base["click"].mean())


def test_a_repeated_run_is_no_further_seed(tmp_path, rng):
    """A second run of the same settings and seed is a row of its own, also under the same name in another folder."""
    base = {"click": rng.random(50), "buy": rng.random(50)}
    runs = [make(tmp_path, "a", base), make(tmp_path, "a1", base, seed=1), make(tmp_path, "again", base),
            make(tmp_path / "other", "a", base), make(tmp_path / "other", "a1", base, seed=1)]
    groups = grouped(runs)
    assert [[run.folder.name for run in of] for of in groups.values()] == [["a", "a1"], ["again", "a1"], ["a"]]
    assert all(len({run.card.config["training"]["seed"] for run in of}) == len(of) for of in groups.values())
    assert sorted(run.folder for of in groups.values() for run in of) == sorted(run.folder for run in runs)


def test_small_is_good_turns_the_marks(tmp_path, rng):
    base = rng.random(100)
    runs = [make(tmp_path, "a", {"click": base}, direction="min"),
            make(tmp_path, "b", {"click": base - 0.1 * rng.random(100)}, direction="min", method="epo")]
    found = evaluation.compare({"a": runs[:1], "b": runs[1:]}, "a")
    assert found[0].difference < 0
    assert found[0].mark == "+"


def test_negative_transfer_says_which_task_lost(tmp_path, rng):
    base = {task: rng.random(150) for task in ("click", "buy")}
    both = make(tmp_path, "both", {"click": base["click"] - 0.05 - 0.01 * rng.random(150),
                                   "buy": base["buy"] + 0.001 * rng.normal(size=150)})
    alone = [make(tmp_path, f"{task}{seed}", {task: base[task]}, seed=seed, method="linear_scalarization")
             for task in base for seed in (0, 1)]
    other = make(tmp_path, "other", {"click": base["click"]}, training={"batch_size": 7})  # not comparable
    single = single_runs([both], [both, *alone, other])
    assert {task: [run.card.name for run in runs] for task, runs in single.items()} == {
        "click": ["click0", "click1"], "buy": ["buy0", "buy1"]
    }
    found = evaluation.negative_transfer({"both": [both]}, {"both": single})
    assert [(c.task, c.mark) for c in found] == [("click", "-"), ("buy", "")]


def test_comparison_is_of_what_the_table_shows(tmp_path, rng):
    counts = np.r_[np.full(30, 40.0), np.full(120, 2.0)]
    base = rng.random(150)
    base[7] = np.nan
    ours = base + np.where(counts > 2, 0.1, -0.1) + 0.01 * rng.normal(size=150)
    groups = {"a": [make(tmp_path, f"a{seed}", {"click": base}, seed, counts=counts) for seed in (0, 1)],
              "b": [make(tmp_path, "b", {"click": ours}, method="epo", counts=counts)]}
    (found,) = evaluation.compare(groups, "a")
    shown = [mean_results(groups[name])["click"]["ndcg@5"]["value"] for name in "ba"]
    np.testing.assert_allclose(found.difference, shown[0] - shown[1])
    assert found.difference > 0.05
    assert found.mark == "+"
    assert found.num_lists == 149
    assert np.nanmean(ours - base) < 0  # what a plain mean over lists says
    # A file that does not say how often lists count is believed only if the metric is their plain mean.
    np.savez(groups["b"][0].folder / PER_LIST, **{"test/click/ndcg@5": ours})
    assert evaluation.compare(groups, "a") == []
    (found,) = evaluation.compare(groups, "a", untested=True)
    assert "run 'b' does not contain how many times each list counts" in found.untested
    assert "run tfmtl2r evaluate b" in found.untested
    np.testing.assert_allclose(found.difference, shown[0] - shown[1])
    plain = {"a": [make(tmp_path, "p", {"click": base})],
             "b": [make(tmp_path, "q", {"click": ours}, counts=(~np.isnan(base)).astype(float))]}
    assert evaluation.compare(plain, "a")[0].difference == pytest.approx(np.nanmean(ours - base))
    (found,) = evaluation.compare({"a": groups["a"], "b": plain["b"]}, "a", untested=True)
    assert "measured this metric in different ways" in found.untested


def test_what_cannot_be_tested_is_listed_with_its_difference(tmp_path, rng):
    base, nothing = rng.random(50), np.full(50, np.nan)
    both = make(tmp_path, "both", {"click": base - 0.1, "buy": base - 0.4, "like": nothing, "view": nothing})
    both.card.results["test"]["view"]["ndcg@5"]["value"] = 0.5
    alone = {task: [make(tmp_path, task, {task: base})] for task in ("click", "buy", "like", "view")}
    np.savez(both.folder / PER_LIST, **{"test/click/ndcg@5": base - 0.1, "test/view/ndcg@5": nothing})
    found = {c.task: c for c in evaluation.negative_transfer({"both": [both]}, {"both": alone}, untested=True)}
    assert [task for task, c in found.items() if not c.untested] == ["click"]
    assert found["click"].adjusted == found["click"].p < 0.05
    assert found["buy"].difference == pytest.approx(-0.4)
    assert found["buy"].untested == "the metric has no values per list"
    assert found["like"].untested == "the metric is nan in run 'both'"
    assert found["view"].untested
    assert {c.mark for c in found.values()} == {"-", ""}
    tested = evaluation.negative_transfer({"both": [both]}, {"both": alone})
    assert [c.task for c in tested] == ["click"]


@pytest.mark.parametrize("setting", [{"staged": True}, {"constraints": [{"task": "click", "at_most": 1.0}]},
                                     {"conditioned": 1.0}, {"training": {"steps_per_execution": 4}},
                                     {"training": {"train_metrics": True}}])
def test_single_task_runs_need_not_share_what_is_about_several_tasks(tmp_path, rng, setting):
    values = rng.random(5)
    off = {"staged": False, "constraints": [], "training": {"steps_per_execution": 1, "train_metrics": False}}
    both = make(tmp_path, "both", {"click": values, "buy": values}, **{**off, **setting})
    alone = make(tmp_path, "click", {"click": values}, **off)
    longer = make(tmp_path, "longer", {"buy": values}, **{**off, "training": {"epochs": 9}})
    other = make(tmp_path, "other", {"buy": values}, fingerprint="g")
    assert list(single_runs([both], [alone, longer, other])) == ["click"]
    named = single_runs([both], [alone, longer, other], alike=False)
    assert {task: [run.card.name for run in runs] for task, runs in named.items()} == {
        "click": ["click"], "buy": ["longer"]
    }


def test_runs_on_other_data_are_refused(tmp_path, rng):
    runs = [make(tmp_path, "a", {"click": rng.random(5)}),
            make(tmp_path, "b", {"click": rng.random(5)}, fingerprint="g", method="epo")]
    with pytest.raises(ValueError, match="'a' and 'b' saw different data: their test splits differ"):
        evaluation.compare({"a": runs[:1], "b": runs[1:]}, "a")
    with pytest.raises(ValueError, match="baseline must be one of a"):
        evaluation.compare({"a": runs[:1]}, "c")
    other = make(tmp_path, "c", {"click": rng.random(5)}, method="epo")
    with pytest.raises(ValueError, match="was not evaluated on vali: tfmtl2r evaluate c --split vali"):
        evaluation.compare({"a": runs[:1], "b": [other]}, "a", "vali")


def test_values_of_lists_in_different_orders_are_not_paired(tmp_path, rng):
    values = rng.random(50)
    groups = {name: [make(tmp_path, name, {"click": values + shift}, method=name)]
              for name, shift in (("epo", 0.0), ("mgda", 0.01))}
    for (run,), order in zip(groups.values(), ("a", "b"), strict=True):
        path = run.folder / PER_LIST
        np.savez(path, **{**np.load(path), "order/test": np.array(order)})
    (row,) = evaluation.compare(groups, "epo", untested=True)
    assert "different orders" in row.untested
