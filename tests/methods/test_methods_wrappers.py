"""Wrappers: what they do to any method, several steps, and their description."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import methods
from tfmtl2r._backend import tf
from tfmtl2r.linalg import settling
from tfmtl2r.methods.base import JacobianMethod, Signals
from tfmtl2r.methods.deciding import merge, weigh
from tfmtl2r.methods.wrappers import Every, Log, Normalised, Smooth, SmoothGram

ROWS = np.random.default_rng(5).normal(size=(3, 6))
LOSSES = np.array([0.5, 2.0, 4.0])


class Run:
    """A method over several steps on matrices of gradients."""

    def __init__(self, method, tasks=3, width=6):
        self.method = methods.get(method)
        self.state = {key: tf.constant(value) for key, value in self.method.initial_state(tasks, width).items()}

    def signals(self, rows, losses=LOSSES, present=None):
        tasks = len(rows)
        return Signals(
            losses=tf.constant(losses, tf.float64), preference=tf.fill([tasks], tf.constant(1 / tasks, tf.float64)),
            present=tf.constant(np.ones(tasks, bool) if present is None else present),
            gram=tf.constant(rows @ rows.T), cross=tf.constant(rows @ rows.T),
            step=tf.constant(0, tf.int64), epoch=tf.constant(0, tf.int64), seed=tf.constant([0, 0], tf.int32),
        )

    def step(self, rows, **kwargs):
        weights, self.state = weigh(self.method, self.signals(rows, **kwargs), self.state)
        return weights.numpy()

    def merge(self, rows, **kwargs):
        update, self.state = merge(self.method, tf.constant(rows), self.signals(rows, **kwargs), self.state)
        return update.numpy()


def weights_of(method, rows=ROWS, losses=LOSSES):
    return Run(method).step(rows, losses=losses)


@pytest.mark.parametrize("inner", ["mgda", "nash_mtl", "pcgrad", "graddrop", "linear_scalarization", "rlw"])
def test_log_is_the_method_on_gradients_of_log_losses(inner):
    got = methods.combine(Log(inner), ROWS, LOSSES)
    np.testing.assert_allclose(got, methods.combine(inner, ROWS / LOSSES[:, None]), rtol=1e-6)
    scales = np.array([1e-3, 1.0, 70.0])
    np.testing.assert_allclose(methods.combine(Log(inner), ROWS * scales[:, None], LOSSES * scales), got, rtol=1e-6)


@pytest.mark.parametrize("inner", ["mgda", "nash_mtl", "linear_scalarization"])
def test_log_weighs_as_it_combines(inner):
    wrapped = Run(Log(inner))
    np.testing.assert_allclose(wrapped.step(ROWS) @ ROWS, wrapped.merge(ROWS), rtol=1e-9)


def test_log_mgda_is_on_the_simplex_and_has_the_direction_of_mgda_on_log_losses():
    weights = weights_of("log_mgda")
    np.testing.assert_allclose(weights.sum(), 3)
    inner = weights_of("mgda", ROWS / LOSSES[:, None])
    np.testing.assert_allclose(weights, 3 * inner / LOSSES / (inner / LOSSES).sum(), rtol=1e-9)


def test_log_passes_the_logarithms_on():
    weights = methods.combine(Log("wc"), np.eye(3), [0.5, 2.0, 3.9])  # the largest weighted logarithm
    np.testing.assert_allclose(weights, [0, 0, 3 / 3.9])


def test_log_refuses_what_needs_positive_losses_and_bad_options():
    with pytest.raises(ValueError, match="ScaleInvariant needs positive losses, and logarithms are not"):
        Log("scale_invariant")
    with pytest.raises(ValueError, match="Log works on task weights; GradDrop has none"):
        Log("graddrop", keep_sum=True)
    with pytest.raises(ValueError, match="Log needs losses above 0"):
        methods.combine(Log("mgda"), ROWS, [1.0, 0.0, 1.0])


def test_log_forwards_what_a_method_learns():
    @dataclasses.dataclass(frozen=True)
    class Remembers(type(methods.get("mgda"))):
        def initial_state(self, num_tasks, num_parameters=None):
            return {"change": np.zeros(num_tasks, np.float32)}

        def learn(self, losses_after, signals, state):
            return {"change": losses_after - signals.losses}

    run = Run(Smooth(Log(Remembers())))
    after = run.method.learn(tf.constant(LOSSES / 2), run.signals(ROWS), run.state)
    assert after.keys() == run.state.keys()
    np.testing.assert_allclose(after["inner_inner_change"], np.log(0.5))


@pytest.mark.parametrize("inner", ["mgda", "pcgrad", "graddrop", "linear_scalarization"])
@pytest.mark.parametrize("by", ["l2", "loss", "loss+"])
def test_normalised_is_the_method_on_normalised_gradients(inner, by):
    rows = ROWS * [[0.1], [1.0], [30.0]]
    lengths = np.linalg.norm(rows, axis=1)
    scale = {"l2": lengths, "loss": LOSSES, "loss+": LOSSES * lengths}[by]
    harmonic = 3 / (1 / scale).sum()
    expected = methods.combine(inner, rows / scale[:, None]) * harmonic
    np.testing.assert_allclose(methods.combine(Normalised(inner, by=by), rows, LOSSES), expected, rtol=1e-6)


def test_normalised_keeps_zero_gradients_and_the_sum_of_equal_weights():
    rows = ROWS * [[0.1], [1.0], [0.0]]
    weights = weights_of(Normalised("ls"), rows)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights[:2].sum(), 2)
    np.testing.assert_allclose(weights[0] * np.linalg.norm(rows[0]), weights[1] * np.linalg.norm(rows[1]))
    assert np.isfinite(weights_of(Normalised("mgda"), 0 * ROWS)).all()


def test_normalised_declares_what_it_needs():
    assert Normalised("ls").needs == {"gram"}
    assert Normalised("ls", by="loss").needs == frozenset()
    assert Normalised("graddrop").needs == {"rows"}
    assert Normalised("ls", by="loss").positive_losses
    assert not Normalised("ls").positive_losses
    with pytest.raises(ValueError, match="by must be 'l2', 'loss' or 'loss\\+', not 'l1'"):
        Normalised("mgda", by="l1")


def two_tasks_with_weights(share):
    """Orthogonal gradients whose min-norm weights are ``2 (share, 1 - share)``."""
    return np.diag([1.0, np.sqrt(share / (1 - share))])


def test_smooth_averages_the_weights():
    run = Run("cr_mogm", 2, 2)
    np.testing.assert_allclose(run.step(two_tasks_with_weights(0.5), losses=[1, 1]), [1, 1])
    got = run.step(two_tasks_with_weights(0.8), losses=[1, 1])
    np.testing.assert_allclose(got, 2 * (0.9 * np.array([0.5, 0.5]) + 0.1 * np.array([0.8, 0.2])), rtol=1e-6)


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, [1.6, 0.4]), (1.0, [1.0, 1.0])])
def test_smooth_at_its_ends(alpha, expected):
    run = Run(Smooth("mgda", alpha=alpha), 2, 2)
    run.step(two_tasks_with_weights(0.5), losses=[1, 1])
    np.testing.assert_allclose(run.step(two_tasks_with_weights(0.8), losses=[1, 1]), expected, rtol=1e-6)


def test_smooth_with_absent_tasks():
    run = Run(Smooth("mgda"))
    run.step(ROWS)
    before = run.state["weights"].numpy()
    np.testing.assert_allclose(run.step(ROWS, present=[False, False, True]), [0, 0, 1], rtol=1e-6)
    np.testing.assert_array_equal(run.state["weights"].numpy()[:2], before[:2])
    late = Run(Smooth("mgda"))
    late.step(ROWS, present=[True, True, False])
    assert late.state["seen"].numpy().tolist() == [1, 1, 0]


def test_smooth_gram_averages_the_matrix():
    rows, later = ROWS, np.random.default_rng(6).normal(size=ROWS.shape)
    run = Run(SmoothGram("mgda", alpha=0.75))
    np.testing.assert_allclose(run.step(rows), weights_of("mgda"), rtol=1e-9)
    stacked = np.c_[np.sqrt(0.75) * rows, np.sqrt(0.25) * later]  # its Gram matrix is the average
    np.testing.assert_allclose(run.step(later), weights_of("mgda", stacked), rtol=1e-5)
    before = run.state["gram"].numpy()
    run.step(rows, present=[True, False, True])
    np.testing.assert_array_equal(run.state["gram"].numpy()[1], before[1])
    with pytest.raises(ValueError, match="LinearScalarization does not use"):
        SmoothGram("ls")


def test_every_asks_every_n_steps():
    run = Run(Every("mgda", steps=3))
    others = np.random.default_rng(6).normal(size=(7, *ROWS.shape))
    fresh = [weights_of("mgda", rows) for rows in others]
    for k, rows in enumerate(others):
        np.testing.assert_allclose(run.step(rows), fresh[k - k % 3], rtol=1e-6)
    np.testing.assert_allclose(run.step(ROWS, present=[False, True, False]), [0, 1, 0])


def test_every_asks_at_once_when_other_tasks_are_present():
    run, two = Run(Every("mgda", steps=100)), [True, False, True]
    run.step(ROWS)
    others = np.random.default_rng(6).normal(size=(3, *ROWS.shape))
    first = run.step(others[0], present=two)
    np.testing.assert_allclose(first[[0, 2]], weights_of("mgda", others[0][[0, 2]], LOSSES[[0, 2]]), rtol=1e-6)
    np.testing.assert_allclose(run.step(others[1], present=two), first, rtol=1e-6)
    np.testing.assert_allclose(run.step(others[2]), weights_of("mgda", others[2]), rtol=1e-6)


def test_every_reports_whether_its_solver_settled():
    run = Run(Every("nash_mtl", steps=2))

    @tf.function(autograph=False)
    def unsettled():
        with settling.watched() as solvers:
            weigh(run.method, run.signals(ROWS), run.state)
            assert len(solvers.solved) == 1
            return solvers.unsettled()

    assert unsettled() == 0


def test_every_moves_the_inner_state_only_when_it_asks():
    run = Run(Every(Smooth("mgda", alpha=0.5), steps=2))
    run.step(ROWS)
    before = run.state["inner_weights"].numpy()
    run.step(ROWS[::-1].copy())
    np.testing.assert_array_equal(run.state["inner_weights"].numpy(), before)
    run.step(ROWS[::-1].copy())
    assert np.abs(run.state["inner_weights"].numpy() - before).max() > 1e-3


@pytest.mark.parametrize("make", [Smooth, Every])
def test_weights_wrappers_refuse_methods_without_weights(make):
    with pytest.raises(ValueError, match="works on task weights; GradDrop has none"):
        make("graddrop")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [(Smooth, {"alpha": 1.5}, "alpha must lie in"), (SmoothGram, {"alpha": -0.1}, "alpha must lie in"),
     (Every, {"steps": 0}, "steps must be at least 1")],
)
def test_options_are_validated(make, options, message):
    with pytest.raises(ValueError, match=message):
        make("mgda", **options)


WRAPPED = [
    Log("mgda"), Log("graddrop"), Log("uw"), Normalised("mgda"), Normalised("graddrop", by="loss+"),
    Normalised("dwa", by="loss"), Smooth("pcgrad"), Smooth("uw"), SmoothGram("nash_mtl"), Every("nash_mtl", steps=2),
    Every("uw", steps=2), Smooth(Log(Normalised("mgda"))), Log(Smooth("linear_scalarization")),
    Every(SmoothGram("mgda")),
]


@pytest.mark.product
@pytest.mark.parametrize("method", WRAPPED, ids=str)
class TestEveryComposition:
    def test_declares_what_the_inner_method_declares(self, method):
        inner = method.method
        assert inner.needs <= method.needs
        assert method.modes == inner.modes
        assert method.takes_preference == inner.takes_preference
        assert method.positive_losses >= inner.positive_losses

    def test_description_rebuilds_it(self, method):
        described = methods.registry.describe(method)
        again = methods.get(json.loads(json.dumps(described)))
        assert again == method
        assert methods.registry.describe(again) == described

    def test_graph_equals_eager_over_several_steps(self, method):
        eager, graph = Run(method), Run(method)
        rows = "rows" in method.needs

        @tf.function(autograph=False)
        def step(signals, gradients, state):
            signals = Signals(**signals)
            return merge(method, gradients, signals, state) if rows else weigh(method, signals, state)

        for seed in range(3):
            gradients = np.random.default_rng(seed).normal(size=ROWS.shape)
            expected = eager.merge(gradients) if rows else eager.step(gradients)
            got, graph.state = step(vars(graph.signals(gradients)), tf.constant(gradients), graph.state)
            np.testing.assert_allclose(got, expected, rtol=1e-9)
        assert step.experimental_get_tracing_count() == 1

    def test_one_present_task_is_single_task_training(self, method):
        run = Run(method)
        go = run.merge if "rows" in method.needs else lambda *a, **k: run.step(*a, **k) @ ROWS
        alone = go(ROWS, present=[False, True, False])
        np.testing.assert_allclose(alone, methods.combine(method, ROWS[1:2], LOSSES[1:2]), rtol=1e-6)

    def test_no_present_task_is_no_update(self, method):
        run = Run(method)
        before = {key: value.numpy() for key, value in run.state.items()}
        if "rows" in method.needs:
            assert not run.merge(ROWS, present=[False] * 3).any()
        else:
            assert not run.step(ROWS, present=[False] * 3).any()
        for key, value in before.items():
            np.testing.assert_array_equal(run.state[key].numpy(), value)

    @pytest.mark.parametrize("scale", [1e-9, 1e9])
    def test_finite_at_any_scale(self, method, scale):
        rows = np.r_[ROWS[:1], -ROWS[:1], 0 * ROWS[:1]] * scale
        assert np.isfinite(methods.combine(method, rows, LOSSES * scale)).all()


def test_nested_things_are_described_as_mappings():
    described = methods.registry.describe(methods.get("cr_mogm", method=methods.get("pcgrad"), alpha=0.5))
    assert described == {"name": "cr_mogm", "method": {"name": "pcgrad"}, "alpha": 0.5}
    by_class = methods.registry.describe(Log(Normalised(method={"name": "nash_mtl", "max_norm": 2.0})))
    assert by_class == {
        "name": "log", "method": {"name": "normalised", "method": {"name": "nash_mtl", "max_norm": 2.0}},
    }
    assert methods.get({"name": "_wrappers.Log", "method": {
        "name": "_wrappers.Normalised", "method": {"name": "nash_mtl", "max_norm": 2.0}, "by": "l2",
    }, "keep_sum": False}) == methods.get(by_class)
    wrappers = {"every", "log", "normalised", "smooth", "smooth_gram"}
    assert not wrappers & set(methods.names())
    assert {methods.registry.find(type(wrapped)) for wrapped in WRAPPED} == wrappers
    for name in wrappers:
        assert methods.card(name).title
        assert "method" in [option.name for option in methods.registry.options(name)]
    with pytest.raises(ValueError, match=r"no method is called '_wrappers\.Nothing'"):
        methods.get("_wrappers.Nothing")


def test_wrappers_of_row_methods_combine_rows():
    assert isinstance(Log("graddrop"), JacobianMethod)
    assert Log("graddrop").modes == ("parameters",)
    assert "features" in Log("mgda").modes


@pytest.mark.slow
def test_a_ranker_with_the_wrappers_of_the_first_format():
    """It holds ``_wrappers.Every``, ``_wrappers.Smooth`` and ``_wrappers.Log`` with their state, and trains on."""
    folder = Path(__file__).parent / "format1"
    stored = np.load(folder / "wrapped.npz")
    x, y = ({key.removeprefix(part): stored[key] for key in stored if key.startswith(part)} for part in ("x_", "y_"))
    ranker = tfmtl2r.load(folder / "wrapped.keras")
    assert ranker.method == Every(Smooth(Log({"name": "cagrad", "c": 0.5}), alpha=0.5), steps=2)
    for part in ("scores_", "after_"):
        scores = ranker(x)
        for task in ("click", "buy"):
            real = np.arange(4) < x["list_size"][:, None]
            np.testing.assert_allclose(scores[task].numpy()[real], stored[part + task][real], atol=5e-5)
        ranker.fit(tf.data.Dataset.from_tensors((x, y)).repeat(3), initial_epoch=1, epochs=2, verbose=0)
