"""Tests list by list: exact where they can be, with the right error rates, and adjusted for how many there are."""

import math

import numpy as np
import pytest

from tfmtl2r import pareto
from tfmtl2r.pareto.runs import Run
from tfmtl2r.pareto.significance import grouped, mean_results, single_runs
from tfmtl2r.report.run_card import PER_LIST, RunCard


def test_permutations_are_exact_for_few_lists(rng):
    difference = rng.normal(size=6)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    expected = np.mean(abs((signs * difference).mean(axis=1)) >= abs(difference.mean()) - 1e-12)
    assert pareto.permutation_test(difference, np.zeros(6)) == expected
    assert pareto.permutation_test(-difference, np.zeros(6)) == expected
    # Lists without a difference, or that do not count, change nothing.
    padded = np.concatenate([difference, np.zeros(30), [np.nan]])
    assert pareto.permutation_test(padded, np.zeros(37)) == expected
    assert pareto.permutation_test([1.0, 2.0], [1.0, 2.0]) == 1.0


def test_random_permutations_agree_with_the_normal_approximation(rng):
    difference = rng.normal(0.2, 1, 100)
    z = difference.sum() / np.sqrt((difference**2).sum())
    normal = math.erfc(abs(z) / math.sqrt(2))
    np.testing.assert_allclose(pareto.permutation_test(difference, np.zeros(100)), normal, atol=0.015)
    assert pareto.permutation_test(np.ones(50), np.zeros(50)) == 1 / 10_001
    assert pareto.permutation_test(difference, np.zeros(100)) == pareto.permutation_test(difference, np.zeros(100))


def test_equal_rankers_are_called_different_as_rarely_as_promised(rng):
    p = [pareto.permutation_test(rng.normal(size=9), np.zeros(9)) for _ in range(300)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09
    np.testing.assert_allclose(np.mean(p), 0.5, atol=0.05)


def test_paired_values_are_checked():
    with pytest.raises(ValueError, match="same lists"):
        pareto.permutation_test([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no list counts"):
        pareto.permutation_test([np.nan], [1.0])


def test_holm_steps_down():
    np.testing.assert_allclose(pareto.holm([0.01, 0.04, 0.03, 0.005]), [3 * 0.01, 0.06, 0.06, 4 * 0.005])
    np.testing.assert_allclose(pareto.holm([0.6, 0.7]), [1, 1])
    assert pareto.holm([]).shape == (0,)
    p = np.random.default_rng(0).random(20)
    adjusted = pareto.holm(p)
    assert (adjusted >= p).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        pareto.holm([1.5])


def test_delta_m_counts_each_metric_in_its_direction():
    def results(ndcg, auc, mse):
        return {"click": {"ndcg@5": {"value": ndcg, "direction": "max"}, "auc": {"value": auc, "direction": "max"}},
                "price": {"mse": {"value": mse, "direction": "min"}}}

    single = results(0.5, 0.8, 2.0)
    assert pareto.delta_m(single, single) == 0
    expected = 100 * np.mean([np.mean([-(0.6 - 0.5) / 0.5, -(0.76 - 0.8) / 0.8]), (2.2 - 2.0) / 2.0])
    np.testing.assert_allclose(pareto.delta_m(results(0.6, 0.76, 2.2), single), expected)
    with pytest.raises(ValueError, match="single-task value other than 0 of price mse"):
        pareto.delta_m(single, {"click": single["click"]})


def make(tmp_path, name, values, seed=0, direction="max", fingerprint="f", **config):
    """A finished run with given values per list: task -> [lists]."""
    settings = {"name": name, "method": "mgda", "architecture": {"name": "shared_bottom"}, "preference": [],
                "tasks": list(values), "seed": seed, "patience": 0, "epochs": 1, "data": "x", **config}
    card = RunCard(name, settings, {"test": {"fingerprint": fingerprint}}, {
        "test": {task: {"ndcg@5": {"value": float(np.nanmean(v)), "direction": direction, "lists": len(v)}}
                 for task, v in values.items()}
    })
    card.save(tmp_path / name)
    np.savez(tmp_path / name / PER_LIST, **{f"test/{task}/ndcg@5": v for task, v in values.items()})
    return Run(tmp_path / name, card)


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
    found = {(c.ours, c.task): c for c in pareto.compare(groups, "mgda")}
    assert {key: c.mark for key, c in found.items()} == {
        ("epo", "click"): "+", ("epo", "buy"): "", ("cagrad c=0.5", "click"): "", ("cagrad c=0.5", "buy"): "-",
    }
    epo = found["epo", "click"]
    assert epo.low < 0.05 < epo.high
    assert epo.lists == 200
    assert epo.adjusted == pytest.approx(4 * epo.p)
    np.testing.assert_allclose(mean_results(groups["mgda"])["click"]["ndcg@5"]["value"], base["click"].mean())


def test_small_is_good_turns_the_marks(tmp_path, rng):
    base = rng.random(100)
    runs = [make(tmp_path, "a", {"click": base}, direction="min"),
            make(tmp_path, "b", {"click": base - 0.1 * rng.random(100)}, direction="min", method="epo")]
    found = pareto.compare({"a": runs[:1], "b": runs[1:]}, "a")
    assert found[0].difference < 0
    assert found[0].mark == "+"


def test_negative_transfer_says_which_task_lost(tmp_path, rng):
    base = {task: rng.random(150) for task in ("click", "buy")}
    both = make(tmp_path, "both", {"click": base["click"] - 0.05 - 0.01 * rng.random(150),
                                   "buy": base["buy"] + 0.001 * rng.normal(size=150)})
    alone = [make(tmp_path, f"{task}{seed}", {task: base[task]}, seed=seed, method="linear_scalarization")
             for task in base for seed in (0, 1)]
    other = make(tmp_path, "other", {"click": base["click"]}, batch_size=7)  # not comparable
    single = single_runs([both], [both, *alone, other])
    assert {task: [run.card.name for run in runs] for task, runs in single.items()} == {
        "click": ["click0", "click1"], "buy": ["buy0", "buy1"]
    }
    found = pareto.negative_transfer({"both": [both]}, {"both": single})
    assert [(c.task, c.mark) for c in found] == [("click", "-"), ("buy", "")]


def test_runs_on_other_data_are_refused(tmp_path, rng):
    runs = [make(tmp_path, "a", {"click": rng.random(5)}),
            make(tmp_path, "b", {"click": rng.random(5)}, fingerprint="g", method="epo")]
    with pytest.raises(ValueError, match="'a' and 'b' saw different data: their test splits differ"):
        pareto.compare({"a": runs[:1], "b": runs[1:]}, "a")
    with pytest.raises(ValueError, match="baseline must be one of a"):
        pareto.compare({"a": runs[:1]}, "c")
    with pytest.raises(ValueError, match="was not evaluated on vali: tfmtl2r evaluate c --split vali"):
        pareto.compare({"a": runs[:1], "b": [make(tmp_path, "c", {"click": rng.random(5)}, method="epo")]}, "a", "vali")
