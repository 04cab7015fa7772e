"""Reports about LibMTL and authors' implementations of balancing methods."""

import numpy as np
import pytest

from tfmtl2r import Dense, Schema, methods

ROWS = np.array([[1.0, 0.2, -0.3], [-0.4, 1.0, 0.1]])
X = {"x": np.float32([[0.1, -1.0, 2.0], [1.0, 0.3, 0.0]]), "list_size": np.int32([3, 3])}
Y = {"click": np.float32([[1, 0, 0], [0, 1, 0]]), "dwell": np.float32([[1, 2, 0], [3, 0, 1]])}


def test_large_losses_give_nash_mtl_tiny_weights():
    """Losses of 600 make weights of 1e-3, and training does not move
    (https://github.com/median-research-group/LibMTL/issues/39)."""
    small, large = (methods.combine("nash_mtl", scale * ROWS) for scale in (1.0, 600.0))
    np.testing.assert_allclose(large, small, rtol=1e-4)
    assert np.linalg.norm(small) == pytest.approx(1.0, rel=1e-4)


def test_the_length_of_the_nash_solution_is_unknown():
    """Weights are 47 and 732 where others are .4 and .6 (https://github.com/AvivNavon/nash-mtl/issues/7)."""
    update = methods.combine({"name": "nash_mtl", "max_norm": 0.0}, ROWS * [[0.01], [0.001]])
    assert update @ update == pytest.approx(2, rel=1e-4)  # the number of tasks


def test_two_methods_have_the_same_result():
    """CAGrad and MoCo train alike, epoch by epoch (https://github.com/median-research-group/LibMTL/issues/56)."""
    rows, losses = [[1.0, 0.2, -0.3], [-2.0, 1.0, 0.4], [0.3, 0.1, 5.0]], [0.5, 1.0, 3.0]
    updates = {name: methods.combine(name, rows, losses) for name in (
        "cagrad", "moco", "mgda", "pcgrad", "upgrad", "nash_mtl", "imtl_g", "aligned_mtl", "graddrop")}
    for name, update in updates.items():
        others = [updates[other] for other in updates if other != name]
        assert not any(np.allclose(other, update, rtol=1e-3) for other in others), name


def test_parameters_that_a_loss_does_not_use_are_an_error(make):
    """A task that does not depend on all shared parameters fails in the gradient
    (https://github.com/AvivNavon/nash-mtl/issues/6)."""
    ranker = make(Schema([Dense("x"), Dense("unused", context=True)]), method="nash_mtl")
    x = {**X, "unused": np.zeros(2, np.float32)}
    before = ranker.get_weights()
    ranker.train_on_batch(x, {"click": Y["click"], "dwell": np.full((2, 3), np.nan, np.float32)})
    assert all(np.isfinite(w).all() for w in ranker.get_weights())
    assert any((new != old).any() for new, old in zip(ranker.get_weights(), before, strict=True))


def test_heads_are_scaled_with_the_weights_of_the_shared_part(make):
    """MGDA's weights also scale the parameters of a single task, unlike in the paper
    (https://github.com/isl-org/MultiObjectiveOptimization/issues/12)."""
    changes = []
    for method in ("mgda", "linear_scalarization"):
        ranker = make(Schema([Dense("x")]), method=method)
        head = [v for v in ranker.trainable_variables if v.path.startswith(("towers", "scorers"))]
        before = [v.numpy() for v in head]
        ranker.train_on_batch(X, Y)
        changes.append(np.concatenate([np.ravel(v.numpy() - old) for v, old in zip(head, before, strict=True)]))
    assert np.abs(changes[0]).max() > 0
    np.testing.assert_allclose(changes[0], changes[1], rtol=1e-5)


@pytest.mark.slow
def test_learnt_weights_are_not_learnt(make):
    """The weights of IMTL-L are no parameters and stay what they are
    (https://github.com/JohnLaMaster/Impartial-Multi-Task-Learning/issues/2)."""
    for method in ("imtl_l", "uncertainty_weighting", "gradnorm", "famo"):
        ranker = make(Schema([Dense("x")]), method=method)
        before = [v.numpy() for state in ranker.method_state.states for v in state.values()]
        for _ in range(2):
            ranker.train_on_batch(X, Y)
        after = [v.numpy() for state in ranker.method_state.states for v in state.values()]
        assert any((new != old).any() for new, old in zip(after, before, strict=True)), method


def test_logarithms_of_losses_change_nothing():
    """It seems that a sum of logarithms and a sum of losses are the same
    (https://github.com/median-research-group/LibMTL/issues/86)."""
    wrapped = {"name": "log", "method": "linear_scalarization"}
    plain = methods.combine("linear_scalarization", ROWS, [0.01, 10.0])
    logs = methods.combine(wrapped, ROWS, [0.01, 10.0])
    cosine = plain @ logs / np.linalg.norm(plain) / np.linalg.norm(logs)
    assert cosine < 0.95
