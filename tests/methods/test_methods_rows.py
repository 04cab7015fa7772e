"""Methods that need the gradients themselves, and MoDo: goldens, state over steps, robustness."""

import numpy as np
import pytest
from test_methods_gradients import FIVE, THREE, TWO, steps

from tfmtl2r import methods


def test_moco_tracks_gradients_and_keeps_weights_on_the_simplex():
    method = methods.get("moco", gamma=0.02)
    updates, state = steps(method, [TWO, THREE[:2, :3], TWO])
    tracked, weights = np.zeros((2, 3)), np.full(2, 0.5)
    for k, rows in enumerate([TWO, THREE[:2, :3], TWO], start=1):
        tracked = tracked - 0.5 / k**0.5 * (tracked - rows)
        moved = weights - 0.02 / k**0.5 * tracked @ tracked.T @ weights
        first = np.clip((moved[0] - moved[1] + 1) / 2, 0, 1)
        weights = np.array([first, 1 - first])
        np.testing.assert_allclose(updates[k - 1], 2 * weights @ tracked, rtol=1e-6)
    np.testing.assert_allclose(state["tracked"], tracked, rtol=1e-6)
    np.testing.assert_allclose(state["weights"], weights, rtol=1e-6)


def test_moco_on_one_problem_comes_to_mgda():
    method = methods.get("moco", gamma=0.02, gamma_sigma=0.0, beta_sigma=0.0)
    updates, _ = steps(method, [THREE] * 300, eager=False)
    np.testing.assert_allclose(updates[-1], methods.combine("mgda", THREE), atol=1e-4)


def test_modo_moves_down_the_product_of_two_batches():
    cross = np.array([[3.0, 1.0], [-2.0, 1.0]])
    updates, state = steps(methods.get("modo", gamma=0.1, rho=0.0), [TWO], cross=[cross])
    moved = 0.5 - 0.1 * cross @ [0.5, 0.5]
    first = (moved[0] - moved[1] + 1) / 2
    np.testing.assert_allclose(state["weights"], [first, 1 - first])
    np.testing.assert_allclose(updates[0], 2 * (first * TWO[0] + (1 - first) * TWO[1]))


def test_db_mtl_averages_from_zero_and_stretches_to_one_length():
    updates, state = steps(methods.get("db_mtl"), [FIVE, 2 * FIVE], losses=[[0.5, 1, 2, 3, 4]] * 2)
    logs = FIVE / np.array([0.5, 1, 2, 3, 4])[:, None]
    np.testing.assert_allclose(state["tracked"], 0.9 * 0.1 * logs + 0.1 * 2 * logs, rtol=1e-6)
    for update, tracked in zip(updates, (0.1 * logs, 0.29 * logs), strict=True):
        lengths = np.linalg.norm(tracked, axis=1, keepdims=True)
        np.testing.assert_allclose(update, (tracked / lengths).sum(0) * lengths.max(), rtol=1e-5)


def test_excess_mtl_golden():
    """The same gradients twice: excess (6, 8), then over sqrt 2; both are .7071 of their first, so weights stay."""
    _, state = steps(methods.get("excess_mtl"), [TWO])
    np.testing.assert_allclose(state["first"], [6.0, 8.0], rtol=1e-5)
    updates, state = steps(methods.get("excess_mtl"), [TWO, TWO])
    np.testing.assert_allclose(state["squares"], 2 * TWO**2)
    np.testing.assert_allclose(state["weights"], [1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(updates[1], [2.0, 2.0, 2.0], rtol=1e-6)


def test_excess_mtl_raises_the_task_whose_gradient_grows():
    grown = TWO * np.array([3.0, 1.0])[:, None]
    _, state = steps(methods.get("excess_mtl", eta=1.0), [TWO, grown])
    excess = [(r**2 / np.sqrt(s**2 + r**2 + 1e-7)).sum() for r, s in zip(grown, TWO, strict=True)]
    expected = np.exp([excess[0] / 6, excess[1] / 8])
    np.testing.assert_allclose(state["weights"], 2 * expected / expected.sum(), rtol=1e-4)
    _, waits = steps(methods.get("excess_mtl", eta=1.0, warmup=1), [TWO, grown])
    np.testing.assert_array_equal(waits["weights"], [1.0, 1.0])
    np.testing.assert_array_equal(waits["first"], [0.0, 0.0])


@pytest.mark.parametrize(("name", "option"), [("trimmed_mean", {"trim": 2}), ("krum", {"f": 2})])
def test_robust_methods_name_the_tasks_that_they_need(name, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))}=2 needs at least 5 tasks, got 4"):
        methods.combine(methods.get(name, **option), np.ones((4, 3)))
    for tasks in (1, 2):
        np.testing.assert_allclose(methods.combine(name, FIVE[:tasks]), FIVE[:tasks].sum(0))


def test_robust_methods_ignore_a_corrupt_task():
    corrupt = np.r_[FIVE, [np.full(12, 1e6)]]
    for name in ("trimmed_mean", "krum"):
        assert np.abs(methods.combine(name, corrupt)).max() < 6 * np.abs(FIVE).max()


def test_krum_by_default_averages_the_closest_pair():
    distances = np.linalg.norm(FIVE[:, None] - FIVE[None], axis=2) + 1e9 * np.eye(5)
    pair = np.unravel_index(distances.argmin(), distances.shape)
    np.testing.assert_allclose(methods.combine("krum", FIVE), 5 * FIVE[list(pair)].mean(0))
