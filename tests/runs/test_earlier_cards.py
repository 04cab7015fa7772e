"""What a version before experiments had sections wrote: its run cards are read, its sweeps are not added to."""

import json
import shutil
from pathlib import Path

import pytest

from tfmtl2r import Experiment, RunCard, cli
from tfmtl2r.runs import format1
from tfmtl2r.runs.finished import load, load_all
from tfmtl2r.settings import Settings
from tfmtl2r.sweeps import Sweep

WRITTEN = Path(__file__).parents[1] / "format1/runs"


@pytest.fixture
def here(tmp_path, monkeypatch):
    shutil.copytree(WRITTEN, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_flat_settings_become_sections():
    plain = Experiment.of(RunCard.load(WRITTEN / "plain").config)
    assert plain.preference == {"task_1": 1.0, "task_2": 3.0}
    assert (plain.data.max_list_size, plain.data.truncate, plain.training.batch_size) == (4, "first", 4)
    assert plain.data.options == {"num_lists": 8, "num_tasks": 2, "num_features": 4, "max_length": 5}
    conditioned = RunCard.load(WRITTEN / "conditioned")
    assert (conditioned.config["conditioned"], conditioned.config["evaluation"]) == (1.0, {"preferences": "lattice:2"})
    assert [point.preference for point in load(WRITTEN / "conditioned").points("test")] == [(1, 0), (0.5, 0.5), (0, 1)]
    staged = Experiment.of(RunCard.load(WRITTEN / "staged").config)
    assert [bound.bound() for bound in staged.constraints] == [{"relative": 0.05}]
    assert conditioned.data["train"]["num_lists"] == 8
    assert conditioned.results["test"]["task_1"]["ndcg@5"]["num_lists"] == 2
    assert {name for name in conditioned.history if "blend" in name} == set()


def test_a_table_of_ones_own_has_files_and_tasks(here):
    experiment = Experiment.of(RunCard.load("runs/table").config)
    assert [goal.tree() for goal in experiment.tasks] == [{"name": "yes", "label": "click", "kind": "binary"},
                                                          {"name": "grade"}]
    assert experiment.dataset().lists("test").num_lists == 6
    assert experiment.dataset().schema().names == ("x", "u")


@pytest.mark.parametrize(("bound", "tree"), [
    ("+0.02", {"absolute": 0.02}), (0.7, {"at_most": 0.7}), ("1%", {"relative": 0.01}),
    ({"relative": 0.02, "absolute": 0.0, "at_most": None}, {"relative": 0.02}),
    ({"relative": 0.0, "absolute": 0.5, "at_most": None}, {"absolute": 0.5}),
])  # fmt: skip
def test_bounds_keep_their_meaning(bound, tree):
    found = Settings.of(format1.nested({"name": "a", "constraints": {"x": bound}}, ["x", "y"]))
    assert found.constraints[0].bound() == pytest.approx(tree)


@pytest.mark.slow
def test_commands_read_runs_and_sweeps(here, capsys):
    for arguments in (["compare", "s"], ["report", "runs/s"], ["pareto", "s"]):
        assert cli.main(arguments) == 0, capsys.readouterr().err
    assert "linear_scalarization" in capsys.readouterr().out
    assert {run.method for run in load_all("runs/s")} == {"linear_scalarization"}
    assert cli.main(["export", "plain"]) == 0
    assert (here / "saved_models/plain/1/saved_model.pb").is_file()
    assert cli.main(["evaluate", "plain"]) == 1
    assert "an earlier version of tfmtl2r wrote the fingerprint in its run card" in capsys.readouterr().err


@pytest.mark.slow
def test_an_earlier_run_is_repeated_in_todays_form(here):
    """Its default loss of graded lists, softmax with labels as targets, is named today."""
    tasks = [f'{{name = "task_{t}", loss = "softmax"}}' for t in (1, 2)]
    assert cli.main(["train", "--like", "plain", "--name", "again", "--epochs", "1", "--tasks", *tasks]) == 0
    before, again = (RunCard.load(f"runs/{name}") for name in ("plain", "again"))
    assert again.format == 2
    # The order of the lists, and with it the batches of the first epoch, is another one since this version wrote runs.
    assert again.history["loss"][0] == pytest.approx(before.history["loss"][0], rel=1e-3)


def test_a_sweep_of_an_earlier_version_is_not_added_to(here):
    experiment = Experiment.of(load_all("runs/s")[0].card.config)
    with pytest.raises(ValueError, match="an earlier version of tfmtl2r began the sweep"), Sweep("runs/s") as sweep:
        sweep.run([experiment])


def test_a_newer_format_names_the_version_that_wrote_it(here):
    path = here / "runs/plain/run.json"
    card = {**json.loads(path.read_text()), "format": 3, "versions": {"tfmtl2r": "9.1.0"}}
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"has format 3, which version 9\.1\.0 of tfmtl2r wrote; this version reads"):
        RunCard.load("runs/plain")
    sweep = here / "runs/s/sweep.json"
    sweep.write_text(json.dumps({"format": 3, "runs": [], "versions": {"tfmtl2r": "9.1.0"}}))
    with pytest.raises(ValueError, match=r"has format 3, which version 9\.1\.0"), Sweep("runs/s") as found:
        found.run([Experiment("a")])
