"""Export a trained run, or several as one model, as a checked SavedModel for TensorFlow Serving."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tfmtl2r.errors import InputError

if TYPE_CHECKING:
    from tfmtl2r.runs import Run, RunCard
    from tfmtl2r.serving.blend import Blend


@dataclasses.dataclass(frozen=True)
class Export:
    """Writes the next version of a run's model, and checks it with the loader of TensorFlow Serving.

    Several runs become one model: where scores have a unit, the mean of their values is served, with their deviation
    as uncertainty; otherwise the mean of their scores, standardised within each list. The kind of blend of several
    runs is chosen on vali, if they all have the same one.

    With --utility, --floor or --loses-at-most, the weights of the blend are tuned on vali, without a training; nothing
    is exported if no weights keep all floors.

    Args:
        runs: name of the run; or several names, of runs with the same tasks.
        to: folder of the export; by default saved_models/RUN. Several runs need it.
        blend: weight of each task in the blended score, as in click=1 long_view=0.5; by default those of the
            experiment (export.blend), or the preference.
        preference: for a conditioned run, importance of each task for requests without a preference, as in click=0.8
            dwell=0.2; by default the run's preference.
        utility: what a unit of each task's metric is worth, as in click=1 like=3; by default the preference.
        floor: lowest values of metrics, as in click:ndcg@5=0.6.
        loses_at_most: what metrics may lose against the order of their task alone, as in click:ndcg@5=0.005, or 1%.
        blend_kind: how the tasks' scores are blended, a name of tfmtl2r list blends; by default as in the experiment
            (export.blend), or what was chosen for the run.
        rows: split of the run's data whose first lists become warm-up requests; none for requests with generated
            values.
        directory: the folder of all runs.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    to: str = ""
    blend: tuple[str, ...] = ()
    utility: tuple[str, ...] = ()
    floor: tuple[str, ...] = ()
    loses_at_most: tuple[str, ...] = ()
    preference: tuple[str, ...] = ()
    blend_kind: str = ""
    rows: str = "test"
    directory: str = "runs"


def main(arguments: Sequence[str]) -> int:
    """Exports, and prints the folder of the version and the signatures that it lacks."""
    options = tyro.cli(Export, args=arguments, prog="tfmtl2r export")
    from tfmtl2r.evaluation.file_scores import how_to_read
    from tfmtl2r.preferences import asked, suited
    from tfmtl2r.runs.finished import load as load_run
    from tfmtl2r.runs.identity import MODEL
    from tfmtl2r.runs.places import below, find
    from tfmtl2r.serving.check import METADATA
    from tfmtl2r.serving.export import export
    from tfmtl2r.serving.load import load
    from tfmtl2r.training.merged import merged

    _check(options)
    runs = [load_run(find(options.directory, run)) for run in options.runs]  # raises an error if this is not a run
    card = runs[0].card
    rankers: list[Any] = [load(run.folder / MODEL) for run in runs]
    for name, ranker in zip(options.runs, rankers, strict=True):
        if options.preference and ranker.conditioned is None:
            raise InputError(f"{name} reads no preference, so its export cannot have a default preference: "
                             "leave out --preference, or train with --conditioned")
        if options.preference:
            wanted = asked(options.preference, [task.name for task in ranker.tasks])
            ranker.set_preference(suited([wanted], ranker.method)[0])
    inputs: dict[str, Any] = {}
    for run in runs:
        inputs = {**run.card.data.get("train", {}).get("inputs", {}), **inputs}
    tunes = bool(options.utility or options.floor or options.loses_at_most)
    ranker = merged(rankers)
    dataset = _dataset(card) if options.rows != "none" or tunes or len(runs) > 1 else None
    blend = _blend(options, tunes, card.blend if len(runs) == 1 else _chosen_together(runs, ranker, dataset), card,
                   ranker, dataset)
    version = export(ranker, options.to or below("saved_models", options.runs[0]), blend=blend,
                     rows=_rows(options.rows, dataset),
                     train=inputs, files=how_to_read(card, rankers[0].architecture.schema))
    print(f"exported and checked: {version}")
    for name, reason in json.loads((version / METADATA).read_text(encoding="utf-8"))["left_out"].items():
        print(f"without the signature {name}: {reason}")
    return 0


def _check(options: Export) -> None:
    if not options.runs:
        raise InputError("no run was given; usage: tfmtl2r export NAME")
    if len(options.runs) > 1 and not options.to:
        raise InputError("several runs become one export: name its folder with --to, as in --to saved_models/NAME")
    if options.blend and (options.utility or options.floor or options.loses_at_most):
        raise InputError("--blend gives the weights that --utility, --floor and --loses-at-most would choose: leave "
                         "one of them out")


