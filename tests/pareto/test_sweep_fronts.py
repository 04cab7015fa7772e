"""Fronts of a sweep on what is served: who is on them, their figures by hand, and noise that is no front."""

import math
from pathlib import Path

import numpy as np
import pytest

from tfmtl2r.pareto import hypervolume
from tfmtl2r.pareto.summary import pick
from tfmtl2r.pareto.sweep_fronts import BLENDED, NULL, front_verdict, served_candidates, served_fronts
from tfmtl2r.preferences import usual_grid
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.finished import Run
from tfmtl2r.settings import Settings

GRID = usual_grid(2)
EQUAL = np.array([0.5, 0.5])


def point(preference, values, metric="ndcg@10"):
    return {"preference": [*map(float, preference)],
            **{split: {"ab"[t]: {metric: float(v)} for t, v in enumerate(values)} for split in ("vali", "test")}}


def run(served, method="linear_scalarization", preference=None, seed=0, metrics=("ndcg@10", "ndcg@10"), **further):
    """A finished run that serves ``served(r)`` at preference r."""
    own = EQUAL if preference is None else np.asarray(preference)
    given = {} if preference is None else {"preference": dict(zip("ab", map(float, preference), strict=True))}
    config = Settings(data={"name": "mslr"}, method=method, training={"seed": seed}, **given, **further).tree()
    points = [point(r, served(r)) for r in [own, *GRID]]
    for each in points:
        for split in ("vali", "test"):
            each[split] = {task: {metric: next(iter(each[split][task].values()))}
                           for task, metric in zip("ab", metrics, strict=True)}
    card = RunCard(f"{method}-{own}-{seed}", config, {}, {"test": {t: {"ndcg@10": {"value": 0.5}} for t in "ab"}})
    card.served = {"kind": "deviation", "points": points, "utility": {s: {"error": 0.01} for s in ("vali", "test")}}
    return Run(Path(card.name), card)


def curve(r):
    """A quarter of a circle: the preferred task gains."""
    return 0.4 + 0.2 * np.asarray(r) / np.hypot(*r)


def test_every_preference_that_a_run_serves_can_be_chosen():
    runs = [run(lambda r: 0.5 + 0 * r, "mgda"), run(curve)]
    points = served_candidates(runs, "vali")
    assert len(points.runs) == 2 * (1 + len(GRID)) == len(points.values)
    assert points.labels == ("a ndcg@10 (vali, served)", "b ndcg@10 (vali, served)")
    chosen = points.runs[pick(points, "nearest", [0.8, 0.2])]
    assert chosen.method == "linear_scalarization"
    assert chosen.asked[0] > 0.6
    assert not points.runs[0].asked
    own = Run(runs[0].folder, RunCard(runs[0].card.name, runs[0].card.config, {}, runs[0].card.results))
    assert served_candidates([own], "vali") is None


def test_every_figure_by_hand():
    shift = {0: 0.0, 1: 0.02}
    runs = [run(lambda r, s=s: curve(r) + shift[s], preference=p, seed=s) for s in shift for p in GRID]
    runs += [run(lambda r, s=s: 0.55 + shift[s] + 0 * r, "mgda", seed=s) for s in shift]
    found = served_fronts(runs)
    assert list(found.fronts) == [BLENDED, "linear_scalarization", "mgda"]
    assert found.labels == ("a ndcg@10 (test, served)", "b ndcg@10 (test, served)")
    blended, separate, mgda = found.rows.values()
    points = np.stack([curve(r) for r in GRID]) + 0.01
    utility = (GRID * points).sum() / len(GRID)
    centre = curve(EQUAL) + 0.01
    assert blended["utility"] == pytest.approx(utility) == pytest.approx(separate["utility"])
    assert blended["gain"] == pytest.approx(utility - GRID.mean(axis=0) @ centre)
    assert blended["error"] == pytest.approx(0, abs=1e-12)  # both seeds respond alike
    assert (blended["points"], blended["trainings"], blended["seeds"]) == (11, 1, 2)
    assert (separate["points"], separate["trainings"], mgda["trainings"]) == (11, 11, 1)
    assert separate["over_blended"] == pytest.approx(0)
    assert blended["hypervolume"] == pytest.approx(hypervolume(points, found.reference, True))
    null = np.stack([curve(EQUAL), curve(EQUAL) + 0.02])
    assert blended["null_hypervolume"] == pytest.approx(hypervolume(null, found.reference, True))
    assert blended["null_points"] == 2
    assert mgda["over_blended"] == pytest.approx(0.56 - utility)
    assert set(found.curves()) == {*found.fronts, NULL}
    told = "\n".join(front_verdict(found))
    assert f"One ranker, blended: U {utility:.4f}" in told
    assert "No clear difference from one ranker, blended, in U: linear_scalarization (+0.0000 ± 0.0000; 11" in told


