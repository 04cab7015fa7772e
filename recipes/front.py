"""The whole front from one ordinary ranker: its heads are blended by the preference when they are served.

    python recipes/front.py --tasks 5 --seeds 3
    python recipes/front.py --tasks 2 --seeds 5
    python recipes/front.py --data mslr --tasks 5 --folder shared/data/mslr --seeds 3
    python recipes/front.py --data kuairand --folder shared/data/kuairand_pure --no-separate
    python recipes/front.py --quick

Trains rankers with equal weights, one training per seed, and orders every test list once per preference, by each kind
of blend. Beside them: a ranker that is conditioned on the preference (1.5 times the epochs); three kinds of separate
trainings, each one single-score training per preference, whose target is the mixture of the goals' shares of label,
the same times a constant of each goal, and the mixture of shares of gain times this constant; and as many equal-weight
seeds as there are preferences, each served at equal importance (the null). All goals are measured on the one order
that is served. Prints for each row the served utility U, what it is above its null (the same ranker asked at equal
importance; the error is over seeds and, for a single seed, over lists), the hypervolume of the points averaged over
seeds above a random order, and the worst response of a goal to its own preference.

A second table has each kind of blend: U on test, and what it is behind the best kind in hindsight, paired list by list.
The kind that is chosen on vali is ``auto``; its regret is how far it is behind. The numbers are in
runs/front/DATA.json, and runs/front/DATA/goals.png shows each goal against its own preference.

The synthetic lists have 30 items, and the best items of different goals differ: ``u_t = (w_t.x) (0.8 + 0.6 v.x) +
sig_t eps + 0.5 b_t``, graded at the shares of MSLR. Any other data set of lists has its own tasks and losses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

import tfmtl2r
from tfmtl2r import Dense, MultiTaskRanker, Schema, Task
from tfmtl2r.blends import registry
from tfmtl2r.data import Lists, batches, fit_tasks, label_values
from tfmtl2r.data.synthetic import grade
from tfmtl2r.evaluation import (
    Utility,
    choose_blend,
    constants_of,
    kinds_of,
    measure_heads,
    metrics_along,
    served_orders,
    utility_of,
)
from tfmtl2r.pareto import hypervolume, plots
from tfmtl2r.preferences import corners
from tfmtl2r.report import show
from tfmtl2r.writing import write_json

import keras  # isort: skip

LENGTH, FEATURES = 30, 32
NOISE = (0.3, 0.6, 0.3, 1.0, 0.5)
COSINES = ((1, 0.5, 0.1, -0.2, 0), (0.5, 1, 0.3, -0.1, -0.2), (0.1, 0.3, 1, 0.2, -0.2), (-0.2, -0.1, 0.2, 1, 0.4),
           (0, -0.2, -0.2, 0.4, 1))  # fmt: skip
GOALS = {2: (0, 3), 5: (0, 1, 2, 3, 4), 10: tuple(range(10))}
"""Goals of the synthetic lists; 5 to 9 have the cosines and the noise of 0 to 4, in directions of their own."""
STREAMS = {"train": 1, "test": 2, "vali": 3}
AUTO, CONDITIONED, NULL = "one ranker, blended: auto", "one conditioned ranker", "null: equal-weight seeds"
SEPARATE = {"labels": ("linear", False), "labels, constants": ("linear", True), "gains, constants": ("exp2", True)}
"""Kind of separate training -> its target, and whether goals are multiplied by their constants."""


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", default="synthetic", help="synthetic, or a data set of lists (tfmtl2r list datasets)")
    parser.add_argument("--folder", default="", help="of the files of a data set of your own")
    parser.add_argument("--tasks", type=int, default=5, choices=[*GOALS], help="goals of synthetic lists and of MSLR")
    parser.add_argument("--units", type=int, nargs="+", default=[64, 32])
    parser.add_argument("--loss", default="softmax", help="of graded goals (tfmtl2r list losses)")
    parser.add_argument("--gain", default="exp2", choices=["exp2", "linear"], help="targets of the softmax loss")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--lists", type=int, default=1500, help="of training; the synthetic test has twice as many")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--separate", nargs="*", default=[*SEPARATE], choices=[*SEPARATE], help="kinds of trainings")
    parser.add_argument("--no-separate", action="store_true", help="leave out one training per preference and the null")
    parser.add_argument("--quick", action="store_true", help="two goals, one seed, 100 lists, one epoch, one kind")
    options = parser.parse_args()
    if options.quick:
        options.tasks, options.seeds, options.lists, options.epochs = 2, 1, 100, 1
        options.separate = options.separate[-1:]
    found = synthetic(options) if options.data == "synthetic" else stored(options)
    name = f"{options.data}-{len(found[1])}"
    report(front(*found, options), found[0]["test"], found[1], name)


def synthetic(options) -> tuple[dict, tuple, Schema]:
    """The splits of the synthetic lists, their tasks and features. Everything depends on fixed seeds."""
    parameters = np.random.default_rng([0, 0])
    blocks = -(-options.tasks // len(NOISE))
    basis = np.linalg.qr(parameters.standard_normal((FEATURES, blocks * len(NOISE) + 1)))[0]
    mixed = np.kron(np.eye(blocks), np.linalg.cholesky(np.array(COSINES)))
    weights, other, noise = mixed @ basis[:, :-1].T, basis[:, -1], np.tile(NOISE, blocks)

    def latent(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([0, STREAMS[split]])
        x = random.standard_normal((count * LENGTH, FEATURES), np.float32)
        utility = (x @ weights.T) * (0.8 + 0.6 * (x @ other))[:, None]
        utility += noise * random.standard_normal(utility.shape)
        return x, utility + 0.5 * np.repeat(random.standard_normal((count, len(noise))), LENGTH, axis=0)

    reference = latent("train", options.lists)[1]
    splits = {}
    for split, count in (("train", options.lists), ("vali", options.lists // 3), ("test", 2 * options.lists)):
        x, utility = latent(split, count)
        grades = grade(utility, reference)
        columns = {f"goal_{goal}": grades[:, goal] for goal in GOALS[options.tasks]}
        splits[split] = Lists({"x": x, **columns}, np.arange(0, count * LENGTH + 1, LENGTH))
    loss = loss_of(options)
    tasks = tuple(Task(f"goal_{goal}", loss=loss, metrics=("ndcg@10",)) for goal in GOALS[options.tasks])
    return splits, tasks, Schema([Dense("x", shape=(FEATURES,))])


def loss_of(options) -> dict[str, str]:
    """The loss of graded goals."""
    return {"name": options.loss, **({"gain": options.gain} if options.loss == "softmax" else {})}


def stored(options) -> tuple[dict, tuple, Schema]:
    """The splits of a data set, its tasks and features. At most --lists lists of training, spread over the split."""
    own = {"path": options.folder} if options.folder else {}
    if options.data == "mslr":
        own["targets"] = ("relevance", "quality", "quality2", "clicks", "dwell")[:options.tasks]
    data = tfmtl2r.datasets.get(options.data, **own)
    loss = loss_of(options)
    tasks = tuple(Task(task.name, task.label, "graded", loss=loss, metrics=("ndcg@10",)) if task.kind == "graded" else
                  task for task in data.select(None))  # fmt: skip
    splits = {split: data.lists(split) for split in ("train", "vali", "test")}
    count = splits["train"].num_lists
    splits["train"] = splits["train"].select(np.arange(0, count, -(-count // options.lists)))
    tasks = fit_tasks(splits["train"], tasks)
    return splits, tasks, data.schema(tasks)


def front(splits, tasks, schema, options) -> dict:
    """Row -> ``[seeds, G + 1, T, B]``: the metric of each goal and list at each preference, and at equal importance."""
    grid, test, rows, counts, chosen = corners(len(tasks)), splits["test"], {}, None, []

    def add(row: str, orders: np.ndarray, centre: np.ndarray | None = None) -> None:
        nonlocal counts
        values, counts = metrics_along(orders, test, tasks)
        rows.setdefault(row, []).append(np.append(values, values[:1] if centre is None else centre, 0))

    for seed in range(options.seeds):
        ranker = ready(trained(splits["train"], tasks, schema, seed, options), splits)
        chosen.append(named(ranker.blend))
        kinds = kinds_of(ranker)
        for kind, orders in zip(kinds, served_orders(ranker, kinds, test, grid), strict=True):
            for row in [f"one ranker, blended: {named(kind)}", *([AUTO] if named(kind) == chosen[-1] else [])]:
                add(row, orders)
        print(f"seed {seed}: auto chose {chosen[-1]}")
        ranker = ready(trained(splits["train"], tasks, schema, seed, options, conditioned=1.0), splits)
        add(CONDITIONED, served_orders(ranker, [ranker.blend], test, grid)[0])
        if options.no_separate:
            continue
        for kind in options.separate:
            add(f"separate trainings: {kind}",
                np.stack([alone(splits, tasks, schema, r, seed, options, *SEPARATE[kind]) for r in grid]))
        others = [ready(trained(splits["train"], tasks, schema, 1000 * (seed + 1) + g, options), splits)
                  for g in range(len(grid))]
        equal = np.full((1, len(tasks)), 1 / len(tasks))
        orders = np.stack([served_orders(other, [other.blend], test, equal)[0, 0] for other in others])
        # Against the mean of these seeds: a single one of them would be better or worse by chance.
        add(NULL, orders, metrics_along(orders, test, tasks)[0].mean(axis=0, keepdims=True))
    return {"rows": {name: np.stack(found) for name, found in rows.items()}, "counts": counts, "grid": grid,
            "chosen": chosen}


def named(kind) -> str:
    """The name of a kind of blend, and its options."""
    found = registry.describe(kind)
    return " ".join([found.pop("name"), *(f"{option}={value}" for option, value in found.items())])


def trained(train: Lists, tasks, schema, seed: int, options, conditioned: float | None = None) -> MultiTaskRanker:
    """A ranker with equal weights, or one that is conditioned on the preference, with 1.5 times the epochs."""
    keras.utils.set_random_seed(seed)
    ranker = MultiTaskRanker({"name": "shared_bottom", "units": options.units, "head_units": []}, tasks, schema,
                             conditioned=conditioned)
    data = batches(train, tasks, schema, batch_size=16, shuffle=True, seed=seed)
    epochs = options.epochs if conditioned is None else -(-3 * options.epochs // 2)
    steps = epochs * -(-train.num_lists // 16)
    rate = keras.optimizers.schedules.CosineDecay(1e-5, steps, warmup_target=2e-3, warmup_steps=min(30, steps // 2))
    ranker.compile(keras.optimizers.Adam(rate), train_metrics=False, seed=seed)
    ranker.fit(data, epochs=epochs, verbose=0)
    return ranker


def ready(ranker: MultiTaskRanker, splits) -> MultiTaskRanker:
    """The ranker with measured heads, and the kind of blend that is best on vali."""
    measure_heads(ranker, splits["train"])
    choose_blend(ranker, splits["vali"])
    return ranker


def alone(splits, tasks, schema, preference, seed: int, options, gain: str, constants: bool) -> np.ndarray:
    """The test scores of a ranker with one score, trained for one preference."""
    train = splits["train"]
    number = np.repeat(np.arange(train.num_lists), train.sizes)
    weights = preference * (constants_of(train, tasks) if constants else 1.0)
    target = np.zeros(train.num_items)
    for task, share in zip(tasks, weights / weights.sum(), strict=True):
        labels = np.maximum(np.nan_to_num(label_values(train, task)), 0.0)
        gains = np.exp2(labels) - 1 if gain == "exp2" and task.kind == "graded" else labels
        total = np.bincount(number, gains, train.num_lists)[number]
        target += share * np.divide(gains, total, out=np.zeros_like(target), where=total > 0)
    mixed = (Task("mixed", loss="softmax", metrics=()),)
    ranker = trained(train.with_column("mixed", target.astype(np.float32)), mixed, schema, seed, options)
    return ranker.predict(splits["test"], 256)["mixed"]


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
    kinds = kinds_table(found, name)
    print(write_json(Path("runs/front") / f"{name}.json", {"rows": numbers, **kinds}))
    print(*plots.save({"goals": picture(found, tasks)}, Path("runs/front") / name))


def kinds_table(found: dict, name: str) -> dict:
    """Prints U of each kind of blend, and what it is behind the best kind, each list paired over the mean of seeds."""
    rows = {row: values for row, values in found["rows"].items() if row.startswith("one ranker, blended")}
    grid, counts = found["grid"], found["counts"]
    each = {row: [utility_of(one[:-1], one[-1:], counts, grid) for one in values] for row, values in rows.items()}
    mean = {row: Utility(*(np.mean([getattr(one, part) for one in several], axis=0)
                           for part in ("per_list", "null_per_list", "counts"))) for row, several in each.items()}
    best = max((row for row in mean if row != AUTO), key=lambda row: mean[row].value)
    table = Table(title=f"{name}: kinds of blend; best in hindsight: {best.split(': ')[1]}", title_justify="left")
    for column in ("", "U", "behind the best", "error over lists"):
        table.add_column(column, justify="right" if column else "left")
    numbers = {}
    for row in sorted(mean, key=lambda row: -mean[row].value):
        gap, error = mean[best].over(mean[row])
        numbers[row] = {"utility": mean[row].value, "behind": gap, "error": error}
        table.add_row(row.split(": ")[1], f"{mean[row].value:.4f}", f"{gap:.4f}", f"{error:.4f}")
    show(table)
    print(f"auto chose {', '.join(found['chosen'])}; its regret is {numbers[AUTO]['behind']:.4f} ± "
          f"{numbers[AUTO]['error']:.4f} against {best.split(': ')[1]}")
    return {"kinds": numbers, "chosen": found["chosen"], "best": best.split(": ")[1]}


def picture(found: dict, tasks) -> Figure:
    """Each goal against its own preference, as means over seeds; bars are standard deviations over seeds."""
    figure = Figure(figsize=(3.4 * len(tasks), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    rows = [row for row in (AUTO, CONDITIONED, *(row for row in found["rows"] if row.startswith("separate")), NULL)
            if row in found["rows"]]
    for t, axes in enumerate(figure.subplots(1, len(tasks), squeeze=False)[0]):
        shares = found["grid"][:, t].round(6)
        for row in rows:
            each = np.nanmean(found["rows"][row][:, :-1, t], axis=2)  # seed, preference
            if row == NULL:
                axes.axhline(each.mean(), color="0.5", linestyle=":", label=row)
                continue
            places = np.unique(shares)
            lines = np.stack([each[:, shares == place].mean(axis=1) for place in places], axis=1)
            axes.errorbar(places, lines.mean(axis=0), lines.std(axis=0), marker="o", markersize=3, label=row)
        axes.set(title=tasks[t].name, xlabel="importance of this goal")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("metric on the served order")
    figure.suptitle("The more important a goal, the better it is served", fontsize=11)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(rows), len(tasks)), frameon=False,
                  fontsize=8)
    return figure


if __name__ == "__main__":
    main()
