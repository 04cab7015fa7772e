"""The study that compares methods, reduced: it runs, goes on where it was, and its files agree with the run cards."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/compare_methods.py"


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, str(RECIPE), "--quick", *arguments], cwd=folder, capture_output=True,
                          text=True, check=False, env=environment)


@pytest.mark.slow
def test_reduced_study(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs/compare-quick"
    cards = {path: json.loads(path.read_text()) for path in folder.glob("*/*/run.json")}
    assert len(cards) == 2 * (2 + 3 + 1)
    rows = {row["ranker"]: row for row in csv.DictReader((folder / "compare.csv").read_text().splitlines())}
    trees = importlib.util.find_spec("lightgbm") is not None
    assert set(rows) == {"single-task", "equal weights", "tuned weights", "mgda"} | ({"LambdaMART"} if trees else set())
    for task in ("task_1", "task_2"):
        of_mgda = [card["results"]["test"][task]["ndcg@10"]["value"] for card in cards.values()
                   if card["config"]["method"] == "mgda"]
        assert float(rows["mgda"][f"{task} ndcg@10"]) == pytest.approx(np.mean(of_mgda), abs=1e-12)
        assert float(rows["mgda"][f"{task} ndcg@10 std"]) == pytest.approx(np.std(of_mgda), abs=1e-12)
    assert float(rows["single-task"]["delta_m"]) == pytest.approx(0, abs=1e-9)
    assert float(rows["equal weights"]["hypervolume"]) > 0
    assert rows["mgda"]["hypervolume"] == ""
    assert float(rows["mgda"]["seconds_a_step"]) > 0
    text = (folder / "compare.md").read_text()
    assert ("No special method beats tuned weights" in text) != ("special methods beat tuned weights: mgda" in text)
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
    head, *table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
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
