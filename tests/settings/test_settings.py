"""The schema of an experiment: bad values are refused by key, files and flags mean the same."""

import datetime
import json
import re
import tomllib
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Experiment, RunCard, Task, cli
from tfmtl2r.commands import _options, cross_validate, sweep, train
from tfmtl2r.settings import Data, SettingError, Settings, files
from tfmtl2r.settings.outcome import differing, keys, keys_where, outcome
from tfmtl2r.settings.starter import starter
from tfmtl2r.settings.values import Text, converted


def tree(*arguments, command=train.COMMAND):
    return _options.parse(command, arguments)[0]


@pytest.mark.parametrize(("given", "message"), [
    ({"training": {"epohcs": 3}}, r"training\.epohcs is not a key; did you mean 'epochs'"),
    ({"architectur": "x"}, "architectur is not a key; did you mean 'architecture'"),
    ({"training": {"epochs": "3"}}, r"training\.epochs must be a whole number, not '3'"),
    ({"training": {"epochs": 2.5}}, r"training\.epochs must be a whole number, not 2\.5"),
    ({"training": {"epochs": True}}, r"training\.epochs must be a whole number, not True"),
    ({"training": {"epochs": 0}}, r"training\.epochs must be at least 1, not 0"),
    ({"training": {"train_metrics": 1}}, "must be true or false, not 1"),
    ({"training": {"feature_dropout": 1}}, r"training\.feature_dropout must be below 1, not 1"),
    ({"training": {"augment": 0.5}, "teacher": {"from": "lightgbm"}}, r"augment swaps .* use teacher\.synthetic"),
    ({"training": {"augment": 1.5}}, r"training\.augment must be at most 1, not 1\.5"),
    ({"features": [{"name": "x", "transform": ["log1p", "rank"]}]}, r"features\.x\.transform.* must be 'zscore' or"),
    ({"features": [{"name": "x", "noise": -1}]}, r"features\.x\.noise must be at least 0"),
    ({"training": 3}, "training must be a table of keys, not 3"),
    ({"optimizer": {"learning_rate": 0}}, r"optimizer\.learning_rate must be a number above 0, not 0"),
    ({"optimizer": {"learning_rate": float("nan")}}, "must be a number above 0, not nan"),
    ({"conditioned": -1}, "conditioned must be a number above 0, not -1"),
    ({"gradients": "paramters"}, "must be 'parameters' or 'features', not 'paramters'; did you mean 'parameters'"),
    ({"preference": [1, 2]}, "preference must be a table such as"),
    ({"preference": {"click": "a lot"}}, r"preference\.click must be a number, not 'a lot'"),
    ({"preference": {"click": 1}, "tasks": [{"name": "click", "weight": 2}]},
     "preference and the weight of task 'click' set the same"),
    ({"tasks": [{"name": "click", "knd": "binary"}]}, r"tasks\.click\.knd is not a key; did you mean 'kind'"),
    ({"tasks": [{"name": "click", "kind": "bin"}]}, r"tasks\.click\.kind must be 'graded' or 'binary'"),
    ({"tasks": ["click", "click"]}, r"tasks\.click is given twice"),
    ({"tasks": [{"label": "x"}]}, r"tasks\.0\.name is missing"),
    ({"data": {"files": "a.csv"}}, r"tasks are missing: your own table needs at least one \[\[tasks\]\] entry"),
    ({"data": {"files": "a.csv", "lst_id": "q"}}, r"data\.lst_id is not a key; did you mean 'list_id'"),
    ({"data": {"files": "a.csv", "train": "b.csv"}}, "exactly one of these: name .*, files, or train"),
    ({"data": {"files": "a.csv", "split": {"vali": 0.6, "test": 0.4}}}, r"data\.split must leave lists to train on"),
    ({"data": {"name": "mslr"}, "features": ["price"]},
     "features are only for a table of your own; the data set 'mslr' defines"),
    ({"data": {"max_list_size": 0}}, r"data\.max_list_size must be at least 1, not 0"),
    ({"constraints": [{"task": "a"}]}, r"constraints\.a must have exactly one of loses_at_most and at_most"),
    ({"constraints": [{"task": "a", "loses_at_most": "much"}]}, r"constraints\.a\.loses_at_most must be a share"),
    ({"constraints": [{"task": "a", "floor": 0.5}]}, r"constraints\.a\.floor is a value of a metric: give the metric"),
    ({"constraints": [{"task": "a", "metric": "ndcg", "at_most": 1}]}, "one of floor and loses_at_most with a metric"),
    ({"constraints": [{"task": "a", "metric": "ndcg", "floor": 1, "loses_at_most": 1}]}, "exactly one of floor and"),
    ({"tasks": ["a", "b"], "constraints": [{"task": "a", "metric": "ndcg", "floor": 0.5}, {"task": "b", "at_most": 1}]},
     r"constraints\.a\.metric does not go with stages or bounds on losses, unless the weights of the served"),
    ({"tasks": ["a"], "constraints": [{"task": "a", "at_most": 1}] * 2}, r"constraints\.a is given twice"),
    ({"tasks": ["a"], "export": {"blend": {"weights": "tuned"}}}, "but nothing states what for: give utility"),
    ({"export": {"blend": {"utility": {"a": 1}}}}, "utility is what tuned weights maximise: set weights"),
    ({"export": {"blend": {"weights": "tuned", "utility": {"a": -1}}}}, "must be finite numbers >= 0, not all 0"),
    ({"name": "mine.toml"}, "must not end in .toml"),
    ({"method": 5}, "method must be a name or a table such as"), ({"architecture": [8]}, "architecture must be a na"),
    ({"tasks": [{"name": "a", "loss": {"gain": "exp2"}}]}, r"tasks\.a\.loss must be a name or a table such as"),
    ({"optimizer": "adamm"}, r"optimizer\.name must be 'adam' or 'adagrad' or 'sgd', not 'adamm'; did you"),
    ({"evaluation": 3}, "evaluation must be a table of keys, not 3"), ({"sweep": "x"}, "sweep must be a table of keys"),
    ({"format": 3}, "format is 3: this version of tfmtl2r reads experiments of format 2; a newer version wrote"),
])  # fmt: skip
def test_bad_values_are_refused_by_key_before_anything_is_made(given, message):
    with pytest.raises(ValueError, match=message):
        Settings.of(given)


