"""Training in stages: what a stage keeps, measures, passes on and shows."""

import logging

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task, cli
from tfmtl2r._backend import keras, tf
from tfmtl2r.report.tensorboard import TensorBoard
from tfmtl2r.runs.card import RunCard
from tfmtl2r.training.priorities import Constraint, constrained, prioritised
from tfmtl2r.training.staged import fit_constrained, fit_prioritised

BOTTLENECK = {"name": "shared_bottom", "units": [1], "head_units": [], "activation": "linear"}


def bottleneck(seed, rows=4000, batch=256):
    """Two tasks that want other directions of 20 numbers, and a trunk that has room for one (oracle D)."""
    rng = np.random.default_rng(seed)
    first, second = np.linalg.qr(rng.normal(size=(20, 2)))[0].T
    x = rng.normal(size=(rows, 20))
    wanted = {"one": 3 * first, "two": 3 * (0.3 * first + np.sqrt(0.91) * second), "three": 2 * first - second}
    y = {task: (rng.random(rows) < 1 / (1 + np.exp(-x @ w))).astype(np.float32) for task, w in wanted.items()}
    return tf.data.Dataset.from_tensor_slices(({"x": x.astype(np.float32)}, y)).batch(batch).cache()


def ranker(names=("one", "two"), method="nmt", lr=0.02, priorities=None, architecture=BOTTLENECK, **options):
    priorities = priorities or [None] * len(names)
    tasks = [Task(name, kind="binary", metrics=(), priority=p) for name, p in zip(names, priorities, strict=True)]
    model = MultiTaskRanker(architecture, tasks, Schema([Dense("x", (20,))]))
    model.compile(keras.optimizers.Adam(lr), method=method, **options)
    return model


def losses_of(model, data):
    found = model.evaluate(data, verbose=0, return_dict=True)
    return {task.name: found[f"{task.name}_loss"] for task in model.tasks}


def weights_of(model):
    return [np.array(v) for v in model.architecture.variables]


@pytest.mark.long
@pytest.mark.slow  # 50 s
@pytest.mark.parametrize("tolerance", [0.0, 0.01])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_oracle_d_the_second_task_takes_what_the_first_leaves(seed, tolerance):
    data = bottleneck(seed)
    model = ranker(method={"name": "nmt", "dual_lr": 5.0, "tolerance": tolerance}, steps_per_execution=16)
    training = fit_prioritised(model, data, epochs=60)
    first, second = training.stages
    last = {task: training.history[f"{task}_full_loss"][-1] for task in ("one", "two")}
    assert last["one"] <= first.losses["one"] * (1 + tolerance) + 0.005
    assert last["two"] < first.losses["two"] - 0.03
    assert second.feasible
    assert second.losses["one"] <= first.losses["one"] * (1 + tolerance) * (1 + 1e-5)
    if not tolerance:
        return
    assert second.losses["two"] < first.losses["two"] - 0.03
    assert second.multipliers["one"] > 0
    equal = ranker(method="linear_scalarization", steps_per_execution=16)
    equal.fit(data, epochs=60, verbose=0)
    assert losses_of(equal, data)["one"] > second.losses["one"] + 0.02  # what priorities are for


