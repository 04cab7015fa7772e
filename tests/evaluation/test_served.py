"""Served utility: its value by brute force, its paired error, its null, and what is chosen by it on vali."""

import numpy as np
import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task, blends
from tfmtl2r._backend import keras
from tfmtl2r.data import Lists
from tfmtl2r.evaluation.blend_choice import choose_blend, kinds_of, served_orders, utilities
from tfmtl2r.evaluation.served import difference, metrics_along, served_utility, utility_of
from tfmtl2r.evaluation.split_metrics import evaluate
from tfmtl2r.pareto import hypervolume
from tfmtl2r.preferences import corners

TASKS = (Task("a", metrics=("ndcg@5",)), Task("b", metrics=("ndcg@5",)))


def lists_of(rng, count=60, **columns):
    sizes = rng.integers(2, 9, count)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    n = offsets[-1]
    labels = {"a": rng.integers(0, 4, n), "b": rng.integers(0, 4, n)}
    labels["a"][:offsets[3]] = 0  # nothing relevant
    return Lists({name: values.astype(np.float32) for name, values in {**labels, **columns}.items()}, offsets)


def test_the_utility_is_the_mean_of_the_metrics_at_the_preference_asked_for(rng):
    lists, grid = lists_of(rng), corners(2)
    orders = rng.normal(size=(len(grid), lists.num_items)).astype(np.float32)
    found = served_utility(orders, orders[0], grid, lists, TASKS)

    def at(scores):
        results = evaluate({"a": scores, "b": scores}, lists, TASKS)
        return np.array([results[task]["ndcg@5"].value for task in "ab"])

    value = np.mean([r @ at(order) for r, order in zip(grid, orders, strict=True)])
    null = np.mean([r @ at(orders[0]) for r in grid])
    assert found.value == pytest.approx(value, abs=1e-6)
    assert found.gain[0] == pytest.approx(value - null, abs=1e-6)


def test_the_error_is_that_of_a_bootstrap_over_lists(rng):
    ours, counts = rng.normal(size=(2, 150)), np.ones((2, 150))
    ours[0, :40] = np.nan
    theirs = rng.normal(size=(2, 150))
    drawn = rng.integers(0, 150, (1500, 150))
    means = np.nanmean((ours - theirs)[:, drawn], axis=-1).sum(axis=0)
    value, error = difference(ours, theirs, counts)
    assert value == pytest.approx(np.nanmean(ours - theirs, axis=1).sum())
    assert error == pytest.approx(means.std(), rel=0.1)


def test_metrics_of_different_units_are_gains_over_the_trivial_ranking(rng):
    lists = lists_of(rng)
    tasks = (Task("a", metrics=("ndcg@5",)), Task("b", kind="regression"))
    perfect = [lists.columns["a"], lists.columns["b"], np.zeros(lists.num_items)]
    values, _ = metrics_along(np.stack(perfect).astype(np.float32), lists, tasks)
    means = np.nanmean(values, axis=2)
    np.testing.assert_allclose([means[0, 0], means[1, 1], *means[2]], [1, 1, 0, 0], atol=1e-5)


def test_seeds_alone_score_nothing_in_u_but_have_a_larger_hypervolume(rng):
    """Rankers that ignore the preference and differ in noise only are no front."""
    lists, grid = lists_of(rng, 250), corners(2)
    both = lists.columns["a"] + lists.columns["b"]
    gains, larger = [], []
    for _ in range(6):
        seeds = (both + rng.normal(0, 2.0, (len(grid), lists.num_items))).astype(np.float32)
        values, counts = metrics_along(seeds, lists, TASKS)
        found = utility_of(values, values, counts, grid)  # one seed per preference, against the mean of all
        gain, error = found.gain
        assert abs(gain) < 3.5 * error
        gains.append(gain)
        points = np.nanmean(values, axis=2)
        larger.append(hypervolume(points, [0, 0], True) > hypervolume([points.mean(axis=0)], [0, 0], True))
    assert abs(np.mean(gains)) < 0.002
    assert all(larger)


def test_a_front_scores_its_trade_off(rng):
    lists, grid = lists_of(rng, 100), corners(2)
    labels = np.stack([lists.columns["a"], lists.columns["b"]])
    gain, error = served_utility(grid @ labels, [0.5, 0.5] @ labels, grid, lists, TASKS).gain
    assert gain > 0.01 > 3 * error


@pytest.fixture(scope="module")
def ranker():
    """Heads on features that are the labels themselves; head a is 30 times as large."""
    keras.utils.set_random_seed(0)
    schema = Schema([Dense("x"), Dense("y")])
    model = MultiTaskRanker({"name": "single_task", "units": [], "head_units": []}, TASKS, schema, has_lists=True)
    model.compile()
    model.head_statistics.set(np.array([30.0, 1.0]), np.array([1.0, 1.0]))
    return model


def data(rng, ranker):
    """Each task wants other items; features are noisy labels."""
    lists = lists_of(rng, 80)
    noise = rng.normal(0, 0.7, (2, lists.num_items))
    columns = {**lists.columns, "x": lists.columns["a"] + noise[0], "y": lists.columns["b"] + noise[1]}
    lists = Lists({name: values.astype(np.float32) for name, values in columns.items()}, lists.offsets)
    for weight in ranker.architecture.trainable_variables:
        kernel = np.prod(weight.shape) == 4  # one head per task on two features
        weight.assign(np.reshape([30.0, 0.0, 0.0, 1.0], weight.shape) if kernel else np.zeros(weight.shape))
    found = ranker.predict({name: lists.columns[name][None, :3] for name in "xy"} | {"list_size": np.int32([3])})
    np.testing.assert_allclose(found["a"][0], 30 * lists.columns["x"][:3], rtol=1e-5)
    return lists


def test_the_kind_is_chosen_by_the_served_utility_and_ties_go_to_the_first(rng, ranker):
    vali = data(rng, ranker)
    choice = choose_blend(ranker, vali)
    rows = {str(row["kind"]): row for row in choice["table"]}
    assert choice["by"] == "vali"
    assert set(rows) == {str(kind) for kind in ("deviation", "mixture", {"name": "mixture", "constants": True},
                                                "product", "rank", "sum")}
    assert rows["sum"]["behind"] > rows["sum"]["behind_error"]  # head a decides its order alone
    assert choice["kind"] == "deviation" == blends.registry.name_of(type(ranker.blend))
    assert min(row["behind"] for row in rows.values()) == 0
    assert rows["deviation"]["gain"] > 0

    kinds, grid = kinds_of(ranker), corners(2)
    orders = served_orders(ranker, kinds, vali, grid, batch_size=7)
    brute = served_utility(orders[0], orders[0, 0], grid, vali, TASKS)
    assert utilities(ranker, kinds, vali)[0].gain == pytest.approx(brute.gain, abs=1e-6)
    ranker.blend = None


@pytest.mark.parametrize(("select", "reason"), [([5], "fewer than two lists"), ([0, 1, 2], "")])
def test_without_a_choice_it_is_deviation_and_the_reason_is_kept(rng, ranker, select, reason):
    vali = data(rng, ranker).select(np.array(select, int))
    choice = choose_blend(ranker, vali)
    assert choice["kind"] == "deviation"
    assert choice["by"] == ("default" if reason else "vali")
    assert reason in choice.get("reason", "")
    ranker.blend = None