def test_seeds_alone_are_no_front_though_their_hypervolume_is_larger(rng):
    """Trainings per preference that differ by noise only: U is at its null, and the union of points is larger."""
    seeds = range(40)
    runs = [run(lambda r: 0.5 + rng.normal(0, 0.02, 2), preference=p, seed=s) for s in seeds for p in GRID]
    found = served_fronts(runs)
    row = found.rows["linear_scalarization"]
    assert abs(row["gain"]) < 3.5 * row["error"]
    assert row["error"] < 0.004
    spread = np.concatenate(list(found.fronts["linear_scalarization"].values))
    assert hypervolume(spread, found.reference, True) > 1.1 * row["hypervolume"]
    assert row["null_hypervolume"] > row["hypervolume"]  # seeds that are not averaged, against averaged points
    assert "Fronts that do not respond to the preference" in "\n".join(front_verdict(found))


def test_a_conditioned_run_and_one_without_a_preference_are_fronts_by_themselves():
    runs = [run(curve), run(curve, conditioned=1.0), run(curve, "mgda")]
    found = served_fronts(runs, "vali")
    assert {name: len(front.preferences) for name, front in found.fronts.items()} == {
        BLENDED: 11, "linear_scalarization conditioned=1": 11, "mgda": 11}
    assert found.rows["mgda"]["error"] == 0.01  # of one seed, over lists
    assert math.isnan(found.rows["mgda"]["over_blended_error"])
    assert "With a single seed, no error of the difference" in "\n".join(front_verdict(found))


def test_lopsided_weights_are_not_the_blended_ranker():
    found = served_fronts([run(curve, preference=(0.99, 0.01)), run(curve, preference=(0.01, 0.99))])
    assert list(found.fronts) == ["linear_scalarization"]
    row = found.rows["linear_scalarization"]
    assert row["gain"] is row["over_blended"] is row["null_hypervolume"] is None
    assert front_verdict(found) == []


def test_metrics_of_different_units_have_no_sum():
    row = served_fronts([run(curve, metrics=("ndcg@10", "auc"))]).rows[BLENDED]
    assert row["utility"] is row["gain"] is None
    assert row["hypervolume"] > 0


def test_runs_without_a_served_ranking_are_told():
    old = run(curve, "mgda")
    old.card.served.clear()
    lost = run(lambda r: np.array([np.nan, 1.0]), "epo")
    assert served_fronts([old]) is None
    assert served_fronts([lost]) is None or served_fronts([lost]).labels == ("b ndcg@10 (test, served)",)
    found = served_fronts([old, run(curve), lost])
    assert set(found.fronts) == {BLENDED}
    assert "has no served ranking: an earlier version wrote its card" in found.left_out[0]
    assert "has no finite test metric" in found.left_out[1]


def test_a_front_of_some_tasks_scales_their_preference():
    front = served_fronts([run(curve)], tasks=("a",)).fronts[BLENDED]
    assert front.values.shape[2] == 1
    assert front.preferences.max() == front.preferences.max() == pytest.approx(1)