class Seen(keras.callbacks.Callback):
    """Weights and optimizer at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.epochs, self.weights, self.begun = [], [], []

    def on_train_begin(self, logs=None):
        optimizer = self.model.optimizer
        self.begun.append((int(optimizer.iterations), max(np.abs(v).max() for v in optimizer.variables[2:])))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        self.weights.append(weights_of(self.model))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Priority 1 for task one, 2 for two and three; 512 training rows, 256 others for validation."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("staged")
    method = {"name": "nmt", "dual_lr": 2.0, "tolerance": 0.02}
    model = ranker(("two", "one", "three"), method, lr=0.1, priorities=(2, 1, 2))
    rows = bottleneck(0, 768, 64)
    seen = Seen()
    train, vali = rows.take(8), rows.skip(8)
    training = fit_prioritised(model, train, vali, epochs=8, callbacks=[seen, TensorBoard(folder, every=4)])
    return model, train, vali, training, seen, folder


@pytest.mark.slow
class TestPriorities:
    @pytest.mark.slow
    def test_levels_in_order_with_ties(self, run):
        first, second = run[3].stages
        assert first.goals == ("one",)
        assert second.goals == ("two", "three")
        assert first.bounds == {}
        assert second.bounds == {"one": pytest.approx(1.02 * first.losses["one"])}
        assert (first.epochs, second.epochs) == (8, 8)

    def test_the_losses_of_a_stage_are_those_of_the_weights_it_kept(self, run):
        model, train, _, training, seen, _ = run
        first, second = training.stages
        for task, loss in losses_of(model, train).items():
            assert loss == pytest.approx(second.losses[task], rel=1e-5)
        kept = seen.weights[8 + second.kept - 1] if second.kept else seen.weights[first.kept - 1]
        for ours, theirs in zip(weights_of(model), kept, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_the_kept_epoch_is_the_best_for_the_goals_that_holds_the_bound(self, run):
        training = run[3]
        history, (first, second) = training.history, training.stages
        assert first.kept == 1 + int(np.argmin(history["val_one_loss"][:8]))
        goal = (np.array(history["val_two_loss"]) + history["val_three_loss"])[8:] / 2
        allowed = np.array(history["one_violation"][8:]) <= 1e-5
        assert second.feasible
        assert allowed.any()
        assert second.watched == pytest.approx(goal[allowed].min())
        assert second.kept == 1 + int(np.flatnonzero(allowed)[goal[allowed].argmin()])
        assert second.losses["two"] + second.losses["three"] < first.losses["two"] + first.losses["three"]

    def test_tasks_of_lower_priority_do_not_move(self, run):
        """In the first stage the heads of two and three keep their weights exactly; in the second they train."""
        model, _, _, _, seen, _ = run
        names = [v.path for v in model.architecture.variables]
        kernel = next(i for i, name in enumerate(names) if "scorer" in name and "kernel" in name)
        heads = [weights[kernel] for weights in seen.weights]
        for other in (0, 2):
            np.testing.assert_array_equal(heads[0][other], heads[7][other])
            assert np.abs(heads[8][other] - heads[7][other]).max() > 0
        assert np.abs(heads[7][1] - heads[0][1]).max() > 0

    def test_every_stage_begins_with_a_fresh_optimizer(self, run):
        assert run[4].begun == [(0, 0.0), (0, 0.0)]
        assert run[4].epochs == list(range(16))

    def test_history_covers_all_stages(self, run):
        history = run[3].history
        assert {len(values) for values in history.values()} == {16}
        assert history["stage"] == [1.0] * 8 + [2.0] * 8
        bound = run[3].stages[1].bounds["one"]
        np.testing.assert_allclose(history["one_violation"][8:], np.array(history["one_full_loss"][8:]) - bound)
        assert not any(history["two_violation"] + history["one_violation"][:8] + history["two_multiplier"])
        assert max(history["one_multiplier"][8:]) > 0
        assert history["one_multiplier"][-1] == pytest.approx(run[3].stages[1].multipliers["one"])

    def test_tensorboard_shows_stages_multipliers_and_violations(self, run):
        _, _, _, training, _, folder = run
        events = EventAccumulator(str(folder / "train"), size_guidance={"tensors": 0})
        events.Reload()

        def series(tag):
            return [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]

        assert series("all/stage") == [(epoch, 1.0 + (epoch >= 8)) for epoch in range(16)]
        for tag, key in (("one/violation", "one_violation"), ("one/multiplier", "one_multiplier")):
            np.testing.assert_allclose([value for _, value in series(tag)], training.history[key], rtol=1e-5, atol=1e-7)
        sampled = series("method/multipliers/one")
        assert [step for step, _ in sampled] == list(range(4, 129, 4))  # 64 steps a stage, counted on
        assert not any(value for _, value in sampled[:16])
        assert any(value > 0 for _, value in sampled[16:])
        assert {"method/violations/one", "method/goals/two", "weights/three"} <= set(events.Tags()["tensors"])

    def test_it_is_saved_with_its_last_stage(self, run, tmp_path):
        model, train = run[:2]
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.method == model.method
        assert loaded.count_params() == model.count_params()
        for key, value in model.method_state.states[0].items():
            np.testing.assert_array_equal(loaded.method_state.states[0][key], value)
        assert losses_of(loaded, train) == pytest.approx(losses_of(model, train), rel=1e-6)


class TestConstraints:
    @pytest.mark.slow
    def test_clicks_as_long_as_relevance_stays_within_two_percent(self):
        data = bottleneck(1, 512, 512)
        model = ranker(("two", "one"), {"name": "nmt", "dual_lr": 5.0}, lr=0.3, run_eagerly=True)
        training = fit_constrained(model, data, constraints={"one": "2%"}, epochs=12)
        first, second = training.stages
        assert (first.goals, second.goals) == (("one",), ("two",))
        assert second.bounds == {"one": pytest.approx(1.02 * first.losses["one"])}
        assert losses_of(model, data)["one"] <= 1.02 * first.losses["one"] * (1 + 1e-5)
        assert second.losses["two"] < first.losses["two"]
        # A known bound needs no stage of its own. Loose, it does not bind, and task two wins.
        loose = fit_constrained(model, data, constraints={"one": 9.0}, epochs=12)
        assert len(loose.stages) == 1
        assert loose.stages[0].multipliers == {"two": 0.0, "one": 0.0}
        assert loose.stages[0].losses["two"] < second.losses["two"] - 0.05

    def test_a_bound_out_of_reach_is_reported_and_the_least_violation_kept(self, caplog):
        data = bottleneck(1, 256, 256)
        model = ranker(run_eagerly=True)
        with caplog.at_level(logging.WARNING, "tfmtl2r"):
            training = fit_constrained(model, data, constraints={"one": 0.01}, epochs=3)
        (stage,) = training.stages
        assert "no epoch satisfies all bounds" in caplog.text
        assert "task 'one'" in caplog.text
        assert not stage.feasible
        assert stage.violation == pytest.approx(min(training.history["one_violation"]))
        assert stage.losses["one"] == pytest.approx(stage.violation + 0.01)

    @pytest.mark.parametrize(
        ("short", "expected"),
        [("1%", Constraint(relative=0.01)), ("+1%", Constraint(relative=0.01)), ("+0.5", Constraint(absolute=0.5)),
         (0.5, Constraint(at_most=0.5)), ("0.5", Constraint(at_most=0.5)),
         (Constraint(relative=0.1, absolute=1.0), Constraint(relative=0.1, absolute=1.0))],
    )
    def test_short_forms(self, short, expected):
        assert Constraint.read(short) == expected

    def test_bounds_above_the_best(self):
        assert Constraint(relative=0.1, absolute=1.0).bound(-20.0) == -17.0  # of a negative loss, too, 10 % is worse
        assert Constraint(at_most=0.5).bound(3.0) == 0.5

    @pytest.mark.parametrize(
        ("constraints", "message"),
        [({"oen": "1%"}, "unknown task 'oen'; did you mean 'one'"), ({"one": 1, "two": 1}, "leave at least one"),
         ({"one": "a bit"}, "constraint on task 'one': a constraint is '1%'"), ({"one": "-1%"}, "numbers >= 0"),
         ({"one": "nan"}, "finite number"), ({"one": True}, "a constraint is"), ({"one": None}, "a constraint is")],
    )
    def test_what_cannot_be_read_is_refused(self, constraints, message):
        with pytest.raises(ValueError, match=message):
            constrained(["one", "two"], constraints)

    def test_plans(self):
        plan = constrained(["a", "b", "c", "d"], {"d": "1%", "a": 0.3, "b": "+1"})
        assert plan.levels == ((3,), (1,), (2,))
        assert plan.constraints[0].at_most == 0.3
        plan = prioritised([1, 0, 1, 2], 0.05)
        assert plan.levels == ((1,), (0, 2), (3,))
        assert plan.constraints == dict.fromkeys((1, 0, 2), Constraint(relative=0.05))


def test_one_task_is_ordinary_training():
    data = bottleneck(0, 256, 128)
    found = []
    for method in ("nmt", "linear_scalarization"):
        keras.utils.set_random_seed(5)
        model = ranker(("one",), method, run_eagerly=True)
        if method == "nmt":
            history = fit_prioritised(model, data, epochs=4).history
        else:
            history = model.fit(data, epochs=4, verbose=0).history
        found.append((history["one_loss"], weights_of(model)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_patience_and_a_cold_start():
    data = bottleneck(2, 128, 128)
    # A learning rate so large that it soon stops improving.
    model = ranker(method={"name": "nmt", "max_multiplier": 0.5}, lr=0.5, run_eagerly=True)
    begin, seen = weights_of(model), Seen()
    starts = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: found.append(weights_of(model)))
    found = []
    training = fit_prioritised(model, data, epochs=30, patience=2, warm_start=False, callbacks=[starts, seen])
    for stage in training.stages:
        assert stage.epochs < 30
        assert stage.epochs == stage.kept + 2
    assert len(seen.epochs) == sum(stage.epochs for stage in training.stages)
    for weights in found:
        for ours, theirs in zip(weights, begin, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert max(training.history["one_multiplier"]) <= 0.5


class TestRefusals:
    def test_a_method_without_goals(self):
        with pytest.raises(ValueError, match="MGDA keeps no goals and bounds: compile it with method='nmt'"):
            fit_prioritised(ranker(method="mgda"), None)

    def test_bounds_of_the_method(self):
        with pytest.raises(ValueError, match="give them as constraints"):
            fit_prioritised(ranker(method={"name": "nmt", "bounds": (0.5, np.inf)}), None)

    def test_a_ranker_that_is_not_compiled(self):
        with pytest.raises(ValueError, match="it is not compiled"):
            fit_constrained(MultiTaskRanker("shared_bottom", ["a"]), None, constraints={})

    @pytest.mark.parametrize("options", [{"epochs": 0}, {"patience": -1}])
    def test_options(self, options):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be at least"):
            fit_prioritised(ranker(), None, **options)


COMMAND = ["train", "--data", "synthetic_mslr", "--data.num-lists", "40", "--data.max-length", "8", "--data.num-tasks",
           "2", "--data.num-features", "8", "--architecture.units", "4", "--epochs", "2", "--method", "nmt"]


@pytest.mark.long
@pytest.mark.slow  # 20 s
def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*COMMAND, "--name", "staged", "--staged", "--method.tolerance", "0.05"]) == 0
    card = RunCard.load("runs/staged")
    assert card.history["stage"] == [1.0, 1.0, 2.0, 2.0]
    first, second = (row for row in card.results["test"])
    assert cli.main([*COMMAND, "--name", "bound", "--set", f"constraints.{second}.loses_at_most=5%"]) == 0
    card = RunCard.load("runs/bound")
    assert card.config["constraints"] == [{"task": second, "loses_at_most": "5%"}]
    kept = int(np.flatnonzero(card.history["kept"][:2])[-1])
    bound = card.history[f"{second}_full_loss"][-1] - card.history[f"{second}_violation"][-1]
    assert bound == pytest.approx(1.05 * card.history[f"{second}_full_loss"][kept])
    assert not any(card.history[f"{first}_violation"])
    capsys.readouterr()
    assert cli.main([*COMMAND, "--name", "bad", "--set", "constraints.a.loses_at_most=x"]) == 1
    assert "must be a share such as '1%' or a number >= 0, not 'x'" in capsys.readouterr().err
