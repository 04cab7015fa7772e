"""Which loss ranks best? Several losses on the same network, out of fold, compared list by list with the default.

    python recipes/losses.py --data-dir DIR
    python recipes/losses.py --quick

Cross-validates the preset of each data set once per loss: MSLR's five goals, OHSUMED, MQ2008, and the excerpt of
KuaiRand. All goals have the same loss and equal weights. Prints NDCG@10 (KuaiRand: NDCG@5) and its difference from the
default loss with its standard error. DIR holds mslr/, letor_ohsumed/ and letor_mq2008/. The runs are in runs/losses;
what is finished is not run again.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from tfmtl2r import Experiment
from tfmtl2r.report import show
from tfmtl2r.sweeps import cross_validate

SETS = {
    "mslr": ("mslr", ("relevance", "quality", "quality2", "clicks", "dwell"), "letor"),
    "ohsumed": ("letor_ohsumed", ("relevant", "definitely_relevant"), "letor"),
    "mq2008": ("letor_mq2008", ("relevance",), "letor-single"),
    "kuairand_excerpt": ("", ("click", "long_view", "like"), "clicks"),
}
"""Data set -> its folder below --data-dir, its goals, and the preset whose other settings are taken."""
DEFAULT = "softmax"
LOSSES = {
    "softmax": {"name": "softmax"},
    "softmax_gain": {"name": "softmax", "gain": "exp2"},
    "lambda_sum": {"name": "lambda_loss", "weighing": "ndcg_loss2pp", "reduction": "sum"},
    "approx_ndcg": {"name": "approx_ndcg"},
    "ranknet": {"name": "ranknet"},
    "bce": {"name": "bce"},
}
KINDS = {"graded": ("softmax", "softmax_gain", "lambda_sum", "approx_ndcg", "ranknet"),
         "binary": ("softmax", "lambda_sum", "approx_ndcg", "ranknet", "bce")}  # fmt: skip
"""Kind of the goals -> the losses to compare. The gains of a binary label are the label."""


def experiments(name: str, options: argparse.Namespace) -> dict[str, Experiment]:
    """Loss -> the experiment with this loss for all goals of a data set."""
    folder, goals, preset = SETS[name]
    data = {"name": name, **({"path": str(options.data_dir / folder)} if folder else {})}
    if name == "mslr":
        data["targets"] = list(goals)
    training = {"telemetry_every": 0, **({"epochs": 1} if options.quick else {})}
    base = Experiment.of({"name": name, "directory": f"runs/losses/{name}", "preset": preset, "data": data,
                          "tasks": list(goals), "training": training})
    tasks = base.select(base.dataset())
    metric = "ndcg@5" if name.startswith("kuairand") else "ndcg@10"
    losses = [loss for loss in KINDS[tasks[0].kind] if loss in (DEFAULT, *(options.losses or LOSSES))]
    return {loss: base.but(name=loss, tasks=[
        {"name": task.name, "label": task.label, "kind": task.kind, "loss": LOSSES[loss], "metrics": [metric]}
        for task in tasks]) for loss in losses}  # fmt: skip


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", default=[*SETS], choices=[*SETS])
    parser.add_argument("--losses", nargs="+", choices=[*LOSSES], help="beside the default; all if not given")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--jobs", type=int, help="processes at a time; as many as CPUs if not given")
    parser.add_argument("--quick", action="store_true", help="one other loss, the excerpt, two folds, one epoch")
    options = parser.parse_args()
    if options.quick:
        options.sets, options.losses, options.folds, options.seeds = ["kuairand_excerpt"], ["bce"], 2, 1
    for name in options.sets:
        made = experiments(name, options)
        same = {"folds": options.folds, "seeds": options.seeds, "jobs": options.jobs}
        first, *others = [made.pop(DEFAULT), *made.values()]
        for other in others:
            cross_validate(other, **same)
        for table in cross_validate(first, baselines=[other.name for other in others], **same).tables(
                shutil.get_terminal_size().columns):
            show(table)


if __name__ == "__main__":
    main()
