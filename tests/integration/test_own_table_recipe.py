"""The tutorial's script, reduced: a log, one experiment file, and what each command prints."""

import json
import re
import tomllib

import pytest
from test_trade_off_recipes import run

pytestmark = pytest.mark.slow


def test_own_table(tmp_path):
    out = run(tmp_path, "own_table.py", "--sessions", "400")
    parts = out.split("$ tfmtl2r ")
    assert [part.split()[0] for part in parts[1:]] == ["prepare", "train", "evaluate", "export"]
    assert "history: sequence of the list" in parts[1]
    assert "position: category of the item" in parts[1]
    assert "suspected leaks: none" in parts[1]
    assert "new: video" in parts[3] or "new:video" in parts[3]
    assert re.search(r"new\b.*\d\.\d{4}", parts[3]), parts[3]
    answer = json.loads(out.split("one request: ")[1].splitlines()[0])
    assert {"score", "score_click", "score_like", "value_watch"} <= answer.keys()
    assert all(0 <= seconds < 120 for seconds in answer["value_watch"])
    written = tomllib.loads((tmp_path / "runs/feed/experiment.toml").read_text())
    assert written["training"]["bias_features"] == ["position"]
    metadata = (tmp_path / "saved_models/feed/1/assets.extra/tfmtl2r.json").read_text()
    assert "position" not in metadata
