"""Export a trained run as a checked SavedModel for TensorFlow Serving."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclasses.dataclass(frozen=True)
class Export:
    """Writes the next version of a run's model, checked through the loader that TensorFlow Serving uses.

    Args:
        run: name of the run.
        to: folder of the export; saved_models/RUN if not given.
        blend: weight of each task in the blended score, as click=1 long_view=0.5; the run's preference if not given.
        directory: where runs are kept.
    """

    run: Annotated[str, tyro.conf.Positional]
    to: str = ""
    blend: tuple[str, ...] = ()
    directory: str = "runs"


def main(arguments: Sequence[str]) -> None:
    """Exports and prints where to."""
    options = tyro.cli(Export, args=arguments, prog="tfmtl2r export")
    from tfmtl2r.report.run_card import RunCard
    from tfmtl2r.serving.export import export
    from tfmtl2r.serving.load import load

    folder = Path(options.directory) / options.run
    RunCard.load(folder)  # says so if this is no run
    ranker: Any = load(folder / "model.keras")
    version = export(ranker, options.to or f"saved_models/{options.run}",
                     blend=_blend(options.blend))
    print(f"exported and checked: {version}")


def _blend(entries: Sequence[str]) -> dict[str, float] | None:
    blend = {}
    for entry in entries:
        task, equals, weight = entry.partition("=")
        try:
            blend[task] = float(weight if equals else "")
        except ValueError:
            raise ValueError(f"--blend takes TASK=WEIGHT, such as click=1, not {entry!r}") from None
    return blend or None
