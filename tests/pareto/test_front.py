"""Fronts and indicators against brute force, and the rules by which points are chosen."""

import itertools

import numpy as np
import pytest

from tfmtl2r import pareto
from tfmtl2r.pareto.front import Reference, costs, signs
from tfmtl2r.preferences import das_dennis


def dominated(points, row):
    return any((other <= points[row]).all() and (other < points[row]).any() for other in points)


@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("flip", [False, True])
def test_non_dominated_is_the_definition(rng, tasks, flip):
    for _ in range(20):
        points = rng.integers(0, 5, (25, tasks)).astype(float)  # many ties and twins
        maximise = [flip] + [not flip] * (tasks - 1)
        turned = points * np.where(maximise, -1, 1)
        expected = [not dominated(turned, row) for row in range(len(points))]
        assert pareto.non_dominated(points, maximise).tolist() == expected
    assert pareto.non_dominated([[1.0] * tasks] * 2).all()


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_hypervolume_counts_unit_cells(rng, tasks):
    for _ in range(10):
        points = rng.integers(0, 6, (8, tasks))  # some beyond the reference
        cells = sum(any((np.array(cell) >= point).all() for point in points)
                    for cell in itertools.product(range(5), repeat=tasks))
        assert pareto.hypervolume(points, [5] * tasks) == cells
        assert pareto.hypervolume(-points, [-5] * tasks, maximise=True) == cells
        mixed = points * signs([True] + [False] * (tasks - 1), tasks)
        assert pareto.hypervolume(mixed, [-5] + [5] * (tasks - 1), [True] + [False] * (tasks - 1)) == cells


def test_hypervolume_grows_with_every_better_point_and_takes_a_reference(rng):
    points = rng.random((6, 3))
    reference = pareto.reference_point(points)
    volumes = [pareto.hypervolume(points[:n], reference) for n in range(1, 7)]
    assert (np.diff(volumes) >= 0).all()
    assert pareto.hypervolume(np.vstack([points, points.min(axis=0)]), reference) > volumes[-1]
    assert pareto.hypervolume([[2.0, 2.0]], [1, 1]) == 0


def test_reference_lies_beyond_all_points_by_a_tenth_of_the_range():
    points = [[0.0, 5.0, 7.0], [10.0, 3.0, 7.0]]
    reference = pareto.reference_point(points, maximise=[False, True, False])
    np.testing.assert_allclose(reference.point, [10 + 0.1 * 10, 3 - 0.1 * 2, 7 + 0.1])
    assert reference.rule == "worst of all 2 compared points + 0.1 of the range"
    found = pareto.indicators(points, reference, [0, 5, 7], [False, True, False])
    assert found["reference"] == list(reference.point)
    assert found["reference_rule"] == reference.rule
    assert found["non_dominated"] == 1  # the first is at least as good everywhere
    np.testing.assert_allclose(found["share"], 1.0)
    with pytest.raises(ValueError, match="margin must be above 0"):
        pareto.reference_point(points, margin=0)


def test_a_reference_must_be_worse_than_the_ideal():
    points, maximise = [[1.0, 2.0], [2.0, 1.0]], [False, True]
    assert pareto.indicators(points, Reference((3.0, 0.0)), [1, 2], maximise)["share"] > 0
    for point in ((3.0, 2.0), (3.0, 4.0)):
        with pytest.raises(ValueError, match=r"worse than the ideal \[1.0, 2.0\] .* objective 1 \([24]\) is not"):
            pareto.indicators(points, Reference(point), [1, 2], maximise)


def test_r2_is_the_mean_over_preferences(rng):
    points = rng.random((7, 2))
    grid = (np.arange(20_000) + 0.5) / 20_000
    weights = np.stack([grid, 1 - grid], axis=1)
    expected = np.mean((weights[:, None] * points).max(axis=2).min(axis=1))
    np.testing.assert_allclose(pareto.r2(points, [0, 0]), expected, rtol=1e-6)
    np.testing.assert_allclose(pareto.r2(3 - points, [3, 3], maximise=True), expected, rtol=1e-6)
    # Three objectives, one point at 1: E max_t w_t on the simplex is (1 + 1/2 + 1/3) / 3.
    np.testing.assert_allclose(pareto.r2([[1, 1, 1]], [0, 0, 0]), (1 + 1 / 2 + 1 / 3) / 3, rtol=0.02)
    with pytest.raises(ValueError, match="point 1 is better than the ideal in objective 0"):
        pareto.r2([[1, 1], [-1, 2]], [0, 0])


