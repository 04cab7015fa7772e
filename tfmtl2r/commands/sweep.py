"""Train many rankers: methods x preferences x seeds x architectures, resumable, in processes on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from tfmtl2r.commands._options import parse
from tfmtl2r.commands.train import constraint
from tfmtl2r.errors import InputError

CHOSEN_HERE = ("name", "methods", "preferences", "seeds", "architectures", "single_task", "jobs", "threads",
               "directory", "list_limit")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Trains every combination and writes runs/NAME: a folder per run, table.csv and table.md.

    Started again it trains only what is missing; with other methods, preferences, seeds or architectures it adds them.

    Args:
        name: of the sweep.
        data: a data set (tfmtl2r list datasets); "table" is your own files.
        tasks: which of its tasks; its default ones if none are given.
        methods: names, with options as stch:mu=0.5,warmup=0.
        preferences: lattice:H, spread:N, angle:N (2 tasks: rays evenly between the two ends, for methods that follow
            rays; the ends, lopsided weighted sums, are trained first and join the table), or a file with one per line;
            if not given lattice:10 for two tasks, for more equal importance and spread:10.
        seeds: of the runs.
        architectures: names, with options as mmoe:dropout=0.1.
        single_task: also train every task alone, for delta-m and the lines in pictures.
        gradients: "parameters" (exact) or "features" (at the cut, nearly free).
        learning_rate: of Adam.
        epochs: at most so many.
        patience: epochs without a better val_stop_on before stopping; 0 trains all epochs.
        batch_size: lists (or rows) per step.
        staged: train by priority (methods nmt); single-task runs are trained in one go.
        constraints: bounds on training losses, as relevance=1% (above its best) or relevance=0.5 (methods nmt).
        conditioned: above 0 the rankers read the preference, one training for all of them; see tfmtl2r train.
        curve: the preferences whose metrics a conditioned run keeps in its card; see tfmtl2r train.
        list_limit: cut longer training lists to so many items; 0 keeps all.
        telemetry_every: steps between samples of the gradients; 0 for none.
        jobs: processes at a time; one for each CPU if 0.
        threads: of TensorFlow in each process; part of the outcome, since sums over more threads round differently.
        directory: where runs are kept.
    """

    name: Annotated[str, tyro.conf.Positional] = "sweep"
    data: str = "kuairand_excerpt"
    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("linear_scalarization",)
    preferences: str = ""
    seeds: tuple[int, ...] = (0,)
    architectures: tuple[str, ...] = ("shared_bottom",)
    single_task: bool = True
    gradients: str = "parameters"
    learning_rate: float = 1e-3
    epochs: int = 8
    patience: int = 0
    batch_size: int = 64
    staged: bool = False
    constraints: tuple[str, ...] = ()
    conditioned: float = 0.0
    curve: str = ""
    list_limit: int = 0
    telemetry_every: int = 0
    jobs: int = 0
    threads: int = 1
    directory: str = "runs"


def main(arguments: Sequence[str]) -> int:
    """Trains what is missing; 1 when a run failed."""
    options, named = parse(Sweep, arguments, "tfmtl2r sweep")
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.preferences import grid
    from tfmtl2r.runs.card import checked_name
    from tfmtl2r.sweeps import planning, sweep
    from tfmtl2r.sweeps.table import MARKDOWN

    settings = {key: value for key, value in vars(options).items() if key not in CHOSEN_HERE}
    methods, architectures = (list(map(planning.parsed, these)) for these in (options.methods, options.architectures))
    base = Experiment(checked_name(options.name), **{
        **settings, **named, "list_limit": options.list_limit or None, "architecture": architectures[0],
        "constraints": dict(map(constraint, options.constraints)), "conditioned": options.conditioned or None,
    })
    if options.preferences and base.conditioned:
        raise InputError("--preferences are for rankers that are trained for one each; a conditioned one learns all "
                         f"of them: leave them out, and give them to tfmtl2r pareto {options.name}/RUN")
    tasks = len(base.dataset().select(base.tasks or None))
    folder = Path(options.directory) / options.name
    with sweep.Sweep(folder, options.jobs, options.threads) as running:
        single = planning.single_tasks(base, options.seeds, architectures) if options.single_task else []
        ends = None
        if options.preferences.startswith("angle:"):
            first = running.run(planning.ends(base, options.seeds))
            if running.failed:
                return _failures(running.failed)
            ends = planning.end_losses(first)
        planned = planning.plan(base, methods, grid(options.preferences, tasks, ends), options.seeds, architectures)
        done = running.run([*single, *planned])
        failed = running.failed
    print(f"{len(done)} runs are finished, {len(failed)} failed; table: {folder / MARKDOWN}")
    print(f"next: tfmtl2r pareto {options.name}   tfmtl2r compare {options.name}"
          + (f"   (with --directory {options.directory})" if options.directory != "runs" else ""))
    return _failures(failed)


def _failures(failed: dict[str, str]) -> int:
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}")
    return 1 if failed else 0
