"""Sweep, front, choice and comparison from the command line."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tfmtl2r import cli
from tfmtl2r.experiment import Experiment
from tfmtl2r.pareto import plots
from tfmtl2r.pareto.summary import pick, summarise
from tfmtl2r.pareto.sweep_fronts import served_candidates
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.finished import load_all
from tfmtl2r.runs.identity import PER_LIST
from tfmtl2r.runs.places import CARD
from tfmtl2r.serving.check import METADATA, ExportError
from tfmtl2r.sweeps import planning

FLAGS = ["--data", "synthetic_mslr", "--data.num-lists", "16", "--data.max-length", "8", "--data.num-tasks", "2",
         "--data.num-features", "8", "--architectures", "shared_bottom:units=[8,4]", "--epochs", "2",
         "--batch-size", "4"]


def fake_sweep(folder, tasks=2, seeds=(0, 1), lists=60):
    """A sweep with made-up results: a concave front for one method, a worse one for another, single-task runs."""
    data = {"name": "synthetic_mslr", "num_lists": lists, "num_tasks": tasks, "num_features": 8}
    base = Experiment("base", data=data, training={"epochs": 3, "patience": 0})
    grid = np.eye(tasks) * 0.8 + 0.2 / tasks
    grid = np.vstack([grid, np.full((1, tasks), 1 / tasks)])
    rng = np.random.default_rng(0)
    per_list = rng.random((lists, tasks))
    planned = [*planning.single_tasks(base, seeds), *planning.plan(base, ["linear_scalarization", "epo"], grid, seeds)]
    for experiment in planned:
        names = experiment.task_names or [f"task_{t + 1}" for t in range(tasks)]
        columns = [int(name[-1]) - 1 for name in names]
        weight = np.array([*experiment.preference.values()] if experiment.preference else [1.0])
        gain = 0.2 * np.sqrt(weight) - (0.1 if experiment.method == "epo" else 0) + 0.01 * experiment.training.seed
        values = per_list[:, columns] + gain + 0.01 * rng.normal(size=(lists, len(names)))
        write(folder / experiment.name, experiment, dict(zip(names, values.T, strict=True)))
    return planned


def write(folder, experiment, values):
    results, history = {}, {}
    for task, value in values.items():
        results[task] = {"ndcg@5": {"value": float(value.mean()), "direction": "max", "num_lists": len(value)}}
        for name, last in (("_loss", 2 - value.mean()), ("_ndcg@5", value.mean())):
            history[f"val_{task}{name}"] = [last, last, last]
        history[f"{task}_loss"] = [3.0, 2.5, 2 - value.mean()]
    card = RunCard(experiment.name, experiment.config(), {"test": {"fingerprint": "f"}}, {"test": results}, history)
    card.save(folder)
    np.savez(folder / PER_LIST, **{f"test/{task}/ndcg@5": v for task, v in values.items()})


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_pareto_shows_numbers_with_what_they_depend_on_and_pictures(here, capsys, looked_at):
    fake_sweep(here / "runs/s")
    assert cli.main(["pareto", "s", "--pick", "knee"]) == 0
    out = capsys.readouterr().out
    assert "worst of all 12 compared points + 0.1 of the range" in out
    assert out.count("chosen") >= 1
    saved = json.loads((here / "runs/s/pareto/test/pareto.json").read_text())
    assert saved["maximise"] == [True, True]
    assert saved["objectives"] == ["task_1 ndcg@5 (test)", "task_2 ndcg@5 (test)"]
    assert saved["reference_rule"].startswith("worst of all 12")
    rows = saved["groups"]
    assert rows["linear_scalarization"]["hypervolume"] > rows["epo"]["hypervolume"] > 0
    assert rows["epo"]["together"]["reference"] == saved["reference"]
    assert rows["epo"]["seeds"] == 2
    for name in ("front", "trajectories"):
        looked_at(here / f"runs/s/pareto/test/{name}.png")
    assert list((here / "runs/s/pareto/test/pictures").glob("events*"))
    assert cli.main(["pareto", "s", "--on", "train_loss", "--reference", "4", "4"]) == 0
    saved = json.loads((here / "runs/s/pareto/train_loss/pareto.json").read_text())
    assert (saved["maximise"], saved["reference"], saved["reference_rule"]) == ([False, False], [4, 4], "given")


def test_more_than_two_tasks_have_other_pictures(here, looked_at):
    fake_sweep(here / "runs/s", tasks=4, seeds=(0,))
    assert cli.main(["pareto", "s", "--pick", "nearest", "--preference", "1", "2", "3", "4"]) == 0
    pictures = sorted((here / "runs/s/pareto/test").glob("*.png"))
    assert [path.name for path in pictures] == ["pairs.png", "parallel.png"]
    for path in pictures:
        looked_at(path)


@pytest.mark.parametrize("on", ["test", "train_loss"])
def test_two_of_more_tasks_have_the_rays_of_these_two(here, on, monkeypatch):
    """A preference has a share of every task, and a plot an axis of each objective."""
    drawn = []
    monkeypatch.setattr(plots, "_draw_rays", lambda axes, rays: drawn.append(np.asarray(rays)))
    fake_sweep(here / "runs/s", tasks=3, seeds=(0,))
    assert cli.main(["pareto", "s", "--tasks", "task_3", "task_1", "--on", on]) == 0
    pictures = sorted(path.name for path in (here / "runs/s/pareto" / on).glob("*.png"))
    assert pictures == ["front.png", "trajectories.png"]
    third, fifth = 1 / 3, 0.2 / 3
    expected = sorted({(third, third), (fifth, fifth), (fifth, 0.8 + fifth), (0.8 + fifth, fifth)})
    for rays in drawn:
        np.testing.assert_allclose(rays, expected)
    assert drawn


def test_choice_follows_the_preference(here):
    fake_sweep(here / "runs/s")
    points = summarise(load_all(here / "runs/s"), "vali").points
    for task in (0, 1):
        chosen = points.runs[pick(points, "nearest", [1 - task, task])]
        assert chosen.method == "linear_scalarization"
        assert np.argmax(chosen.preference) == task
    knee = points.runs[pick(points, "knee")]
    assert knee.preference == (0.5, 0.5)


@pytest.mark.slow
def test_compare_marks_what_is_significant_and_names_who_lost(here, capsys):
    planned = fake_sweep(here / "runs/s", lists=100)
    assert cli.main(["compare", "s"]) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "negative transfer" in line and "epo" in line]
    assert len(lines) == 3
    assert all("significant" in line for line in lines)
    assert "delta-m" in out
    capsys.readouterr()
    names = [e.name for e in planned if len(e.task_names) != 1 and e.preference and e.training.seed == 0][:2]
    assert cli.main(["compare", *(f"s/{name}" for name in names)]) == 0
    assert "better" in capsys.readouterr().out
    for experiment in planned:
        if len(experiment.task_names) == 1:
            (here / "runs/s" / experiment.name / CARD).unlink()
    assert cli.main(["compare", "s"]) == 0
    assert "no single-task runs with the same settings were found" in capsys.readouterr().out


def overwrite(folder, task, value):
    """Another value of a run's metric."""
    card = RunCard.load(folder)
    card.results["test"][task]["ndcg@5"]["value"] = value
    card.save(folder)


