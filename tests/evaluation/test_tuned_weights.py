"""Tuned weights: the best of a fine grid, floors kept or refused with what is nearest, and how a run and an export use
them."""

import json

import numpy as np
import pytest
from test_served import TASKS, data, ranker  # noqa: F401

from tfmtl2r import Merged, cli
from tfmtl2r.data import Lists
from tfmtl2r.evaluation.blend_choice import choose_blend, served_orders
from tfmtl2r.evaluation.heads import measure_heads
from tfmtl2r.evaluation.served import metrics_along
from tfmtl2r.evaluation.tuned_weights import Wish, reached, tune_weights, unreachable
from tfmtl2r.experiment import Experiment
from tfmtl2r.preferences import das_dennis
from tfmtl2r.runs.card import RunCard
from tfmtl2r.settings import Constraint
from tfmtl2r.training.blending import default_of


@pytest.fixture
def case(rng, ranker):  # noqa: F811
    """A ranker of two heads, lists, and the means of both metrics along a fine grid of weights."""
    lists = data(rng, ranker)
    grid = das_dennis(2, 200)
    (orders,) = served_orders(ranker, [default_of(ranker)], lists, grid)
    return ranker, lists, grid, np.nanmean(metrics_along(orders, lists, TASKS)[0], axis=2)


def test_weights_have_the_largest_utility_of_a_fine_grid(case):
    model, lists, _, means = case
    found = tune_weights(model, lists, {"a": 1, "b": 3})
    best = (means @ [1, 3]).max()
    assert found.kept
    assert found.utility["value"] >= best - 0.002
    assert found.utility["low"] < found.utility["value"] < found.utility["high"]
    assert found.utility["gain"] > 3 * found.utility["error"] > 0  # equal weights are far from 1 to 3
    assert found.weights["b"] > found.weights["a"]
    assert sum(found.weights.values()) == pytest.approx(1)


def test_floors_are_kept_at_the_least_cost(case):
    model, lists, _, means = case
    floor = 0.5 * (means[-1, 0] + means[0, 0])  # half way between both ends of the front
    free = tune_weights(model, lists, {"b": 1})
    found = tune_weights(model, lists, {"b": 1}, [Constraint("a", "ndcg@5", floor=floor)])
    (row,) = found.bounds
    assert free.weights["b"] > found.weights["b"]
    assert found.kept
    assert floor <= row["value"] < floor + 0.02
    assert row["low"] < row["value"] < row["high"]
    assert 0.3 < row["held"] < 1
    assert found.utility["value"] >= means[means[:, 0] >= floor][:, 1].max() - 0.002
    again = reached(model, lists, found, {"b": 1})
    assert again.bounds == found.bounds
    assert again.utility == found.utility


def test_a_bound_may_be_relative_to_the_order_of_the_task_alone(case):
    model, lists, _, means = case
    found = tune_weights(model, lists, {"b": 1}, [Constraint("a", "ndcg@5", loses_at_most="1%")])
    assert found.bounds[0]["floor"] == pytest.approx(0.99 * means[0, 0], abs=1e-6)
    assert found.kept


def test_what_cannot_be_reached_is_told_with_what_is_nearest(case):
    model, lists, _, means = case
    high = means.max(axis=0) - 0.002
    found = tune_weights(model, lists, None, [Constraint("a", "ndcg@5", floor=float(high[0])),
                                              Constraint("b", "ndcg@5", floor=float(high[1]))])
    assert not found.kept
    short = max(row["floor"] - row["value"] for row in found.bounds)
    assert short <= np.maximum(high - means, 0).max(axis=1).min() + 0.003
    message = unreachable(found.numbers())
    assert f"a ndcg@5 >= {high[0]:.4f} (nearest {found.bounds[0]['value']:.4f}" in message


