"""Runs as points: the epoch that was kept, the objectives that were measured, the data that were seen."""

from pathlib import Path

import numpy as np
import pytest

from tfmtl2r import evaluation, pareto, sweeps
from tfmtl2r.pareto import plots
from tfmtl2r.pareto.summary import summarise
from tfmtl2r.preferences import above_zero
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.finished import Run, objectives
from tfmtl2r.sweeps.planning import end_losses
from tfmtl2r.sweeps.table import rows


def run(name="a", click=0.5, price=2.0, patience=0, tasks=("click", "price"), fingerprint="f", **config):
    metrics = {"click": {"ndcg@5": {"value": click, "direction": "max"}, "auc": {"value": 0.9, "direction": "max"}},
               "price": {"mse": {"value": price, "direction": "min"}}}
    history = {"click_loss": [3.0, 2.0, 1.0], "price_loss": [6.0, 5.0, 4.0], "val_click_loss": [3.5, 2.5, 1.5],
               "val_price_loss": [6.5, 5.5, 4.5], "val_click_ndcg@5": [0.1, 0.3, 0.2], "val_price_mse": [9.0, 8.0, 7.0],
               "val_stop_on": [0.1, 0.3, 0.2]}
    settings = {"name": name, "method": "epo", "architecture": {"name": "mmoe", "units": [8]},
                "preference": {"click": 1, "price": 3}, "data": {"name": "x"}, **config,
                "training": {"seed": 0, "patience": patience, "epochs": 3, **config.get("training", {})}}
    return Run(Path(name), RunCard(name, settings, {"test": {"fingerprint": fingerprint}},
                                   {"test": {task: metrics[task] for task in tasks}}, history))


def test_objectives_come_from_the_epoch_that_was_kept():
    last, best = run(), run(patience=2)
    assert (last.epoch(), best.epoch()) == (2, 1)
    assert best.objective("click", "train_loss") == (2.0, False, "click train_loss")
    assert best.objective("price", "vali_loss") == (5.5, False, "price vali_loss")
    assert best.objective("click", "vali") == (0.3, True, "click ndcg@5 (vali)")
    assert last.objective("price", "test") == (2.0, False, "price mse (test)")
    assert last.objective("click", "test", "auc")[0] == 0.9
    best.card.history["kept"] = [1.0, 0.0, 0.0]  # staged training says it itself
    assert best.epoch() == 0
    best.card.history["kept"] = [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="kept the weights it began with"):
        best.epoch()
    assert last.preference == (0.25, 0.75)
    np.testing.assert_array_equal(last.trajectory(["price", "click"]), [[6, 3], [5, 2], [4, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run().objective("clik", "test"), "run 'a' has no task 'clik'; its tasks: click, price"),
        (lambda: run().objective("click", "dev"), "objectives come from test, vali, train_loss, vali_loss"),
        (lambda: run().objective("click", "test", "map"), "has no metric 'map'; its metrics: ndcg@5, auc"),
        (lambda: run().objective("click", "vali", "auc"), "did not log 'val_click_auc'"),
        (lambda: objectives([], "test"), "there is no finished run"),
        (lambda: objectives([run(), run("b", click=float("nan"))], "test"), "run 'b': click ndcg@5 .test. is nan"),
        (lambda: objectives([run(), run("b", fingerprint="g")], "test"), "different data: their test splits differ"),
        (lambda: summarise([run(tasks=("click",))]), "no finished run learns all of click"),
        (lambda: end_losses([run()]), "no run is trained for click alone"),
        (lambda: plots.front({"all": objectives([run()], "test", ["click"])}), "this plot requires 2 objectives"),
    ],
)
def test_what_was_not_measured_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_groups_differ_in_more_than_the_seed():
    assert run("a").group() == run("b", training={"seed": 4}, directory="elsewhere").group()
    assert run("a").group() != run("b", training={"epochs": 4}).group()
    assert run("a").group() == run("b", method={"name": "epo"}).group()


def test_table_marks_the_front_and_leaves_gaps():
    table = rows([run("a", 0.5, 2.0), run("b", 0.4, 3.0), run("c", 0.4, 1.0), run("d", tasks=("click",))])
    assert [row["front"] for row in table] == ["*", "", "*", ""]
    assert table[3]["price test"] == ""
    assert table[0]["click test"] == 0.5


