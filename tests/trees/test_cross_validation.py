"""Cross-validation as a whole: what is finished is not trained again, and every number is one of a run's own."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from stub_baseline import eagerly

from tfmtl2r import cli
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.split_metrics import COUNTS
from tfmtl2r.experiment import Experiment
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.identity import PER_LIST
from tfmtl2r.runs.places import CARD
from tfmtl2r.sweeps import cross_validate
from tfmtl2r.sweeps.merged_folds import of_fold
from tfmtl2r.sweeps.sweep import Sweep
from tfmtl2r.sweeps.worker import Trainings


def in_process(names):
    """Trains the runs of sweeps in this process, and notes their names."""
    def train(self, missing, total, on):
        one = Trainings()
        for job in missing:
            one.run(job)
            names.append(job["name"])

    return train


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A table of 40 lists whose label follows one of two numbers."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40 * 4, 2))
    rows = pd.DataFrame({"q": np.repeat(np.arange(40), 4), "x": x[:, 0], "z": x[:, 1],
                         "y": (x[:, 0] + rng.normal(size=160) > 0).astype(int)})
    rows.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def first(log, tmp_path_factory):
    """An experiment, and the result of its cross-validation with two folds."""
    experiment = Experiment(
        "own", data={"files": str(log), "list_id": "q"},
        tasks=[{"name": "y", "kind": "binary", "metrics": ["ndcg@3", "auc"]}],
        architecture={"name": "shared_bottom", "units": [4]}, directory=str(tmp_path_factory.mktemp("runs")),
        training={"epochs": 1, "patience": 0, "batch_size": 16, "telemetry_every": 0},
    )  # fmt: skip
    names = []
    with pytest.MonkeyPatch.context() as patched, eagerly():
        patched.setattr(Sweep, "_train", in_process(names))
        result = cross_validate(experiment, folds=2)
    assert names == ["p0-f0of2-s0", "p0-f1of2-s0"]
    return experiment, result


@pytest.fixture
def trained(monkeypatch):
    """The names of runs that a call trains."""
    names = []
    monkeypatch.setattr(Sweep, "_train", lambda self, missing, total, on: names.extend(job["name"] for job in missing))
    return names


def test_a_repeated_call_trains_only_what_is_missing(first, least_squares, trained):
    experiment, before = first
    said = []
    wrong = "least_squares:sign=-1.0"
    both = cross_validate(experiment, folds=2, baselines=[least_squares, wrong], report=said.append)
    assert not trained
    folder = before.folder
    assert said == [f"done    least_squares{end}-p0-f{fold}of2" for fold in range(2) for end in ("", "-sign-1.0")]
    values = {row.name: row.totals["y", "ndcg@3"].item() for row in both.rows}
    assert values["own"] == before.rows[0].totals["y", "ndcg@3"].item()
    assert values["least_squares"] > values[wrong]
    assert both.differences[wrong]["y"].value == pytest.approx(values["own"] - values[wrong])
    assert both.differences[wrong]["y"].error > 0
    # The out-of-fold mean is the mean over the lists of all folds.
    cards = [RunCard.load(folder / f"p0-f{fold}of2-s0") for fold in range(2)]
    assert cards[0].config["data"]["cross_validation"] == {"number": 0, "folds": 2, "seed": 0, "vali": 0.1}
    parts = [np.load(folder / card.name / PER_LIST) for card in cards]
    assert sum(len(part["test/y/ndcg@3"]) for part in parts) == 40
    weight = sum(part[f"{COUNTS}test/y/ndcg@3"].sum() for part in parts)
    assert values["own"] == pytest.approx(sum(np.nansum(part["test/y/ndcg@3"]) for part in parts) / weight)
    # A baseline that was killed has no card.
    (folder / "baselines" / "least_squares-p0-f1of2" / CARD).unlink()
    said.clear()
    again = cross_validate(experiment, folds=2, baselines=[least_squares], report=said.append)
    assert said == ["done    least_squares-p0-f1of2"]
    assert again.rows[1].totals["y", "ndcg@3"].item() == values["least_squares"]
    assert json.loads((folder / "cross_validation.json").read_text())["rows"]["own"]["y"]["auc"]["direction"] == "max"


def test_runs_of_several_cross_validations_become_one_ranker(first, trained, monkeypatch):
    """A run merged with itself ranks as it does alone; what is evaluated is not evaluated again."""
    experiment, before = first
    twin = before.folder.with_name("twin-cv")
    if not twin.exists():
        shutil.copytree(before.folder, twin)
    merged = cross_validate(experiment, folds=2, merge=["twin"])
    assert not trained
    assert [row.name for row in merged.rows] == ["own + twin", "own"]
    assert merged.differences["own"]["y"].value == 0
    monkeypatch.setattr("tfmtl2r.sweeps.merged_folds.load", None)
    assert [row.name for row in cross_validate(experiment, folds=2, merge=["twin"]).rows] == ["own + twin", "own"]
    with pytest.raises(InputError, match="no run of the fold p0-f0of3"):
        of_fold(twin, "p0-f0of3")


def test_the_command_goes_on_and_takes_an_earlier_cross_validation_as_baseline(
    first, least_squares, trained, capsys, tmp_path, log
):
    shutil.copytree(first[1].folder, tmp_path / "own-cv")
    shutil.copytree(first[1].folder, tmp_path / "twin-cv")
    file = tmp_path / "own.toml"
    file.write_text(f"""name = "own"
directory = "{tmp_path}"
architecture = {{name = "shared_bottom", units = [4]}}
[data]
files = "{log}"
list_id = "q"
[[tasks]]
name = "y"
kind = "binary"
metrics = ["ndcg@3", "auc"]
[training]
epochs = 1
patience = 0
batch_size = 16
""")
    flags = ["--folds", "2", "--baseline", "twin", least_squares]
    assert cli.main(["cross-validate", str(file), *flags]) == 0
    assert not trained
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("out of fold", "twin", "least_squares", "+0.0000", "±0.0000"))
    assert cli.main(["cross-validate", str(file), "--folds", "3", "--baseline", "twin"]) == 1
    assert "has values of other lists, folds or partitions" in capsys.readouterr().err
    assert cli.main(["cross-validate", str(file), "--set", "data.cross_validation={number=1}"]) == 1
    assert "data.cross_validation chooses one fold, and all of them are to be trained" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "message"), [
    ({"folds": 1}, "folds must be at least 2, not 1"), ({"seeds": 0}, "seeds must be at least 1"),
    ({"vali": 1.0}, "vali must be a share of the lists between 0 and 1"),
    ({"folds": 900}, r"fold \d+ of 900 \(partition 0\) has none of the 40 lists: take fewer folds"),
    ({"baselines": ["lightgbn"]}, "'lightgbn' is no baseline; did you mean 'lightgbm'"),
    ({"baselines": ["least_squares:sigm=1"]}, "has no option sigm"),
])  # fmt: skip
def test_bad_requests_are_refused_before_anything_is_trained(first, least_squares, trained, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        cross_validate(first[0].but(name="bad"), **options)
    assert not trained
