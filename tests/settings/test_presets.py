"""Presets lie below every key that somebody gave, and become keys like all others."""

import tomllib
from typing import Any, ClassVar

import pytest

from tfmtl2r import presets
from tfmtl2r.commands import cross_validate, list, sweep, train
from tfmtl2r.commands._options import parse
from tfmtl2r.errors import UserError
from tfmtl2r.experiment import Experiment
from tfmtl2r.registry import Card
from tfmtl2r.settings import Data, Optimizer, Settings, Training, files
from tfmtl2r.settings.layers import layered, with_preset
from tfmtl2r.settings.things import check_options
from tfmtl2r.task import Task

MQ = {"name": "mq2008", "path": "x"}
OWN = {"files": "a.csv", "list_id": "q"}
SPECIFIED = ["letor", "letor-single", "letor-taught", "clicks", "small"]


class Wide(presets.Preset):
    """A preset of a user, with an architecture and a method that are no defaults."""

    settings: ClassVar[Any] = {"architecture": {"name": "mmoe", "num_experts": 3}, "optimizer": {"schedule": "cosine"},
                               "method": {"name": "cagrad", "c": 0.2}, "training": {"patience": 5}}


@pytest.fixture(autouse=True, scope="module")
def _registered():
    presets.register("wide", card=Card("Many experts"))(Wide)
    yield
    presets.registry.unregister("wide")


def leaves(tree, path=()):
    for key, value in tree.items():
        if isinstance(value, dict) and "name" not in value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


@pytest.mark.parametrize("name", SPECIFIED)
def test_every_key_of_a_preset_is_one_of_the_experiment_and_can_be_overruled(name):
    given = Settings(preset=name, data=MQ)
    check_options(given)
    plain, tree = Settings(data=MQ), given.tree()
    for path, value in leaves(presets.get(name).settings):
        found = tree
        for key in path:
            found = found[key]
        assert found == value
    for path, value in leaves(presets.get(name).settings):
        if isinstance(value, int) and not isinstance(value, bool):
            over = Settings.of({"preset": name, "data": MQ, path[0]: {path[1]: value + 1, **(
                MQ if path[0] == "data" else {})}}).tree()
            assert over[path[0]][path[1]] == value + 1
            assert {k: v for k, v in over[path[0]].items() if k != path[1]} == {
                k: v for k, v in tree[path[0]].items() if k != path[1]}
    assert given.tree() != plain.tree()


@pytest.mark.parametrize("given", [
    {"training": {"epochs": 8}}, {"training": Training(epochs=8)},  # 8 is the default, and somebody asked for it
])
def test_a_value_wins_also_if_it_is_the_default(given):
    found = Settings(preset="letor", data=MQ, **given)
    assert (found.training.epochs, found.training.batch_size) == (8, 8)
    assert found.architecture["dropout"] == 0.1
    assert Settings(preset="wide", architecture="shared_bottom").architecture == "shared_bottom"
    assert Settings(preset="wide", architecture="mmoe").architecture == {"name": "mmoe", "num_experts": 3}
    assert Settings(preset="wide", method={"c": 0.5}).method == {"name": "cagrad", "c": 0.5}
    assert Settings(preset="wide", optimizer=Optimizer(schedule=None)).optimizer.schedule is None


def test_inputs_become_options_of_the_data_set_or_keys_of_entries(caplog):
    assert Settings(preset="letor", data=MQ).data.options["within_list"] is True
    assert Settings(preset="letor", data={**MQ, "within_list": False}).data.options["within_list"] is False
    assert Settings(preset="letor", data=Data(name="mq2008", options={"path": "x", "within_list": False})
                    ).data.options["within_list"] is False
    own = Settings(preset="letor", data=OWN, tasks=[{"name": "y"}])
    assert [(one.name, one.within_list) for one in own.features] == [("*", True)]
    entries = [{"name": "*", "transform": "log1p"}, {"name": "a", "kind": "category"}, "b", {"name": "c", "noise": 0.5}]
    found = Settings(preset="letor", data=OWN, tasks=[{"name": "y"}], features=entries).features
    assert [one.transform for one in found] == ["log1p", None, None, ("signed_log1p", "rank_gauss")]
    assert [one.within_list for one in found] == [True, None, None, True]
    assert not caplog.messages
    assert Settings(preset="letor", data="kuairand_excerpt").data.options == {}
    Settings(preset="letor", data=OWN, tasks=[{"name": "y"}], features=["b"])
    assert [message.split("since ")[1] for message in caplog.messages] == [
        "the data set 'kuairand_excerpt' defines its inputs",
        'no entry of features is "*" or known to be a number']


