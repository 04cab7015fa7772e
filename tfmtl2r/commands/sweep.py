"""Train many rankers: methods x preferences x seeds x architectures, resumable, in processes on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl2r.commands._options import Command, parse
from tfmtl2r.errors import InputError

COMMAND = Command(
    "sweep",
    "Trains every combination of methods, preferences, seeds and architectures. Writes runs/NAME: a folder per run, "
    "table.csv and table.md. Equal weights are trained, too: the row of one ranker, blended, in tfmtl2r pareto. A "
    "repeated call trains only missing runs. A call with other methods, preferences, seeds or architectures adds runs.",
    named=True,
    bare=("training", "sweep"),
    # The runs of a sweep are compared at an equal budget. Logs of gradients of many runs would fill a disk.
    defaults={"name": "sweep", "training": {"patience": 0, "telemetry_every": 0}},
)


def main(arguments: Sequence[str]) -> int:
    """Trains the missing runs; returns 1 if a run failed."""
    tree, _ = parse(COMMAND, arguments)
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.preferences import grid
    from tfmtl2r.sweeps import planning, sweep
    from tfmtl2r.sweeps.table import MARKDOWN

    base = Experiment.of(tree)
    wanted = base.sweep
    if wanted.preferences and base.conditioned:
        raise InputError("sweep.preferences are for rankers that are trained for one each; a conditioned one learns "
                         f"all of them: leave them out, and give them to tfmtl2r pareto {base.name}/RUN")
    methods, architectures = _chosen(wanted.methods, base.method), _chosen(wanted.architectures, base.architecture)
    seeds = wanted.seeds or (base.training.seed,)
    tasks = len(base.select(base.dataset()))
    with sweep.Sweep(base.folder, wanted.jobs, wanted.threads) as running:
        single = planning.single_tasks(base, seeds, architectures) if wanted.single_task else []
        ends = None
        if (wanted.preferences or "").startswith("angle:"):
            first = running.run(planning.ends(base, seeds))
            if running.failed:
                return _failures(running.failed)
            ends = planning.end_losses(first)
        running.preferences = preferences = grid(wanted.preferences or "", tasks, ends)
        planned = planning.plan(base, methods, preferences, seeds, architectures)
        names = {experiment.name for experiment in planned}
        equal = [one for one in planning.equal_weights(base, seeds, architectures) if one.name not in names]
        done = running.run([*single, *planned, *equal])
        failed = running.failed
    print(f"{len(done)} runs are finished, {len(failed)} failed; table: {base.folder / MARKDOWN}")
    print(f"next: tfmtl2r pareto {base.name}   tfmtl2r compare {base.name}"
          + (f"   (with --directory {base.directory})" if base.directory != "runs" else ""))
    return _failures(failed)


def _chosen(several: Sequence[Any] | None, one: Any) -> list[Any]:
    """The methods or architectures of the sweep; a text may contain options, as in ``stch:mu=0.5``."""
    from tfmtl2r.sweeps.planning import parsed

    return [parsed(thing) if isinstance(thing, str) else thing for thing in (several or [one])]


def _failures(failed: dict[str, str]) -> int:
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}")
    return 1 if failed else 0
