"""A conditioned run as a front: the tools for fronts take its curve, and the command line shows it."""

import numpy as np
import pytest

from tfmtl2r import cli, pareto
from tfmtl2r.experiment import Experiment
from tfmtl2r.pareto import plots
from tfmtl2r.pareto.conditioned import Curve
from tfmtl2r.pareto.summary import pick

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
