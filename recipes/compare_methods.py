"""What do balancing methods buy? All of them against tuned weights, single-task training and boosted trees.

    python recipes/compare_methods.py --data-dir DIR --seeds 5

Synthetic MSLR-shaped lists and MSLR with 2 and 5 tasks, KuaiRand with 3; everything on one data set is trained for the
same number of epochs. Methods that follow a preference are trained with a small grid of them, which gives their
hypervolume above a random order; one ranker that reads the preference has its own from a single training. "Tuned
weights" is, for each seed, the weighted sum whose preference was best on validation. Writes compare.md, compare.csv,
compare.png, compare.svg and report.html into runs/NAME from the run cards there. What is finished is not run again;
--report trains nothing and writes about what there is, --from-csv FILE draws the picture of an earlier compare.csv.
--quick is a small look in a minute. A smaller budget: --methods, --seeds, --epochs, --lists, and --one-preference,
which trains a grid for tuned weights alone.

DIR holds mslr/ (MSLR-WEB10K or a slice) and kuairand_pure/; without the latter the bundled excerpt stands in.
LambdaMART needs pip install 'tfmtl2r[baselines]'.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from tfmtl2r import Experiment, RunCard, Task, baselines, methods
from tfmtl2r.baselines import Training
from tfmtl2r.commands.report import write_report
from tfmtl2r.evaluation import evaluate, record
from tfmtl2r.pareto import front_verdict
from tfmtl2r.preferences import leaning
from tfmtl2r.runs import load_all
from tfmtl2r.settings import outcome
from tfmtl2r.sweeps import Sweep, markdown, plan, single_tasks
from tfmtl2r.sweeps.differences import draw
from tfmtl2r.sweeps.study import BASELINES, EQUAL, RANDOM, TUNED, conclusions, study, sweeps
from tfmtl2r.writing import write_text, written

WEIGHTS = "linear_scalarization"
LEFT_OUT = {  # they train one task of several as they come
    "stl": "single-task training has rows of its own",
    "epsilon_constraint": "it bounds losses by numbers of your own, and without them trains the first task only",
}
MIXED_NDCG = {"name": "ndcg", "k": 10, "mixed_only": True}
TREES = "LambdaMART"
LEAVES = {"num_leaves": 31, "learning_rate": 0.05, "bagging_fraction": 0.8, "bagging_freq": 1, "feature_fraction": 0.8}
ROUNDS = (20, 50, 100, 150, 200, 300)


def main() -> None:
    """Trains what is missing and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data-dir", default="../shared/data", help="folder with mslr and kuairand_pure")
    parser.add_argument("--data", nargs="+", help="only these, such as synthetic-2 mslr-5")
    parser.add_argument("--methods", nargs="+", help="all if not given")
    parser.add_argument("--seeds", type=int, help="how many; 5, or 2 with --quick")
    parser.add_argument("--epochs", type=int, help="of every data set; 15 for lists of documents, 4 for KuaiRand")
    parser.add_argument("--lists", type=int, help="synthetic training lists; 200, or 32 with --quick")
    parser.add_argument("--one-preference", action="store_true",
                        help="special methods at equal importance only: no hypervolume, a third of the trainings")
    parser.add_argument("--jobs", type=int, help="processes at a time; one for each CPU if not given")
    parser.add_argument("--name", help="of the study below runs; compare, or compare-quick")
    parser.add_argument("--quick", action="store_true", help="one method, 2 seeds, little synthetic data")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--from-csv", type=Path, help="train nothing, and draw the picture beside this compare.csv")
    options = parser.parse_args()
    if options.from_csv:
        with options.from_csv.open(newline="", encoding="utf-8") as file:
            draw([*csv.DictReader(file)], options.from_csv.parent)
        return
    folder = Path("runs") / (options.name or ("compare-quick" if options.quick else "compare"))
    if not options.report:
        known = quick() if options.quick else experiments(Path(options.data_dir))
        known = {name: reduced(base, options.epochs, options.lists) for name, base in known.items()}
        chosen = options.methods or (["mgda"] if options.quick else methods.names())
        unknown = sorted({*(options.data or [])} - {*known})
        if unknown:
            raise SystemExit(f"no data for {', '.join(unknown)}; there are {', '.join(known)}")
        for name in options.data or known:
            train(known[name], folder / name, chosen, range(options.seeds or (2 if options.quick else 5)), options)
    write(folder)


