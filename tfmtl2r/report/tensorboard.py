"""TensorBoard logs: losses and metrics of every task, and norms and conflicts of the tasks' gradients."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.data import Lists, batches
from tfmtl2r.names import LogName
from tfmtl2r.report import layout
from tfmtl2r.report.derived import conflict_rates, entropies, of_gradients, of_layers
from tfmtl2r.report.histories import Histories
from tfmtl2r.report.plots import heat_map
from tfmtl2r.report.worries import Worries, of_gates, of_shares
from tfmtl2r.schema import Schema
from tfmtl2r.training.optimizers import steps_of

SHOWN = 64
"""Arrays with more values are logged as a histogram."""


class Watched(keras.callbacks.Callback):
    """Makes a model sample its gradients, and writes nothing. All workers have to train with the same steps.

    Args:
        every: training steps between samples of the gradients.
    """

    def __init__(self, every: int):
        super().__init__()
        self.every = every

    def set_model(self, model: Any) -> None:
        """Makes the model sample its gradients. Keras calls this method before it compiles the training step."""
        super().set_model(model)
        self._telemetry = model.watch_gradients(self.every)


class TensorBoard(Watched):
    """Writes the TensorBoard runs ``train`` and ``validation`` below a folder.

    After every epoch, the callback writes ``<task>/<loss or metric>``, ``all/loss`` and ``all/stop_on``.

    Every ``every`` steps, it writes values of the current training batch:

    - ``weights/<task>``: the weight that the method gave the task.
    - ``gradient_norm/<task>`` and ``gradient_cosine/<a>/<b>`` for every pair of tasks. A cosine below 0 means that the
      two tasks pull the shared parameters in opposite directions. The gradients are those that the method receives
      (``gradients=...`` of ``compile``); for a scalarisation, they are the gradients at the cut.
    - ``method/<name>/<task>``: the state that the method keeps for each task, for example logits. If there are several
      groups of shared variables, it is the state of the first group.
    - ``multiplier/<task>``: the multipliers of a method with constraints. Floors of metrics have theirs after every
      epoch.
    - ``solver/rounds`` and ``solver/unsettled_so_far`` for methods that declare ``iterates``: the rounds of all solvers
      in the step, and how many solvers stopped at their cap since the start of the training.

    After every epoch follow ``conflict_rate/<a>/<b>``, the share of the epoch's samples with a cosine below 0, and with
    ``alone`` ``loss_ratio/<task>``, the loss on the validation data divided by that of the training of this task alone.

    With ``sample``, ``inside/<name>/...`` contains what the architecture computes for this batch after every epoch:
    gates averaged over items, attention between tasks, routing, under the names of tasks and experts.
    ``gate_entropy/<name>/<task>`` is 1 for a gate that reads all experts alike, 0 for one that reads a single expert.

    The page ``tfmtl2r`` of TensorBoard shows the same as heat maps, shares and lines, with all steps, and the share of
    each task in the gradients of every shared layer, where a method computes exact gradients. At the end of a
    training, the last cosines and gates are also images. A log line warns once of an expert that no task reads, of a
    gate with all weight on one expert, and of a task with more than 95 % of the update. The share of a task is
    ``w_t |g_t| / sum_s w_s |g_s|``, with the method's weights w and the gradients g.

    Args:
        folder: the folder to write to.
        every: training steps between samples of the gradients.
        sample: a batch of looked-up features, for example the first batch of the validation split; None writes no
            ``inside/...``.
        alone: task -> its loss on the validation data after a training of this task alone, above 0.
    """

    def __init__(
        self, folder: str | Path, every: int = 100, sample: dict[str, Any] | None = None,
        alone: Mapping[str, float] | None = None,
    ):
        super().__init__(every)
        self.sample = sample
        self.alone = dict(alone or {})
        self.folder = Path(folder)
        self._step = 0
        self._before = 0  # steps of earlier fits, if the optimizer was reset since
        self._due = every
        self._writers: dict[str, Any] = {}
        self._histories, self._worries = Histories(), Worries()
        self._shares: list[np.ndarray] = []  # of this epoch
        self._cosines: list[np.ndarray] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Continues at the optimizer's step, so that a resumed run continues its curves, and writes their layout.

        If the optimizer was reset in between (as between stages), the curves continue at their last step.
        """
        if self._before + steps_of(self.model.optimizer) < self._step:
            self._before = self._step
        self._step = self._before + steps_of(self.model.optimizer)
        self._due = (self._step // self.every + 1) * self.every
        with self._writer("train").as_default(step=0):
            layout.write([task.name for task in self.model.tasks])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes a sample if one is due. With ``steps_per_execution``, several steps end at once."""
        self._step = self._step + 1 if not self._several else self._before + steps_of(self.model.optimizer)
        if self._step >= self._due:
            self._due = (self._step // self.every + 1) * self.every
            self._write_gradients()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the epoch's losses and metrics."""
        tasks = [task.name for task in self.model.tasks]
        for key, value in (logs or {}).items():
            name = LogName.parse(key, tasks)
            with self._writer("validation" if name.validation else "train").as_default(step=epoch):
                tf.summary.scalar(name.tag, float(value))
        if self.sample is not None:
            self._write_inside(epoch)
        self._write_epoch(epoch, tasks, logs or {})
        with self._writer("train").as_default(step=epoch):
            self._histories.write(epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the last matrices as images, and closes the files."""
        self.model.watch_gradients(None)
        with self._writer("train").as_default(step=self._step):
            for tag, values, labels in self._histories.last():
                tf.summary.image(tag, heat_map(tag, values, labels)[None])
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    @property
    def _several(self) -> bool:
        return self.model.steps_per_execution != 1

    def _writer(self, run: str) -> Any:
        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(str(self.folder / run))
        return self._writers[run]

    def _write_inside(self, epoch: int) -> None:
        model, tasks = self.model, [task.name for task in self.model.tasks]
        decided = model.architecture.inspect(model.batch(self.sample))
        with self._writer("train").as_default(step=epoch):
            for name, tensor in decided.items():
                value = np.array(tensor)
                if value.size > SHOWN:
                    tf.summary.histogram(f"inside/{name}", value)
                    continue
                labels = decided.labels(name, value.shape, tasks)
                for place in np.ndindex(value.shape):
                    own = [_part(label[at]) for label, at in zip(labels, place, strict=True)]
                    _scalar("/".join(["inside", name, *own]), float(value[place]))
                if value.ndim == 2:
                    self._histories.add(f"inside/{name}", epoch, value, "gates", labels, "epoch")
                if decided.axes[name] == ("task", "expert"):
                    self._worries.tell(of_gates(name, value, labels))
                    if value.shape[1] > 1:
                        self._add_lines(f"gate_entropy/{name}", epoch, labels[0], entropies(value), "epoch")

    def _write_epoch(self, epoch: int, tasks: list[str], logs: Mapping[str, float]) -> None:
        """Writes what is a number per epoch, and tells what it worries about."""
        if self._shares:
            self._worries.tell(of_shares(np.array(self._shares), tasks))
            self._shares.clear()
        with self._writer("train").as_default(step=epoch):
            if self._cosines:
                rates = conflict_rates(np.array(self._cosines))
                self._cosines.clear()
                for i, j in itertools.combinations(range(len(tasks)), 2):
                    _scalar(f"conflict_rate/{_part(tasks[i])}/{_part(tasks[j])}", rates[i, j])
                self._histories.add("conflict", epoch, rates, "rates", [tasks, tasks], "epoch")
            if self.model.method.multipliers(self._method_state) is None:  # floors of metrics move once per epoch
                floors = {task: logs[name] for task in tasks if (name := str(LogName("multiplier", task))) in logs}
                self._add_lines("multiplier", epoch, [*floors], [*floors.values()], "epoch")
        with self._writer("validation").as_default(step=epoch):
            ratios = {task: logs[name] / loss for task, loss in self.alone.items()
                      if (name := str(LogName("loss", task, validation=True))) in logs}
            self._add_lines("loss_ratio", epoch, [*ratios], [*ratios.values()], "epoch")

    @property
    def _method_state(self) -> Mapping[str, Any]:
        """The state of the method for the first group of shared variables."""
        return {key: variable.value for key, variable in self.model.method_state.states[0].items()}

    def _add_lines(self, tag: str, step: int, names: Sequence[str], values: Any, unit: str = "step") -> None:
        """Writes a scalar for each name, and the history of all of them; nothing without names."""
        for name, value in zip(names, values, strict=True):
            _scalar(f"{tag}/{name}", value)
        if len(names):
            self._histories.add(tag, step, np.array(values), "lines", [[*names]], unit)

    def _write_gradients(self) -> None:
        weights = self._telemetry.weights.numpy()
        norms, cosines, shares = of_gradients(weights, self._telemetry.gram.numpy())
        names = [task.name for task in self.model.tasks]
        parts = [*map(_part, names)]  # a tag is one pair
        with self._writer("train").as_default(step=self._step):
            self._write_method(names)
            for i, name in enumerate(names):
                _scalar(f"weights/{name}", weights[i])
                _scalar(f"gradient_norm/{name}", norms[i])
                for j in range(i + 1, len(names)):
                    _scalar(f"gradient_cosine/{parts[i]}/{parts[j]}", cosines[i, j])
        for tag, kind, values in (("cosine", "matrix", cosines), ("weight", "shares", weights),
                                  ("norm", "shares", norms), ("share", "shares", shares)):
            if np.isfinite(values).any():
                self._histories.add(tag, self._step, values, kind, [names] * values.ndim)
        lengths = self._telemetry.lengths.numpy()
        if len(lengths):  # a method with exact gradients
            paths = [v.path for group in self.model.architecture.groups() if group.shared for v in group.variables]
            layers, values = of_layers(lengths, paths)
            self._histories.add("layers", self._step, values, "gates", [layers, names])
        if np.isfinite(shares).all():
            self._shares.append(shares)
        if np.isfinite(cosines).any() and len(names) > 1:
            self._cosines.append(cosines)

    def _write_method(self, names: list[str]) -> None:
        """Writes the state of the method, its multipliers, and what its solvers did."""
        method, state = self.model.method, self._method_state
        for key, remembered in state.items():
            if remembered.shape == (len(names),):
                for name, value in zip(names, np.array(remembered), strict=True):
                    _scalar(f"method/{key}/{name}", value)
        multipliers = method.multipliers(state)
        if multipliers is not None:
            self._add_lines("multiplier", self._step, names, np.array(multipliers))
        if method.iterates:
            self._add_lines("solver", self._step, ["rounds"], [float(self._telemetry.rounds.numpy())])
            stopped = float(self.model.method_state.unsettled.numpy())
            _scalar("solver/unsettled_so_far", stopped)
            self._histories.add("unsettled", self._step, np.array([stopped]), "lines", [["solvers at the cap"]])


def _part(name: str) -> str:
    """A name as one part of a tag."""
    return name.replace("/", "\N{DIVISION SLASH}")


def _scalar(tag: str, value: float) -> None:
    """Writes a finite value. Other values were not measured: the method has no weights, or no gradient was sampled."""
    if np.isfinite(value):
        tf.summary.scalar(tag, float(value))


def tensorboard(
    folder: Path, every: int, lists: Lists, schema: Schema, size: int, alone: Mapping[str, float]
) -> TensorBoard:
    """The logs of a training, whose ``inside/...`` is computed for the first lists of a split.

    Args:
        folder: the folder to write to.
        every: training steps between samples of the gradients.
        lists: the lists of the split.
        schema: the features.
        size: number of lists.
        alone: task -> its loss on this split after a training of the task alone.
    """
    size = min(size, lists.num_lists)
    first = next(iter(batches(lists.select(np.arange(size)), (), schema, batch_size=size)))
    return TensorBoard(folder, every, first[0] if isinstance(first, tuple) else first, alone)
