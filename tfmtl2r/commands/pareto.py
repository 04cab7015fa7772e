"""Show the Pareto front of a sweep with its hypervolume and pictures, or export the model that suits best."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclasses.dataclass(frozen=True)
class Pareto:
    """Prints runs/SWEEP's front and indicators; writes runs/SWEEP/pareto/ON: pictures, also for TensorBoard, numbers.

    tfmtl2r pareto export SWEEP exports the model that suits best.

    Args:
        sweep: name of the sweep.
        on: the objectives: test or vali (metrics of that split), train_loss or vali_loss.
        tasks: which tasks are the objectives; all if none are given.
        reference: reference point of the hypervolume; the worst of all compared points + 0.1 of the range if not given.
        pick: mark a run: knee, or nearest to the preference; none if not given.
        preference: importance of each objective, for nearest.
        directory: where runs are kept.
    """

    sweep: Annotated[str, tyro.conf.Positional]
    on: str = "test"
    tasks: tuple[str, ...] = ()
    reference: tuple[float, ...] = ()
    pick: str = ""
    preference: tuple[float, ...] = ()
    directory: str = "runs"


@dataclasses.dataclass(frozen=True)
class Export:
    """Exports the run of a sweep that suits best as a checked SavedModel for TensorFlow Serving.

    Args:
        sweep: name of the sweep.
        pick: knee (where the front bulges most) or nearest to the preference.
        preference: importance of each objective, for nearest.
        on: what the choice looks at: vali or test (metrics), train_loss or vali_loss. Choosing on test makes the test
            results of the chosen run too good.
        tasks: which tasks are the objectives; all if none are given.
        to: folder of the export; saved_models/SWEEP if not given.
        directory: where runs are kept.
    """

    sweep: Annotated[str, tyro.conf.Positional]
    pick: str = "knee"
    preference: tuple[float, ...] = ()
    on: str = "vali"
    tasks: tuple[str, ...] = ()
    to: str = ""
    directory: str = "runs"


def main(arguments: Sequence[str]) -> None:
    """Shows or exports."""
    if arguments and arguments[0] == "export":
        export_pick(tyro.cli(Export, args=list(arguments[1:]), prog="tfmtl2r pareto export"))
        return
    show_front(tyro.cli(Pareto, args=list(arguments), prog="tfmtl2r pareto"))


def show_front(options: Pareto) -> None:
    """Prints the table of indicators and the front, writes pictures and ``pareto.json``."""
    from tfmtl2r.pareto import plots
    from tfmtl2r.pareto.runs import load_all
    from tfmtl2r.pareto.summary import pick, summarise
    from tfmtl2r.report.tables import show

    folder = Path(options.directory) / options.sweep
    found = summarise(load_all(folder), options.on, options.tasks, reference=options.reference)
    chosen = None
    if options.pick or options.preference:
        chosen = pick(found.points, options.pick or "nearest", options.preference)
    show(front_table(found, chosen))
    show(indicator_table(found))
    point, ideal = ([round(value, 4) for value in values] for values in (found.reference.point, found.ideal))
    print(f"reference point {point}: {found.reference.rule}; ideal {ideal}")
    values = None if chosen is None else found.points.values[chosen]
    pictures = plots.overview(found.groups, found.single, values, found.reference, _rays(found.points))
    to = folder / "pareto" / options.on
    paths = plots.save(pictures, to)
    print(f"numbers: {found.save(to)}   pictures: {', '.join(map(str, paths))}")


def export_pick(options: Export) -> None:
    """Exports the chosen run and prints which it is."""
    from tfmtl2r.pareto.runs import load_all
    from tfmtl2r.pareto.summary import pick, summarise
    from tfmtl2r.serving.export import export
    from tfmtl2r.serving.load import load

    points = summarise(load_all(Path(options.directory) / options.sweep), options.on, options.tasks).points
    row = pick(points, options.pick, options.preference)
    run = points.runs[row]
    values = ", ".join(f"{label} {value:.4f}" for label, value in zip(points.labels, points.values[row], strict=True))
    print(f"{options.pick}: {run.card.name}: {values}")
    ranker: Any = load(run.folder / "model.keras")
    print(f"exported and checked: {export(ranker, options.to or f'saved_models/{options.sweep}')}")


def front_table(found: Any, chosen: int | None = None) -> Any:
    """The non-dominated runs, best first in the first objective; the chosen one is marked."""
    from rich.table import Table

    from tfmtl2r.pareto.front import costs, non_dominated

    points = found.points
    on = non_dominated(points.values, points.maximise)
    order = sorted((row for row in range(len(on)) if on[row] or row == chosen),
                   key=lambda row: tuple(costs(points.values, points.maximise)[row]))
    table = Table(title=f"Pareto front: {int(on.sum())} of {len(on)} runs", title_justify="left")
    for column in ("", "method", "preference", "seed"):
        table.add_column(column, overflow="fold", no_wrap=column == "preference")
    for label in points.labels:
        table.add_column(label, justify="right")
    for row in order:
        run = points.runs[row]
        table.add_row("chosen" if row == chosen else "", run.method, numbers(run.preference), str(run.seed),
                      *(f"{value:.4f}" for value in points.values[row]))
    return table


def indicator_table(found: Any) -> Any:
    """One row per method."""
    from rich.table import Table

    table = Table(title="indicators per method, mean ± standard deviation over seeds", title_justify="left")
    columns = ("", "runs", "on its\nfront", "hyper-\nvolume", "share of\nbox", "R2", "angle\nto ray", "max\np·loss")
    for column in columns:
        table.add_column(column, justify="right" if column else "left", overflow="fold")
    for name, row in sorted(found.rows.items(), key=lambda item: -item[1]["hypervolume"]):
        spreads = {key: f" ± {row[f'{key}_std']:.1g}" if row["seeds"] > 1 else ""
                   for key in ("hypervolume", "share", "r2")}
        table.add_row(name, str(row["runs"]), str(row["together"]["non_dominated"]),
                      *(f"{row[key]:.3g}{spread}" for key, spread in spreads.items()),
                      *("" if row[key] is None else f"{row[key]:.4f}"
                        for key in ("preference_error", "max_weighted_loss")))
    return table


def _rays(points: Any) -> list[tuple[float, ...]]:
    """The preferences that have a ray."""
    return sorted({run.preference for run in points.runs if run.preference and min(run.preference) > 0})


def numbers(values: Sequence[float]) -> str:
    """Such as ``(0.25, 0.75)``; empty for none."""
    return f"({', '.join(f'{value:.3g}' for value in values)})" if len(values) else ""
