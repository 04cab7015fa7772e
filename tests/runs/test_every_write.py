"""A process may die between any two calls that change a file: the next command then reads one whole run, or says in one
line what the folder holds."""

import json
import zipfile

import numpy as np
import pytest
from test_attempt import train

from tfmtl2r import cli
from tfmtl2r.errors import UserError
from tfmtl2r.runs import identity, places
from tfmtl2r.runs.attempt import settings_of
from tfmtl2r.runs.card import RunCard


def seed_of(copy):
    """The seed of the whole run of a copy, or None for a folder without one."""
    folder = places.find(copy / "runs", "a")
    if not (folder / places.CARD).is_file():
        with pytest.raises(UserError, match=r"^[^\n]*(a is a training that has not|not a run of tfmtl2r train)"):
            RunCard.load(folder)
        return None
    card = RunCard.load(folder)
    with np.load(folder / identity.PER_LIST) as arrays, zipfile.ZipFile(folder / identity.MODEL) as model:
        assert model.testzip() is None
        for split, results in card.results.items():
            for task, row in results.items():
                for metric, score in row.items():
                    values = arrays[f"{split}/{task}/{metric}"]
                    np.testing.assert_allclose(np.nanmean(values), score["value"], rtol=1e-5)
    return card.config["training"]["seed"]


@pytest.mark.slow
def test_every_copy_is_one_whole_run_or_an_unfinished_training(story):
    trained, evaluated, replaced = ([seed_of(copy) for copy in part] for part in story)
    assert min(map(len, story)) > 5
    assert trained == sorted(trained, key=lambda seed: seed is not None), "once whole, a run stays whole"
    assert set(trained) == {None, 0}
    assert set(evaluated) == {0}
    assert replaced == sorted(replaced), "the earlier run, and from one moment on the new one"
    assert set(replaced) == {0, 1}


@pytest.mark.slow
def test_the_next_command_understands_every_copy(story, monkeypatch, capsys):
    for copy in (copy for part in story for copy in part):
        monkeypatch.chdir(copy)
        whole = seed_of(copy) is not None
        code = cli.main(["compare", "a"])
        error = capsys.readouterr().err
        assert (code, error.count("\n")) == ((0, 0) if whole else (1, 1)), (copy.name, error)


@pytest.mark.slow
def test_every_copy_can_be_trained_to_its_end(story):
    for copy in (copy for part in story for copy in part):
        run = copy / "runs/a"
        mark = run / places.MARK / "identity"
        if seed_of(copy) is None and (run / places.MARK / "experiment.toml").is_file():
            train(run, resume=True, settings=settings_of(run), data=json.loads(mark.read_text())["data"])
        elif seed_of(copy) is None and places.is_attempt(run):
            train(run, resume=True)
        elif seed_of(copy) is None:
            train(run)
        else:
            with pytest.raises(UserError, match="holds a run already"):
                train(run)
            train(run, overwrite=True)
        RunCard.load(run)
        left = [path.name for path in run.parent.iterdir() if path.is_dir() or ".part" in path.name]
        assert left == ["a"], "no hidden folder and no half written file is left"
        assert not [path for path in run.iterdir() if ".part" in path.name]
