"""Search for better values of some keys of an experiment, by Optuna: resumable, with early ends of bad trials."""

from __future__ import annotations

from collections.abc import Sequence

from tfmtl2r.commands._options import Command, parse

COMMAND = Command(
    "tune",
    "Trains an experiment with other values of the keys in [tune] space, on the same budget of epochs, and looks for "
    "the best value of a logged number of the validation; several give the front. Writes runs/NAME-tune: a run per "
    "trial, Optuna's journal and the best trial's experiment.toml. A repeated call goes on to the asked number of "
    "trials.",
    bare=("training", "tune"),
    # The trials are compared at an equal budget. Logs of gradients of many runs would fill a disk.
    defaults={"training": {"patience": 0, "telemetry_every": 0}},
)


def main(arguments: Sequence[str]) -> None:
    """Trains the missing trials and prints the best ones."""
    tree, _ = parse(COMMAND, arguments)
    from tfmtl2r.experiment import Experiment
    from tfmtl2r.report.tables import show
    from tfmtl2r.settings.files import FILE
    from tfmtl2r.sweeps.tuning import JOURNAL, Search

    with Search(Experiment.of(tree)) as search:
        search.run()
        show(search.table())
    print(f"train the best: tfmtl2r train {search.folder / FILE}   all trials: {search.folder / JOURNAL} (Optuna)")