@pytest.mark.parametrize(("utility", "bound", "message"), [
    ({"c": 1}, None, "utility: 'c' is no task of this ranker"),
    (None, Constraint("d", "ndcg", floor=0), "constraints: 'd' is no task"),
    (None, Constraint("a", "arp", floor=0), "where larger is better"),
    (None, Constraint("a", "auc", floor=0), r"constraints\.a\.metric must be a mean over lists"),
    (None, Constraint("a", at_most=1.0), "need a bound on a metric"),
])  # fmt: skip
def test_wishes_that_the_tasks_rule_out(utility, bound, message):
    with pytest.raises(ValueError, match=message):
        Wish(TASKS, utility or {"a": 1}, () if bound is None else (bound,))


def test_one_list_is_too_few(case):
    with pytest.raises(ValueError, match="weights cannot be tuned: the validation split has fewer than two lists"):
        tune_weights(case[0], case[1].select(np.array([5])))


def test_merged_rankers_choose_their_kind_on_vali_too(case):
    model, lists, *_ = case
    both = Merged([model, model])
    assert default_of(both).definition.startswith("sum over tasks of weight * score_<task>, on raw")
    measure_heads(both, lists)
    choice = choose_blend(both, lists)
    assert choice["by"] == "vali"
    assert {"deviation", "sum"} <= {str(row["kind"]) for row in choice["table"]}
    assert both.head_statistics.deviations == pytest.approx([0.9, 0.9], abs=0.15)  # standardised within each list
    assert tune_weights(both, lists, {"a": 1}).weights["a"] > 0.5


@pytest.mark.long
def test_a_run_keeps_its_tuned_weights_and_an_export_serves_them(rng, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lists = Lists({"x": rng.normal(size=400).astype(np.float32)}, np.arange(0, 401, 5))
    x = lists.columns["x"]
    rows = {"list": np.repeat(np.arange(80), 5), "x": x, "y": rng.normal(size=400), "a": (x > 0.5).astype(int)}
    rows["b"] = (rows["y"] > 0.5).astype(int)
    text = "\n".join([",".join(rows), *(",".join(map(str, row)) for row in zip(*rows.values(), strict=True))])
    (tmp_path / "log.csv").write_text(text)
    experiment = Experiment(
        "mine", data={"files": "log.csv", "list_id": "list"}, tasks=[{"name": name, "metrics": ["ndcg@5"]} for name in
                                                                      "ab"],
        architecture={"name": "shared_bottom", "units": [4]}, training={"epochs": 1, "telemetry_every": 0},
        constraints=[{"task": "a", "metric": "ndcg@5", "floor": 0.1}],
        export={"blend": {"weights": "tuned", "utility": {"b": 2}}},
    )  # fmt: skip
    _, card = experiment.run(verbose=0)
    tuned = card.blend["tuned"]
    assert tuned["kept"]
    assert tuned["test"]["bounds"][0]["floor"] == tuned["bounds"][0]["floor"] == 0.1
    assert RunCard.load(tmp_path / "runs" / "mine").blend["tuned"] == tuned
    assert cli.main(["export", "mine", "--rows", "none"]) == 0
    metadata = json.loads((tmp_path / "saved_models" / "mine" / "1" / "assets.extra" / "tfmtl2r.json").read_text())
    assert metadata["blend"] == pytest.approx(tuned["weights"])
    assert metadata["blend_choice"]["tuned"] == tuned
    assert cli.main(["export", "mine", "--floor", "a:ndcg@5=0.999", "b:ndcg@5=0.999"]) == 1
    printed = capsys.readouterr()
    assert "weights tuned on vali: a " in printed.out
    assert "nothing is exported: no weights of the served score keep all floors" in printed.err
    assert not (tmp_path / "saved_models" / "mine" / "2").exists()
    with pytest.raises(ValueError, match=r"constraints: 'c' is no task of this ranker"):
        experiment.but(name="bad", constraints=[{"task": "c", "metric": "ndcg", "floor": 1}]).run(verbose=0)
    assert not (tmp_path / "runs" / "bad").exists()