def _blend(
    options: Export, tunes: bool, choice: dict[str, Any], card: RunCard, ranker: Any, dataset: Any
) -> Blend:
    """The blend to serve: flags take precedence over the experiment, and this over what was chosen for the run.

    Raises:
        ValueError: for tuned weights that do not keep their floors.
    """
    from tfmtl2r.evaluation.tuned_weights import unreachable
    from tfmtl2r.serving.blend import Blend, of_config

    own, given = of_config(card.config, choice), _weights("--blend", options.blend)
    kind, weights = options.blend_kind or own.kind, given or own.weights
    if given is not None:
        return Blend(given, kind, {"by": "given"} if options.blend_kind else own.choice)
    tuned = choice.get("tuned") if own.choice is choice else None
    if tunes:
        tuned = _tuned(options, ranker, dataset, kind)
        weights = tuned["weights"]
    if tuned is not None and (problem := unreachable(tuned)):
        raise InputError(f"nothing is exported: {problem}")
    about = {"by": "given"} if options.blend_kind else own.choice
    return Blend(weights, kind, {**about, "tuned": tuned} if tuned is not None else about)


def _weights(flag: str, entries: Sequence[str]) -> dict[str, float] | None:
    found = {}
    for entry in entries:
        task, equals, weight = entry.partition("=")
        try:
            found[task] = float(weight if equals else "")
        except ValueError:
            raise InputError(f"{flag} must be TASK=NUMBER, such as click=1, not {entry!r}") from None
    return found or None


def _bounds(options: Export) -> list[Any]:
    """The flags --floor and --loses-at-most as constraints."""
    from tfmtl2r.settings import Constraint

    found = []
    for key in ("floor", "loses_at_most"):
        flag = f"--{key.replace('_', '-')}"
        for entry in getattr(options, key):
            what, _, bound = entry.rpartition("=")
            task, _, metric = what.rpartition(":")
            try:
                value = bound if key == "loses_at_most" else float(bound)
            except ValueError:
                task = ""
            if not task or not bound:
                raise InputError(f"{flag} must be TASK:METRIC=NUMBER, such as click:ndcg@5=0.6, not {entry!r}")
            found.append(Constraint(task=task, metric=metric, **{key: value}))
    return found


def _tuned(options: Export, ranker: Any, dataset: Any, kind: Any) -> dict[str, Any]:
    """Tunes the weights on the validation split, prints what they reach, and returns the numbers."""
    from tfmtl2r import blends
    from tfmtl2r.evaluation.after_training import use
    from tfmtl2r.evaluation.tuned_weights import tune_weights

    utility, bounds = _weights("--utility", options.utility), _bounds(options)
    if dataset is None:
        raise InputError("weights are tuned on the validation split, which cannot be read: give them with --blend")
    if options.blend_kind or kind is not None:
        ranker.blend = blends.get(options.blend_kind or kind)
    tuned = tune_weights(ranker, dataset.lists("vali"), utility, bounds)
    use(ranker, tuned)
    shown = ", ".join(f"{task} {weight:.3g}" for task, weight in tuned.weights.items())
    worth = tuned.utility
    print(f"weights tuned on vali: {shown}; utility {worth['value']:.4f} ({worth['low']:.4f} to {worth['high']:.4f}), "
          f"{worth['gain']:+.4f} ± {worth['error']:.4f} against the preference of the run")
    for row in tuned.bounds:
        print(f"  {row['task']} {row['metric']} {row['value']:.4f} ({row['low']:.4f} to {row['high']:.4f}), floor "
              f"{row['floor']:.4f}, held in {row['held']:.0%} of bootstrap samples")
    return tuned.numbers()


def _chosen_together(runs: Sequence[Run], ranker: Any, dataset: Any) -> dict[str, Any]:
    """Measures the heads of several runs as one, and chooses their kind of blend where all have the same vali."""
    from tfmtl2r.evaluation.blend_choice import choose_blend
    from tfmtl2r.evaluation.heads import measure_heads
    from tfmtl2r.runs.finished import other_split

    if dataset is None:
        return {"by": "default", "kind": "sum", "reason": "the data of the runs cannot be read"}
    first, *others = runs
    try:
        for split in ("train", "vali"):
            first.card.expect(split, dataset.lists(split).fingerprint())
    except InputError as error:
        return {"by": "default", "kind": "sum", "reason": str(error)}
    measure_heads(ranker, dataset.lists("train"))
    if any(other_split(first, other) in ("train", "vali") for other in others):
        return {"by": "default", "kind": "deviation", "reason": "the runs have different training or validation "
                "splits, so that one run may have trained on the lists on which another one would be judged"}
    return choose_blend(ranker, dataset.lists("vali"))


def _rows(split: str, dataset: Any) -> Any:
    """The lists for warm-up requests; None where these have generated values, as for a store, without raw values."""
    lists = None if split == "none" or dataset is None else dataset.lists(split)
    if lists is None or lists.prepared is None:
        return lists
    print("tfmtl2r export: a store holds no raw values, so warm-up requests have generated values", file=sys.stderr)
    return None


def _dataset(card: RunCard) -> Any:
    """The data set of a run, or None if it no longer exists: an export is then still possible."""
    from tfmtl2r.experiment import Experiment

    try:
        found = Experiment.of(card.config).dataset()
        found.lists("test")
        return found
    except (OSError, ValueError) as error:
        print(f"tfmtl2r export: the data of the run cannot be read, so warm-up requests have generated values: "
              f"{error}", file=sys.stderr)
        return None
