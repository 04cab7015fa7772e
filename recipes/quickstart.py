"""From nothing to a served multi-task ranker on real data: train, compare, watch, export, score.

    python recipes/quickstart.py

Trains one ranker for four goals on the bundled KuaiRand excerpt, once with equal weights and once with MGDA, compares
both with rankings that need no training, exports the better one and scores a request with the export.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import tfmtl2r
from tfmtl2r import Experiment
from tfmtl2r.data import feature_values
from tfmtl2r.evaluation import bootstrap, trivial_results
from tfmtl2r.report import bars, results_table, show

# isort: split
# After tfmtl2r, which holds back TensorFlow's start-up lines.
import keras


class Progress(keras.callbacks.Callback):
    """A line per epoch: the number a run is chosen by, and each task's own."""

    def on_epoch_end(self, epoch, logs=None):
        """Prints the validation metrics."""
        tasks = "  ".join(f"{task.name} {logs[f'val_{task.name}_ndcg@5']:.3f}" for task in self.model.tasks)
        gain = f"{logs['val_stop_on']:.4f}"  # 0: a random order, 1: a perfect order; the mean over tasks
        print(f"  epoch {epoch + 1}: validation gain {gain}  (NDCG@5 of {tasks})", flush=True)


RANKERS = {
    "equal weights": {"method": "linear_scalarization"},
    "mgda": {"method": "mgda", "gradients": "features"},
}


def main() -> None:
    """Runs the quick start."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    dataset = tfmtl2r.datasets.get("kuairand_excerpt")
    test = dataset.lists("test")
    print(f"KuaiRand excerpt: {dataset.lists('train').num_lists} training lists, {test.num_lists} test lists, "
          f"tasks {', '.join(dataset.default_tasks)}")

    models, cards, rows = {}, {}, trivial_results(dataset, "test", seed=options.seed)
    for name, settings in RANKERS.items():
        print(f"\ntraining: {name}")
        experiment = Experiment(
            name=f"quickstart-{name.replace(' ', '-')}", **settings,
            architecture={"name": "shared_bottom", "units": [256, 128], "dropout": 0.3},
            training={"seed": options.seed, "epochs": options.epochs, "patience": 0, "telemetry_every": 20},
        )
        models[name], cards[name] = experiment.run(verbose=0, dataset=dataset, callbacks=[Progress()], overwrite=True)
        rows[name] = cards[name].results["test"]
    best = max(cards, key=lambda name: cards[name].history["val_stop_on"][-1])

    print()
    ndcg = dict.fromkeys(dataset.default_tasks, "ndcg@5")
    show(results_table(rows, "NDCG@5 on the test lists (lists without a relevant item skipped)", metrics=ndcg))
    compare(rows, cards)
    bars(rows, ndcg, "runs/quickstart.png")

    version = tfmtl2r.export(models[best], "saved_models/quickstart")
    print(f"\nexported '{best}', checked through TensorFlow Serving's loader: {version}")
    score_a_request(version, dataset, test)
    print("\npicture: runs/quickstart.png   gradients and losses: .venv/bin/tensorboard --logdir runs")
    print(f"done in {time.perf_counter() - start:.0f} s")


def compare(rows: dict, cards: dict) -> None:
    """Prints paired differences per list with their intervals: against popularity, and between the two rankers."""
    ours = {name: np.load(f"runs/{card.name}/per_list.npz") for name, card in cards.items()}
    popularity = rows["popularity"]
    pairs = [(name, "popularity") for name in ours] + [("mgda", "equal weights")]
    print("paired differences over test lists, 95 % bootstrap intervals:")
    for first, second in pairs:
        for task in ("click", "long_view"):
            key = f"test/{task}/ndcg@5"
            other = popularity[task]["ndcg@5"]["per_list"] if second == "popularity" else ours[second][key]
            gain, low, high = bootstrap(ours[first][key], other)
            verdict = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
            print(f"  {task:<9} {first} - {second}: {gain:+.4f} [{low:+.4f}, {high:+.4f}]  {verdict}")


def score_a_request(version, dataset, lists) -> None:
    """Scores the first test list with the exported graph, as a client of TensorFlow Serving would."""
    request = lists.select([0])
    inputs = {}
    for feature in dataset.schema().features:
        for name, values in feature_values(request, feature).items():
            inputs[name] = values[:1] if feature.context else values[None]
    outputs = tfmtl2r.load(version)["serving_default"](list_size=np.int32([request.num_items]), **inputs)
    order = np.argsort(-outputs["score"].numpy()[0])[:3]
    print(f"one request, {request.num_items} items; the three to show first (row: click, long_view score):")
    for item in order:
        scores = ", ".join(f"{outputs[f'score_{task}'].numpy()[0, item]:+.2f}" for task in ("click", "long_view"))
        print(f"  item {item}: {scores}")


if __name__ == "__main__":
    main()