@pytest.mark.parametrize("given", [
    {"evaluation": {"importance": True}}, {"export": {"features": "keep"}},
])  # fmt: skip
def test_what_comes_later_is_refused_by_name(given):
    with pytest.raises(SettingError, match="is not built yet") as found:
        Settings.of(given)
    assert found.value.path[0] == next(iter(given))


def test_options_without_a_name_are_those_of_the_default():
    found = Settings.of({"method": {"stochastic": True}, "architecture": {"units": [8]}})
    assert found.method == {"name": "linear_scalarization", "stochastic": True}
    assert found.architecture == {"name": "shared_bottom", "units": [8]}


def test_a_tree_is_the_same_experiment():
    whole = Experiment(
        "a", data={"name": "mslr", "path": "x", "tasks": ["relevance"], "max_list_size": 9}, conditioned=1.0,
        tasks=["relevance", Task("own", "clicks", "binary", loss="bce")], method={"name": "cagrad", "c": 0.5},
        constraints=[{"task": "own", "loses_at_most": 0.02}], evaluation={"preferences": [[1, 2]]},
        training={"seed": 3},
    )  # fmt: skip
    assert Experiment.of(whole.tree()) == whole
    assert Experiment.of(tomllib.loads(files.dumps(whole.tree()))) == whole
    assert whole.but() == whole
    changed = whole.but(training={"epochs": 2}, data={"fold": 2})
    assert (changed.training.seed, changed.training.epochs) == (3, 2)
    assert changed.data.options == {"path": "x", "fold": 2}
    assert changed.data.max_list_size == 9
    assert whole.but(data="mq2008").data == Data(name="mq2008")