def test_summary_states_what_its_numbers_depend_on():
    found = summarise([run("a", 0.5, 2.0), run("b", 0.3, 1.0), run("d", 0.6, tasks=("click",))])
    assert found.single == {"mmoe units=[8]": (0.6, None)}
    assert found.ideal == (0.6, 1.0)  # single-task training included
    np.testing.assert_allclose(found.reference.point, [0.3 - 0.02, 2.0 + 0.1])
    expected = pareto.hypervolume([[0.5, 2], [0.3, 1]], found.reference, [True, False])
    row = found.rows["epo"]
    assert row["hypervolume"] == expected == row["together"]["hypervolume"]
    np.testing.assert_allclose(row["share"], expected / ((0.6 - 0.28) * (2.1 - 1.0)))
    np.testing.assert_allclose(row["preference_error"], pareto.preference_error([1, 4], [1, 3]))
    np.testing.assert_allclose(row["max_weighted_loss"], 3.0)


def test_a_run_without_a_number_is_named_and_not_on_the_front():
    lost = run("b", click=float("nan"))
    table = rows([run("a"), lost, run("c", 0.4, 3.0)])
    assert [row["front"] for row in table] == ["*", "", ""]
    found = summarise([run("a"), lost, run("s", float("inf"), tasks=("click",))])
    assert [run.card.name for run in found.points.runs] == ["a"]
    assert found.left_out == ("run 'b': click ndcg@5 (test) is nan", "run 's': click ndcg@5 (test) is inf")
    assert found.single == {}
    lost.card.history["kept"] = [0.0, 0.0, 0.0]  # no epoch stands for it
    assert rows([lost])[0]["click train_loss"] == ""
    with pytest.raises(ValueError, match=r"run 'b': click ndcg@5 \(test\) is nan"):
        summarise([lost])


def test_groups_are_what_differs_in_more_than_preference_and_seed():
    large = {"name": "mmoe", "units": [512]}
    found = summarise([run("a", 0.5, 2.0), run("b", 0.3, 1.0, architecture=large),
                       run("c", 0.3, 1.1, training={"seed": 1}),
                       run("d", 0.4, 1.5, gradients="features", preference={"click": 2, "price": 1}),
                       run("e", training={"train_metrics": True}),
                       run("s", 0.6, tasks=("click",)), run("t", 0.8, tasks=("click",), architecture=large)])
    assert {name: [r.card.name for r in group.runs] for name, group in found.groups.items()} == {
        "epo mmoe units=[8]": ["a", "c", "e"], "epo mmoe units=[512]": ["b"],
        "epo mmoe units=[8] gradients=features": ["d"],
    }
    assert found.single == {"mmoe units=[8]": (0.6, None), "mmoe units=[512]": (0.8, None)}
    assert found.ideal == (0.8, 1.0)
    plots.overview(found.groups, found.single, reference=found.reference)
    before_stages = run("b", training={"seed": 1})
    assert list(summarise([run("a", staged=False), before_stages]).groups) == ["epo"]


def test_methods_are_compared_over_the_same_preferences():
    def of(method, *preferences):
        return [run(f"{method}{i}", method=method, preference={"click": click, "price": price})
                for i, (click, price) in enumerate(preferences)]

    grid = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    rows = summarise([*of("linear_scalarization", *grid), *of("epo", *above_zero(grid).tolist())]).rows
    for name in ("preference_error", "max_weighted_loss"):
        assert rows["epo"][name] == rows["linear_scalarization"][name] > 0


def test_every_public_name_is_there():
    for package in (evaluation, pareto, sweeps):
        for name in package.__all__:
            assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        pareto.nothing  # noqa: B018


def test_stairs_separate_what_is_dominated(rng):
    """Every corner of the drawn line is dominated or on the front, and a step inside of it is not."""
    values = rng.random((9, 2))
    for maximise in ((False, False), (True, True), (True, False)):
        group = objectives([run()], "test")
        group = type(group)(group.runs * 9, values, maximise, group.labels)
        corners = values[pareto.non_dominated(values, maximise)]
        sign = np.where(maximise, -1, 1)
        for corner in plots._stairs(corners, group):
            assert ((values * sign) <= (corner * sign) + 1e-12).all(axis=1).any()
            assert not ((values * sign) <= (corner - 1e-6 * sign) * sign).all(axis=1).any()


def test_validation_may_be_rarer_than_epochs():
    rare = run(training={"validate_every": 0})
    for name, values in rare.card.history.items():
        rare.card.history[name] = values[-1:] if name.startswith("val_") else values
    assert rare.objective("click", "vali") == (0.2, True, "click ndcg@5 (vali)")
    assert rare.objective("click", "train_loss")[0] == 1.0