def test_a_neighbour_whose_plug_in_is_missing_stops_nobody(here, caplog):
    planned = fake_sweep(here / "runs/s", seeds=(0,), lists=8)
    other, *names = [experiment.name for experiment in planned if experiment.preference]
    path = here / "runs/s" / other / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"plugins": [{"name": "own.py", "sha256": "0"}]}))
    assert cli.main(["compare", *(f"s/{name}" for name in names[:2])]) == 0
    assert f"left out: the run '{other}' used the plug-in own.py" in caplog.text


def test_compare_says_what_it_could_not_test(here, capsys):
    planned = fake_sweep(here / "runs/s", seeds=(0,))
    plain = {e.task_names[0]: e.name for e in planned if len(e.task_names) == 1}
    for experiment in planned:
        overwrite(here / "runs/s" / experiment.name, (*experiment.task_names, "task_1")[0], 0.4)
        path = here / "runs/s" / experiment.name / PER_LIST  # as if task_1 were measured over all items
        with np.load(path) as arrays:
            kept = {key: arrays[key] for key in arrays if "task_1" not in key}
        np.savez(path, **kept)
    overwrite(here / "runs/s" / plain["task_2"], "task_2", 0.0)
    first = next(e.name for e in planned if len(e.task_names) != 1)
    assert cli.main(["compare", "s"]) == 0
    out = capsys.readouterr().out
    assert "no task lost" not in out
    assert "task_1 ndcg@5  +0.0000  not tested: the metric has no values per list" in out
    reports = [line for line in out.splitlines() if line.startswith("negative transfer")]
    assert len(reports) == 6
    assert all("not tested: task_1 ndcg@5 +0.0000" in line for line in reports)
    assert out.count("delta-m needs a single-task value other than 0 of task_2 ndcg@5, got 0.0") == 6
    overwrite(here / "runs/s" / first, "task_2", float("nan"))
    assert cli.main(["compare", "s"]) == 0
    assert f"task_2 ndcg@5  nan  not tested: the metric is nan in run '{first}'" in capsys.readouterr().out


