"""A training as a transaction: its folder is empty, an unfinished training that can go on, or one whole run."""

from __future__ import annotations

import contextlib
import shutil
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tfmtl2r import plugins
from tfmtl2r.errors import InputError, MissingFileError, NotAFolderError, Stopped, WorkerError
from tfmtl2r.reading import read_json
from tfmtl2r.runs import identity, places
from tfmtl2r.runs.card import PLUGINS, RunCard
from tfmtl2r.settings import Settings, files
from tfmtl2r.settings.outcome import outcome
from tfmtl2r.writing import write_json, written

_IDENTITY = "identity"


class Attempt:
    """The folder of one training, from its lock to its run card.

    Entering takes the lock of the run, and checks names and folders; nothing is written yet beside the lock.
    :meth:`begin` writes the mark, :meth:`keep` the trained model, and :meth:`finish` the rest, the run card last.
    Everything happens in :attr:`folder`. Where an earlier run is replaced, this is ``runs/.NAME.new/``, and
    :meth:`finish` puts it in the place of ``runs/NAME/``.

    Args:
        run: the folder of the run, ``runs/NAME``.
        settings: the settings of the training as a tree, for ``.attempt/experiment.toml``.
        overwrite: whether to replace an earlier run, or an unfinished training with checkpoints.
        resume: whether to go on with an unfinished training, in its folder.

    Raises:
        InputError: on entering, if the folder may not be used; the message contains what to do.
        OSError: on entering, if the folder cannot be written.
    """

    def __init__(self, run: Path, settings: Mapping[str, Any], overwrite: bool = False, resume: bool = False):
        self.run = run
        self.settings = settings
        self.overwrite = overwrite
        self.resume = resume
        self.folder = run
        self.identity = identity.new()
        self._held = contextlib.ExitStack()
        self._begun = False

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, ``.attempt/checkpoints`` in the working folder."""
        return self.folder / places.MARK / places.CHECKPOINTS

    def __enter__(self) -> Self:
        if self.run.parent.exists() and not self.run.parent.is_dir():
            raise NotAFolderError(f"{self.run.parent} is a file, not a folder for runs: give another --directory")
        with contextlib.ExitStack() as held:
            held.enter_context(places.training(self.run))
            places.replace(self.run)
            self.folder = unfinished(self.run) if self.resume else self._working_folder()
            if self.resume and (self.folder / places.MARK / files.FILE).is_file():
                self.identity = _marked(self.folder, self.run.name)["identity"]
                if not same_settings(files.load(self.folder / places.MARK / files.FILE), self.settings):
                    raise InputError(f"the unfinished training {self.run} has other settings: begin again with "
                                     "--overwrite, or give it another name")
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._held.close()
        if isinstance(error, KeyboardInterrupt) and not isinstance(error, Stopped) and self._begun:
            raise Stopped(f"stopped; {what_is_kept(self.run, self.folder)}") from error
        if isinstance(error, WorkerError) and self._begun:
            raise WorkerError(f"{error}; {what_is_kept(self.run, self.folder)}") from error

    def begin(self, needed: int = 0, data: Mapping[str, str] = types.MappingProxyType({})) -> None:
        """Writes the mark with the settings, before the first step of the training.

        Args:
            needed: bytes that the training will write at least.
            data: split -> fingerprint of its lists.

        Raises:
            InputError: if the disk has less space, or the data have changed since a training to resume was stopped.
            OSError: if the folder cannot be written.
        """
        free = shutil.disk_usage(self.run.parent).free
        if free < needed:
            raise InputError(f"{self.run} needs at least {_mib(needed)} on the disk, where {_mib(free)} are free: make "
                             "room, or give another --directory")
        mark = self.folder / places.MARK
        self._begun = True
        if self.resume and (mark / files.FILE).is_file():
            known = _marked(self.folder, self.run.name)
            for split, before in known["data"].items():
                if data.get(split) != before:
                    raise InputError(f"the {split} split has changed since the training {self.run} was stopped: bring "
                                     "the data back, or begin again with --overwrite")
            write_json(mark / _IDENTITY, known)  # fails now where nothing can be written
            return
        places.clear(self.folder)
        if self.folder == self.run:  # whatever a killed replacement left is given up
            places.remove(places.beside(self.run, "new"))
        write_json(mark / _IDENTITY, {"identity": self.identity, "plugins": plugins.remembered(), "data": {**data}})
        files.save(self.settings, mark / files.FILE)

    def keep(self, model: Any) -> None:
        """Writes the trained model with the run's identity."""
        with written(self.folder / identity.MODEL) as path:
            model.save(path)
            identity.stamp(path, self.identity)

    def finish(self, card: RunCard) -> None:
        """Writes ``experiment.toml`` and at last the run card, and puts the folder in its place.

        Args:
            card: the run card with :attr:`identity`, whose results are recorded.
        """
        files.save({**card.config, "plugins": plugins.paths()}, self.folder / files.FILE)
        card.save(self.folder)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        places.replace(self.run)
        self.folder = self.run

    def _working_folder(self) -> Path:
        run, new = self.run, places.beside(self.run, "new")
        for folder in (run, new):
            if not places.is_ours(folder):
                raise InputError(f"{folder} is neither a run nor an unfinished training, and is not overwritten: "
                                 "choose another name, or move what is there")
        if (run / places.CARD).is_file() and not self.overwrite:
            raise InputError(f"{run} holds a run already: choose another name, or overwrite it (--overwrite)")
        if not self.overwrite and any(map(places.can_go_on, (run, new))):
            raise InputError(f"{run} holds a training that has not finished: go on with --resume {run.name}, or begin "
                             "again with --overwrite")
        return new if (run / places.CARD).is_file() or places.can_go_on(run) else run


