"""The quick start as a newcomer runs it: it ends well, and its rankers beat popularity beyond chance."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart.py"


@pytest.mark.long
def test_quickstart_beats_popularity_and_exports(tmp_path, looked_at):
    done = subprocess.run([sys.executable, str(RECIPE)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for ranker in ("equal weights", "mgda"):
        for task in ("click", "long_view"):
            line = re.search(rf"{task} +{ranker} - popularity: \S+ \[([+-][\d.]+), ", done.stdout)
            assert line is not None, done.stdout
            assert float(line.group(1)) > 0, line.group(0)
    assert (tmp_path / "saved_models/quickstart/1/saved_model.pb").is_file()
    looked_at(tmp_path / "runs/quickstart.png")
    assert len(list((tmp_path / "runs").glob("*/run.json"))) == 2
