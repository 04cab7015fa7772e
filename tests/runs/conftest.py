"""A run of a small ranker, and copies of its folder after each call that changed it."""

import os
import shutil

import pytest

from tfmtl2r import Experiment, cli

SMALL = Experiment(
    "a", data={"name": "synthetic_mslr", "num_lists": 12, "max_length": 6, "num_tasks": 2, "num_features": 4},
    architecture={"name": "shared_bottom", "units": [4]},
    training={"epochs": 1, "patience": 0, "batch_size": 12, "telemetry_every": 1},
)


class Copies:
    """Copies a folder before and after each call that changes the names in it."""

    def __init__(self, folder, to):
        self.folder, self.to, self.busy, self.found, self.last = folder, to, False, [], None

    def watch(self, patch):
        for module, name in ((os, "replace"), (os, "rename"), (os, "unlink"), (os, "mkdir"), (shutil, "rmtree")):
            patch.setattr(module, name, self._watched(getattr(module, name)))

    def take(self, call=""):
        if self.busy or not self.folder.exists():
            return
        now = {path: path.is_file() and path.read_bytes() for path in self.folder.rglob("*")}
        if now == self.last:
            return
        self.last = now
        self.busy = True
        self.found.append(self.to / f"{len(self.found):03d}-{call}")
        shutil.copytree(self.folder, self.found[-1] / "runs")
        self.busy = False

    def _watched(self, call):
        def watched(*arguments, **options):
            self.take(call.__name__)
            try:
                return call(*arguments, **options)
            finally:
                self.take(call.__name__)

        return watched


@pytest.fixture(scope="session")
def story(tmp_path_factory):
    """Trains a run, evaluates it, and replaces it by another; the copies of each of the three parts."""
    here = tmp_path_factory.mktemp("story")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        parts, models = [], []
        for number, act in enumerate((
            lambda: models.append(SMALL.run(verbose=0)[0]),
            lambda: cli.main(["evaluate", "a", "--split", "vali"]),
            lambda: models.append(SMALL.but(training={"seed": 1}).run(verbose=0, overwrite=True, before=models[0])),
        )):
            copies = Copies(here / "runs", here / str(number))
            with pytest.MonkeyPatch.context() as watching:
                copies.watch(watching)
                assert not act() or models
            copies.take("end")
            parts.append(copies.found)
        shutil.copytree(parts[0][-1], here / "whole")
        yield parts


@pytest.fixture
def trained(story, tmp_path, monkeypatch):
    """A working folder with the whole run ``runs/a``."""
    shutil.copytree(story[0][-1].parents[1] / "whole/runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path
