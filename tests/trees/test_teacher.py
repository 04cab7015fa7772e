"""Teachers: only training lists are learnt from, bad teachers change nothing, and serving needs none."""

import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest
from stub_baseline import LeastSquares, eagerly

from tfmtl2r import Category, Dense, Experiment, Schema, Task, baselines, losses
from tfmtl2r._backend import tf
from tfmtl2r.baselines import Baseline, Fitted, Training
from tfmtl2r.baselines import teacher as teachers
from tfmtl2r.baselines.synthetic import with_copies
from tfmtl2r.batch import Batch
from tfmtl2r.data import Lists
from tfmtl2r.settings import Teacher
from tfmtl2r.training.distillation import Annealing, Distillation, column_of
from tfmtl2r.training.objectives import TaskLosses

TASKS = (Task("a", kind="graded"), Task("b", kind="binary", loss="softmax"))


@pytest.fixture
def batch(rng):
    """Three lists, the first without a relevant item of the first task."""
    sizes = np.array([4, 3, 2], np.int32)
    valid = np.arange(4) < sizes[:, None]

    def padded(values):
        return np.where(valid, values, np.nan).astype(np.float32)

    labels = {"a": padded(rng.integers(0, 3, (3, 4))), "b": padded(rng.integers(0, 2, (3, 4)))}
    labels["a"][0, :] = np.where(valid[0], 0, np.nan)
    labels["b"][:, 0], labels["a"][1:, 0] = 1, 1
    labels |= {column_of(task): padded(rng.normal(size=(3, 4))) for task in "ab"}
    x = {"x": np.where(valid, rng.normal(size=(3, 4)), 0).astype(np.float32), "list_size": sizes}
    return Batch.of(({k: tf.constant(v) for k, v in x.items()}, {k: tf.constant(v) for k, v in labels.items()}),
                    Schema([Dense("x")]))


@pytest.fixture
def scores(rng):
    return {task: tf.constant(rng.normal(size=(3, 4)).astype(np.float32)) for task in "ab"}


def mixed(mix, batch, scores, anneal=None):
    distillation = Distillation(losses.get("centred_mse"), mix, ["a", "b"])
    return [part.numpy() for part in TaskLosses(TASKS, True).with_teacher(distillation).per_list(batch, scores)]


def test_losses_are_mixed_list_by_list(batch, scores):
    plain = [part.numpy() for part in TaskLosses(TASKS, True).per_list(batch, scores)]
    only = [losses.get("centred_mse").per_list(batch.labels[column_of(task)], scores[task], batch.valid)
            for task in "ab"]
    assert plain[1].tolist() == [[0, 1, 1], [1, 1, 1]]
    values, weights = mixed({"a": 0.25}, batch, scores)
    assert values[0] == pytest.approx(0.75 * plain[0][0] + 0.25 * only[0][0].numpy())
    assert weights.tolist() == [[1, 1, 1], [1, 1, 1]]  # the teacher knows an order where no label is above 0
    assert values[1].tolist() == plain[0][1].tolist()
    values, _ = mixed({"a": 1.0, "b": 1.0}, batch, scores)
    assert values == pytest.approx(np.array([one[0].numpy() for one in only]))
    untouched = mixed({}, batch, scores)
    assert [part.tolist() for part in untouched] == [part.tolist() for part in plain]
    bare = dataclasses.replace(batch, labels={task: batch.labels[task] for task in "ab"})  # as in validation
    assert [part.tolist() for part in mixed({"a": 0.5}, bare, scores)] == [part.tolist() for part in plain]
    twice = {task: tf.stack([one, one]) for task, one in scores.items()}  # leading axes are averaged
    assert mixed({"a": 0.25}, batch, twice)[0] == pytest.approx(mixed({"a": 0.25}, batch, scores)[0], rel=1e-5)


