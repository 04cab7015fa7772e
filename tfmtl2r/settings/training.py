"""The sections of an experiment about its training: start, optimizer, steps and epochs.

The help of a key on the command line is its entry under ``Args``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from tfmtl2r.settings.values import Section, SettingError, key
from tfmtl2r.task import Task


@dataclasses.dataclass(frozen=True)
class Start(Section):
    """The start of a training from a finished run, on new data, in place of random weights.

    Args:
        from_: a finished run below the folder of all runs, with the same architecture, tasks and features.
        statistics: "keep" (the default) keeps the run's statistics of numbers, and vocabularies grow by the values of
            the new data; "refit" fits both on the new data.
        method_state: "reset" (the default) begins the method's state and the count of epochs anew; "keep" goes on with
            them.
    """

    from_: str | None = key()
    statistics: Literal["keep", "refit"] | None = key()
    method_state: Literal["reset", "keep"] | None = key()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("statistics", "method_state"):
            if self.from_ is None and getattr(self, name) is not None:
                raise SettingError([name], "has no effect without a run: give start.from, or leave it out")


@dataclasses.dataclass(frozen=True)
class Optimizer(Section):
    """The optimizer.

    Args:
        name: "adam" (the default), "adagrad" (with less memory for tables) or "sgd"; all change only those rows of
            tables that a batch reads.
        learning_rate: the step size.
        schedule: "constant" (the default), or "linear" or "cosine", which fall to 0 until the end of a stage.
        warmup_steps: number of first steps over which the step size grows to learning_rate, or their share of all
            steps, such as 0.05.
        weight_decay: share of every weight, times the step size, that a step takes away.
        ema: decay of moving averages of the weights, such as 0.999, which are validated and kept in their place.
        clip_norm: largest norm of the combined gradient of all tasks.
        clip: "adaptive" shrinks updates that are large beside the weights (Clippy).
    """

    name: Literal["adam", "adagrad", "sgd"] | None = key()
    learning_rate: float = key(1e-3, above=0)
    schedule: Literal["constant", "linear", "cosine"] | None = key()
    warmup_steps: int | float | None = key(least=0)
    weight_decay: float | None = key(least=0)
    ema: float | None = key(above=0)
    clip_norm: float | None = key(above=0)
    clip: Literal["adaptive"] | None = key()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ema is not None and not self.ema < 1:
            raise SettingError(["ema"], f"must be a number below 1, such as 0.999, not {self.ema!r}")
        if isinstance(self.warmup_steps, float) and not self.warmup_steps < 1:
            raise SettingError(["warmup_steps"], "must be a whole number of steps or a share of all steps below 1, not "
                               f"{self.warmup_steps!r}")


@dataclasses.dataclass(frozen=True)
class Training(Section):
    """How the ranker is trained.

    Args:
        epochs: maximum number of epochs; in staged training, of each stage.
        batch_size: lists (or rows) that run through the ranker at a time, in all workers together.
        accumulate: number of such batches in one update, by default 1; the update is that of one large batch.
        patience: number of epochs without a better stop_on, after which training stops and restores the best epoch; 0
            trains all epochs.
        stop_on: the number that patience looks at, such as "val_click_ndcg@5". By default, each task's first metric
            becomes a gain (0: a ranking that knows nothing, 1: a perfect ranking), and the mean of the gains counts.
        seed: seed of the weights, the order of lists and all other random numbers.
        validate_every: epochs between evaluations of the validation split. The last epoch is always evaluated; 0
            evaluates only the last epoch. Values other than 1 require patience 0.
        train_metrics: compute metrics on training batches, too.
        steps_per_execution: training steps per call of the graph.
        telemetry_every: steps between samples of the gradients for TensorBoard; 0 for no samples.
        deterministic: choose operations whose results repeat bit for bit, also on a GPU, where they are slower. They
            stay chosen in the process.
        buckets: batches of lists of similar length, for less padding: bounds of the lengths such as [10, 20], or
            "auto" for quartiles. The order of the lists changes.
        on_nan: what happens to a step whose losses or gradients are not finite: "error" ends the training, "skip_batch"
            leaves the batch out, "drop_task" only the tasks of such losses.
        checkpoint_minutes: minutes between checkpoints, from which a stopped run continues; 0 for none by time.
        checkpoint_steps: steps between checkpoints; 0 for none by steps.
        bias_features: features of the place at which an item was shown, such as ["position"]. Only a shallow tower per
            task reads them, in training; serving does not need them. The architecture's option of this name has more
            options.
        feature_dropout: probability with which, in training, a number or another feature counts as missing for all
            items of a list.
        augment: each training item draws a probability between 0 and this number; with this probability, each of its
            values is replaced by that of another item of its list.
        workers: processes on this machine that train together, by default 1; each reads its share of every batch. A
            cluster starts the command once per worker and sets TF_CONFIG, so that this key is not needed there.
        on: where the workers are: "local", processes on this machine, or "ray", a Ray cluster that shares the folder.
            With one worker, "ray" places whole trainings of a sweep, search or cross-validation on the cluster.
    """

    epochs: int = key(8, least=1)
    batch_size: int = key(64, least=1)
    accumulate: int | None = key(least=1)
    patience: int = key(2, least=0)
    stop_on: str | None = key()
    seed: int = key(0, axis=True, shown="own")
    validate_every: int = key(1, least=0, outcome=False)
    train_metrics: bool = key(False, shown="never")
    steps_per_execution: int = key(1, least=1, shown="never")
    telemetry_every: int = key(100, least=0, outcome=False)
    deterministic: bool | None = key(shown="never")
    buckets: tuple[int, ...] | Literal["auto"] | None = key(shown="own")
    on_nan: Literal["error", "skip_batch", "drop_task"] = key("error", shown="never")
    checkpoint_minutes: float = key(10.0, least=0, outcome=False)
    checkpoint_steps: int = key(0, least=0, outcome=False)
    bias_features: tuple[str, ...] | None = key()
    feature_dropout: float | None = key(least=0)
    augment: float | None = key(least=0)
    workers: int | None = key(least=1, outcome=False)
    on: Literal["local", "ray"] = key("local", outcome=False, shown="own")

    def __post_init__(self) -> None:
        super().__post_init__()
        alone = {"steps_per_execution": 1, "on_nan": "error"}
        for name, value in alone.items():
            if (self.workers or 1) > 1 and getattr(self, name) != value:
                raise SettingError([name], f"must be {value!r} with several workers, not {getattr(self, name)!r}")
        if self.feature_dropout is not None and not self.feature_dropout < 1:
            raise SettingError(["feature_dropout"], f"must be below 1, not {self.feature_dropout:g}")
        if self.augment is not None and not self.augment <= 1:
            raise SettingError(["augment"], f"must be at most 1, not {self.augment:g}")


@dataclasses.dataclass(frozen=True)
class Ensembling(Section):
    """An ensemble: several members of the architecture, trained side by side and served as one ranker.

    Where the scores of a task have a unit, value_<task> is the mean of the members' values, and uncertainty_<task>
    their standard deviation. Otherwise, the members' scores are standardised within the list and averaged.

    Args:
        members: number of members; by default no ensemble.
        share: what the members have in common: "none" (the default), "trunk" (all layers below the heads) or "kernels"
            (all kernels, scaled by vectors of each member, as in BatchEnsemble and TabM).
        batches: the lists of a step: "same" (the default), the same for all members, or "own", a batch of its own for
            each member, in an order of its own.
    """

    members: int | None = key(least=1)
    share: Literal["none", "trunk", "kernels"] | None = key()
    batches: Literal["same", "own"] | None = key()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("share", "batches"):
            if self.members is None and getattr(self, name) is not None:
                raise SettingError([name], "has no effect without members: give ensemble.members, or leave it out")

    def around(self, architecture: Any) -> Any:
        """The architecture of the ranker: the given one, or an ensemble of it."""
        if self.members is None:
            return architecture
        own = {"batches": self.batches} if self.batches == "own" else {}
        return {"name": "ensemble", "base": architecture, "members": self.members, "share": self.share or "none", **own}

    @property
    def draws(self) -> int:
        """The number of orders of the training lists: one for each member that has its own batches."""
        return (self.members or 1) if self.batches == "own" else 1


@dataclasses.dataclass(frozen=True)
class Teacher(Section):
    """A teacher, whose scores of the training lists the ranker learns beside the labels. Serving does not need it.

    A task learns its labels alone if its teacher is worse than the ranker without a teacher by more than the standard
    error of the difference, on the validation split.

    Args:
        from_: a baseline (tfmtl2r list baselines), also as {name = "catboost", loss = "YetiRank"}, or a finished run on
            the same training split, or a list of both, whose standardised scores are averaged. Baselines are trained on
            the training split, one model per task, with seed 0, so that runs on the same data share them; the
            folder of all runs keeps their scores in .teachers.
        loss: loss to the standardised scores of the teacher: "centred_mse" (the default), "soft_targets", or
            {name = "soft_targets", soften = "both"}.
        mix: share of this loss, from 0 (labels only) to 1 (teacher only), for all tasks or per task, such as
            {relevance = 0.2, dwell = 1.0}; by default 0.5. A task that is not named has the share 0. The loss is scaled
            so that its gradient is as long as that of the task's loss at the start.
        temperature: temperature of the softmax of loss = "soft_targets".
        anneal: factor of mix in the last epoch, such as 0.0; the epochs before are linear in between. By default, mix
            does not change.
        folds: number of folds of the training lists. If given, the scores of a list come from baselines that were
            trained on the other folds.
        synthetic: number of further copies of each training list, in which values are swapped between items. They have
            no labels, only scores of the teacher. Batches are longer by as much, so that the steps are as many.
    """

    from_: Any = key()
    loss: Any = key(registry="tfmtl2r.losses")
    mix: float | Mapping[str, float] | None = key()
    temperature: float | None = key(above=0)
    anneal: float | None = key(least=0)
    folds: int | None = key(least=2)
    synthetic: int | None = key(least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.from_ is None:
            for name in ("loss", "mix", "temperature", "anneal", "folds", "synthetic"):
                if getattr(self, name) is not None:
                    raise SettingError([name], "has no effect without a teacher: give teacher.from, or leave it out")
        shares = self.mix if isinstance(self.mix, Mapping) else {"": self.mix}
        for task, share in shares.items():
            if share is not None and not 0 <= share <= 1:
                raise SettingError(["mix", task] if task else ["mix"], f"must be a share from 0 to 1, not {share!r}")
        if self.anneal is not None and self.anneal > 1:
            raise SettingError(["anneal"], f"must be a factor from 0 to 1, not {self.anneal!r}")


@dataclasses.dataclass(frozen=True)
class Calibrating(Section):
    """The calibration of the trained ranker on the validation split: value_<task> of binary tasks.

    Args:
        kind: calibrator of the binary tasks: "platt", "isotonic", {name = "isotonic", points = 100}, or "none" (tfmtl2r
            list calibrators). By default, values are those of the loss. The key calibration of a task takes precedence.
        by: categorical features, such as ["device"]: each frequent value, or combination of values, has a calibrator
            of its own, and all others have that of all items. Requests must contain these features.
    """

    identity: ClassVar[str] = "kind"

    kind: Any = key(registry="tfmtl2r.calibrators")
    by: tuple[str, ...] | None = key()

    def applied(self, chosen: Sequence[Task], known: Sequence[Task]) -> tuple[Task, ...]:
        """Tasks, of which the binary ones have this calibrator, unless they have their own.

        Args:
            chosen: the tasks.
            known: these and all others that an experiment could train.
        """
        if self.kind is not None and all(task.kind != "binary" for task in known):
            raise SettingError(["calibration", "kind"], "calibrates binary tasks, and there are none: leave it out")
        if self.by is not None and self.kind is None and all(task.calibration is None for task in known):
            raise SettingError(["calibration", "by"], "has no effect without a calibrator: give calibration.kind, such "
                               "as \"platt\", or leave it out")
        return tuple(dataclasses.replace(task, calibration=self._around(task.calibration or self.kind))
                     if task.kind == "binary" else task for task in chosen)

    def _around(self, calibrator: Any) -> Any:
        """A calibrator for each value of the columns, if there are any."""
        if self.by is None or calibrator is None or calibrator == "none":
            return calibrator
        return {"name": "per_value", "columns": [*self.by], "calibrator": calibrator}