def test_losses_belong_to_tasks_of_their_kind():
    found = Experiment(preset="letor", data={**MQ, "tasks": ["relevance", "prob"]})
    assert [(goal.name, goal.loss and goal.loss["name"]) for goal in found.tasks] == [
        ("relevance", "lambda_loss"), ("prob", None)]
    assert [task.loss and task.loss["name"] for task in found.select(found.dataset())] == ["lambda_loss", None]
    tasks = [Task("y", kind="binary"), {"name": "z", "kind": "regression"}, {"name": "w", "loss": "softmax"}, "v",
             {"name": "u", "loss": {"name": "lambda_loss", "reduction": "mean"}}]
    own = Settings(preset="letor", data=OWN, tasks=tasks)
    losses = [goal.loss for goal in own.tasks]
    assert [loss["reduction"] if isinstance(loss, dict) else loss for loss in losses] == [
        "sum", None, "softmax", "sum", "mean"]
    unknown = Experiment(preset="letor", data={**MQ, "tasks": ["relevanc"]})
    with pytest.raises(UserError, match="has no task 'relevanc'"):
        unknown.select(unknown.dataset())


def test_what_is_written_repeats_the_run_after_the_preset_has_changed(monkeypatch):
    first = Experiment(preset="letor", data=MQ, optimizer={"schedule": None}, training={"epochs": 3})
    assert first.preset == {"name": "letor", "applied": True}
    text = files.dumps(first.tree())
    assert first.but(training={"seed": 1}).optimizer.schedule is None
    monkeypatch.setattr(presets.get("letor").__class__, "settings", {"optimizer": {"schedule": "linear", "ema": 0.9}})
    again = Experiment.of(tomllib.loads(text))
    assert again == first
    assert again.config() == first.config()
    assert (again.optimizer.schedule, again.optimizer.ema) == (None, None)


def test_flags_the_file_the_preset_and_defaults_are_layers_in_this_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('preset = "wide"\n[optimizer]\nlearning_rate = 0.5\n[training]\nepochs = 3\n')
    tree, _ = parse(sweep.COMMAND, ["mine.toml", "--epochs", "7", "--architecture.num-experts", "2"])
    found = Settings.of(tree)
    assert (found.training.epochs, found.training.patience, found.training.telemetry_every) == (7, 5, 0)
    assert (found.optimizer.learning_rate, found.optimizer.schedule) == (0.5, "cosine")
    assert found.architecture == {"name": "mmoe", "num_experts": 2}
    flat, _ = parse(train.COMMAND, ["mine.toml", "--optimizer.schedule", "none"])
    assert Settings.of(flat).optimizer.schedule is None
    assert Settings.of(parse(train.COMMAND, ["mine.toml", "--method", "mgda"])[0]).method == {"name": "mgda"}
    over = Settings.of(parse(cross_validate.COMMAND, ["mine.toml", "--preset", "letor", "--data", "mq2008",
                                                      "--data.path", "x", "--set", "tasks.relevance.loss=softmax"])[0])
    assert (over.architecture["name"], over.training.epochs, over.training.patience) == ("shared_bottom", 3, 0)
    assert (over.tasks[0].loss, over.training.telemetry_every) == ("softmax", 0)


@pytest.mark.parametrize(("given", "message"), [
    ({"preset": "lettor"}, "preset cannot be used: no preset is called 'lettor'; did you mean 'letor'"),
    ({"preset": {"name": "letor", "aplied": True}}, "preset 'letor' has no option aplied"),
    ({"preset": 3}, "preset"), ({"preset": "letor", "data": "mslr"}, "path"),
])
def test_a_preset_that_cannot_be_used_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        Settings.of(given)


def test_a_preset_without_effect_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="'wide' has no effect, since all of its keys are given"):
        Settings(preset="wide", architecture="cgc", method="mgda", optimizer={"schedule": "linear"},
                 training={"patience": 0})
    with pytest.raises(UserError, match="preset is applied already"):
        Settings(preset="wide").but(preset="letor")
    late = Settings(training={"patience": 1}).but(method="mgda").but(preset="wide", training={"epochs": 9})
    assert late == Settings(preset="wide", training={"patience": 1, "epochs": 9}, method="mgda")
    whole = Settings(preset="wide", name="first")
    files.save(whole.tree(), tmp_path / "runs/first/experiment.toml")
    monkeypatch.setattr("tfmtl2r.commands._options._of_run", lambda early: whole.tree())
    assert Settings.of(parse(train.COMMAND, ["--like", "first", "--epochs", "2"])[0]).architecture == whole.architecture
    with pytest.raises(UserError, match="--preset has no effect beside --like first"):
        parse(train.COMMAND, ["--like", "first", "--preset", "letor"])


def test_presets_are_listed(capsys):
    list.main(["presets"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in SPECIFIED)
    assert with_preset({"training": {}}, Settings) == {"training": {}}
    assert layered({"optimizer": "adam"}, {"optimizer": {"ema": 0.9}}, Settings) == {
        "optimizer": {"name": "adam", "ema": 0.9}}