@pytest.mark.parametrize(("text", "path", "expected"), [
    ('[data]\nfiles = "a.csv"\nonly_where = {column = "when", above = 2024-01-31}', "data.only_where.above",
     "2024-01-31"),
    ('[data]\nfiles = "a.csv"\nonly_where = [{column = "when", in = [2024-01-31T10:00:00]}]',
     "data.only_where.0.in.0", "2024-01-31T10:00:00"),
    ('[[tasks]]\nname = "b"\nonly_where = [{column = "when", above = 2024-01-31, is_not = 2024-02-01}]',
     "tasks.0.only_where.0.is_not", "2024-02-01"),
    ('[data]\nname = "own"\nsince = {day = 2024-01-31, time = 10:00:00}', "data.since.time", "10:00:00"),
    ('[[features]]\nname = "x"\nkind = "category"\nvocabulary = [2024-01-31]', "features.0.vocabulary.0",
     "2024-01-31"),
])
def test_dates_of_toml_become_text_that_a_run_card_holds(text, path, expected):
    given = tomllib.loads(text)
    if "own" not in text:
        given = {"tasks": [{"name": "a"}], "data": {"files": "a.csv"}, **given}
    found = Settings.of(given)
    assert Settings.of(json.loads(json.dumps(found.tree()))) == found
    value = found.tree()
    for key in path.split("."):
        value = value[int(key) if key.isdigit() else key]
    assert value == expected
    assert converted(Text("{above = 2024-01-31}"), Any) == {"above": "2024-01-31"}  # from the command line
    assert Task("a", only_where={"column": "when", "in": (datetime.date(2024, 1, 31),)}).only_where[0]["in"] == [
        "2024-01-31"]


def test_facts_decide_fingerprints_and_axes():
    assert {"name", "directory", "training.telemetry_every", "training.validate_every", "sweep.jobs"} <= set(
        keys_where(outcome=False))
    assert set(keys_where(several=True)) == {"method", "preference", "gradients", "staged", "constraints",
                                             "conditioned", "penalties"}
    assert "training.seed" in keys_where(axis=True)
    assert "gradients" not in keys_where(axis=True)
    one = Settings(training={"telemetry_every": 0}, directory="elsewhere", name="x").tree()
    assert outcome(one) == outcome(Settings().tree()) != outcome(Settings(training={"epochs": 1}).tree())
    # A run card of an earlier version lacks the keys that were added since.
    assert outcome({}) == outcome(Settings().tree()) == {}
    early = {"data": {"name": "kuairand_excerpt"}, "method": "mgda", "training": {"seed": 2}}
    assert outcome(early) == outcome(Settings.of(early).tree())
    assert differing(outcome(early), outcome(Settings.of({**early, "gradients": "features"}).tree())) == [
        "gradients='parameters', not 'features'"]


def test_flags_files_and_defaults_are_layers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('method = {name = "cagrad", c = 0.2}\n[training]\nepochs = 3\npatience = 1\n')
    found = Settings.of(tree("mine.toml", "--epochs", "20", "--method.c", "0.5", command=sweep.COMMAND))
    assert (found.training.epochs, found.training.patience, found.training.telemetry_every) == (20, 1, 0)
    assert found.method == {"name": "cagrad", "c": 0.5}
    assert Settings.of(tree("mine.toml", "--method", "cagrad")).method == {"name": "cagrad", "c": 0.2}
    assert Settings.of(tree("mine.toml", "--method", "mgda")).method == {"name": "mgda"}
    assert Settings.of(tree("s", "mine.toml", "--seeds", "1", "2", command=sweep.COMMAND)).sweep.seeds == (1, 2)