def test_both_losses_get_gradients_of_one_length(batch, scores):
    """So that ``mix`` is a share, whatever the losses are: a sum over pairs is far longer than a mean of squares."""
    tasks = [dataclasses.replace(TASKS[0], loss="ranknet"), TASKS[1]]
    distillation = Distillation(losses.get("centred_mse"), {"a": 1.0}, ["a", "b"])
    per_list = TaskLosses(tasks, True).per_list

    def length(of):
        equal = {task: tf.zeros((3, 4)) for task in "ab"}
        with tf.GradientTape() as tape:
            tape.watch(equal["a"])
            values, weights = of(batch, equal)
            total = tf.reduce_sum(values[0] * weights[0])
        rows = tf.reduce_sum(tape.gradient(total, equal["a"]) ** 2, 1).numpy()[weights[0].numpy() > 0]
        return np.sqrt(rows.mean())

    labelled = length(per_list)
    distillation.balance(per_list, [batch, batch])
    assert abs(distillation.scale[0] - 1) > 0.1
    assert distillation.scale[1] == 1
    assert length(TaskLosses(tasks, True).with_teacher(distillation).per_list) == pytest.approx(labelled, rel=1e-5)


def test_the_mix_changes_from_epoch_to_epoch():
    distillation = Distillation(losses.get("centred_mse"), {"a": 0.8}, ["a", "b"], anneal=0.25)
    callback, seen = Annealing(distillation, 4), []
    for epoch in (0, 1, 3, 7):
        callback.on_epoch_begin(epoch)
        seen.append(float(distillation.mix[0]))
    assert seen == pytest.approx([0.8, 0.6, 0.2, 0.2])
    assert float(distillation.mix[1]) == 0


class Memory(Baseline):
    """Scores 1 for the items that it was trained on, and 0 for others."""

    def fit(self, training):
        seen = set(training.train.columns["x"].tolist())
        return Fitted({task.name: lambda lists: np.array([float(x in seen) for x in lists.columns["x"].tolist()])
                       for task in training.tasks})


def lists(first, count):
    items = 3 * count
    x = np.arange(first, first + items, dtype=float)
    return Lists({"x": x, "a": (x % 3 > 1).astype(float)}, np.arange(0, items + 1, 3),
                 np.array([f"q{first + i}" for i in range(count)], object))


def test_out_of_fold_scores_come_from_models_that_have_not_seen_the_list(monkeypatch):
    baselines.register("memory")(Memory)
    try:
        training = Training(lists(0, 20), lists(99, 5), TASKS[:1], Schema([Dense("x")]))
        twice = with_copies(training.train, training.schema, TASKS, 1, seed=0, most=0.0)
        inside = teachers._of_baseline("memory", None, training, twice)
        outside = teachers._of_baseline("memory", 4, training, twice)
    finally:
        baselines.registry.unregister("memory")
    assert len(outside[0]["a"]) == 120
    assert set(inside[0]["a"]) == {1.0}
    assert set(outside[0]["a"]) == {0.0}
    assert set(outside[1]["a"]) == {0.0}


def test_teachers_are_standardised_and_averaged(least_squares):
    training = Training(lists(0, 20), lists(99, 5), TASKS[:1], Schema([Dense("x")]))
    one = teachers.learnt(Teacher(from_=least_squares), training, training.train, None)
    scores = one.scores["a"].reshape(20, 3)
    assert scores.mean(axis=1) == pytest.approx(0, abs=1e-6)
    assert (scores**2).mean() == pytest.approx(1, rel=1e-5)
    both = teachers.learnt(Teacher(from_=[least_squares, {"name": least_squares}]), training, training.train, None)
    assert both.scores["a"] == pytest.approx(one.scores["a"], abs=1e-5)
    assert teachers.worth(one, {"a": -one.vali["a"]}, training.vali, TASKS[:1])["a"]["used"]
    noisy = np.where(np.arange(training.vali.num_items) < 3, -1, 1) * one.vali["a"]  # one list is worse
    noise = teachers.worth(dataclasses.replace(one, vali={"a": noisy}), one.vali, training.vali, TASKS[:1])["a"]
    assert noise["used"]
    assert 0 < noise["student"] - noise["teacher"] <= noise["error"] * (1 + 1e-6)
    bad = teachers.worth(dataclasses.replace(one, vali={"a": -one.vali["a"]}), one.vali, training.vali, TASKS[:1])
    assert not bad["a"]["used"]
    assert bad["a"]["student"] > bad["a"]["teacher"]


