"""TensorBoard logs: losses and metrics of every task, and norms and conflicts of the tasks' gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.names import LogName
from tfmtl2r.training.optimizers import steps_of

SHOWN = 64
"""Arrays with more values are logged as a histogram."""


class TensorBoard(keras.callbacks.Callback):
    """Writes the TensorBoard runs ``train`` and ``validation`` below a folder.

    After every epoch, the callback writes ``<task>/<loss or metric>``, ``all/loss`` and ``all/stop_on``.

    Every ``every`` steps, it writes values of the current training batch:

    - ``weights/<task>``: the weight that the method gave the task.
    - ``gradient_norm/<task>`` and ``gradient_cosine/<a>/<b>`` for every pair of tasks. A cosine below 0 means that the
      two tasks pull the shared parameters in opposite directions. The gradients are those that the method receives
      (``gradients=...`` of ``compile``); for a scalarisation, they are the gradients at the cut.
    - ``method/<name>/<task>``: the state that the method keeps for each task, for example multipliers or logits. If
      there are several groups of shared variables, it is the state of the first group.
    - ``solver/unsettled_so_far``: how many times a solver stopped at its iteration cap.

    With ``sample``, ``inside/<name>/...`` contains what the architecture computes for this batch after every epoch:
    gates averaged over items, attention between tasks, routing.

    Args:
        folder: the folder to write to.
        every: training steps between samples of the gradients.
        sample: a batch of looked-up features, for example the first batch of the validation split; None writes no
            ``inside/...``.
    """

    def __init__(self, folder: str | Path, every: int = 100, sample: dict[str, Any] | None = None):
        super().__init__()
        self.sample = sample
        self.folder = Path(folder)
        self.every = every
        self._step = 0
        self._before = 0  # steps of earlier fits, if the optimizer was reset since
        self._due = every
        self._writers: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Makes the model sample its gradients. Keras calls this method before it compiles the training step."""
        super().set_model(model)
        self._telemetry = model.watch_gradients(self.every)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Continues at the optimizer's step, so that a resumed run continues its curves.

        If the optimizer was reset in between (as between stages), the curves continue at their last step.
        """
        if self._before + steps_of(self.model.optimizer) < self._step:
            self._before = self._step
        self._step = self._before + steps_of(self.model.optimizer)
        self._due = (self._step // self.every + 1) * self.every

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
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the files."""
        self.model.watch_gradients(None)
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
        model = self.model
        decided = model.architecture.inspect(model.batch(self.sample))
        with self._writer("train").as_default(step=epoch):
            for name, value in decided.items():
                value = np.array(value)
                if value.size > SHOWN:
                    tf.summary.histogram(f"inside/{name}", value)
                    continue
                for place in np.ndindex(value.shape):
                    _scalar("/".join(["inside", name, "_".join(map(str, place))]).rstrip("/"), float(value[place]))

    def _write_gradients(self) -> None:
        weights, gram = self._telemetry.weights.numpy(), self._telemetry.gram.numpy()
        norms = np.sqrt(np.maximum(np.diag(gram), 0))
        names = [task.name for task in self.model.tasks]
        parts = [name.replace("/", "\N{DIVISION SLASH}") for name in names]  # a tag is one pair
        with self._writer("train").as_default(step=self._step):
            _scalar("solver/unsettled_so_far", float(self.model.method_state.unsettled.numpy()))
            for i, name in enumerate(names):
                _scalar(f"weights/{name}", weights[i])
                _scalar(f"gradient_norm/{name}", norms[i])
                for j in range(i + 1, len(names)):
                    if norms[i] * norms[j] > 0:
                        _scalar(f"gradient_cosine/{parts[i]}/{parts[j]}", gram[i, j] / (norms[i] * norms[j]))
            for key, remembered in self.model.method_state.states[0].items():
                if remembered.shape == (len(names),):
                    for name, value in zip(names, np.array(remembered), strict=True):
                        _scalar(f"method/{key}/{name}", value)


def _scalar(tag: str, value: float) -> None:
    """Writes a finite value. Other values were not measured: the method has no weights, or no gradient was sampled."""
    if np.isfinite(value):
        tf.summary.scalar(tag, float(value))
