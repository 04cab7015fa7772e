"""Train an experiment and baselines on folds of all lists, and compare them list by list."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from tfmtl2r.commands._options import Command, Value, parse

COMMAND = Command(
    "cross-validate",
    "Puts the lists of train, vali and test together, divides them into folds by a hash of their ids, and trains the "
    "experiment with several seeds on every fold. Prints out-of-fold metrics and paired differences to baselines with "
    "their standard errors. Writes runs/NAME-cv; a repeated call trains only what is missing.",
    values={
        "folds": Value(int, "number of folds", 5),
        "seeds": Value(int, "number of seeds in each fold, from training.seed on", 1),
        "partitions": Value(int, "number of divisions of the lists into folds", 1),
        "baseline": Value(str, "a baseline (tfmtl2r list baselines) with options as in catboost:loss=\"YetiRank\", or "
                          "the name of an earlier cross-validation; several are possible", several=True),
        "merge": Value(str, "also show the one ranker that the runs of all seeds become, with those of this earlier "
                       "cross-validation; the experiment's own name merges its seeds alone; several are possible",
                       several=True),
        "vali": Value(float, "share of the lists of the other folds for validation", 0.1),
        "jobs": Value(int, "number of parallel processes; by default one per CPU"),
        "threads": Value(int, "TensorFlow threads in each process", 1),
    },
    # Logs of gradients of many runs would fill a disk.
    defaults={"training": {"telemetry_every": 0}},
)


def main(arguments: Sequence[str]) -> None:
    """Trains what is missing and prints the tables."""
    tree, given = parse(COMMAND, arguments)
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.report.tables import show
    from tfmtl2r.sweeps.cross_validation import RESULT, cross_validate

    found = cross_validate(Experiment.of(tree), given.folds, given.seeds, given.partitions, given.baseline,
                           given.vali, given.jobs, given.threads, merge=given.merge)
    for table in found.tables(shutil.get_terminal_size().columns):
        show(table)
    print(f"all numbers: {found.folder / RESULT}")