def test_synthetic_lists_hold_values_of_their_own_list_and_no_labels(rng):
    sizes = np.array([5, 1, 4])
    count, owner = int(sizes.sum()), np.repeat(np.arange(3), sizes)
    train = Lists({"x": owner * 100.0 + np.arange(count), "m": owner[:, None] * 100.0 + rng.normal(size=(count, 3)),
                   "id": np.array([f"{of}-{item}" for item, of in enumerate(owner)], object), "c": owner * 1.0,
                   "a": np.ones(count, int), "b": np.zeros(count, int)},
                  np.concatenate([[0], np.cumsum(sizes)]), np.array(["p", "q", "r"], object), ("c",))
    schema = Schema([Dense("x"), Dense("m", shape=(3,)), Category("id", vocabulary=("0-0",)), Dense("c", context=True)])
    made = with_copies(train, schema, TASKS, 30, seed=1)
    assert made.num_lists == 93
    for name in ("a", "b"):
        assert not np.isnan(made.column(name)[:count]).any()
        assert np.isnan(made.column(name)[count:]).all()
    x, m = made.column("x").reshape(31, -1), made.column("m").reshape(31, -1, 3)
    ids = made.column("id").reshape(31, -1)
    assert (x[0] == train.column("x")).all()
    assert (x // 100 == owner).all()
    assert (np.round(m / 100) == owner[:, None]).all()
    assert [text.split("-")[0] for text in ids[7]] == [str(of) for of in owner]
    moved = (x[1:] != x[0])[:, owner != 1]
    assert 0.18 < moved.mean() < 0.32  # a quarter of the values: probabilities of 0 to 1/2
    assert (m[1:] != m[0])[:, owner != 1].all(axis=-1).mean() < moved.mean()  # each component by itself
    assert moved.mean(axis=0).std() < 0.15
    assert (x[:, owner == 1] == x[0, owner == 1]).all()
    assert not (x[1] == x[2]).all()


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A table of 40 lists whose label follows one of two numbers."""
    folder = tmp_path_factory.mktemp("teacher")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40 * 4, 2))
    pd.DataFrame({"q": np.repeat(np.arange(40), 4), "x": x[:, 0], "z": x[:, 1],
                  "y": (x[:, 0] + 0.3 * rng.normal(size=160) > 0).astype(int)}).to_csv(folder / "log.csv", index=False)
    return Experiment(
        "plain", data={"files": str(folder / "log.csv"), "list_id": "q", "split": {"vali": 0.3, "test": 0.2}},
        tasks=[{"name": "y", "kind": "binary", "metrics": ["ndcg@3"]}], directory=str(folder / "runs"),
        architecture={"name": "shared_bottom", "units": [4]},
        training={"epochs": 2, "patience": 0, "batch_size": 8, "telemetry_every": 0},
    )  # fmt: skip


@pytest.mark.slow  # five trainings
def test_a_good_teacher_is_learnt_and_a_bad_one_changes_nothing(experiment, least_squares, caplog):
    with eagerly(), caplog.at_level(logging.WARNING, "tfmtl2r"):
        plain = experiment.run(verbose=0)[0]
        wrong = {"from": {"name": least_squares, "sign": -1.0}, "synthetic": 2}
        bad, bad_card = experiment.but(name="bad", teacher=wrong).run(0)
        right = {"from": least_squares, "mix": {"y": 1.0}, "synthetic": 2}
        good, card = experiment.but(name="good", teacher=right).run(verbose=0)
    assert [weight.tolist() for weight in bad.get_weights()] == [weight.tolist() for weight in plain.get_weights()]
    assert not bad_card.teacher["y"]["used"]
    assert "the teacher of task 'y' is not used: on the validation split, its ndcg@3 is" in caplog.text
    assert card.teacher["y"]["used"]
    assert card.teacher["y"]["teacher"] >= card.teacher["y"]["student"]
    assert card.history["y_loss"] != bad_card.history["y_loss"]
    assert int(good.optimizer.iterations) == int(plain.optimizer.iterations)  # whatever synthetic lists there are
    assert any((ours != theirs).any() for ours, theirs in zip(good.get_weights(), plain.get_weights(), strict=True))
    folder = experiment.but(name="good").folder
    assert not (folder / ".attempt" / "checkpoints").exists()
    assert "[teacher]" in (folder / "experiment.toml").read_text()
    # A run can be a teacher, if it was trained on the same lists.
    lesson = experiment.but(name="pupil", teacher={"from": ["good", least_squares]})
    dataset = experiment.dataset()
    assert set(lesson._run_of("good", dataset).predict({"x": np.zeros((1, 2)), "z": np.zeros((1, 2)),
                                                         "list_size": np.array([2])})) == {"y"}
    with pytest.raises(ValueError, match="the train split has changed since run 'good' was trained"):
        lesson._run_of("good", experiment.but(data={"split": {"seed": 3}}).dataset())


def test_a_teacher_is_learnt_once(tmp_path):
    calls = []

    def learn():
        calls.append(1)
        return teachers.Lesson({"a/b": np.arange(3, dtype=np.float32)}, {"a/b": np.arange(2.0)})

    for on in ({"x": 1}, {"x": 1}, {"x": 2}, {"x": 1}):
        lesson = teachers.Lesson.once(tmp_path, on, learn)
        assert lesson.scores["a/b"].tolist() == [0, 1, 2]
        assert lesson.vali["a/b"].tolist() == [0, 1]
    assert len(calls) == 2


@pytest.mark.slow  # six trainings
def test_seeds_share_a_teacher_and_other_settings_do_not(experiment, least_squares, monkeypatch):
    counts, learnt = [], teachers.learnt
    monkeypatch.setattr(teachers, "learnt", lambda *given: counts.append(1) or learnt(*given))
    taught = experiment.but(teacher={"from": least_squares, "synthetic": 1}, training={"epochs": 1},
                            directory=str(experiment.folder.parent / "shared"))
    with eagerly():
        found = [taught.but(name=name, training={"seed": seed}).run(verbose=0)
                 for name, seed in (("first", 3), ("again", 3), ("other", 4))]
        assert len(counts) == 1
        taught.but(name="mixed", teacher={"mix": 0.1}, optimizer={"learning_rate": 0.1}).run(verbose=0)
        assert len(counts) == 1
        assert len([*(taught.folder.parent / teachers.FOLDER).glob("*.npz")]) == 3  # two rankers without a teacher
        taught.but(name="more", teacher={"synthetic": 2}).run(verbose=0)
    assert len(counts) == 2
    first, again, other = ([weight.tolist() for weight in ranker.get_weights()] for ranker, _ in found)
    assert first == again  # whether the teacher was learnt in the run, or kept
    assert first != other


@pytest.mark.parametrize(("given", "message"), [
    ({"mix": 0.5}, r"teacher\.mix has no effect without a teacher"),
    ({"from": "lightgbm", "mix": 1.5}, r"teacher\.mix must be a share from 0 to 1"),
    ({"from": "lightgbm", "mix": {"y": -1}}, r"teacher\.mix\.y must be a share from 0 to 1"),
    ({"from": "lightgbm", "anneal": 2.0}, r"teacher\.anneal must be a factor from 0 to 1"),
    ({"from": "lightgbm", "synthetic": 0}, r"teacher\.synthetic must be"),
    ({"synthetic": 5}, r"teacher\.synthetic has no effect without a teacher"),
    ({"from": "least_squares", "mix": {"z": 1}}, "teacher.mix names 'z', which is no task; the tasks are y"),
    ({"from": "least_squares", "loss": "softmax"}, "teacher.loss must compare the scores of a list with any numbers"),
    ({"from": "least_squares", "temperature": 2.0}, "teacher.temperature has no effect on the loss 'centred_mse'"),
    ({"from": "no_such_run"}, "no_such_run"), ({"from": 3}, "teacher.from must name a baseline"),
    ({"from": {"name": "least_squares", "sing": 1}}, "has no option sing"),
])  # fmt: skip
def test_a_teacher_that_cannot_be_used_is_refused_before_training(experiment, least_squares, given, message):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        Experiment.of({**experiment.config(), "name": "refused", "teacher": given}).run(verbose=0)
    assert not (experiment.folder.parent / "refused" / "run.json").exists()


def test_a_task_with_values_and_stages_are_refused(experiment, least_squares):
    task = {"name": "y", "kind": "binary", "loss": "bce"}
    bce = experiment.but(name="values", tasks=[task])
    with pytest.raises(ValueError, match=r"task 'y' has values .*, from its loss BCE, .*or leave the teacher out"):
        bce.but(teacher={"from": least_squares}).run(verbose=0)
    both = bce.but(tasks=[task, {"name": "z", "label": "y", "kind": "binary"}])
    with pytest.raises(ValueError, match=r"or leave it to its labels \(teacher\.mix = \{z = 0\.7\}\)"):
        both.but(teacher={"from": least_squares, "mix": 0.7}).run(verbose=0)
    with pytest.raises(ValueError, match="does not go with stages"):
        experiment.but(teacher={"from": least_squares}, staged=True)
    assert isinstance(baselines.get(least_squares), LeastSquares)
