"""Ratings and likes of films: a regression and a binary goal on the same data, listwise per user.

    python recipes/movielens.py --data DIR --protocol time --seeds 5

Trains shared-bottom, MMoE, PLE and DML over MMoE for the same number of epochs. ``--protocol time``: each user's latest
ratings are the test; ``random``: 8 : 1 : 1, as in the DML paper. ``--sampled-lists`` trains on lists drawn from each
user with TensorFlow Recommenders' sample_listwise, with a listwise loss for likes beside the squared error. The inputs
hold biases and tastes of users, which a training row has from the ratings of other folds (``--folds 0``: just counts
and means of earlier ratings). Prints the rating's RMSE and the like's AUC and NDCG@10 on the test split, mean and
standard deviation over seeds, and what biases alone reach; run cards and CSV are in runs/movielens-PROTOCOL. What is
finished is not run again.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

import tfmtl2r
from tfmtl2r import Experiment, Task
from tfmtl2r.evaluation import by_seed, deviation, seeds_table, trivial_results, write_csv
from tfmtl2r.report import show
from tfmtl2r.sweeps import over_seeds

HEADS = {"head_units": [32], "dropout": 0.1}
MMOE = {"name": "mmoe", "num_experts": 4, "expert_units": [64], **HEADS}
ARCHITECTURES = {
    "shared_bottom": {"name": "shared_bottom", "units": [64], **HEADS},
    "mmoe": MMOE,
    "ple": {"name": "ple", "expert_units": [64], **HEADS},
    "dml": {"name": "dml", "base": MMOE, **HEADS},
}


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", required=True, help="folder with train, vali, test and movies as .csv[.gz]")
    parser.add_argument("--protocol", default="time", choices=["time", "random"])
    parser.add_argument("--sampled-lists", type=int, default=0, help="lists of 10 drawn from each user; 0: all ratings")
    parser.add_argument("--folds", type=int, default=5, help="of training ratings, for biases and tastes; 0: neither")
    parser.add_argument("--ids", action="store_true", help="make user and film inputs")
    parser.add_argument("--architectures", nargs="+", default=[*ARCHITECTURES], choices=[*ARCHITECTURES])
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--jobs", type=int, help="processes at a time; as many as CPUs if not given")
    options = parser.parse_args()
    data = {"name": "movielens", "path": options.data, "protocol": options.protocol, "ids": options.ids,
            "sampled_lists": options.sampled_lists, "folds": options.folds}  # fmt: skip
    # The rating must keep its scale, so its loss is pointwise; who is liked within a user is a matter of order.
    like = Task("like", kind="binary", loss="softmax" if options.sampled_lists else "bce", metrics=("auc", "ndcg@10"))
    base = Experiment("base", data=data, tasks=("rating", like), optimizer={"learning_rate": 3e-3},
                      training={"epochs": options.epochs, "patience": 0, "validate_every": 0, "batch_size": 16,
                                "telemetry_every": 0})  # fmt: skip
    variants = {key: {"architecture": ARCHITECTURES[key]} for key in options.architectures}
    name = (f"movielens-{options.protocol}" + "-lists" * bool(options.sampled_lists) + "-ids" * options.ids
            + "-earlier" * (not options.folds))  # fmt: skip
    runs = over_seeds(f"runs/{name}", base, variants, range(options.seeds), options.jobs)
    trivial = trivial_results(tfmtl2r.datasets.get(data), "test", ["rating", "like"])
    for metrics in ({"rating": "mse", "like": "auc"}, {"like": "ndcg@10"}):
        title = f"MovieLens, {options.protocol}, test"
        show(seeds_table(runs, metrics, title, baseline=next(iter(runs)), extra=trivial))
    for key, row in trivial.items():
        if "rating" in row:
            print(f"{key} rating rmse {math.sqrt(row['rating']['mse']['value']):.4f}")
    for key, same in runs.items():
        errors = np.sqrt([*by_seed(same, "rating", "mse").values()])
        print(f"{key} rating rmse {errors.mean():.4f} ± {deviation(errors):.4f}")
    print(write_csv(runs, {"rating": "mse", "like": "auc"}, f"runs/{name}/architectures.csv"))


if __name__ == "__main__":
    main()