def experiments(data_dir: Path) -> dict[str, Experiment]:
    """Data set -> everything but method, preference and seed; says what is left out."""
    lists = {"architecture": {"name": "shared_bottom", "units": [128, 64], "dropout": 0.1},
             "training": {"batch_size": 8, "epochs": 15, "patience": 0, "validate_every": 0, "telemetry_every": 0}}
    found = {}
    for count in (2, 5):
        data = {"name": "synthetic_mslr", "num_lists": 200, "num_tasks": count, "max_length": 120, "conflict": 0.7}
        found[f"synthetic-{count}"] = Experiment("base", data=data, tasks=synthetic_tasks(count), **lists)
    path = data_dir / "mslr"
    for count, targets in ((2, ["relevance", "quality"]), (5, ["relevance", "quality", "quality2", "clicks", "dwell"])):
        if path.is_dir():
            data = {"name": "mslr", "path": str(path), "targets": targets, "normalise": "signed_log1p"}
            found[f"mslr-{count}"] = Experiment("base", data=data, tasks=tuple(targets), **lists)
        else:
            print(f"mslr-{count} is skipped: there is no folder {path}; get MSLR-WEB10K from "
                  "https://www.microsoft.com/en-us/research/project/mslr/")
    path = data_dir / "kuairand_pure"
    data = {"name": "kuairand", "path": str(path)} if path.is_dir() else {"name": "kuairand_excerpt"}
    if not path.is_dir():
        print(f"kuairand-3 takes the bundled excerpt: there is no folder {path}; KuaiRand-Pure is at https://kuairand.com")
    tasks = (Task("click", "is_click", "binary", "bce", (MIXED_NDCG,)),
             Task("long_view", "long_view", "binary", "bce", (MIXED_NDCG,)),
             Task("like", "is_like", "binary", "bce", (MIXED_NDCG,)))  # fmt: skip
    found["kuairand-3"] = Experiment("base", data=data, tasks=tasks, **lists).but(
        training={"batch_size": 128, "epochs": 4})
    return found


def quick() -> dict[str, Experiment]:
    """Little data, few steps: shows that everything works, not which method is good."""
    data = {"name": "synthetic_mslr", "num_lists": 32, "num_tasks": 2, "num_features": 8, "max_length": 12,
            "conflict": 0.7}  # fmt: skip
    return {"synthetic-2": Experiment(
        "base", data=data, tasks=synthetic_tasks(2)[::-1], architecture={"name": "shared_bottom", "units": [8]},
        optimizer={"learning_rate": 1e-2},
        training={"epochs": 3, "patience": 0, "validate_every": 0, "batch_size": 8, "telemetry_every": 0},
    )}  # fmt: skip


def reduced(base: Experiment, epochs: int | None, lists: int | None) -> Experiment:
    """With so many epochs, and so many training lists where they are synthetic; None keeps what there is."""
    if lists is not None and "num_lists" in base.data.options:
        base = base.but(data={"num_lists": lists})
    return base if epochs is None else base.but(training={"epochs": epochs})


def synthetic_tasks(count: int) -> tuple[Task, ...]:
    """Graded, with NDCG@10."""
    return tuple(Task(f"task_{t + 1}", f"label_{t + 1}", "graded", metrics=("ndcg@10",)) for t in range(count))


def preferences(tasks: int, few: bool = False) -> np.ndarray:
    """A small grid: equal importance, and more for each task in turn, once or (for two tasks, if not ``few``) twice.

    >>> preferences(2).round(2).tolist()
    [[0.5, 0.5], [0.65, 0.35], [0.35, 0.65], [0.8, 0.2], [0.2, 0.8]]
    """
    first, *others = (0.3, 0.6) if tasks == 2 and not few else (0.4,)
    return np.concatenate([leaning(tasks, first), *(leaning(tasks, more)[1:] for more in others)])


def train(base: Experiment, folder: Path, chosen, seeds, options) -> None:
    """Runs what is missing of one data set. What fails is named, in the report too; the rest goes on."""
    special = [name for name in chosen if name != WEIGHTS]
    for name in [*special]:
        if name in LEFT_OUT:
            print(f"{name} is left out of {folder.name}: {LEFT_OUT[name]}")
            special.remove(name)
            continue
        needed = methods.get(name).epochs_needed(len(base.tasks))
        if needed > base.training.epochs:
            print(f"{name} is left out of {folder.name}: it takes {needed} epochs to come to every task, and there "
                  f"are {base.training.epochs}")
            special.remove(name)
    grid = preferences(len(base.tasks), options.quick)
    conditioned = base.but(conditioned=1.0, evaluation={"preferences": grid.tolist()})
    planned = [*plan(base, [WEIGHTS], grid, seeds), *plan(conditioned, [WEIGHTS], grid[:1], seeds),
               *plan(base, special, grid[:1] if options.one_preference else grid, seeds)]
    with Sweep(folder, options.jobs, preferences=grid) as sweep:
        sweep.run([*single_tasks(base, seeds), *planned])
    random_order(base, folder / BASELINES, seeds)
    lambdamart(base, folder / BASELINES, seeds)


