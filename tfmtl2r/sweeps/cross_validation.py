"""Cross-validation: an experiment and baselines on folds of all lists, and their paired differences.

Every fold of the experiment is a run of a sweep, and every fold of a baseline has a run card. Both are written when
they are finished. The same call therefore goes on after an interruption, and adds partitions, seeds and baselines.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from tfmtl2r import baselines as baseline_registry
from tfmtl2r.baselines import Training
from tfmtl2r.data import fit_tasks
from tfmtl2r.data.splits import by_fold
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation import out_of_fold
from tfmtl2r.evaluation.fold_tables import tables
from tfmtl2r.evaluation.out_of_fold import Difference, OutOfFold, Part
from tfmtl2r.evaluation.scoring import record
from tfmtl2r.experiment import Experiment
from tfmtl2r.names import did_you_mean, digest
from tfmtl2r.runs import finished as finished_runs
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.places import CARD, find
from tfmtl2r.settings.outcome import outcome
from tfmtl2r.sweeps import merged_folds
from tfmtl2r.sweeps.planning import parsed
from tfmtl2r.sweeps.study import BASELINES
from tfmtl2r.sweeps.sweep import Sweep
from tfmtl2r.writing import write_json

RESULT = "cross_validation.json"


@dataclasses.dataclass(frozen=True)
class Folds:
    """The folds of a cross-validation.

    Args:
        folds: number of folds.
        partitions: number of divisions into folds; the seeds of their hashes are 0, 1, ...
        seeds: number of seeds of the experiment in each fold, from its own seed on.
        vali: share of the lists of the other folds that is the validation split.

    Raises:
        ValueError: for a number that is too small.
    """

    folds: int = 5
    partitions: int = 1
    seeds: int = 1
    vali: float = 0.1

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("partitions", 1), ("seeds", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 < self.vali < 1:
            raise InputError(f"vali must be a share of the lists between 0 and 1, not {self.vali}")

    def of(self, partition: int, number: int) -> dict[str, Any]:
        """The key ``data.cross_validation`` of a fold."""
        return {"number": number, "folds": self.folds, "seed": partition, "vali": self.vali}

    def name(self, partition: int, number: int) -> str:
        """The name of a fold, in which all that defines the fold differs."""
        return f"p{partition}-f{number}of{self.folds}" + ("" if self.vali == Folds.vali else f"-v{self.vali:g}")

    def all(self) -> list[tuple[int, int]]:
        """(partition, fold), partition by partition."""
        return [(partition, fold) for partition in range(self.partitions) for fold in range(self.folds)]


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """The result of a cross-validation.

    Args:
        folder: its folder.
        rows: the out-of-fold values of the experiment and, after it, of the baselines.
        differences: baseline -> task -> the experiment minus the baseline.
    """

    folder: Path
    rows: tuple[OutOfFold, ...]
    differences: Mapping[str, Mapping[str, Difference]]

    def tables(self, width: int = 80) -> list[Table]:
        """The values and differences for a terminal with lines of this many characters."""
        return tables(self.rows, self.differences, width)


def cross_validate(
    experiment: Experiment, folds: int = 5, seeds: int = 1, partitions: int = 1, baselines: Sequence[Any] = (),
    vali: float = 0.1, jobs: int | None = None, threads: int = 1, report: Callable[[str], None] | None = None,
    merge: Sequence[str] = (),
) -> CrossValidation:
    """Trains an experiment and baselines on every fold of all lists, and compares them list by list.

    The lists of train, vali and test are put together and divided by a hash of their ids; times play no part.
    Statistics and vocabularies are fitted on the training split of each fold. Results lie in the folder ``NAME-cv``
    below the folder of all runs. What is finished there is not trained again.

    Args:
        experiment: the experiment.
        folds: number of folds.
        seeds: number of seeds in each fold, from the experiment's seed on. Values of lists are averaged over seeds.
            Baselines are trained with the first seed only.
        partitions: number of divisions into folds.
        baselines: names, ``{"name": ..., option: value}`` or ``"name:option=value"`` of :mod:`tfmtl2r.baselines`, or
            names of earlier cross-validations on the same folds.
        vali: share of the lists of the other folds for validation: early stopping and the settings of baselines.
        jobs: number of processes at a time; None uses the number of CPUs.
        threads: number of TensorFlow threads in each process.
        report: called with a line for everything that ends; None prints the line.
        merge: names of cross-validations, the experiment's own or earlier ones on the same folds. If given, the first
            row is the ranker that the runs of all seeds of these and of the experiment become
            (:class:`tfmtl2r.Merged`), and differences are those of this row.

    Raises:
        ValueError: for an unknown baseline, a fold without lists, a training that failed, or a folder with a
            cross-validation of another experiment.
    """
    plan = Folds(folds, partitions, seeds, vali)
    if experiment.data.cross_validation is not None:
        raise InputError("data.cross_validation chooses one fold, and all of them are to be trained: leave it out")
    folder = Path(experiment.directory) / f"{experiment.name or 'experiment'}-cv"
    trees, earlier = _chosen(baselines, experiment)
    pool = experiment.dataset().pooled()
    chosen = {place: by_fold(pool, place[1], folds, place[0], vali) == "test" for place in plan.all()}
    places = {place: np.flatnonzero(found) for place, found in chosen.items()}
    for (partition, fold), at in places.items():
        if not len(at):
            raise InputError(f"fold {fold} of {folds} (partition {partition}) has none of the {pool.num_lists} lists: "
                             "take fewer folds")
    orders = {place: pool.select(at).order() for place, at in places.items()}
    order = digest(f"{[*orders.values()]}")
    others = [out_of_fold.load(path, order) for path in earlier]
    planned = {(*place, seed): _of_fold(experiment, folder, plan, *place, experiment.training.seed + seed)
               for place in plan.all() for seed in range(seeds)}
    with Sweep(folder, jobs, threads, report, table=False) as running:
        runs = {run.card.name: run for run in running.run([*planned.values()])}
        if running.failed:
            name, reason = next(iter(running.failed.items()))
            raise InputError(f"{len(running.failed)} of {len(planned)} runs failed, the first one {name}: {reason}")
        parts = [Part(*place, runs[str(one.name)].card.results["test"], runs[str(one.name)].folder)
                 for place, one in planned.items()]
        rows = [out_of_fold.gathered(folder.name.removesuffix("-cv"), parts, places, orders)]
        if merge:
            merged = _merged(experiment, folder, plan, merge)
            tests = {place: pool.select(at) for place, at in places.items()}
            name = " + ".join(merged)
            found = {place: [run for runs in merged.values() for run in runs[place]] for place in places}
            rows.insert(0, out_of_fold.gathered(name, merged_folds.parts(name, found, tests, folder), places, orders))
        rows += [out_of_fold.gathered(name, found, places, orders)
                 for name, found in _fit_baselines(experiment, folder, plan, trees, report).items()]
        rows += others
        return _finished(folder, plan, rows, order)


def _chosen(names: Sequence[Any], experiment: Experiment) -> tuple[dict[str, dict[str, Any]], list[Path]]:
    """The baselines by the names of their rows, and the folders of earlier cross-validations."""
    trees: dict[str, dict[str, Any]] = {}
    earlier: list[Path] = []
    known = {*baseline_registry.names(), *baseline_registry.registry.aliases()}
    for given in names:
        described = parsed(given) if isinstance(given, str) else given
        name = described["name"] if isinstance(described, Mapping) else described
        if name not in known:
            folder = find(experiment.directory, f"{str(given).removesuffix('-cv')}-cv")
            if not (folder / out_of_fold.FILE).is_file():
                raise InputError(f"{given!r} is no baseline{did_you_mean(str(given), known)} (tfmtl2r list baselines), "
                                 f"and {folder} is no finished cross-validation")
            earlier.append(folder)
            continue
        made = baseline_registry.get(described)
        made.check()
        trees[given if isinstance(given, str) else _label(described)] = baseline_registry.registry.describe(made)
    return trees, earlier


def _merged(
    base: Experiment, folder: Path, plan: Folds, names: Sequence[str]
) -> dict[str, dict[tuple[int, int], list[Path]]]:
    """The runs to merge: name of the cross-validation -> fold -> its runs. The experiment itself is among them."""
    own = folder.name.removesuffix("-cv")
    found = {}
    for name in dict.fromkeys([own, *(name.removesuffix("-cv") for name in names)]):
        where = folder if name == own else find(base.directory, f"{name}-cv")
        found[name] = {place: merged_folds.of_fold(where, plan.name(*place)) for place in plan.all()}
        count = len(found[name][0, 0])
        found[f"{name} ({count})" if count > 1 else name] = found.pop(name)
    return found


def _label(described: Mapping[str, Any]) -> str:
    options = ",".join(f"{name}={value!r}" for name, value in described.items() if name != "name")
    return f"{described['name']}:{options}" if options else str(described["name"])


def _of_fold(base: Experiment, folder: Path, plan: Folds, partition: int, fold: int, seed: int) -> Experiment:
    return base.but(name=f"{plan.name(partition, fold)}-s{seed}", directory=str(folder), training={"seed": seed},
                    data={"cross_validation": plan.of(partition, fold)})


def _fit_baselines(
    base: Experiment, folder: Path, plan: Folds, trees: Mapping[str, Mapping[str, Any]],
    report: Callable[[str], None] | None,
) -> dict[str, list[Part]]:
    """Trains the baselines on the folds where they have no run card yet."""
    found: dict[str, list[Part]] = {name: [] for name in trees}
    for partition, fold in plan.all():
        experiment = _of_fold(base, folder, plan, partition, fold, base.training.seed)
        training: Training | None = None
        dataset: Any = None
        for name, described in trees.items():
            slug = re.sub(r"[^\w.]+", "-", name).strip("-")
            where = folder / BASELINES / f"{slug}-{plan.name(partition, fold)}"
            config = {**experiment.config(), "name": where.name, "directory": str(where.parent),
                      "method": dict(described), "architecture": "baseline"}
            if not _is_finished(where, config):
                if training is None:
                    dataset = experiment.dataset()
                    tasks = fit_tasks(dataset.lists("train"), experiment.select(dataset))
                    training = Training.of(dataset, tasks, dataset.schema(tasks), base.training.seed)
                _fit_one(described, training, dataset, config, where)
                (report or print)(f"done    {where.name}")
            card = RunCard.load(where)
            found[name].append(Part(partition, fold, base.training.seed, card.results["test"], where))
    return found


def _fit_one(
    described: Mapping[str, Any], training: Training, dataset: Any, config: dict[str, Any], where: Path
) -> None:
    fitted = training.fit(baseline_registry.get(dict(described)), described)
    test = dataset.lists("test")
    card = RunCard(where.name, config)
    card.data = {split: {"fingerprint": dataset.lists(split).fingerprint()} for split in dataset.splits}
    where.mkdir(parents=True, exist_ok=True)
    record(card, "test", fitted.evaluate(test, training.tasks), test, where)
    write_json(where / "chosen.json", fitted.chosen)
    card.save(where)  # at last: a folder with a card is finished


def _is_finished(where: Path, config: Mapping[str, Any]) -> bool:
    if not (where / CARD).is_file():
        return False
    return outcome(finished_runs.load(where).card.config) == outcome(config)


def _finished(folder: Path, plan: Folds, rows: Sequence[OutOfFold], order: str) -> CrossValidation:
    """Writes the results."""
    apart = {row.name: out_of_fold.differences(rows[0], row) for row in rows[1:]}
    out_of_fold.save(rows, order, folder / out_of_fold.FILE)
    write_json(folder / RESULT, {
        **dataclasses.asdict(plan),
        "rows": {row.name: {task: {metric: _plain(row, (task, metric)) for one, metric in row.metrics if one == task}
                            for task, _ in row.metrics} for row in rows},
        "differences": {name: {task: dataclasses.asdict(one) for task, one in found.items()}
                        for name, found in apart.items()},
    })
    return CrossValidation(folder, tuple(rows), apart)


def _plain(row: OutOfFold, key: tuple[str, str]) -> dict[str, Any]:
    return {"value": float(row.totals[key].mean()), "by_partition": row.totals[key].tolist(),
            "by_seed": row.seeds[key].tolist(), "direction": row.metrics[key]}
