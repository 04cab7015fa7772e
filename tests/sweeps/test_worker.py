"""A sweep's worker goes on with an unfinished training of the same settings, and begins every other run again."""

import shutil

import pytest

from tfmtl2r import Experiment
from tfmtl2r.errors import DamagedError, Stopped
from tfmtl2r.runs import places
from tfmtl2r.runs.attempt import Attempt
from tfmtl2r.sweeps import Sweep
from tfmtl2r.sweeps.worker import Trainings, _log

SETTINGS = {"data": {"name": "synthetic_mslr", "num_lists": 8, "max_length": 4, "num_tasks": 2, "num_features": 4}}


@pytest.fixture
def asked(monkeypatch):
    """What the worker asks of a training."""
    found = {}
    monkeypatch.setattr(Experiment, "run", lambda self, **options: (found.update(options), None))
    monkeypatch.setattr(Trainings, "measure", lambda *_: None)
    return found


@pytest.fixture
def job(tmp_path):
    return Experiment("a", directory=str(tmp_path), **SETTINGS).config()


def begin(job, checkpoint=True, **changes):
    """A training that is killed after its first checkpoint."""
    experiment = Experiment.of(job).but(**changes)
    attempt = Attempt(experiment.folder, experiment.config())
    with attempt:
        attempt.begin()
        if checkpoint:
            attempt.checkpoints.mkdir(parents=True)
            (attempt.checkpoints / "step-1.index").touch()


@pytest.mark.parametrize(("before", "resumes"), [
    (lambda job: None, False), (begin, True), (lambda job: begin(job, method="mgda"), False),
    (lambda job: begin(job, training={"checkpoint_steps": 9}), True), (lambda job: begin(job, checkpoint=False), True),
])  # fmt: skip
def test_only_the_same_training_goes_on(job, asked, before, resumes):
    before(job)
    folder = Experiment.of(job).folder
    for _ in range(2):  # the log of a run is added to
        log = _log(folder)
        log.file.write(b"line\n")
        log.file.close()
    Trainings().run(job)
    assert (asked["resume"], asked["overwrite"]) == (resumes, not resumes)
    assert (folder / places.LOG).read_text() == "line\nline\n"
    assert places.is_ours(folder)


@pytest.mark.slow
def test_a_training_whose_checkpoints_are_damaged_begins_again(job, monkeypatch, capsys):
    """It would otherwise fail each time that the sweep goes on."""
    begin(job)
    asked = []

    def run(self, **options):
        asked.append(options)
        if options.get("resume"):
            raise DamagedError("no checkpoint can be read: start it again")
        return "ranker", None

    monkeypatch.setattr(Experiment, "run", run)
    monkeypatch.setattr(Trainings, "measure", lambda *_: None)
    worker = Trainings()
    worker.run(job)
    assert worker.ranker == "ranker"
    assert [one.get("overwrite") for one in asked] == [False, True]
    assert "no checkpoint can be read" in capsys.readouterr().out


def test_settings_that_cannot_be_read_begin_again(job, asked):
    begin(job)
    (Experiment.of(job).folder / places.MARK / "experiment.toml").write_text("format = ")
    Trainings().run(job)
    assert asked["overwrite"]
    shutil.rmtree(Experiment.of(job).folder)


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path):
    with pytest.raises(Stopped, match="s keeps its finished runs and all checkpoints, and the same command goes on"), \
            Sweep(tmp_path / "s"):
        raise KeyboardInterrupt
