"""The recipe that compares losses, reduced: one other loss on the excerpt, two folds, one epoch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_a_loss_beside_the_default_one(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    done = subprocess.run([sys.executable, str(ROOT / "recipes/losses.py"), "--quick"], cwd=tmp_path, text=True,
                          capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs/losses/kuairand_excerpt"
    assert {path.name for path in folder.iterdir() if path.name.endswith("-cv")} == {"softmax-cv", "bce-cv"}
    with np.load(folder / "softmax-cv/out_of_fold.npz") as saved:
        values = [saved[f"{row}/max/click/ndcg@5"].mean(axis=0) for row in range(2)]
    assert np.nanmax(np.abs(values[0] - values[1])) > 0.01, "the losses train different rankers"
    mean = [line for line in done.stdout.splitlines() if line.startswith(("│ softmax", "│ bce"))]
    assert len(mean) == 2, done.stdout
