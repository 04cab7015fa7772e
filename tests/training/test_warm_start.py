"""A training that starts from an earlier run: weights follow their values, and everything else is said or refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, Experiment, MultiTaskRanker, Schema, Task, cli
from tfmtl2r._backend import keras
from tfmtl2r.data import Lists, fit_tasks
from tfmtl2r.features import Bag, Sequence
from tfmtl2r.task import LabelStatistics
from tfmtl2r.training.warm_start import continued, continued_tasks, start_from

TASKS = (Task("click", kind="binary"), Task("buy", kind="binary"))
OLD = Schema([
    Dense("price", mean=(1.0,), variance=(4.0,)), Category("brand", vocabulary=("a", "b", "c"), dim=3),
    Bag("tags", vocabulary=("x", "y"), dim=2), Category("seen", shares="brand"), Category("code", buckets=5, dim=2),
])  # fmt: skip
NEW = Schema([
    Category("code", buckets=5, dim=2), Bag("tags", vocabulary=("z", "y"), dim=2),
    Dense("price", mean=(9.0,), variance=(1.0,)), Category("brand", vocabulary=("d", "c", "a", "e")),
    Category("seen", shares="brand"),
])  # fmt: skip


def ranker(schema, seed, method="famo", architecture="shared_bottom", **options):
    keras.utils.set_random_seed(seed)
    model = MultiTaskRanker(architecture, TASKS, schema, **options)
    model.compile("adam", method=method)
    return model


def table(model, feature):
    return np.array(model.architecture.encoder.by_feature.by_name[feature].embeddings)


@pytest.fixture(scope="module")
def old():
    model = ranker(OLD, 0)
    model.method_state.epoch.assign(4)
    for variable in model.method_state.states[0].values():
        variable.assign(np.full(variable.shape, 7.0))
    return model


def test_kept_vocabularies_grow_and_rows_follow_their_values(old):
    schema = continued(NEW, old, keep=True)
    assert schema.names == OLD.names
    by_name = {feature.name: feature for feature in schema.features}
    assert by_name["price"] == OLD.features[0]
    assert by_name["brand"].vocabulary == ("a", "b", "c", "d", "e")
    assert by_name["tags"].vocabulary == ("x", "y", "z")
    model, same = ranker(schema, 1), ranker(schema, 1)
    lines = start_from(model, old)
    assert lines == ["feature 'brand': 2 new values, 3 known values", "feature 'tags': 1 new values, 2 known values",
                     "the state of the method and the count of epochs start anew"]
    for feature, known in (("brand", 4), ("tags", 3)):
        np.testing.assert_array_equal(table(model, feature)[:known], table(old, feature))
        np.testing.assert_array_equal(table(model, feature)[known:], table(same, feature)[known:])  # a random start
    tables = {id(layer.embeddings) for layer in model.architecture.encoder.by_feature.by_name.values()}
    pairs = zip(model.architecture.variables, old.architecture.variables, strict=True)
    others = [(mine, theirs) for mine, theirs in pairs if id(mine) not in tables]
    assert others
    for mine, theirs in others:
        np.testing.assert_array_equal(mine, theirs)
    assert int(model.method_state.epoch) == 0
    # What the earlier ranker knew scores as before.
    x = {"price": np.array([[3.0]], np.float32), "brand": np.array([["b"]]), "seen": np.array([["c"]]),
         "tags": np.array([[["y", "x"]]]), "tags_size": np.array([[2]], np.int32), "code": np.array([["q"]]),
         "list_size": np.array([1], np.int32)}  # fmt: skip
    for task, scores in model.scores(looked_up(schema, x)).items():
        np.testing.assert_array_equal(scores, old.scores(looked_up(OLD, x))[task])


def looked_up(schema, x):
    from tfmtl2r.layers.features import Lookup

    sizes = {"list_size": x["list_size"]}
    return {**Lookup(schema)({name: value for name, value in x.items() if name not in sizes}), **sizes}


def test_refitted_vocabularies_keep_the_rows_of_known_values(old):
    schema = continued(NEW, old, keep=False)
    assert schema.features[0].mean == (9.0,)
    model, same = ranker(schema, 1), ranker(schema, 1)
    lines = start_from(model, old)
    assert lines[:2] == ["feature 'price': its statistics are those of the new data",
                         "feature 'brand': 2 new values, 2 known values, 1 values left out"]
    mine, theirs = table(model, "brand"), table(old, "brand")
    np.testing.assert_array_equal(mine[[0, 2, 3]], theirs[[0, 3, 1]])  # unknown, c, a
    np.testing.assert_array_equal(mine[[1, 4]], table(same, "brand")[[1, 4]])


def test_the_state_of_the_method_is_kept_by_choice(old):
    model = ranker(continued(NEW, old, keep=True), 1)
    assert start_from(model, old, method_state=True)[-1] == "the state of the method is kept, after 4 epochs"
    assert int(model.method_state.epoch) == 4
    assert all((np.array(variable) == 7).all() for variable in model.method_state.states[0].values())
    with pytest.raises(ValueError, match='"keep" needs the method of the earlier run with the same options'):
        start_from(ranker(continued(NEW, old, keep=True), 1, {"name": "famo", "gamma": 0.5}), old, method_state=True)
    dense = ranker(OLD, 0, "db_mtl")
    with pytest.raises(ValueError, match="a number per parameter, and tables have grown"):
        start_from(ranker(continued(NEW, old, keep=True), 1, "db_mtl"), dense, method_state=True)


def history(days, tags, **options):
    sides = ({"kind": "dense", "name": "gap", "mean": [float(days)], "variance": [1.0]},
             {"kind": "category", "name": "tag", "vocabulary": list(tags), "dim": 2})
    return Schema([Sequence("seen", vocabulary=("a", "b"), dim=2, side=("gap", "tag"), sides=sides, **options)])


@pytest.mark.parametrize("keep", [True, False])
def test_side_columns_follow_their_values(keep):
    old = ranker(history(1, "xy"), 0)
    schema = continued(history(2, "zy"), old, keep)
    gap, tag = schema.features[0].side_features
    assert gap.mean == ((1.0,) if keep else (2.0,))
    assert tag.vocabulary == (("x", "y", "z") if keep else ("z", "y"))
    model, same = ranker(schema, 1), ranker(schema, 1)
    assert f"feature 'tag of seen': 1 new values, {2 if keep else 1} known values" in start_from(model, old)[-2]
    mine, theirs, start = (np.array(one.architecture.encoder.by_feature.by_name["seen"].by_side["tag"].embeddings)
                           for one in (model, old, same))
    known = {1: 1, 2: 2} if keep else {2: 2}
    for row, before in {0: 0, **known}.items():
        np.testing.assert_array_equal(mine[row], theirs[before])
    new = 3 if keep else 1
    np.testing.assert_array_equal(mine[new], start[new])


def test_what_has_not_changed_is_not_said(old):
    plain = Schema([Category("id", vocabulary=("a", "b")), Dense("x", mean=(0.0,), variance=(1.0,))])
    before = ranker(plain, 0)
    for keep in (True, False):
        assert start_from(ranker(continued(plain, before, keep), 1), before)[0].startswith("the state of the method")


def test_refitted_options_start_anew_or_are_refused(old):
    """Another width, and another order of side columns or another pooling, whose weights would be those of others."""
    model = ranker(continued(changed("brand", dim=7), old, keep=False), 1)
    assert any("has another shape and starts anew" in line for line in start_from(model, old))
    first = Schema([Category("a", vocabulary=("x",), dim=2), Sequence("seen", shares="a", side=("gap", "more"))])
    before = ranker(first, 0)
    with pytest.raises(ValueError, match=r"side is \('more', 'gap'\), but \('gap', 'more'\) in the earlier run"):
        continued(Schema([first.features[0], Sequence("seen", shares="a", side=("more", "gap"))]), before, keep=False)
    attention = Sequence("seen", shares="a", side=("gap", "more"), pooling="target_attention")
    schema = continued(Schema([first.features[0], attention]), before, keep=False)
    with pytest.raises(ValueError, match="the ranker has other variables than the earlier run"):
        start_from(ranker(schema, 1), before)


@pytest.mark.parametrize(("now", "before"), [
    ({"vocabulary": ("a", "b")}, {"buckets": 3}), ({"buckets": 3}, {"vocabulary": ("a", "b")}),
])
def test_rows_of_hashes_and_of_values_are_never_mixed(now, before):
    """Both tables have three rows."""
    old = ranker(Schema([Category("id", dim=2, **before)]), 0)
    with pytest.raises(ValueError, match=r"feature 'id': hash_buckets is .* in the earlier run, whose statistics"):
        continued(Schema([Category("id", **now)]), old, keep=True)
    schema = continued(Schema([Category("id", **now)]), old, keep=False)
    model, same = ranker(schema, 1), ranker(schema, 1)
    assert start_from(model, old)[0] == "feature 'id': its table starts anew, since its values have other rows"
    np.testing.assert_array_equal(table(model, "id"), table(same, "id"))


def test_kept_statistics_belong_to_their_options(old):
    """No option of a feature is silently that of the earlier run."""
    for schema, message in (
        (changed("price", transform="log1p"), "feature 'price': transform is 'log1p', but 'none' in the earlier run"),
        (changed("price", missing=True), "feature 'price': missing is True, but False"),
        (changed("brand", dim=7), "feature 'brand': width is 7, but 3"),
        (changed("code", buckets=6), "feature 'code': hash_buckets is 6, but 5"),
        (changed("tags", pooling="sum"), "feature 'tags': pooling is 'sum', but 'mean'"),
    ):
        with pytest.raises(ValueError, match=message):
            continued(schema, old, keep=True)
    found = {f.name: f for f in continued(changed("brand", min_count=3), old, keep=True).features}
    assert found["brand"].min_count == 3
    assert continued(changed("brand", dim=7), old, keep=False).features[1].dim == 7


def changed(feature, **options):
    return Schema([dataclasses.replace(f, **options) if f.name == feature else f for f in NEW.features])


def test_other_features_tasks_and_architectures_are_refused(old):
    for schema, message in (
        (Schema([*NEW.features, Dense("more")]), "does not know the feature 'more'"),
        (Schema([f for f in NEW.features if f.name != "price"]), "also needs the feature 'price'"),
        (changed("price", shape=(2,), mean=(9.0, 9.0), variance=(1.0, 1.0)), "'price' is another kind of feature"),
        (changed("code", dtype="int64", context=True), "'code' is another kind of feature"),
    ):
        with pytest.raises(ValueError, match=message):
            continued(schema, old, keep=True)
    schema = continued(NEW, old, keep=True)
    with pytest.raises(ValueError, match="another architecture"):
        start_from(ranker(schema, 1, architecture={"name": "shared_bottom", "units": [3]}), old)
    with pytest.raises(ValueError, match=r"conditioned=None, not 1\.0"):
        start_from(ranker(schema, 1, "linear_scalarization", conditioned=1.0), old)
    with pytest.raises(ValueError, match=r"start\.statistics has no effect without a run: give start\.from"):
        Experiment(start={"statistics": "refit"})
    with pytest.raises(ValueError, match=r'start\.method_state must be "reset" with stages'):
        Experiment(start={"from": "x", "method_state": "keep"}, staged=True)


@pytest.mark.slow
def test_from_on_the_command_line(tmp_path, monkeypatch, capsys):
    """A second day with a new brand; the run's file repeats the warm start."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for day, brands in (("first", "ab"), ("second", "abc")):
        lists = np.repeat(np.arange(30), 4)
        frame = pd.DataFrame({"list": lists, "price": rng.normal(size=120), "brand": rng.choice(list(brands), 120),
                              "click": rng.integers(0, 2, 120)})  # fmt: skip
        frame.to_csv(f"{day}.csv", index=False)
    common = ["--data.list-id", "list", "--set", "tasks=[{name = 'click', kind = 'binary'}]", "--telemetry-every", "0",
              "--architecture.units", "4", "--patience", "0", "--epochs", "1"]  # fmt: skip
    assert cli.main(["train", "--name", "first", "--data.files", "first.csv", *common]) == 0
    again = ["train", "--name", "second", "--data.files", "second.csv", *common, "--optimizer.learning-rate", "1e-9"]
    assert cli.main([*again, "--from", "nothing"]) == 1
    assert "runs/nothing" in capsys.readouterr().err
    assert cli.main([*again, "--from", "runs/first/model.keras"]) == 1
    assert "model.keras is no run, and a training needs one" in " ".join(capsys.readouterr().err.split())
    assert cli.main([*again, "--from", "first"]) == 0
    out = capsys.readouterr().out
    assert "start from first: feature 'brand': 1 new values, 2 known values" in out
    first, second = (tfmtl2r.load(f"runs/{name}/model.keras") for name in ("first", "second"))
    np.testing.assert_allclose(table(second, "brand")[:3], table(first, "brand"), atol=1e-6)
    assert Experiment.of(tfmtl2r.settings.files.load(tmp_path / "runs/second/experiment.toml")).start.from_ == "first"