def test_losses_on_the_ray_have_no_error_and_the_largest_weighted_loss_is_shared():
    preference = np.array([0.2, 0.3, 0.5])
    for scale in (1e-9, 1.0, 1e9):
        losses = scale / preference
        np.testing.assert_allclose(pareto.preference_error(losses, preference), 0, atol=1e-15)
        np.testing.assert_allclose(pareto.max_weighted_loss(losses, 7 * preference), scale)
    np.testing.assert_allclose(pareto.preference_error([1.0, 0.0], [1, 1]), np.pi / 4)
    angle = 1e-10
    np.testing.assert_allclose(
        pareto.preference_error([np.cos(np.pi / 4 + angle), np.sin(np.pi / 4 + angle)], [1, 1]), angle, rtol=1e-4
    )


def test_knee_is_farthest_below_the_line_between_the_ends():
    angle = np.linspace(0, np.pi / 2, 21)
    circle = 1 - np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert pareto.knee(circle) == 10
    stretched = circle * [1000, 1] + [5, -3]  # scales and offsets of the objectives do not matter
    assert pareto.knee(stretched) == 10
    assert pareto.knee(-stretched, maximise=True) == 10
    with_dominated = np.vstack([circle, [[-0.0, 5.0], [0.4, 0.4]]])
    assert pareto.knee(with_dominated) == 10
    assert pareto.knee([[1.0, 2.0]]) == 0


def test_nearest_follows_the_preference_from_end_to_end():
    front = np.stack([np.linspace(0, 1, 11), np.linspace(1, 0, 11)], axis=1)
    for scale in ([1, 1], [1000, 1e-3]):
        chosen = [pareto.nearest(front * scale, [p, 1 - p]) for p in np.linspace(0, 1, 11)]
        assert chosen == sorted(chosen, reverse=True)
        assert chosen[0] == 10
        assert chosen[-1] == 0
        assert chosen[5] == 5
    # A preference for one task alone breaks ties by the other.
    assert pareto.nearest([[0.0, 3.0], [0.0, 3.0], [1.0, 0.0]], [1, 0]) == 0


def test_bands_are_what_a_share_of_the_seeds_attains(rng):
    fronts = [rng.random((6, 2)) for _ in range(4)]
    surfaces = pareto.bands(fronts, levels=(25, 50, 100))
    for place in rng.random((200, 2)):
        reached = np.mean([(front <= place).all(axis=1).any() for front in fronts])
        for level, surface in zip((25, 50, 100), surfaces, strict=True):
            assert (surface <= place).all(axis=1).any() == (reached >= level / 100)
    upside_down = pareto.bands([-front for front in fronts], levels=(50,), maximise=True)[0]
    np.testing.assert_allclose(upside_down[::-1], -surfaces[1])
    with pytest.raises(ValueError, match="2 or 3 objectives"):
        pareto.bands([rng.random((3, 4))])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pareto.non_dominated([1, 2]), r"points must be \[N, T\]"),
        (lambda: pareto.non_dominated([[1, np.nan]]), "point 0 is .* every objective must be a finite number"),
        (lambda: pareto.hypervolume([[1, 2]], [3]), "reference must be 2 finite numbers"),
        (lambda: pareto.hypervolume([[1, 2]], [3, np.inf]), "reference must be 2 finite numbers"),
        (lambda: costs([[1, 2]], [True]), "one flag or one for each of 2 objectives"),
        (lambda: pareto.preference_error([1, 1], [1, 0]), "a preference of 0 has no ray"),
        (lambda: pareto.preference_error([1, -1], [1, 1]), "losses must be >= 0"),
        (lambda: pareto.nearest([[1, 1]], [0, 0]), "not all 0"),
        (lambda: pareto.nearest([[1, 1]], [1, 1, 1]), "preference must be 2 finite numbers"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_das_dennis_is_every_multiple_once():
    for tasks, divisions in [(2, 10), (3, 4), (5, 3)]:
        lattice = das_dennis(tasks, divisions)
        every = [c for c in itertools.product(range(divisions + 1), repeat=tasks) if sum(c) == divisions]
        assert sorted(map(tuple, np.round(lattice * divisions).astype(int).tolist())) == sorted(every)
