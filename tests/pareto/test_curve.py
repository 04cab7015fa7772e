"""A conditioned run as a front: the tools for fronts take its curve, and the command line shows it."""

import json
import shutil

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import cli, pareto
from tfmtl2r.data import batches
from tfmtl2r.evaluation import score_served
from tfmtl2r.experiment import Experiment
from tfmtl2r.pareto import plots
from tfmtl2r.pareto.conditioned import Curve
from tfmtl2r.pareto.summary import pick, summarise
from tfmtl2r.preferences import leaning, usual_grid
from tfmtl2r.runs.finished import load, load_all
from tfmtl2r.serving.check import METADATA
from tfmtl2r.serving.examples import requests
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.sweeps.planning import plan
from tfmtl2r.sweeps.study import EQUAL, SINGLE, study
from tfmtl2r.sweeps.table import rows

pytestmark = pytest.mark.slow

PREFERENCES = [[8, 2], [1, 1], [1, 4]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of runs, ranker, test lists."""
    folder = tmp_path_factory.mktemp("conditioned")
    experiment = Experiment(
        "c", data={"name": "synthetic_mslr", "num_lists": 16, "max_length": 8, "num_tasks": 2, "num_features": 8,
                   "conflict": 0.9},
        architecture={"name": "shared_bottom", "units": [8]}, conditioned=1.0, directory=str(folder),
        optimizer={"learning_rate": 0.02},
        training={"epochs": 3, "patience": 0, "batch_size": 4, "telemetry_every": 0},
    )
    model, _ = experiment.run(verbose=0)
    ordinary = experiment.but(name="o", conditioned=None, preference={"task_1": 0.5, "task_2": 0.5})
    ordinary.run(verbose=0)
    for task in ("task_1", "task_2"):
        ordinary.but(name=task, tasks=(task,), preference=None).run(verbose=0)
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


def test_the_command_line_shows_the_front_of_a_conditioned_run(trained, monkeypatch, capsys, looked_at):
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
    looked_at(folder / "c/pareto/test/front.png")
    for more, message in ((["--on", "train_loss"], "evaluated on a split: train, vali or test, not 'train_loss'"),
                          (["--tasks", "x"], "no task 'x'"), (["--preferences", "angel:2"], "expected angle:N")):
        assert cli.main([*arguments, *more]) == 1
        assert message in capsys.readouterr().err


def test_an_ordinary_run_has_the_front_of_its_served_ranking(trained, monkeypatch, capsys):
    folder, _, lists = trained
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["pareto", "o", "--directory", str(folder), "--preferences", "lattice:2"]) == 0
    out = capsys.readouterr().out
    assert "one ranker, blended: the served ranking" in out
    assert "own head" not in out
    saved = json.loads((folder / "o/pareto/test/pareto.json").read_text())
    model = tfmtl2r.load(folder / "o/model.keras")
    for preference, values in zip(saved["preferences"], saved["values"], strict=True):
        results = score_served(model, lists, preference)
        np.testing.assert_allclose(values, [next(iter(row.values())).value for row in results.values()], rtol=1e-6)
    assert saved["measured_on"] == "served ranking"
    assert saved["gain"] == pytest.approx(saved["utility"] - saved["null"])


def test_the_card_of_a_conditioned_run_holds_its_curve(trained):
    folder, model, lists = trained
    run = load(folder / "c")
    assert [point["preference"] for point in run.card.curve] == usual_grid(2).tolist()
    one = pareto.curve(model, lists, usual_grid(2))
    points = run.points("test")
    assert [point.preference for point in points] == [tuple(row) for row in usual_grid(2)]
    for task, column in zip(("task_1", "task_2"), one.values.T, strict=True):
        np.testing.assert_allclose([point.objective(task, "test")[0] for point in points], column, rtol=1e-12)
    vali = pareto.curve(model, Experiment.of(run.card.config).dataset().lists("vali"), [[1, 0]])
    assert run.points("vali")[0].objective("task_2", "vali")[0] == pytest.approx(vali.values[0, 1], abs=1e-12)
    assert run.points("train_loss") == [run] == load(folder / "c").points("vali_loss")
    assert [point.whole() for point in points] == [run] * 11
    assert load(folder / "o").points("test") == [load(folder / "o")]


def test_a_sweep_has_the_curve_among_its_points(trained, monkeypatch, capsys):
    folder, model, lists = trained
    one = pareto.curve(model, lists, usual_grid(2))
    found = summarise(load_all(folder))
    assert len(found.points.runs) == 12
    row = found.rows["linear_scalarization conditioned=1"]
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
    assert set(rankers) == {"linear_scalarization conditioned=1", EQUAL, SINGLE}
    row = rankers["linear_scalarization conditioned=1"]
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
    alone = tmp_path / "alone"  # without the ordinary run, which could be picked and would show nothing
    shutil.copytree(folder, alone, ignore=shutil.ignore_patterns("o"))
    arguments = ["pareto", "export", alone.name, "--directory", str(alone.parent), "--to", str(tmp_path / "e")]
    assert cli.main([*arguments, "--pick", "nearest", "--preference", "1", "0"]) == 0
    said = capsys.readouterr().out
    points = summarise(load_all(alone), "vali").points
    chosen = points.runs[pick(points, "nearest", [1, 0])]
    assert f"nearest: {chosen.card.name} at ({chosen.asked[0]:.3g}, {chosen.asked[1]:.3g}): " in said
    request = requests(model.architecture.schema, lists=True)[0]
    count = len(request["list_size"])
    weights = np.zeros((count, 2), np.float32)
    with LoadedExport(tmp_path / "e/1") as loaded:
        default = loaded.run("predict_blended", {**request, "blend_weights": weights})
        for preference, same in ((chosen.asked, True), ((0.5, 0.5), False)):
            wanted = np.tile(np.float32(preference), (count, 1))
            asked = loaded.run("predict_preferred", {**request, "preference": wanted})
            assert np.allclose(asked["score_task_1"], default["score_task_1"], atol=1e-6) == same
    assert cli.main(["export", "o", "--directory", str(folder), "--preference", "1", "2",
                     "--to", str(tmp_path / "o")]) == 1
    assert "o reads no preference" in capsys.readouterr().err


SMALL = Experiment(
    "small", data={"name": "synthetic_mslr", "num_lists": 8, "max_length": 6, "num_tasks": 3, "num_features": 4},
    architecture={"name": "shared_bottom", "units": [4]}, conditioned=1.0,
    training={"epochs": 3, "patience": 0, "batch_size": 4, "telemetry_every": 0},
)  # fmt: skip


@pytest.mark.long
def test_a_card_has_the_preferences_that_were_wanted_and_that_the_method_can_take(tmp_path):
    small = SMALL.but(directory=str(tmp_path), training={"epochs": 1})
    _, card = small.but(name="a", method="cosmos", evaluation={"preferences": "lattice:1"}).run(verbose=0)
    asked = np.array([point["preference"] for point in card.curve])
    np.testing.assert_allclose(asked, np.eye(3), atol=0.0021)
    assert (asked > 0).all()  # COSMOS divides by them
    assert set(card.curve[0]["vali"]) == set(card.curve[0]["test"]) == {"task_1", "task_2", "task_3"}
    _, card = small.but(name="b", evaluation={"preferences": [[2, 1, 1]]}).run(verbose=0)
    assert [point["preference"] for point in card.curve] == [[0.5, 0.25, 0.25]]
    assert Experiment.of(card.config).config() == card.config
    _, card = small.but(name="c", evaluation={"preferences": "none"}).run(verbose=0)
    assert card.curve == []
    plain = {"name": "synthetic_rows", "rows": 64, "num_tasks": 3}
    _, card = small.but(name="d", data=plain, evaluation={"preferences": "spread:2"}).run(verbose=0)
    assert len(card.curve) == 2
    wrong = small.but(name="e", evaluation={"preferences": "angel:2"})
    with pytest.raises(ValueError, match="expected angle:N"):
        wrong.run(verbose=0)
    assert not (tmp_path / "e").exists()  # it is said before anything is trained
    with pytest.raises(ValueError, match="preferences need a ranker with the preference as an input"):
        small.but(conditioned=None, evaluation={"preferences": "none"})


@pytest.mark.long
def test_early_stopping_looks_along_the_preference(tmp_path):
    small = SMALL.but(directory=str(tmp_path), training={"patience": 1}, optimizer={"learning_rate": 0.05})
    model, card = small.run(verbose=0)
    along = card.history["val_stop_on_along"]
    assert len(along) == len(card.history["val_stop_on"])
    assert np.argmax(card.history["kept"]) == np.argmax(along)
    np.testing.assert_allclose(model.preference, 1 / 3)  # as before
    blends = []
    vali = batches(small.dataset().lists("vali"), model.tasks, model.schema, batch_size=4)
    for preference in leaning(3, 0.8):
        model.set_preference(preference)
        blends.append(model.evaluate(vali, verbose=0, return_dict=True)["stop_on"])
    assert np.std(blends) > 1e-3
    assert np.mean(blends) == pytest.approx(max(along), abs=1e-6)


def test_the_table_of_a_sweep_stars_what_is_on_the_front_of_all_points(trained):
    folder, *_ = trained
    runs = load_all(folder)
    points = summarise(runs).points
    on = {run.card.name for run, kept in zip(points.runs, pareto.non_dominated(points.values, points.maximise),
                                             strict=True) if kept}
    assert {row["run"] for row in rows(runs) if row["front"]} == on


def test_one_run_is_a_sweep_of_itself(trained, tmp_path, capsys):
    folder, *_ = trained
    assert cli.main(["report", str(folder / "c")]) == 0
    assert (folder / "c/report.html").read_text().count("<circle") >= 11
    assert cli.main(["pareto", "export", "c", "--directory", str(folder), "--to", str(tmp_path / "e"),
                     "--blend", "task_1=1"]) == 0
    assert "knee: c at (" in capsys.readouterr().out
    served = json.loads((tmp_path / "e/1" / METADATA).read_text())
    assert served["blend"] == {"task_1": 1.0, "task_2": 0.0}
    text = (tmp_path / "e/README.md").read_text()
    assert " : ".join(f"{value:.4g}" for value in served["preference"]) in " ".join(text.split())  # lines are wrapped
    assert "[[2.0, 1.0]]" in text


def test_the_front_of_a_run_is_of_its_own_data(trained, tmp_path, capsys):
    folder, *_ = trained
    shutil.copytree(folder / "c", tmp_path / "c")
    card = json.loads((tmp_path / "c/run.json").read_text())
    card["config"]["data"]["conflict"] = 0.1
    (tmp_path / "c/run.json").write_text(json.dumps(card))
    assert cli.main(["pareto", "c", "--directory", str(tmp_path)]) == 1
    assert "the test split has changed since run 'c' was trained" in capsys.readouterr().err


def test_methods_without_a_preference_are_refused_by_the_plan():
    with pytest.raises(ValueError, match="MGDA has no preference; choose one that takes it"):
        plan(SMALL, ["mgda"], usual_grid(3))