def random_order(base: Experiment, folder: Path, seeds) -> None:
    """What needs no training at all, as run cards: hypervolumes begin there."""
    dataset = base.dataset()
    tasks = base.select(dataset)
    lists = dataset.lists("test")
    for seed in seeds:
        rng = np.random.default_rng(seed)
        scores = {task.name: rng.random(lists.num_items) for task in tasks}
        beside(dataset, described(base, f"random-s{seed}", folder, seed, {"name": RANDOM}, "none"), scores, tasks)


def described(base: Experiment, name: str, folder: Path, seed: int, method, architecture: str) -> dict:
    """The configuration of a ranker that no sweep trains."""
    config = base.but(name=name, directory=str(folder), training={"seed": seed}).config()
    return {**config, "method": method, "architecture": architecture}


def beside(dataset, config, scores, tasks) -> None:
    """Writes the run card of a ranker that no sweep trains, from its scores on the test items."""
    name, folder = config["name"], Path(config["directory"])
    card = RunCard(name, config)
    card.data = {split: {"fingerprint": dataset.lists(split).fingerprint()} for split in dataset.splits}
    (folder / name).mkdir(parents=True, exist_ok=True)
    test = dataset.lists("test")
    record(card, "test", evaluate(scores, test, tasks), test, folder / name)
    card.save(folder / name)


def lambdamart(base: Experiment, folder: Path, seeds) -> None:
    """Boosted trees, one model for each task, as run cards beside those of the sweep."""
    trees = baselines.get("lightgbm", rounds=ROUNDS, grid=[LEAVES])
    try:
        trees.check()
    except ValueError as error:
        print(f"LightGBM LambdaMART is skipped: {error}")
        return
    method = {"name": TREES, "rounds": list(ROUNDS), **LEAVES}
    finished = {run.card.name: run.card for run in load_all(folder)} if folder.is_dir() else {}
    dataset = base.dataset()
    tasks = base.select(dataset)
    for seed in seeds:
        name = f"lambdamart-s{seed}"
        config = described(base, name, folder, seed, method, "trees")
        if name in finished and outcome(finished[name].config) == outcome(config):
            continue
        fitted = trees.fit(Training.of(dataset, tasks, dataset.schema(tasks), seed))
        beside(dataset, config, fitted.scores(dataset.lists("test")), tasks)
        print(f"done    {name}")