def test_named_single_task_runs_need_no_equal_settings(here, capsys):
    for experiment in fake_sweep(here / "runs/s", seeds=(0,)):
        if len(experiment.task_names) == 1:
            card = RunCard.load(here / "runs/s" / experiment.name)
            card.config["training"]["epochs"] = 50
            card.save(here / "runs/s" / experiment.name)
    assert cli.main(["compare", "s"]) == 0
    out = capsys.readouterr().out
    assert "no single-task runs with the same settings were found" in out
    assert "negative transfer, " not in out
    assert cli.main(["compare", "s", "--single", "s"]) == 0
    assert "negative transfer, epo" in capsys.readouterr().out


def test_a_choice_is_exported_as_its_run_would_be(here, capsys, monkeypatch):
    fake_sweep(here / "runs/s")
    asked = []
    connected = SimpleNamespace(schema=SimpleNamespace(features=()))
    monkeypatch.setattr("tfmtl2r.serving.load.load", lambda path: SimpleNamespace(path=path, architecture=connected))

    def export(ranker, to, **options):
        asked.append((ranker.path, to, options))
        raise ExportError("the check failed")

    monkeypatch.setattr("tfmtl2r.serving.export.export", export)
    assert cli.main(["pareto", "export", "s"]) == 1
    assert "the check failed" in capsys.readouterr().err
    (model, to, options), = asked
    assert RunCard.load(model.parent).config["preference"] == {"task_1": 0.5, "task_2": 0.5}
    assert model.name == "model.keras"
    assert to == "saved_models/s"
    assert options["rows"].num_lists > 0  # warm-up requests are those of the run's data


