"""Train a ranker; everything it did is kept in runs/NAME."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from tfmtl2r.commands._options import parse
from tfmtl2r.errors import InputError


@dataclasses.dataclass(frozen=True)
class Train:
    """Trains a ranker, evaluates it on the test split and writes runs/NAME: run card, TensorBoard logs, model.keras.

    Options of the chosen data set, architecture and method are flags of their own, such as --architecture.units.

    Args:
        name: of the run; the method and the time if not given.
        data: a data set (tfmtl2r list datasets); "table" is your own files.
        tasks: which of its tasks; its default ones if none are given.
        architecture: see tfmtl2r list architectures.
        method: see tfmtl2r list methods.
        gradients: "parameters" (exact) or "features" (at the cut, nearly free).
        preference: importance of each task, in order.
        conditioned: above 0 the ranker reads the preference, and training draws it from a Dirichlet distribution of
            this concentration: one model for all trade-offs.
        curve: the preferences whose metrics a conditioned run keeps in its card: lattice:H, spread:N, angle:N, a file,
            or none; if not given lattice:10 for two tasks, for more equal importance and spread:10.
        learning_rate: of Adam.
        epochs: at most so many.
        patience: epochs without a better val_stop_on before stopping; 0 trains all epochs.
        validate_every: epochs from one look at the validation split to the next (0: at the end only); needs patience 0.
        batch_size: lists (or rows) per step.
        list_limit: cut longer training lists to so many items; 0 keeps all.
        truncate: "first" or "random", which items are kept.
        train_metrics: also compute metrics on training batches.
        staged: train by priority, each level under the constraint that the higher keep what they reached (method nmt).
        constraints: bounds on training losses, as relevance=1% (above its best) or relevance=0.5 (method nmt).
        telemetry_every: steps between samples of the gradients; 0 for none.
        steps_per_execution: training steps per call into the graph.
        seed: of everything random.
        directory: where runs are kept.
        overwrite: replace an earlier run of the same name.
    """

    name: str = ""
    data: str = "kuairand_excerpt"
    tasks: tuple[str, ...] = ()
    architecture: str = "shared_bottom"
    method: str = "linear_scalarization"
    gradients: str = "parameters"
    preference: tuple[float, ...] = ()
    conditioned: float = 0.0
    curve: str = ""
    learning_rate: float = 1e-3
    epochs: int = 8
    patience: int = 2
    validate_every: int = 1
    batch_size: int = 64
    list_limit: int = 0
    truncate: str = "first"
    train_metrics: bool = False
    staged: bool = False
    constraints: tuple[str, ...] = ()
    telemetry_every: int = 100
    steps_per_execution: int = 1
    seed: int = 0
    directory: str = "runs"
    overwrite: bool = False


def main(arguments: Sequence[str]) -> None:
    """Trains and prints the test table."""
    options, named = parse(Train, arguments, "tfmtl2r train")
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.report.tables import results_table, show

    settings = {**vars(options), **named, "list_limit": options.list_limit or None,
                "conditioned": options.conditioned or None}
    settings["constraints"] = dict(constraint(entry) for entry in options.constraints)
    settings["name"] = options.name or f"{named['method']['name']}-{time.strftime('%Y%m%d-%H%M%S')}"
    experiment = Experiment(**settings)
    _, card = experiment.run()
    show(results_table({card.name: card.results["test"]}, title=f"{named['data']['name']}, test split"))
    print(f"run card: {experiment.folder}/run.json   logs: tensorboard --logdir {experiment.folder}/logs")


def constraint(entry: str) -> tuple[str, str]:
    """Task and bound of ``TASK=BOUND``."""
    task, equals, bound = entry.partition("=")
    if not equals:
        raise InputError(f"--constraints takes TASK=BOUND, such as relevance=1%, not {entry!r}")
    return task, bound