def unfinished(run: Path) -> Path:
    """Returns the folder of a run's unfinished training.

    Raises:
        InputError: if the run is finished.
        MissingFileError: if there is no unfinished training.
    """
    for folder in (places.beside(run, "new"), run):
        if places.is_attempt(folder):
            return folder
    if (run / places.CARD).is_file():
        raise InputError(f"{run} is a finished run, with nothing to resume; --like {run.name} --name NEW trains with "
                         "its settings again")
    raise MissingFileError(f"{run} holds no unfinished training that could be resumed")


def settings_of(run: Path) -> dict[str, Any]:
    """Returns the settings of a run's unfinished training as a tree, without its plug-ins.

    Raises:
        InputError: as :func:`unfinished`, or if a plug-in of the training is not imported or has changed.
    """
    folder = unfinished(run)
    path = folder / places.MARK / files.FILE
    if not path.is_file():
        raise InputError(f"{run} was stopped before it began to train: there is nothing to resume, so train it again")
    _marked(folder, run.name)
    return {key: value for key, value in files.load(path).items() if key != "plugins"}


def same_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two trees have the same values of all settings on which the numbers of a run depend."""
    one, other = (outcome(Settings.of({**tree, "sweep": {}}).tree()) for tree in (first, second))
    return one == other


def _marked(folder: Path, name: str) -> dict[str, Any]:
    """Returns identity and data of an unfinished training, whose plug-ins must be imported."""
    path = folder / places.MARK / _IDENTITY
    advice = "begin again with --overwrite"
    try:
        content = read_json(path, advice, {"identity": str, "data": dict, "plugins": PLUGINS})
        found = {key: content[key] for key in ("identity", "plugins", "data")}
    except (KeyError, FileNotFoundError) as error:
        raise InputError(f"{path} is damaged ({error}): {advice}") from error
    plugins.require(found["plugins"], f"the unfinished training {name!r}")
    return found


def what_is_kept(run: Path, folder: Path) -> str:
    """Returns the end of a message about a training that was stopped: what is kept, and how to go on."""
    further = f" --directory {run.parent}" if str(run.parent) != "runs" else ""
    if places.can_go_on(folder):
        return (f"{folder} keeps the log and the checkpoints; go on with: tfmtl2r train --resume {run.name}{further}")
    return f"there was no checkpoint yet, so that the same command begins {run} again"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
