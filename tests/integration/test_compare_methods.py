"""The study that compares methods, reduced: it runs, goes on where it was, and its files agree with the run cards."""

import collections
import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfmtl2r import methods

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/compare_methods.py"


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, str(RECIPE), "--quick", *arguments], cwd=folder, capture_output=True,
                          text=True, check=False, env=environment)


@pytest.fixture
def recipe():
    spec = importlib.util.spec_from_file_location("compare_methods", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def planned(recipe, tmp_path, monkeypatch):
    """What a command line would train: data set -> experiments."""
    for name in ("mslr", "kuairand_pure"):
        (tmp_path / name).mkdir()
    found = {}

    class Recorder:
        def __init__(self, folder, jobs, preferences):
            self.name = folder.name

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def run(self, experiments):
            found[self.name] = experiments

    def run(*arguments):
        found.clear()
        monkeypatch.setattr(sys, "argv", ["compare_methods.py", "--data-dir", str(tmp_path), *arguments])
        recipe.main()
        return dict(found)

    monkeypatch.setattr(recipe, "Sweep", Recorder)
    monkeypatch.setattr(recipe, "lambdamart", lambda base, folder, seeds: found[folder.parent.name].append("trees"))
    monkeypatch.setattr(recipe, "random_order", lambda *_: None)
    monkeypatch.setattr(recipe, "write", lambda folder: None)
    return run


def counts(experiments):
    found = collections.Counter("single" if len(e.task_names) == 1 else "conditioned" if e.conditioned else e.method
                                for e in experiments[:-1])
    assert experiments[-1] == "trees"
    return dict(found)


def test_one_command_for_all_data_with_every_baseline(planned):
    found = planned("--methods", "mgda", "stch", "--seeds", "1")
    assert set(found) == {"synthetic-2", "synthetic-5", "mslr-2", "mslr-5", "kuairand-3"}
    for name, experiments in found.items():
        tasks = int(name[-1])
        grid = 5 if tasks == 2 else tasks + 1
        assert {len(e.select(e.dataset())) for e in experiments[:-1]} == {1, tasks}
        assert counts(experiments) == {"single": tasks, "linear_scalarization": grid, "conditioned": 1, "mgda": 1,
                                       "stch": grid}
        assert {e.training.epochs for e in experiments[:-1]} == {4 if tasks == 3 else 15}
    for experiments in planned("--seeds", "1", "--data", "synthetic-2").values():
        assert {e.method for e in experiments[:-1]} == {*methods.names()} - {"stl", "epsilon_constraint"}


def test_the_budget_can_be_reduced(planned):
    small = ["--methods", "mgda", "stch", "--seeds", "2", "--epochs", "3", "--lists", "8", "--one-preference"]
    found = planned("--data", "synthetic-5", "mslr-2", *small)
    assert counts(found["synthetic-5"]) == {"single": 10, "linear_scalarization": 12, "conditioned": 2, "mgda": 2,
                                             "stch": 2}
    assert counts(found["mslr-2"]) == {"single": 4, "linear_scalarization": 10, "conditioned": 2, "mgda": 2, "stch": 2}
    assert {e.training.epochs for experiments in found.values() for e in experiments[:-1]} == {3}
    assert {e.data.options["num_lists"] for e in found["synthetic-5"][:-1]} == {8}
    assert "num_lists" not in found["mslr-2"][0].data.options
    with pytest.raises(ValueError, match="epochs must be at least 1, not 0"):
        planned("--data", "mslr-2", "--epochs", "0")
    with pytest.raises(SystemExit, match="no data for mslr-3; there are synthetic-2"):
        planned("--data", "mslr-3")


@pytest.mark.long
def test_reduced_study(tmp_path, looked_at):
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs/compare-quick"
    cards = {path: json.loads(path.read_text()) for path in folder.glob("*/*/run.json")}
    trees = importlib.util.find_spec("lightgbm") is not None
    assert len(cards) == 2 * (2 + 3 + 1 + 1)
    assert len([*folder.glob("synthetic-2/baselines/*/run.json")]) == 2 * (1 + trees)
    rows = {row["ranker"]: row for row in csv.DictReader((folder / "compare.csv").read_text().splitlines())}
    conditioned = "linear_scalarization conditioned=1"
    assert set(rows) == {"single-task", "equal weights", "tuned weights", "random order", "mgda", conditioned} | (
        {"LambdaMART"} if trees else set())
    assert float(rows[conditioned]["hypervolume"]) > 0
    assert rows[conditioned]["trainings"] == "1"
    for task in ("task_1", "task_2"):
        of_mgda = [card["results"]["test"][task]["ndcg@10"]["value"] for card in cards.values()
                   if card["config"]["method"] == "mgda"]
        assert float(rows["mgda"][f"{task} ndcg@10"]) == pytest.approx(np.mean(of_mgda), abs=1e-12)
        assert float(rows["mgda"][f"{task} ndcg@10 std"]) == pytest.approx(np.std(of_mgda, ddof=1), abs=1e-12)
    assert float(rows["single-task"]["delta_m"]) == pytest.approx(0, abs=1e-9)
    assert float(rows["equal weights"]["hypervolume"]) > 0
    assert float(rows["mgda"]["hypervolume"]) > 0  # its heads are blended, as those of equal weights
    assert float(rows["mgda"]["seconds_a_step"]) > 0
    text = (folder / "compare.md").read_text()
    assert ("No special method beats tuned weights" in text) != (
        " of 2 special methods beat tuned weights (" in text)
    answer = text.splitlines()[2]
    for baseline in ("tuned weights", "equal weights"):
        assert (f"beat {baseline} (significantly better on a task, worse on none): none." in answer) == (
            f"No special method beats {baseline}" in text)
    assert ("LambdaMART" in answer) == trees
    assert text.count("- synthetic-2: ") == 2, "both verdicts stand in front, too"
    assert "- Budget: 14 trainings; epochs: 3; seeds: 2; synthetic training lists: 32." in text
    looked_at(folder / "compare.png")
    first = text[text.index("\n| "):].lstrip().split("\n\n")[0]  # other tables are about fronts
    head, *table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines() if line[:1] == "|"]
    for cells in table[1:]:  # their tasks are not in the order of the alphabet
        shown = dict(zip(head, cells, strict=True))
        for task in ("task_2 ndcg@10", "task_1 ndcg@10"):
            assert shown[task].split()[0] == f"{float(rows[shown['ranker']][task]):.4f}"
    before = {path: path.read_bytes() for path in (folder / "compare.csv", folder / "compare.md")}
    page = (folder / "report.html").read_text()
    assert all(card["name"] in page for card in cards.values())
    again = run(tmp_path, "--report")
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert (folder / "report.html").read_text() == page
