"""A whole walk on the command line: own LETOR files, three goals, a front, an export, one REST request. No Python.

The server is the tests' stand-in for TensorFlow Serving (:mod:`servicer`).
"""

import json
import re
import urllib.request

import numpy as np
import pandas as pd
import pytest
from servicer import Server

from tfmtl2r import cli

EXPERIMENT = """
name = "goals"
architecture = {name = "shared_bottom", units = [8]}
preference = {relevance = 1, clicks = 1, dwell = 1}

[data]
kind = "letor"
files = "judgements"
item_id = "docid"
leave_out = ["features[2]"]

[[tasks]]
name = "relevance"
label = "label"

[[tasks]]
name = "clicks"
kind = "binary"

[[tasks]]
name = "dwell"
kind = "regression"

[training]
epochs = 2
telemetry_every = 0

[evaluation]
by = ["list_length"]
"""


def write_letor(path, queries, rng):
    rows = []
    for query in queries:
        for place in range(rng.integers(3, 7)):
            x = rng.normal(size=4)
            rows.append(f"{int(np.clip(round(x[0] + 1), 0, 4))} qid:{query} "
                        + " ".join(f"{number + 1}:{value:.4f}" for number, value in enumerate(x))
                        + f" # docid = q{query}d{place} clicks = {int(x[2] > 0)} dwell = {np.exp(x[3]):.3f}")
    path.write_text("\n".join(rows) + "\n")


def run(*arguments):
    assert cli.main(list(arguments)) == 0, arguments


@pytest.mark.long
def test_own_letor_files_to_a_served_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "judgements").mkdir()
    write_letor(tmp_path / "judgements" / "monday", range(60), rng)
    write_letor(tmp_path / "judgements" / "tuesday", range(60, 120), rng)
    (tmp_path / "goals.toml").write_text(EXPERIMENT)

    run("prepare", "goals.toml")
    out = capsys.readouterr().out
    assert "features: dense of the item, 6 wide" in out, "logarithms and ranks side by side"
    assert "clicks: 0: " in out
    assert "train split: " in out

    run("sweep", "front", "goals.toml", "--preferences", "spread:3", "--seeds", "0", "--no-single-task", "--jobs", "1")
    run("pareto", "front", "--pick", "knee")
    assert "pareto.json" in capsys.readouterr().out
    run("train", "goals.toml", "--name", "best", "--preference", "relevance=2", "clicks=1", "dwell=1")
    run("evaluate", "best")
    assert "list_length (slices of lists)" in capsys.readouterr().out
    run("export", "best")
    run("export-check", "saved_models/best")

    write_letor(tmp_path / "new.txt", range(500, 503), rng)
    run("score", "best", "new.txt", "--to", "scores.csv")
    scores = pd.read_csv("scores.csv")
    assert list(scores)[:2] == ["qid", "docid"]
    rows = [line.split() for line in (tmp_path / "new.txt").read_text().splitlines() if " qid:500 " in line]
    vectors = [[float(row[2 + number].split(":")[1]) for number in (0, 2, 3)] for row in rows]
    with Server(tmp_path / "saved_models" / "best", "best") as server:
        server.wait_for(1)
        request = {"inputs": {"features": [vectors], "list_size": [len(vectors)]}}
        answer = urllib.request.urlopen(f"{server.rest}/v1/models/best:predict", json.dumps(request).encode())
        outputs = json.loads(answer.read())["outputs"]
    mine = scores[scores["qid"] == 500]
    for name in ("score", "score_relevance", "score_clicks", "score_dwell", "value_dwell"):
        np.testing.assert_allclose(outputs[name][0], mine[name], atol=1e-4)
    assert mine["docid"].tolist() == [re.search(r"docid = (\S+)", " ".join(row))[1] for row in rows]
