"""A conditioned run as a front: the tools for fronts take its curve, and the command line shows it."""

import dataclasses

import numpy as np
import pytest

from tfmtl2r import cli, pareto
from tfmtl2r.experiment import Experiment
from tfmtl2r.pareto import plots
from tfmtl2r.pareto.conditioned import Curve
from tfmtl2r.pareto.runs import load, load_all
from tfmtl2r.pareto.study import EQUAL, SINGLE, study
from tfmtl2r.pareto.summary import pick, summarise
from tfmtl2r.preferences import usual_grid
from tfmtl2r.serving.examples import requests
from tfmtl2r.serving.session import LoadedExport

PREFERENCES = [[8, 2], [1, 1], [1, 4]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of runs, ranker, test lists."""
    folder = tmp_path_factory.mktemp("conditioned")
    experiment = Experiment(
        "c", data={"name": "synthetic_mslr", "num_lists": 16, "max_length": 8, "num_tasks": 2, "num_features": 8,
                   "conflict": 0.9},
        architecture={"name": "shared_bottom", "units": [8]}, conditioned=1.0, epochs=3, patience=0, batch_size=4,
        learning_rate=0.02, telemetry_every=0, directory=str(folder),
    )
    model, _ = experiment.run(verbose=0)
    ordinary = dataclasses.replace(experiment, name="o", conditioned=None, preference=(0.5, 0.5))
    ordinary.run(verbose=0)
    for task in ("task_1", "task_2"):
        dataclasses.replace(ordinary, name=task, tasks=(task,), preference=()).run(verbose=0)
    return folder, model, experiment.dataset().lists("test")


def test_a_curve_is_what_the_model_reaches_for_each_preference(trained):
    _, model, lists = trained
    one = pareto.curve(model, lists, PREFERENCES)
    np.testing.assert_allclose(one.preferences, [[0.8, 0.2], [0.5, 0.5], [0.2, 0.8]])
    metric = next(iter(one.results[0]["task_1"]))
    assert one.labels == (f"task_1 {metric}", f"task_2 {metric}")
    for values, row in zip(one.values, one.results, strict=True):
        np.testing.assert_array_equal(values, [np.nanmean(row[task][metric].per_list) for task in row])
    assert len(np.unique(one.values, axis=0)) > 1  # the preference matters
    turned = pareto.curve(model, lists, PREFERENCES, tasks=("task_2",), metrics={"task_2": metric})
    np.testing.assert_array_equal(turned.values[:, 0], one.values[:, 1])


@pytest.mark.parametrize(("options", "message"), [
    ({"tasks": ("task_3",)}, "no task 'task_3'; its tasks: task_1, task_2"),
    ({"metrics": {"task_9": "ndcg@5"}}, "no task 'task_9'"),
    ({"metrics": {"task_1": "auc"}}, "task 'task_1' has no metric 'auc'; its metrics: "),
    ({"preferences": np.empty((0, 2))}, "at least one preference"),
    ({"preferences": [[1, 2, 3]]}, "preference"),
])  # fmt: skip
def test_what_the_ranker_does_not_have_is_named(trained, options, message):
    _, model, lists = trained
    with pytest.raises(ValueError, match=message):
        pareto.curve(model, lists, **{"preferences": PREFERENCES, **options})


def test_front_tools_take_a_curve():
    one = Curve(np.array([[0.2, 0.8], [0.6, 0.4], [0.8, 0.2]]), np.array([[0.1, 0.5], [0.4, 0.45], [0.5, 0.1]]),
                (True, True), ("a ndcg", "b ndcg"))
    assert pick(one, "knee") == 1
    assert pick(one, "nearest", [9, 1]) == 2
    assert pareto.hypervolume(one.values, [0, 0], one.maximise) == pytest.approx(0.1 * 0.5 + 0.3 * 0.45 + 0.1 * 0.1)
    figure = plots.front({"one": one}, chosen=one.values[1])
    step = next(line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 5)
    assert {*map(tuple, one.values)} <= {*zip(step.get_xdata(), step.get_ydata(), strict=True)}
    assert set(plots.overview({"one": one})) == {"front"}  # its training has no trajectory per point
    three = Curve(np.full((2, 3), 1 / 3), np.eye(3)[:2], (False,) * 3, ("a", "b", "c"))
    assert set(plots.overview({"one": three})) == {"parallel", "pairs"}


def test_the_command_line_shows_the_front_of_a_conditioned_run(trained, monkeypatch, capsys):
    folder, model, lists = trained
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["pareto", "c", "--directory", str(folder)]
    assert cli.main([*arguments, "--preferences", "lattice:2", "--pick", "knee"]) == 0
    out = capsys.readouterr().out
    one = pareto.curve(model, lists, pareto.das_dennis(2, 2))
    for values in one.values:
        assert f"{values[0]:.4f}" in out
    limit = pareto.reference_point(one.values, one.maximise)
    assert f"hypervolume {pareto.hypervolume(one.values, limit, one.maximise):.4g}," in out
    assert out.count("chosen") == 1
    assert (folder / "c/pareto/test/front.png").is_file()
    for more, message in ((["--on", "train_loss"], "evaluated on a split: train, vali or test, not 'train_loss'"),
                          (["--tasks", "x"], "no task 'x'"), (["--preferences", "angel:2"], "expected angle:N")):
        assert cli.main([*arguments, *more]) == 1
        assert message in capsys.readouterr().err


def test_an_ordinary_run_is_no_front(trained, monkeypatch, capsys):
    folder, *_ = trained
    monkeypatch.setattr("tfmtl2r.serving.load.load", lambda path: type("Ranker", (), {"conditioned": None}))
    assert cli.main(["pareto", "c", "--directory", str(folder)]) == 1
    assert "a single point: name a sweep, or a run trained with --conditioned" in capsys.readouterr().err


def test_the_card_of_a_conditioned_run_holds_its_curve(trained):
    folder, model, lists = trained
    run = load(folder / "c")
    assert [point["preference"] for point in run.card.curve] == usual_grid(2).tolist()
    one = pareto.curve(model, lists, usual_grid(2))
    points = run.points("test")
    assert [point.preference for point in points] == [tuple(row) for row in usual_grid(2)]
    for task, column in zip(("task_1", "task_2"), one.values.T, strict=True):
        np.testing.assert_allclose([point.objective(task, "test")[0] for point in points], column, rtol=1e-12)
    vali = pareto.curve(model, Experiment(**run.card.config).dataset().lists("vali"), [[1, 0]])
    assert run.points("vali")[0].objective("task_2", "vali")[0] == pytest.approx(vali.values[0, 1], abs=1e-12)
    assert run.points("train_loss") == [run] == load(folder / "c").points("vali_loss")
    assert [point.whole() for point in points] == [run] * 11
    assert load(folder / "o").points("test") == [load(folder / "o")]


def test_a_sweep_has_the_curve_among_its_points(trained, monkeypatch, capsys):
    folder, model, lists = trained
    one = pareto.curve(model, lists, usual_grid(2))
    found = summarise(load_all(folder))
    assert len(found.points.runs) == 12
    row = found.rows["linear_scalarization conditioned=1.0"]
    assert (row["points"], row["runs"], row["seeds"]) == (11, 1, 1)
    assert row["hypervolume"] == pytest.approx(pareto.hypervolume(one.values, found.reference.point, one.maximise))
    assert row["preference_error"] is None  # its training loss is that of no preference
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["pareto", folder.name, "--directory", str(folder.parent)]) == 0
    assert "of 12 points" in capsys.readouterr().out
    assert len(summarise(load_all(folder), "train_loss").points.runs) == 2


def test_a_study_compares_the_run_as_a_whole_and_its_curve_as_a_front(trained, capsys):
    folder, *_ = trained
    rankers = {ranker.name: ranker for ranker in study(folder).rankers}
    assert set(rankers) == {"linear_scalarization conditioned=1.0", EQUAL, SINGLE}
    row = rankers["linear_scalarization conditioned=1.0"]
    assert row.special
    assert (row.trainings, row.seeds, len(row.runs)) == (1, 1, 1)
    assert row.volume is not None
    assert rankers[EQUAL].volume is None
    asked_nothing = load(folder / "c").card.results["test"]
    for task in asked_nothing:
        (label,) = row.results[task]
        assert row.results[task][label]["value"] == pytest.approx(asked_nothing[task][label]["value"])
    assert cli.main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text().count("<circle") >= 12


def test_what_is_exported_of_a_curve_asks_for_the_preference_that_was_picked(trained, tmp_path, capsys):
    folder, model, _ = trained
    arguments = ["pareto", "export", folder.name, "--directory", str(folder.parent), "--to", str(tmp_path / "e")]
    assert cli.main([*arguments, "--pick", "nearest", "--preference", "1", "0"]) == 0
    said = capsys.readouterr().out
    points = summarise(load_all(folder), "vali").points
    chosen = points.runs[pick(points, "nearest", [1, 0])]
    assert chosen.asked  # else this shows nothing: the ordinary run was picked
    assert f"nearest: {chosen.card.name}: " in said
    request = requests(model.architecture.schema, lists=True)[0]
    count = len(request["list_size"])
    weights = np.zeros((count, 2), np.float32)
    with LoadedExport(tmp_path / "e/1") as loaded:
        default = loaded.run("predict_blended", {**request, "blend_weights": weights})
        for preference, same in ((chosen.asked, True), ((0.5, 0.5), False)):
            wanted = np.tile(np.float32(preference), (count, 1))
            asked = loaded.run("predict_preferred", {**request, "blend_weights": weights, "preference": wanted})
            assert np.allclose(asked["score_task_1"], default["score_task_1"], atol=1e-6) == same
    assert cli.main(["export", "o", "--directory", str(folder), "--preference", "1", "2",
                     "--to", str(tmp_path / "o")]) == 1
    assert "o reads no preference" in capsys.readouterr().err
