"""Export a trained run, or several as one model, as a checked SavedModel for TensorFlow Serving."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tfmtl2r.errors import InputError

if TYPE_CHECKING:
    from tfmtl2r.data import Lists
    from tfmtl2r.runs import RunCard


@dataclasses.dataclass(frozen=True)
class Export:
    """Writes the next version of a run's model, and checks it with the loader of TensorFlow Serving.

    Several runs become one model: where scores have a unit, the mean of their values is served, with their deviation
    as uncertainty; otherwise the mean of their scores, standardised within each list.

    Args:
        runs: name of the run; or several names, of runs with the same tasks.
        to: folder of the export; by default saved_models/RUN. Several runs need it.
        blend: weight of each task in the blended score, as in click=1 long_view=0.5; by default those of the
            experiment (export.blend), or the preference.
        preference: for a conditioned run, importance of each task for requests without a preference; by default the
            run's preference.
        blend_kind: how the tasks' scores are blended, a name of tfmtl2r list blends; by default as in the experiment
            (export.blend), or what was chosen for the run.
        rows: split of the run's data whose first lists become warm-up requests; none for requests with generated
            values.
        directory: the folder of all runs.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    to: str = ""
    blend: tuple[str, ...] = ()
    preference: tuple[float, ...] = ()
    blend_kind: str = ""
    rows: str = "test"
    directory: str = "runs"


def main(arguments: Sequence[str]) -> int:
    """Exports, and prints the folder of the version and the signatures that it lacks."""
    options = tyro.cli(Export, args=arguments, prog="tfmtl2r export")
    from tfmtl2r.evaluation.file_scores import how_to_read
    from tfmtl2r.preferences import suited
    from tfmtl2r.runs.card import RunCard
    from tfmtl2r.runs.identity import MODEL
    from tfmtl2r.runs.places import below, find
    from tfmtl2r.serving.blend import Blend, of_config
    from tfmtl2r.serving.check import METADATA
    from tfmtl2r.serving.export import export
    from tfmtl2r.serving.load import load
    from tfmtl2r.training.merged import merged

    if not options.runs:
        raise InputError("no run was given; usage: tfmtl2r export NAME")
    if len(options.runs) > 1 and not options.to:
        raise InputError("several runs become one export: name its folder with --to, as in --to saved_models/NAME")
    folders = [find(options.directory, run) for run in options.runs]
    card, *others = [RunCard.load(folder) for folder in folders]  # raises an error if this is not a run
    rankers: list[Any] = [load(folder / MODEL) for folder in folders]
    for run, ranker in zip(options.runs, rankers, strict=True):
        if options.preference and ranker.conditioned is None:
            raise InputError(f"{run} reads no preference, so its export cannot have a default preference: "
                             "leave out --preference, or train with --conditioned")
        if options.preference:
            ranker.set_preference(suited([options.preference], ranker.method)[0])
    inputs: dict[str, Any] = {}
    for one in (card, *others):
        inputs = {**one.data.get("train", {}).get("inputs", {}), **inputs}
    own = of_config(card.config, card.blend if len(folders) == 1 else {})
    choice = {"choice": own.choice} if not options.blend_kind else {}
    blend = Blend(_weights(options.blend) or own.weights, options.blend_kind or own.kind, **choice)
    version = export(merged(rankers), options.to or below("saved_models", options.runs[0]), blend=blend,
                     rows=None if options.rows == "none" else _rows(card, options.rows),
                     train=inputs, files=how_to_read(card, rankers[0].architecture.schema))
    print(f"exported and checked: {version}")
    for name, reason in json.loads((version / METADATA).read_text(encoding="utf-8"))["left_out"].items():
        print(f"without the signature {name}: {reason}")
    return 0


def _weights(entries: Sequence[str]) -> dict[str, float] | None:
    blend = {}
    for entry in entries:
        task, equals, weight = entry.partition("=")
        try:
            blend[task] = float(weight if equals else "")
        except ValueError:
            raise InputError(f"--blend must be TASK=WEIGHT, such as click=1, not {entry!r}") from None
    return blend or None


def _rows(card: RunCard, split: str) -> Lists | None:
    """The split, or None if the data no longer exist: an export is then still possible."""
    from tfmtl2r.experiment import Experiment

    try:
        return Experiment.of(card.config).dataset().lists(split)
    except (OSError, ValueError) as error:
        print(f"tfmtl2r export: the {split} split cannot be read, so warm-up requests have generated values: "
              f"{error}", file=sys.stderr)
        return None