@pytest.mark.parametrize(("before", "arguments", "after"), [
    ("{train = 'a.csv', vali = 'b.csv', test = 'c.csv', list_id = 'q'}", ["--data.files", "store"],
     {"files": "store", "list_id": "q"}),
    ("{train = 'a.csv', vali = 'b.csv', test = 'c.csv'}", ["--set", "data.files=store"], {"files": "store"}),
    ("{train = 'a.csv', vali = 'b.csv', test = 'c.csv'}", ["--data.vali", "d.csv"],
     {"train": "a.csv", "vali": "d.csv", "test": "c.csv"}),
    ("{files = ['a.csv'], split = {vali = 0.2}}", ["--data.files=b.csv"], {"files": "b.csv", "split": {"vali": 0.2}}),
    ("{files = 'a.csv', split = {vali = 0.2}, list_id = 'q'}",
     ["--data.train", "b.csv", "--data.vali", "c.csv", "--data.test", "d.csv", "e.csv"],
     {"train": "b.csv", "vali": "c.csv", "test": ("d.csv", "e.csv"), "list_id": "q"}),
    ("{name = 'synthetic_mslr', num_lists = 9, truncate = 'random'}", ["--data.files", "a.csv"],
     {"files": "a.csv", "truncate": "random"}),
    ("'synthetic_mslr'", ["--data.files", "a.csv"], {"files": "a.csv"}),
    ("{files = 'a.csv', list_id = 'q'}", ["--data", "synthetic_mslr"], {"name": "synthetic_mslr"}),
])
def test_a_flag_for_the_place_of_the_data_replaces_that_of_the_file(tmp_path, monkeypatch, before, arguments, after):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.toml").write_text(f"tasks = ['click']\ndata = {before}\n")
    found = Settings.of(tree("e.toml", *arguments)).data
    assert found == Data.of(after)
    assert not isinstance(found.files, tuple)  # so that the folder of a store is recognised


def test_two_places_of_data_on_the_command_line_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.toml").write_text("tasks = ['click']\ndata = {files = 'a.csv'}\n")
    with pytest.raises(ValueError, match=r"e\.toml, line 2: data must have exactly one of these"):
        Settings.of(tree("e.toml", "--data.files", "b.csv", "--data.train", "c.csv"))


@pytest.mark.parametrize(("arguments", "path", "value"), [
    (["--set", "training.epochs=5"], "training.epochs", 5),
    (["--set", "name=7"], "name", "7"),
    (["--set", "architecture.units=[8, 4]"], "architecture.units", [8, 4]),
    (["--set", 'architecture={name = "dml", base = {name = "ple"}}'], "architecture.base.name", "ple"),
    (["--architecture", '{name="dml",base={name="ple"}}'], "architecture.base.name", "ple"),
    (["--architecture", "{units=[4]}"], "architecture.units", [4]),
    (["--data", '{name = "mslr", fold = 2}'], "data.fold", 2),
    (["--method", '{name = "every", steps = 5, method = "nash_mtl"}'], "method.steps", 5),
    (["--tasks", '{name = "like", loss = "mse"}', "click"], "tasks",
     [{"name": "like", "loss": "mse"}, {"name": "click"}]),
    (["--data.split", '{by = "time", test = 0.2}', "--data.files", "a.csv", "--data.time", "t",
      "--data.list-id", "q", "--tasks", "click"], "data.split.by", "time"),
    (["--architecture", "dml", "--architecture.base", "ple", "--set", "architecture.base.levels=1"],
     "architecture.base", {"name": "ple", "levels": 1}),
    (["--preference", "click=2", "like=1"], "preference", {"click": 2.0, "like": 1.0}),
    (["--preference", "click=2,like=1"], "preference", {"click": 2.0, "like": 1.0}),
    (["--set", "preference.like=1"], "preference", {"like": 1.0}),
    (["--set", "tasks.like.loss=mse"], "data.tasks", ["click", "long_view", "watch_ratio", "like"]),
    (["--tasks", "like", "--set", "tasks.like.loss=mse"], "tasks", [{"name": "like", "loss": "mse"}]),
    (["--set", "constraints.like.loses_at_most=1%"], "constraints", [{"task": "like", "loses_at_most": "1%"}]),
    (["--staged"], "staged", True),
    (["--data", "mslr", "--data.fold", "2"], "data.fold", 2),
    (["--data.path", "x"], "data.path", "x"),
    (["--optimizer.learning-rate", "1e-2"], "optimizer.learning_rate", 0.01),
    (["--buckets", "auto"], "training.buckets", "auto"), (["--buckets", "10", "20"], "training.buckets", [10, 20]),
    (["--buckets", "[10, 20]"], "training.buckets", [10, 20]), (["--buckets", "7"], "training.buckets", [7]),
    (["--feature-dropout", "0.1", "--augment", "1"], "training.augment", 1.0),
    (["--training.batch_size", "8"], "training.batch_size", 8), (["--training.epochs=5"], "training.epochs", 5),
    (["--batch_size", "8"], "training.batch_size", 8), (["--method.name", "mgda"], "method.name", "mgda"),
    (["--architecture.name", "ple", "--architecture.shared_experts", "3"], "architecture.shared_experts", 3),
    (["--data.name=kuairand_excerpt"], "data.name", "kuairand_excerpt"), (["--start.from", "a_b"], "start.from", "a_b"),
    (["--from", "first"], "start.from", "first"), (["--set", "start.from=first"], "start.from", "first"),
])  # fmt: skip
def test_the_schema_types_what_is_typed(arguments, path, value):
    found = Settings.of(tree(*arguments)).tree()
    for name in path.split("."):
        found = found[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--set", "data.split={by = 'time', test = .2}"], r"data\.split must be a TOML table .* not .* \(Invalid value\)"),
    (["--architecture", "{name = 'mmoe"], "architecture must be a TOML table such as"),
    (["--tasks", "[click"], "tasks must be a TOML list such as"),
])
def test_a_table_that_does_not_parse_is_never_a_name(arguments, message):
    with pytest.raises(SettingError, match=message):
        Settings.of(tree(*arguments))