def test_sweep_trains_in_stages_and_with_conditioning(here, monkeypatch):
    found = []
    monkeypatch.setattr("tfmtl2r.sweeps.sweep.Sweep.run", lambda self, experiments: found.extend(experiments) or [])
    flags = ["sweep", "x", *FLAGS, "--methods", "nmt", "--seeds", "0"]
    assert cli.main([*flags, "--set", "constraints.task_1.loses_at_most=1%", "--staged"]) == 0
    assert cli.main([*flags[:-4], "--conditioned", "2"]) == 0
    several = [e for e in found if len(e.task_names) != 1]
    assert [bound.tree() for bound in several[0].constraints] == [{"task": "task_1", "loses_at_most": "1%"}]
    assert (several[0].staged, several[0].conditioned) == (True, None)
    assert [e.preference for e in several if e.conditioned] == [None]  # once, for all preferences
    equal = [e for e in several[1:] if not e.conditioned]  # whose blend every front is compared with
    assert [(e.method, e.preference) for e in equal] == [("linear_scalarization", {"task_1": 0.5, "task_2": 0.5})] * 2
    assert {(e.staged, e.conditioned) for e in found if len(e.task_names) == 1} == {(False, None)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pareto", "nothing"], "contains no finished run"),
        (["pareto", "s", "--on", "trian"], "objectives come from test, vali"),
        (["pareto", "s", "--pick", "best"], "pick must be one of knee, nearest"),
        (["pareto", "export", "s", "--pick", "nearest"], "nearest to what? give a preference"),
        (["pareto", "export", "s", "--preference", "1", "2"], "the knee uses no preference"),
        (["pareto", "s", "--reference", "1"], "reference must be 2 finite numbers"),
        (["pareto", "s", "--reference", "5", "0"], "must be worse than the ideal"),
        (["pareto", "s", "--preferences", "lattice:2"], "s is a sweep: leave it out, or name a conditioned run"),
        (["sweep", "x", *FLAGS, "--set", "constraints.task_1=1%"], "such as --set constraints.task_1.KEY=VALUE"),
        (["compare", "missing"], "is not a run of tfmtl2r train"),
        (["compare", "s", "--split", "vali"], "was not evaluated on vali: tfmtl2r evaluate"),
        (["sweep", "x", *FLAGS, "--methods", "mgdaa"], "did you mean 'mgda'"),
        (["sweep", "x", *FLAGS, "--methods", "stch:mu"], "expected NAME or NAME:option=value"),
        (["sweep", "x", *FLAGS, "--preferences", "angel:3"], "expected angle:N"),
        (["sweep", "a b", *FLAGS], "run name 'a b'"),
        (["sweep", "x", *FLAGS, "--conditioned", "1", "--preferences", "angle:3"], "leave them out, and give them to"),
    ],
)
def test_mistakes_are_one_line(here, capsys, arguments, message):
    if "s" in arguments:
        fake_sweep(here / "runs/s", seeds=(0,), lists=5)
    assert cli.main(arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_sweep_to_export(here, capsys):
    arguments = ["sweep", "s", *FLAGS, "--methods", "epo", "stch:warmup=0", "--preferences", "angle:2", "--jobs", "2"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "7 runs are finished, 0 failed" in out  # equal weights among them
    table = (here / "runs/s/table.csv").read_bytes()
    assert table.count(b"\n") == 10  # two ends for the angles besides
    assert cli.main(arguments) == 0
    assert "done " not in capsys.readouterr().out
    assert (here / "runs/s/table.csv").read_bytes() == table
    assert cli.main(["pareto", "s"]) == 0
    out = capsys.readouterr().out
    assert "served ranking: one order per preference" in out
    assert "One ranker, blended shared_bottom units=[8, 4]: U " in out  # the ends have another architecture
    saved = json.loads((here / "runs/s/pareto/test/pareto.json").read_text())
    same = " shared_bottom units=[8, 4]"
    assert set(saved["groups"]) == {f"{name}{same}" for name in ("one ranker, blended", "epo", "stch warmup=0")} | {
        "linear_scalarization shared_bottom"}
    assert saved["groups"][f"one ranker, blended{same}"]["trainings"] == 1
    assert len(saved["groups"][f"epo{same}"]["preferences"]) == 2
    assert (here / "runs/s/pareto/test/served_front.png").is_file()
    assert saved["own_heads"]["groups"][f"epo{same}"]["runs"] == 2
    assert cli.main(["compare", "s"]) == 0
    assert "negative transfer, epo" in capsys.readouterr().out
    assert cli.main(["pareto", "export", "s", "--pick", "nearest", "--preference", "2", "1"]) == 0
    points = served_candidates(load_all(here / "runs/s"), "vali")
    row = pick(points, "nearest", [2, 1])
    chosen = points.runs[row]
    out = " ".join(capsys.readouterr().out.split())
    assert f"nearest: {chosen.card.name}" in out
    assert f"{points.labels[0]} {points.values[row][0]:.4f}" in out
    metadata = json.loads((here / "saved_models/s/1" / METADATA).read_text())
    assert [*metadata["blend"].values()] == pytest.approx(chosen.asked or chosen.preference)
    assert cli.main(["sweep", "s", *FLAGS, "--conditioned", "1", "--methods", "linear_scalarization"]) == 0
    assert "4 runs are finished, 0 failed" in capsys.readouterr().out  # three were before
    name = next(run.card.name for run in load_all(here / "runs/s") if run.card.curve)
    assert cli.main(["pareto", f"s/{name}", "--preferences", "lattice:2"]) == 0
    assert "of 3 preferences are on the front" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["pareto", "s"]) == 0
    assert "linear_scalarization conditioned=1" in capsys.readouterr().out