@pytest.mark.parametrize(("before", "now", "kept"), [
    ({"name": "grades", "grades": 3}, {"name": "grades", "grades": 3}, True),
    ({"name": "grades", "grades": 3, "edges": [1, 2]}, {"name": "grades", "grades": 3}, True),
    ({"name": "grades", "grades": 3, "edges": [1, 2]}, {"name": "grades", "grades": 3, "edges": [2, 1]}, True),
    ({"name": "grades", "grades": 3, "edges": [1, 2]}, {"name": "grades", "grades": 3, "edges": [5, 10]}, False),
    ({"name": "grades", "grades": 3}, {"name": "grades", "grades": 3, "edges": [5, 10]}, False),
    ({"name": "winsorise", "edges": [None, 3]}, {"name": "winsorise", "edges": [None, 5]}, False),
    ({"name": "winsorise"}, {"name": "winsorise", "upper": 0.9}, False),
])
def test_what_the_user_gives_of_a_label_goes_before_what_the_earlier_run_knows(before, now, kept):
    """Edges of a transform and statistics; whatever is not given is kept."""
    old, new = Lists({"y": np.arange(9.0)}), Lists({"y": np.arange(0.0, 90.0, 10.0)})
    kind = "graded" if before["name"] == "grades" else "regression"
    earlier = MultiTaskRanker("single_task", fit_tasks(old, [Task("y", kind=kind, transform=before)]))
    given = [Task("y", kind=kind, transform=now)]
    fitted = fit_tasks(new, given)
    assert continued_tasks(given, fitted, earlier, keep=True) == (earlier.tasks if kept else fitted)
    assert continued_tasks(given, fitted, earlier, keep=False) == fitted
    stated = [dataclasses.replace(given[0], statistics=LabelStatistics(4.0, 2.0))]
    assert continued_tasks(stated, stated, earlier, keep=True) == tuple(stated)
