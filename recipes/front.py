"""The whole front from one ordinary ranker: its heads are blended by the preference when they are served.

    python recipes/front.py --tasks 5 --seeds 3
    python recipes/front.py --tasks 2 --seeds 5
    python recipes/front.py --data mslr --folder shared/data/mslr_web30k --seeds 3
    python recipes/front.py --quick

Trains rankers with equal weights, one training per seed, and orders every test list once per preference, by each kind
of blend. Beside them: one single-score training per preference, whose target is the mixture of the goals' shares of
gain (the separate trainings), and as many equal-weight seeds as there are preferences, each served at equal importance
(the null). All goals are measured on the one order that is served. Prints for each row the served utility U, what it is
above its null (the same ranker asked at equal importance; the error is over seeds and, for a single seed, over lists),
the hypervolume of the points averaged over seeds above a random order, and the worst response of a goal to its own
preference. ``auto`` is the kind that is chosen on vali. The numbers are also in runs/front/DATA.json.

The synthetic lists have 30 items, and the best items of different goals differ: ``u_t = (w_t.x) (0.8 + 0.6 v.x) +
sig_t eps + 0.5 b_t``, graded at the shares of MSLR.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np
from rich.table import Table

import tfmtl2r
from tfmtl2r import Dense, MultiTaskRanker, Schema, Task
from tfmtl2r.blends import registry
from tfmtl2r.data import Lists, batches, label_values
from tfmtl2r.data.synthetic import grade
from tfmtl2r.evaluation import choose_blend, kinds_of, measure_heads, metrics_along, served_orders, utility_of
from tfmtl2r.pareto import hypervolume
from tfmtl2r.preferences import corners
from tfmtl2r.report import show
from tfmtl2r.writing import write_json

LENGTH, FEATURES = 30, 32
NOISE = (0.3, 0.6, 0.3, 1.0, 0.5)
COSINES = ((1, 0.5, 0.1, -0.2, 0), (0.5, 1, 0.3, -0.1, -0.2), (0.1, 0.3, 1, 0.2, -0.2), (-0.2, -0.1, 0.2, 1, 0.4),
           (0, -0.2, -0.2, 0.4, 1))  # fmt: skip
GOALS = {2: (0, 3), 5: (0, 1, 2, 3, 4)}
STREAMS = {"train": 1, "test": 2, "vali": 3}


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", default="synthetic", choices=["synthetic", "mslr"])
    parser.add_argument("--folder", default="", help="of the MSLR files")
    parser.add_argument("--tasks", type=int, default=5, choices=[*GOALS], help="goals of the synthetic lists")
    parser.add_argument("--units", type=int, nargs="+", default=[64, 32])
    parser.add_argument("--gain", default="exp2", choices=["exp2", "linear"], help="targets of the softmax loss")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--lists", type=int, default=1500, help="of training; the test has twice as many")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--no-separate", action="store_true", help="leave out one training per preference")
    parser.add_argument("--quick", action="store_true", help="two goals, one seed, 100 lists, one epoch")
    options = parser.parse_args()
    if options.quick:
        options.tasks, options.seeds, options.lists, options.epochs = 2, 1, 100, 1
    splits, tasks, schema = mslr(options) if options.data == "mslr" else synthetic(options)
    name = options.data if options.data == "mslr" else f"{options.data}-{options.tasks}"
    report(front(splits, tasks, schema, options), splits["test"], tasks, name)


def synthetic(options) -> tuple[dict, tuple, Schema]:
    """The splits of the synthetic lists, their tasks and features. Everything depends on fixed seeds."""
    parameters = np.random.default_rng([0, 0])
    basis = np.linalg.qr(parameters.standard_normal((FEATURES, 6)))[0]
    weights, other = np.linalg.cholesky(np.array(COSINES)) @ basis[:, :5].T, basis[:, 5]

    def latent(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([0, STREAMS[split]])
        x = random.standard_normal((count * LENGTH, FEATURES), np.float32)
        utility = (x @ weights.T) * (0.8 + 0.6 * (x @ other))[:, None]
        utility += np.array(NOISE) * random.standard_normal(utility.shape)
        return x, utility + 0.5 * np.repeat(random.standard_normal((count, 5)), LENGTH, axis=0)

    reference = latent("train", options.lists)[1]
    splits = {}
    for split, count in (("train", options.lists), ("vali", options.lists // 3), ("test", 2 * options.lists)):
        x, utility = latent(split, count)
        grades = grade(utility, reference)
        columns = {f"goal_{goal}": grades[:, goal] for goal in GOALS[options.tasks]}
        splits[split] = Lists({"x": x, **columns}, np.arange(0, count * LENGTH + 1, LENGTH))
    loss = {"name": "softmax", "gain": options.gain}
    tasks = tuple(Task(f"goal_{goal}", loss=loss, metrics=("ndcg@10",)) for goal in GOALS[options.tasks])
    return splits, tasks, Schema([Dense("x", shape=(FEATURES,))])


def mslr(options) -> tuple[dict, tuple, Schema]:
    """The splits of MSLR with its default tasks."""
    data = tfmtl2r.datasets.get("mslr", **({"folder": options.folder} if options.folder else {}))
    loss = {"name": "softmax", "gain": options.gain}
    tasks = tuple(Task(task.name, task.label, "graded", loss=loss, metrics=("ndcg@10",), transform=task.transform)
                  for task in data.select(None))
    return {split: data.lists(split) for split in ("train", "vali", "test")}, tasks, data.schema(tasks)


def front(splits, tasks, schema, options) -> dict:
    """Row -> ``[seeds, G + 1, T, B]``: the metric of each goal and list at each preference, and at equal importance."""
    grid, many = corners(len(tasks)), range(options.seeds)
    test, rows, counts = splits["test"], {}, None

    def measured(orders) -> np.ndarray:
        nonlocal counts
        values, counts = metrics_along(orders, test, tasks)
        return values

    for seed in many:
        ranker = trained(splits["train"], tasks, schema, seed, options)
        measure_heads(ranker, splits["train"])
        choose_blend(ranker, splits["vali"])
        chosen, kinds = named(ranker.blend), kinds_of(ranker)
        for kind, orders in zip(kinds, served_orders(ranker, kinds, test, grid), strict=True):
            values = measured(orders)
            rows.setdefault(f"one ranker, blended: {named(kind)}", []).append(np.append(values, values[:1], 0))
            if named(kind) == chosen:
                rows.setdefault("one ranker, blended: auto", []).append(np.append(values, values[:1], 0))
                print(f"seed {seed}: auto chose {chosen}")
        if not options.no_separate:
            separate = measured(np.stack([alone(splits, tasks, schema, r, seed, options) for r in grid]))
            rows.setdefault("one training per preference", []).append(np.append(separate, separate[:1], 0))
            others = [trained(splits["train"], tasks, schema, 1000 * (seed + 1) + g, options) for g in range(len(grid))]
            null = measured(np.stack([at_centre(other, splits, len(tasks)) for other in others]))
            # Against the mean of these seeds: a single one of them would be better or worse by chance.
            rows.setdefault("null: equal-weight seeds", []).append(np.append(null, null.mean(0, keepdims=True), 0))
    return {"rows": {name: np.stack(found) for name, found in rows.items()}, "counts": counts, "grid": grid}


def named(kind) -> str:
    """The name of a kind of blend, and its options."""
    found = registry.describe(kind)
    return " ".join([found.pop("name"), *(f"{option}={value}" for option, value in found.items())])


def trained(train: Lists, tasks, schema, seed: int, options) -> MultiTaskRanker:
    """A ranker with equal weights."""
    keras.utils.set_random_seed(seed)
    ranker = MultiTaskRanker({"name": "shared_bottom", "units": options.units, "head_units": []}, tasks, schema)
    data = batches(train, tasks, schema, batch_size=16, shuffle=True, seed=seed)
    steps = options.epochs * -(-train.num_lists // 16)
    rate = keras.optimizers.schedules.CosineDecay(1e-5, steps, warmup_target=2e-3, warmup_steps=min(30, steps // 2))
    ranker.compile(keras.optimizers.Adam(rate), train_metrics=False, seed=seed)
    ranker.fit(data, epochs=options.epochs, verbose=0)
    return ranker


def alone(splits, tasks, schema, preference, seed: int, options) -> np.ndarray:
    """The test scores of a ranker with one score, trained for one preference."""
    train = splits["train"]
    number = np.repeat(np.arange(train.num_lists), train.sizes)
    target = np.zeros(train.num_items)
    for task, share in zip(tasks, preference, strict=True):
        labels = np.maximum(label_values(train, task), 0.0)
        gains = np.exp2(labels) - 1 if options.gain == "exp2" else labels
        total = np.bincount(number, gains, train.num_lists)[number]
        target += share * np.divide(gains, total, out=np.zeros_like(total), where=total > 0)
    mixed = (Task("mixed", loss="softmax", metrics=()),)
    ranker = trained(train.with_column("mixed", target.astype(np.float32)), mixed, schema, seed, options)
    return ranker.predict(batches(splits["test"], (), schema, batch_size=256), layout="items")["mixed"]


def at_centre(ranker: MultiTaskRanker, splits, tasks: int) -> np.ndarray:
    """What a ranker serves on the test split at equal importance, by the kind that is chosen on vali."""
    measure_heads(ranker, splits["train"])
    choose_blend(ranker, splits["vali"])
    return served_orders(ranker, [ranker.blend], splits["test"], np.full((1, tasks), 1 / tasks))[0, 0]


def report(found: dict, test: Lists, tasks, name: str) -> None:
    """Prints the table, and writes the numbers."""
    grid, counts = found["grid"], found["counts"]
    chance, _ = metrics_along(np.random.default_rng(0).random((1, test.num_items)), test, tasks)
    table = Table(title=f"{name}: one ranking per preference, {len(grid)} preferences", title_justify="left")
    for column in ("", "seeds", "U", "U above null", "hypervolume x 1e3", "centre", "worst response"):
        table.add_column(column, justify="right" if column else "left")
    numbers = {}
    for row, values in found["rows"].items():
        utilities = [utility_of(one[:-1], one[-1:], counts, grid) for one in values]
        each = [one.gain for one in utilities]
        gain, error = np.mean([value for value, _ in each]), each[0][1]
        if len(each) > 1:
            error = np.std([value for value, _ in each], ddof=1) / len(each) ** 0.5
        points = np.nanmean(values.mean(axis=0), axis=2)
        response = min(points[1 + t, t] - points[0, t] for t in range(len(tasks)))
        value = float(np.mean([one.value for one in utilities]))
        numbers[row] = {"seeds": len(each), "utility": value, "gain": gain, "error": error,
                        "points": points[:-1].tolist(),
                        "hypervolume": hypervolume(points[:-1], np.nanmean(chance[0], axis=1), True),
                        "centre": float(points[0].mean()), "response": float(response)}  # fmt: skip
    for row, one in sorted(numbers.items(), key=lambda item: -item[1]["utility"]):
        table.add_row(row, str(one["seeds"]), f"{one['utility']:.4f}", f"{one['gain']:+.4f} ± {one['error']:.4f}",
                      f"{1e3 * one['hypervolume']:.3f}", f"{one['centre']:.4f}", f"{one['response']:+.4f}")  # fmt: skip
    show(table)
    print(write_json(Path("runs/front") / f"{name}.json", numbers))


if __name__ == "__main__":
    main()
