"""Run cards: ``runs/NAME/run.json`` contains settings, data and results of a run. All tables are made from them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tfmtl2r
from tfmtl2r import plugins
from tfmtl2r.data.fingerprints import comparable
from tfmtl2r.errors import InputError, InputTypeError, MissingFileError
from tfmtl2r.reading import EACH, NUMBER, check
from tfmtl2r.runs import format1, identity, places
from tfmtl2r.settings import FORMAT
from tfmtl2r.writing import number, write_json

PLUGINS = [{"name": str, "sha256": str}]
_RESULTS = {EACH: {EACH: {EACH: {"value": NUMBER, "num_lists": NUMBER, "if_calibrated": NUMBER}}}}
_MEANS = {EACH: {EACH: NUMBER}}
_POINTS = [{"preference": [NUMBER], "vali": _MEANS, "test": _MEANS}]
_SHAPE = {
    "name": str, "config": dict, "data": {EACH: {"fingerprint": str}}, "results": _RESULTS, "history": {EACH: [NUMBER]},
    "curve": _POINTS, "served": {"points": _POINTS},
    "slices": {EACH: {EACH: {"of": str, "slices": {EACH: {"results": _RESULTS[EACH]}}}}},
    "teacher": {EACH: dict}, "blend": dict, "step_ms": (int, float, type(None)),
    "peak_memory_mb": (int, float, type(None)), "versions": {EACH: str}, "plugins": PLUGINS, "identity": str,
    "format": int,
}
_PACKAGES = ("tensorflow", "keras", "tensorflow-ranking", "numpy", "pandas")


@dataclasses.dataclass
class RunCard:
    """Settings, data and results of one training.

    Args:
        name: name of the run and of its folder.
        config: all settings of the run, as :meth:`tfmtl2r.settings.Settings.tree` returns them.
        data: split -> its fingerprint, its numbers of lists and items, and the number of items that were cut.
        results: split -> task -> metric -> ``{"value", "num_lists", "conventions", "direction"}``, and
            ``"if_calibrated"`` for a metric that has it (:meth:`tfmtl2r.metrics.Metric.if_calibrated`).
        history: name -> values per epoch, as ``fit`` reported them. During a training, values of regressions with a
            transform have no residuals yet (:mod:`tfmtl2r.training.readings`); in ``results`` they have.
        curve: results of a conditioned ranker for a grid of preferences, each ``{"preference": [...], "vali": task ->
            metric -> value, "test": task -> metric -> value}``; empty for other rankers.
        served: what the ranker serves at its own and at other preferences, in runs of a sweep
            (:func:`tfmtl2r.evaluation.served_points.served_results`); empty for plain rows and a single task.
        slices: split -> what the slices are made by -> ``{"of": "lists" or "items", "slices": name -> {"num_lists",
            "items", "results"}}`` (:mod:`tfmtl2r.evaluation.slices`).
        importance: split -> how much each task loses if the values of a feature are exchanged
            (:func:`tfmtl2r.evaluation.feature_importance`); empty if it was not measured.
        teacher: task -> ``{"metric", "teacher", "student", "used"}``: the metric of the teacher and of the ranker
            without a teacher on the validation split, and whether the teacher is used; empty without a teacher.
        blend: how the kind of blend of the served score was chosen: ``by``, ``kind``, and for a choice on vali the
            ``table`` of all kinds (:func:`tfmtl2r.evaluation.blend_choice.choose_blend`); empty in earlier cards.
        step_ms: median milliseconds of a training step, without the first epoch (which compiles); None if not
            measured.
        peak_memory_mb: highest resident memory of the process.
        versions: versions of Python, this library and its dependencies.
        plugins: name and hash of the plug-in files that were imported for the run.
        identity: random text that the model and the values per list also contain (:mod:`tfmtl2r.runs.identity`);
            empty for a card without a training.
        format: format of the run card.
    """

    name: str
    config: dict[str, Any]
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    results: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    curve: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    served: dict[str, Any] = dataclasses.field(default_factory=dict)
    slices: dict[str, Any] = dataclasses.field(default_factory=dict)
    importance: dict[str, Any] = dataclasses.field(default_factory=dict)
    teacher: dict[str, Any] = dataclasses.field(default_factory=dict)
    blend: dict[str, Any] = dataclasses.field(default_factory=dict)
    step_ms: float | None = None
    peak_memory_mb: float | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=lambda: versions())
    plugins: list[dict[str, str]] = dataclasses.field(default_factory=plugins.remembered)
    identity: str = ""
    format: int = FORMAT

    def save(self, folder: str | Path) -> Path:
        """Writes the run card as strict JSON: a reader sees the old card or the new card, never a part.

        Results and histories that are not finite become null, ``"inf"`` or ``"-inf"``, and :meth:`load` reads them.
        """
        return write_json(Path(folder) / places.CARD, dataclasses.asdict(self), default=_plain)

    def expect(self, split: str, fingerprint: str) -> None:
        """Raises an error when the current data differ from the data of the run.

        Args:
            split: name of the split.
            fingerprint: fingerprint of the current lists of this split.

        Raises:
            ValueError: when the run used other data.
        """
        known = self.data.get(split, {}).get("fingerprint")
        if known is not None and not comparable(known, fingerprint):
            raise InputError(f"the {split} split cannot be compared with that of run {self.name!r}: an earlier version "
                             "of tfmtl2r wrote the fingerprint in its run card, in another format; train again, or use "
                             "that version")
        if known is not None and known != fingerprint:
            raise InputError(f"the {split} split has changed since run {self.name!r} was trained: fingerprint "
                             f"{fingerprint[:12]}, in the run card {known[:12]}; train again on the current data")

    @classmethod
    def load(cls, folder: str | Path) -> RunCard:
        """Reads the run card of a folder, and checks that the folder is one whole run.

        Raises:
            FileNotFoundError: when the folder contains no run card.
            ValueError: when the file is not a run card, or the model or the values per list beside it belong to another
                training; the message names the problem.
        """
        folder = Path(folder)
        path = folder / places.CARD
        if places.is_attempt(folder):
            raise MissingFileError(f"{folder} is a training that has not finished; tfmtl2r train --resume "
                                   f"{folder.name} goes on with it")
        if not path.is_file():
            raise MissingFileError(f"{path} does not exist: {folder.name!r} is not a run of tfmtl2r train")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            check(content, _SHAPE)
            card = cls(**{"plugins": [], **format1.read(content, str(path))})
            check(vars(card), _SHAPE)
            card._restore_numbers()
        except (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError) as error:
            if isinstance(error, InputError) and str(path) in str(error):
                raise
            raise InputError(f"{path} is not a run card: {error}") from error
        plugins.require(card.plugins, f"the run {card.name!r}")
        if content.get("format", 1) != 1:  # format 1 had no identity
            identity.check(folder, card.identity, card.name)
        return card

    def _restore_numbers(self) -> None:
        """Converts null and text to the numbers that they stand for."""
        self.history = {name: [*map(number, values)] for name, values in self.history.items()}
        parts = [part["results"] for by in self.slices.values() for one in by.values()
                 for part in one["slices"].values()]
        for results in (*self.results.values(), *parts):
            for score in (score for row in results.values() for score in row.values()):
                score |= {key: number(score[key]) for key in ("value", "if_calibrated") if key in score}
        for drop in (drop for found in self.importance.values() for row in found["features"]
                     for drop in row["tasks"].values()):
            drop.update({key: number(value) for key, value in drop.items()})
        points = [*self.curve, *self.served.get("points", [])]
        for results in (part for point in points for part in point.values() if isinstance(part, dict)):
            for row in results.values():
                row.update({metric: number(value) for metric, value in row.items()})


def versions() -> dict[str, str]:
    """Versions of Python, this library and the packages that numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "tfmtl2r": tfmtl2r.__version__, **found,
            "platform": platform.platform()}


def peak_memory_mb() -> float | None:
    """The highest resident memory of this process so far, in MiB; None on Windows, where it is not measured."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise InputTypeError(f"{type(value).__name__} cannot be written to a run card")