def write(folder: Path) -> None:
    """Markdown, CSV, picture and HTML from run cards."""
    studies = [found for sweep in sweeps(folder) if (found := study(sweep)).rankers]
    if not studies:
        raise SystemExit(f"no run in {folder} has learnt all of its tasks yet: there is nothing to compare")
    text = ["# What balancing methods buy", "", *answer(studies), "",
            "Test metrics, mean ± standard deviation over seeds; + and - significantly better or worse than "
            f"{TUNED}. delta-m is the mean relative loss against single-task training (below 0 is better); hypervolume "
            "that of a method's front over the preference grid above a random order, on the order that is served, with "
            "points averaged over seeds; a front takes one training for each preference (conditioned, blended, and "
            "methods without a preference: one training, asked for them all); seconds are of one training step "
            "beside other runs on the same machine, of one for each task where every task has a model of its own; "
            "trainings are per seed, for the metrics of the row.", "",
            "![delta-m of every ranker against equal weights](compare.png)", "",
            *(f"- {found.name}: {line}" for found in studies for line in in_short(found))]
    rows = []
    for found in studies:
        shown = table(found)
        rows += [{"data": found.name, **row} for row in numbers(found)]
        lines = [*budget(found), *conclusions(found)]
        text += ["", f"## {found.name}", "", markdown(shown), *fronts(found), *(f"- {line}" for line in lines)]
        print(f"\n{found.name}\n" + "\n".join(lines))
    write_text(folder / "compare.md", "\n".join(text) + "\n")
    with written(folder / "compare.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, folder)
    print(f"\n{folder / 'compare.md'}\n{folder / 'compare.csv'}\n{folder / 'compare.png'}\n"
          f"{write_report(folder, studies)}")


def answer(studies) -> list[str]:
    """What all data sets say together: one sentence about each question that a reader comes with."""
    def marks(found, baseline: str) -> dict[str, str]:
        tests = found.comparisons[baseline]
        return {name: "".join(sorted({c.mark for c in tests if c.ours == name})) for name in found.special}

    told = {baseline: {found.name: marks(found, baseline) for found in studies if baseline in found.comparisons}
            for baseline in (TUNED, EQUAL)}
    changes = {found.name: {ranker.name: ranker.change[0] for ranker in found.rankers if ranker.change}
               for found in studies}
    fronts = {found.name: found.served.rows for found in studies if found.served}

    def where(holds, known) -> str:
        names = {data: ", ".join(name for name, value in each.items() if holds(value)) for data, each in known.items()}
        return "; ".join(f"on {data} {found}" for data, found in names.items() if found) or "none"

    def sets(holds, known) -> str:
        return ", ".join(data for data, each in known.items() if holds(each)) or "no data set"

    trees = {data: each[TREES] - each[EQUAL] for data, each in changes.items() if {TREES, EQUAL} <= {*each}}
    beaten = (f"{TREES}, with a model for each task, has a better mean over tasks (delta-m) than equal weights on "
              f"{sets(lambda change: change < 0, trees)}, and a worse one on {sets(lambda change: change > 0, trees)}.")
    return [" ".join([
        *(f"Special methods that beat {baseline} (significantly better on a task, worse on none): "
          f"{where(lambda mark: mark == '+', known)}." for baseline, known in told.items()),
        f"Worse than {TUNED} on a task and better on none: {where(lambda mark: mark == '-', told[TUNED])}.",
        *([beaten] if trees else []),
        f"Fronts that serve a larger U than one ranker with equal weights, blended, by more than two standard errors "
        f"(not corrected for their number): "
        f"{where(lambda row: (row['over_blended'] or 0) > 2 * (row['over_blended_error'] or 0), fronts)}.",
    ])] if told[TUNED] else []


def in_short(found) -> list[str]:
    """What one blended ranker serves, and which special methods beat tuned weights, if there are any."""
    blended = [] if found.served is None else front_verdict(found.served)[1:2]
    return [*blended, *(found.verdict(TUNED)[:1] if found.special else [])]


def fronts(found) -> list[str]:
    """The fronts of what is served, for reading; nothing where it was not measured."""
    if found.served is None:
        return []
    rows = [{"front": name, "U": _signed(row["utility"], None, ""),
             "above its null": _signed(row["gain"], row["error"]),
             "above one ranker, blended": _signed(row["over_blended"], row["over_blended_error"]),
             "hypervolume": f"{row['hypervolume']:.3g}", "trainings": str(row["trainings"])}
            for name, row in found.served.rows.items()]
    return ["Served ranking, one order per preference:", "", markdown(rows)]


def _signed(value: float | None, error: float | None, sign: str = "+") -> str:
    return "" if value is None else f"{value:{sign}.4f}" + ("" if error is None else f" ± {error:.4f}")


def budget(found) -> list[str]:
    """What was trained for how long."""
    configs = [run.card.config for run in found.runs]
    epochs = " or ".join(str(number) for number in sorted({config["training"]["epochs"] for config in configs}))
    seeds = len({config["training"]["seed"] for config in configs})
    lists = configs[0]["data"].get("num_lists")
    return [f"Budget: {len(configs)} trainings; epochs: {epochs}; seeds: {seeds}"
            f"{f'; synthetic training lists: {lists}' if lists else ''}."]


def table(found) -> list[dict[str, str]]:
    """A row per ranker, for reading."""
    marks = {(c.ours, c.task): c.mark for c in found.comparisons.get(TUNED, ())}
    rows = []
    for ranker in found.rankers:
        row = {"ranker": ranker.name}
        for task, scores in found.rankers[0].results.items():
            metric = next(iter(scores))
            row[f"{task} {metric}"] = (f"{ranker.results[task][metric]['value']:.4f} ± {ranker.spread[task]:.4f} "
                                       f"{marks.get((ranker.name, task), '')}").rstrip()
        row["delta-m %"] = f"{ranker.change[0]:+.2f} ± {ranker.change[1]:.2f}" if ranker.change else ""
        row["hypervolume"] = f"{ranker.volume[0]:.3g} ± {ranker.volume[1]:.1g}" if ranker.volume else ""
        row["s a step"] = f"{ranker.step_s:.4f}" if ranker.step_s else ""
        rows.append({**row, "trainings": str(ranker.trainings), "seeds": str(ranker.seeds)})
    return rows


def numbers(found) -> list[dict[str, str | float]]:
    """The same with all digits."""
    rows = []
    for ranker in found.rankers:
        row: dict[str, str | float] = {"ranker": ranker.name, "seeds": ranker.seeds, "trainings": ranker.trainings,
                                       "seconds_a_step": ranker.step_s or ""}
        for name, pair in (("delta_m", ranker.change), ("hypervolume", ranker.volume)):
            row[name], row[f"{name}_std"] = pair or ("", "")
        for task, scores in ranker.results.items():
            metric = next(iter(scores))
            row[f"{task} {metric}"], row[f"{task} {metric} std"] = scores[metric]["value"], ranker.spread[task]
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