@pytest.mark.parametrize(("text", "message"), [
    ("[training]\n\nepohcs = 3\n", r"bad\.toml, line 3: training\.epohcs is not a key; did you mean 'epochs'"),
    ('[[tasks]]\nname = "a"\n[[tasks]]\nname = "b"\nkind = "bin"\n', r"line 5: tasks\.b\.kind must be"),
    ("method = 'mgda'\ntraining = {epochs = 0}\n", r"line 2: training\.epochs must be at least 1"),
    ("[training\n", r"bad\.toml is not TOML"),
    ('method = {name = "cagrad", c = "half"}', r"bad\.toml, line 1: method\.c must be a number, not 'half'"),
    ('[data]\nname = "mslr"\nfoldd = 2', r"line 3: data\.foldd is not an option of mslr; did you mean 'fold'"),
    ('[[tasks]]\nname = "a"\n[[tasks]]\nname = "b"\nloss = "sofmax"',
     r"line 5: tasks\.b\.loss is unknown: no loss is called 'sofmax'; did you mean 'softmax'"),
    ('[[tasks]]\nname = "a"\nloss = {name = "bce", gian = 2}', r"tasks\.a\.loss\.gian is not an option of bce"),
    ('[[tasks]]\nname = "a"\nmetrics = ["ndgc@5"]', r"no metric is called 'ndgc'; did you mean 'ndcg'"),
    ('[[tasks]]\nname = "a"\n[training]\nepochs = 0', r"line 4: training\.epochs must be at least 1"),
    ('architecture = "mmo"', "no architecture is called 'mmo'; did you mean 'mmoe'"),
])  # fmt: skip
def test_mistakes_in_a_file_come_with_their_line(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        tree("bad.toml")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--epoch", "3"], "--epoch is not a flag of tfmtl2r train; did you mean '--epochs'"),
    (["mine"], "use --name for the name of a run; the name of an experiment file must end in .toml"),
    (["none.toml"], r"there is no experiment file none\.toml; tfmtl2r init writes one"),
    (["--set", "epochs"], "--set takes KEY=VALUE"),
    (["--method", "cagrad", "--method.c", "half"], r"method\.c must be a number, not 'half'"),
    (["--method", "every"], "method needs the option method of every"),
    (["--set", "tasks.like.loss=sofmax"], r"tasks\.like\.loss is unknown: no loss"),
    (["--set", "plugins=own.py"], "plug-ins are imported before other settings are read: use --plugins"),
    (["--set", "method=[5]"], r"expected a name or \{name = ..., option = value\}, not \[5\]"),
    (["--set", "training=3"], "training must be a table of keys, not '3'"),
    (["--preset", "lettor"], "no preset is called 'lettor'; did you mean 'letor'"),
    (["--penalties", "3"], "--penalties is not a flag of tfmtl2r train"),
    (["--tune.trials", "3"], "is not a flag of tfmtl2r train"),
    (["--name", "mine.toml"], "must not end in .toml"),
    (["a.toml", "--like", "b"], "give only one of the file a.toml and --like b"),
])  # fmt: skip
def test_mistakes_in_flags(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        tree(*arguments)


def test_the_starter_holds_every_key_with_its_default(tmp_path, capsys):
    text = starter()
    shown = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.M))
    assert Settings.of(shown) == Settings.of(tomllib.loads(text))
    for name in (name.split(".")[-1] for name in keys()):
        line = rf"^(# )?({name} (=|\(not set\))|\[\[{name}\]\])"
        assert re.search(line, text, flags=re.M) or name == "options", name
    assert max(map(len, text.splitlines())) <= 120
    assert cli.main(["init", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new/experiment.toml").read_text() == text
    assert cli.main(["init", str(tmp_path / "new")]) == 1
    assert "already exists and is not overwritten" in capsys.readouterr().err


def test_a_flag_with_several_values_may_be_repeated():
    """No earlier value is lost."""
    command = cross_validate.COMMAND
    apart = _options.parse(command, ["--baseline", "lightgbm", "--baseline", "own", "xgboost"])
    assert apart[1].baseline == ["lightgbm", "own", "xgboost"]
    tree, _ = _options.parse(command, ["--evaluation.by", "user", "--evaluation.by", "age", "video"])
    assert list(tree["evaluation"]["by"]) == ["user", "age", "video"]


def test_every_flag_has_a_help_text():
    from tfmtl2r import architectures, datasets, methods

    for command in (train.COMMAND, sweep.COMMAND):
        for kind, package in (("architecture", architectures), ("method", methods), ("data", datasets)):
            for name in package.names():
                _, flags = _options._parser(command, {kind: name})
                assert [flag.names[0] for flag in flags if not flag.help] == [], name


@pytest.mark.slow
def test_a_run_is_repeated_by_its_file_from_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    frame = pd.DataFrame({"q": np.repeat(np.arange(30), 3), "x": rng.normal(size=90), "z": rng.integers(0, 5, 90),
                          "is_click": rng.integers(0, 2, 90), "seconds": rng.random(90)})
    frame.to_csv(tmp_path / "mine/clicks.csv", index=False)
    text = starter().replace('"query"', '"q"') + '[[features]]\nname = "z"\nkind = "category"\nwidth = 2\n'
    (tmp_path / "mine/experiment.toml").write_text(text)
    small = ["--architecture.units", "4", "--epochs", "1", "--telemetry-every", "0",
             "--set", "tasks.late.label=seconds", "--set", "tasks.late.kind=regression"]
    assert cli.main(["train", "mine/experiment.toml", *small, "--data.tasks", "click"]) == 0
    first = RunCard.load("runs/mine")
    assert [*first.results["test"]] == ["click"]
    assert first.config["data"]["files"] == "mine/clicks.csv"
    assert 'files = "../../mine/clicks.csv"' in (tmp_path / "runs/mine/experiment.toml").read_text()
    monkeypatch.chdir(tmp_path / "mine")
    assert cli.main(["train", "../runs/mine/experiment.toml", "--name", "again"]) == 0
    again = RunCard.load(tmp_path / "runs/again")
    assert again.results == first.results
    assert again.history == first.history
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--like", "mine", "--name", "longer", "--epochs", "2"]) == 0
    longer = RunCard.load("runs/longer")
    assert longer.history["loss"][0] == pytest.approx(first.history["loss"][0])
    assert len(longer.history["loss"]) == 2
    ranker = Experiment.of(first.config)
    schema = ranker.dataset().schema(ranker.select(ranker.dataset()))
    assert "seconds" not in schema.names  # the label of a task that is described and not trained


def test_conversion_loses_nothing():
    assert converted(np.float32(0.5), float) == 0.5
    assert converted(np.arange(3), tuple[int, ...]) == (0, 1, 2)
    with pytest.raises(SettingError, match="a list, each entry a whole number, not 'abc'"):
        converted("abc", tuple[int, ...])
