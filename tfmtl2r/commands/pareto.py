"""Show the Pareto front and hypervolume of a sweep or of one run, or export its best model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tfmtl2r.errors import InputError
from tfmtl2r.figures import figure, signed

if TYPE_CHECKING:
    from rich.table import Table

    from tfmtl2r.pareto import Curve, Reference, ServedFronts, Summary
    from tfmtl2r.runs import Objectives, Run

__all__ = ["Pareto", "show_front"]


@dataclasses.dataclass(frozen=True)
class Pareto:
    """Prints the fronts of a sweep, and writes plots (PNG and TensorBoard) and pareto.json.

    Fronts are measured on the served ranking: one order of each list per preference, on which every task is measured.
    The ranker with equal weights, blended, is a row of every front. A second table has each task by its own head. The
    files are in runs/SWEEP/pareto/ON. tfmtl2r pareto export SWEEP exports the best model. The front of one run, by its
    name, is that of what its model serves at many preferences; a conditioned run also has the table of own heads.

    Args:
        sweep: name of the sweep, or of a run.
        on: the objectives: test or vali (metrics of that split), train_loss or vali_loss; for a run a split.
        tasks: the tasks that are objectives; by default all.
        preferences: preferences at which a run is evaluated: lattice:H, spread:N, angle:N, or a file with
            one preference per line. By default lattice:10 for two tasks, and equal importance with spread:10 for more.
        reference: reference point of the hypervolume; by default the worst value of all points + 0.1 of the range.
        pick: the point to mark: knee, or nearest to the preference; by default none. The candidates are what all runs
            serve at each preference of their cards; for losses and plain rows, the runs by their own heads.
        preference: importance of each objective, for nearest, as in click=0.8 dwell=0.2.
        directory: the folder of all runs.
    """

    sweep: Annotated[str, tyro.conf.Positional]
    on: str = "test"
    tasks: tuple[str, ...] = ()
    preferences: str = ""
    reference: tuple[float, ...] = ()
    pick: str = ""
    preference: tuple[str, ...] = ()
    directory: str = "runs"


@dataclasses.dataclass(frozen=True)
class Export:
    """Exports the best run of a sweep as a checked SavedModel for TensorFlow Serving.

    The candidates are what all runs serve at each preference of their cards. The preference of the chosen point becomes
    that of requests that contain none: the weights of the blended score, and the input of a conditioned run. For losses
    and plain rows, the candidates are the runs by their own heads.

    Args:
        sweep: name of the sweep, or of a conditioned run.
        pick: knee (where the front bulges most) or nearest to the preference.
        preference: importance of each objective, for nearest, as in click=0.8 dwell=0.2.
        on: the objectives: vali or test (metrics), train_loss or vali_loss. A choice on test makes the test results of
            the chosen run too optimistic.
        tasks: the tasks that are objectives; by default all.
        blend: weight of each task in the blended score, in place of the preference; see tfmtl2r export.
        to: folder of the export; by default saved_models/SWEEP.
        directory: the folder of all runs.
    """

    sweep: Annotated[str, tyro.conf.Positional]
    pick: str = "knee"
    preference: tuple[str, ...] = ()
    on: str = "vali"
    tasks: tuple[str, ...] = ()
    blend: tuple[str, ...] = ()
    to: str = ""
    directory: str = "runs"


def main(arguments: Sequence[str]) -> int:
    """Shows or exports; returns 1 if the export failed its checks, and prints the reasons."""
    if arguments and arguments[0] == "export":
        return export_pick(tyro.cli(Export, args=list(arguments[1:]), prog="tfmtl2r pareto export"))
    options = tyro.cli(Pareto, args=list(arguments), prog="tfmtl2r pareto")
    from tfmtl2r.runs.places import CARD, find

    if (find(options.directory, options.sweep) / CARD).is_file():
        show_curve(options)
    else:
        show_front(options)
    return 0


def show_front(options: Pareto) -> None:
    """Prints the fronts of what is served, and those of own heads, and writes plots and ``pareto.json``."""
    from tfmtl2r.commands._keeping import kept
    from tfmtl2r.pareto import plots
    from tfmtl2r.pareto.summary import summarise, write
    from tfmtl2r.pareto.sweep_fronts import front_verdict, served_fronts
    from tfmtl2r.report.tables import show
    from tfmtl2r.runs.finished import load_all
    from tfmtl2r.runs.places import find

    if options.preferences:
        raise InputError(f"--preferences is for a conditioned run, but {options.sweep} is a sweep: leave it out, or "
                         f"name a conditioned run of the sweep as {options.sweep}/RUN")
    folder = find(options.directory, options.sweep)
    runs = load_all(folder)
    heads = summarise(runs, options.on, options.tasks, reference=options.reference)
    served = None
    if options.on in ("test", "vali"):
        served = served_fronts(runs, options.on, options.tasks, options.reference)
    pictures, content = {}, {}
    chosen: int | None = None
    values = None
    if options.pick or options.preference:
        points, chosen, line = _picked(runs, options, options.pick or "nearest")
        values = points.values[chosen]
        print(line)
    if served is not None:
        show(served_table(served))
        print("\n".join(front_verdict(served)))
        print(f"reference point {[round(value, 4) for value in served.reference.point]}: {served.reference.rule}")
        pictures = {f"served_{name}": picture
                    for name, picture in plots.overview(served.curves(), chosen=values).items()}
        chosen = values = None  # no point of the own heads is meant
        content = {**served.numbers(), "own_heads": heads.numbers()}
    elif options.on in ("test", "vali"):
        print("no run has a served ranking: the data are plain rows, or an earlier version trained the runs")
    show(front_table(heads, chosen))
    show(indicator_table(heads))
    for line in dict.fromkeys([*(served.left_out if served else ()), *heads.left_out]):
        print(f"left out: {line}")
    print(_depends_on(heads.reference, heads.ideal))
    pictures |= plots.overview(heads.groups, heads.single, values, heads.reference, _rays(heads.points))
    to = folder / "pareto" / options.on
    with kept("the front"):
        paths = plots.save(pictures, to)
        path = write(to, content or {"measured_on": "own heads", **heads.numbers()})
        print(f"numbers: {path}   pictures: {', '.join(map(str, paths))}")


def show_curve(options: Pareto) -> None:
    """Evaluates the model of a run at each preference, and shows the front of the served ranking.

    A conditioned run also has a table of its own heads, and of nothing else if it ranks plain rows.
    """
    from tfmtl2r.commands._keeping import kept
    from tfmtl2r.evaluation.blend_choice import utilities
    from tfmtl2r.evaluation.served import as_numbers
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.pareto import plots
    from tfmtl2r.pareto.conditioned import curve, served_curve
    from tfmtl2r.pareto.front import Reference
    from tfmtl2r.pareto.summary import write
    from tfmtl2r.preferences import grid, suited
    from tfmtl2r.runs.finished import load as load_run
    from tfmtl2r.runs.identity import MODEL
    from tfmtl2r.runs.places import find
    from tfmtl2r.serving.load import load
    from tfmtl2r.training.blending import default_of, described

    folder = find(options.directory, options.sweep)
    run = load_run(folder)
    if options.on not in ("train", "vali", "test"):
        raise InputError(f"a run is evaluated on a split: train, vali or test, not {options.on!r}")
    model: Any = load(folder / MODEL)
    lists = Experiment.of(run.card.config).dataset().lists(options.on)
    run.card.expect(options.on, lists.fingerprint())
    if model.conditioned is None and (lists.is_rows or len(run.tasks) < 2):
        raise InputError(f"{options.sweep} is one ordinary run of {'plain rows' if lists.is_rows else 'one task'}, a "
                         "single point: name a sweep, or a run trained with --conditioned")
    asked = suited(grid(options.preferences, len(run.tasks)), model.method)
    heads = None if model.conditioned is None else curve(model, lists, asked, tasks=options.tasks)
    one = heads if lists.is_rows else served_curve(model, lists, asked, tasks=options.tasks)
    assert one is not None  # plain rows are those of a conditioned run
    row = _pick(one, options.pick or "nearest", options, run.tasks) if options.pick or options.preference else None
    found = _shown(one, "one model" if lists.is_rows else "one ranker, blended: the served ranking", row,
                   options.reference)
    if not lists.is_rows:
        (utility,) = utilities(model, [default_of(model)], lists)
        gain, error = utility.gain
        found |= {"measured_on": "served ranking", "blend": described(default_of(model)), **as_numbers(utility)}
        print(f"blend {found['blend']}; served utility {figure(utility.value)}, {signed(gain)} above its null "
              f"(standard error {figure(error)})")
        if heads is not None:
            found["own_heads"] = _shown(heads, "one model, each task by its own head", None, options.reference)
    to = folder / "pareto" / options.on
    limit = Reference(tuple(found["reference"]), found["reference_rule"])
    pictures = plots.overview({options.sweep: one}, chosen=None if row is None else one.values[row], reference=limit)
    with kept("the front"):
        paths = plots.save(pictures, to)
        print(f"numbers: {write(to, found)}   pictures: {', '.join(map(str, paths))}")


def _shown(one: Curve, title: str, row: int | None, reference: Sequence[float]) -> dict[str, Any]:
    """Prints a curve and its indicators, and returns all numbers."""
    from tfmtl2r.pareto.front import Reference, ideal_point, indicators, reference_point
    from tfmtl2r.report.tables import show

    limit = Reference(tuple(reference)) if reference else reference_point(one.values, one.maximise)
    found = indicators(one.values, limit, ideal_point(one.values, one.maximise), one.maximise)
    show(curve_table(one, row, title))
    print(f"hypervolume {found['hypervolume']:.4g}, share of box {found['share']:.4g}, R2 {found['r2']:.4g}")
    print(_depends_on(limit, found["ideal"]))
    return {"objectives": one.labels, "maximise": one.maximise, "preferences": one.preferences.tolist(),
            "values": one.values.tolist(), "reference_rule": limit.rule, **found}


def export_pick(options: Export) -> int:
    """Exports the chosen run as ``tfmtl2r export`` does, and prints its name; returns 1 if the checks failed."""
    from tfmtl2r.commands import export
    from tfmtl2r.runs.finished import load_all
    from tfmtl2r.runs.places import below, find

    points, row, line = _picked(load_all(find(options.directory, options.sweep)), options, options.pick)
    run = points.runs[row]
    print(line)
    further = ["--blend", *options.blend] if options.blend else []
    if run.asked and run.card.config.get("conditioned") is not None:
        further += ["--preference", *map(str, run.asked)]
    elif run.asked and not options.blend:
        further = ["--blend", *(f"{task}={share}" for task, share in zip(run.tasks, run.asked, strict=True))]
    return export.main([run.folder.name, "--directory", str(run.folder.parent),
                        "--to", options.to or str(below("saved_models", options.sweep)), *further])


def _picked(runs: Sequence[Run], options: Pareto | Export, how: str) -> tuple[Objectives, int, str]:
    """All candidates, the row of the chosen one, and a line that describes it."""
    from tfmtl2r.pareto.summary import summarise
    from tfmtl2r.pareto.sweep_fronts import served_candidates

    served = served_candidates(runs, options.on, options.tasks) if options.on in ("test", "vali") else None
    points = summarise(runs, options.on, options.tasks).points if served is None else served
    row = _pick(points, how, options, runs[0].tasks)
    run = points.runs[row]
    reached = zip(points.labels, points.values[row], strict=True)
    values = ", ".join(f"{label} {figure(value)}" for label, value in reached)
    return points, row, f"{how}: {run.card.name}{f' at {numbers(run.preference)}' if run.asked else ''}: {values}"


def _pick(points: Any, how: str, options: Pareto | Export, tasks: Sequence[str]) -> int:
    """The row of the chosen point."""
    from tfmtl2r.pareto.summary import pick
    from tfmtl2r.preferences import asked

    return pick(points, how, asked(options.preference, options.tasks or tasks) if options.preference else ())


def front_table(found: Summary, chosen: int | None = None) -> Table:
    """The non-dominated runs, sorted by the first objective. The chosen run is marked."""
    from rich.table import Table

    from tfmtl2r.pareto.front import costs, non_dominated

    points = found.points
    on = non_dominated(points.values, points.maximise)
    order = sorted((row for row in range(len(on)) if on[row] or row == chosen),
                   key=lambda row: tuple(costs(points.values, points.maximise)[row]))
    table = Table(title=f"each task by its own head: {int(on.sum())} of {len(on)} points are on the front",
                  title_justify="left")
    for column in ("", "method", "preference", "seed"):
        table.add_column(column, overflow="fold", no_wrap=column == "preference")
    for label in points.labels:
        table.add_column(label, justify="right")
    for row in order:
        run = points.runs[row]
        table.add_row("chosen" if row == chosen else "", run.method, numbers(run.preference), str(run.seed),
                      *map(figure, points.values[row]))
    return table


def curve_table(one: Curve, chosen: int | None = None, title: str = "one model") -> Table:
    """A row per preference, in the given order. The front and the chosen preference are marked."""
    from rich.table import Table

    from tfmtl2r.pareto.front import non_dominated

    on = non_dominated(one.values, one.maximise)
    table = Table(title=f"{title}: {int(on.sum())} of {len(on)} preferences are on the front", title_justify="left")
    table.add_column("")
    for column in ("preference", "front", *one.labels):
        table.add_column(column, justify="right")
    for row, (preference, values) in enumerate(zip(one.preferences, one.values, strict=True)):
        table.add_row("chosen" if row == chosen else "", numbers(preference), "*" if on[row] else "",
                      *map(figure, values))
    return table


def served_table(found: ServedFronts) -> Table:
    """One row per front of what is served, with the largest utility first."""
    from rich.table import Table

    table = Table(title="served ranking: one order per preference; points averaged over seeds", title_justify="left")
    for column in ("", "points", "seeds", "trainings\na seed", "U", "U above\nits null", "hyper-\nvolume"):
        table.add_column(column, justify="right" if column else "left", overflow="fold")
    for name, row in sorted(found.rows.items(), key=lambda item: -(item[1]["utility"] or item[1]["hypervolume"])):
        gain = "" if row["gain"] is None else signed(row['gain'])
        table.add_row(name, str(row["points"]), str(row["seeds"]), str(row["trainings"]),
                      "" if row["utility"] is None else figure(row['utility']),
                      gain + (f" ± {figure(row['error'])}" if gain and row["error"] is not None else ""),
                      f"{row['hypervolume']:.3g}" + (f" ± {row['hypervolume_std']:.1g}" if row["seeds"] > 1 else ""))
    row = next(iter(found.rows.values()))
    if row["null_points"]:
        table.add_row("null: equal-weight seeds, not averaged", str(row["null_points"]), str(row["null_points"]), "1",
                      "", "", f"{row['null_hypervolume']:.3g}")
    return table


def indicator_table(found: Summary) -> Table:
    """One row per method."""
    from rich.table import Table

    table = Table(title="own heads: indicators per method, mean ± standard deviation over seeds", title_justify="left")
    columns = ("", "points", "on its\nfront", "hyper-\nvolume", "share of\nbox", "R2", "angle\nto ray", "max\np·loss")
    for column in columns:
        table.add_column(column, justify="right" if column else "left", overflow="fold")
    for name, row in sorted(found.rows.items(), key=lambda item: -item[1]["hypervolume"]):
        spreads = {key: f" ± {row[f'{key}_std']:.1g}" if row["seeds"] > 1 else ""
                   for key in ("hypervolume", "share", "r2")}
        table.add_row(name, str(row["points"]), str(row["together"]["non_dominated"]),
                      *(f"{row[key]:.3g}{spread}" for key, spread in spreads.items()),
                      *("" if row[key] is None else figure(row[key])
                        for key in ("preference_error", "max_weighted_loss")))
    return table


def _depends_on(reference: Reference, ideal: Sequence[float]) -> str:
    point, best = ([round(value, 4) for value in values] for values in (reference.point, ideal))
    return f"reference point {point}: {reference.rule}; ideal {best}"


def _rays(points: Objectives) -> list[tuple[float, ...]]:
    """The preferences that have a ray, between the tasks that are objectives."""
    from tfmtl2r.preferences import has_ray

    shares = [dict(zip(run.tasks, run.preference, strict=False)) for run in points.runs
              if len(run.preference) == len(run.tasks) and has_ray(run.preference)]
    return sorted({tuple(each[task] for task in points.tasks or each) for each in shares})


def numbers(values: Sequence[float]) -> str:
    """The values as text, for example ``(0.25, 0.75)``; empty without values."""
    return f"({', '.join(f'{value:.3g}' for value in values)})" if len(values) else ""
