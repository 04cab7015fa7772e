"""Checkpoints of a training: all variables and the :class:`tfmtl2r.training.state.Training`, from which it continues.

TensorFlow's ``CheckpointManager`` writes the files and names the newest one last, so that a checkpoint is whole or does
not count. The variables are given to it as an explicit list: ``tf.train.Checkpoint(model=...)`` leaves out variables
that a layer keeps in a dict, and reports no error. A digest of all values shows that a checkpoint restores everything.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.errors import DamagedError
from tfmtl2r.training.state import Training
from tfmtl2r.training.workers import Workers

KEPT = 2
"""Number of checkpoints in a folder; the last but one serves if the newest is damaged."""
_PREFIX = "step"
log = logging.getLogger("tfmtl2r")


class Checkpoints:
    """Saves and restores one training in a folder.

    Args:
        folder: the folder. It may hold checkpoints of the same training.
        model: a compiled ranker whose variables all exist.
        training: the state of the training, which :meth:`restore` changes.
        workers: the workers of the training. Only the chief reads and writes files, and all workers save and restore
            at the same time. A checkpoint does not depend on the number of workers.
    """

    def __init__(self, folder: Path, model: Any, training: Training, workers: Workers):
        self.folder = Path(folder)
        self.workers = workers
        self._host = _Host(training)
        streams = {id(v): metric for metric in model.metrics for v in metric.variables}
        found = {id(v): v for v in (*model.variables, *model.optimizer.variables)}
        found |= {id(v): v for metric in model.metrics for v in metric.variables}
        own = [_Shared(v, streams[key], workers) for key, v in found.items() if key in streams and workers.several]
        self._shared = own
        totals = {id(one.variable): one.total for one in own}
        self._values = [totals.get(key, variable.value) for key, variable in found.items()]
        self._checkpoint = tf.train.Checkpoint(variables=self._values, host=self._host)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), KEPT, checkpoint_name=_PREFIX)

    def save(self) -> None:
        """Writes a checkpoint. Older checkpoints are removed afterwards."""
        sums = self.workers.sum([one.offered() for one in self._shared])
        for one, value in zip(self._shared, sums, strict=True):
            one.total.assign(one.together(value))
        if self.workers.is_chief:
            self._host.digest = self._digest()
            self._manager.save()

    def restore(self) -> bool:
        """Restores the newest checkpoint that is whole.

        Returns:
            False if the folder has no checkpoint; then nothing is changed.

        Raises:
            DamagedError: if there are checkpoints, and none can be read.
        """
        found = self._read() if self.workers.is_chief else False
        if not self.workers.several:
            return found
        if not self.workers.of_chief([found])[0]:
            return False
        self._host.deserialize(self.workers.text_of_chief(self._host.serialize()))
        for variable, value in zip(self._values, self.workers.of_chief(list(map(np.array, self._values))), strict=True):
            variable.assign(value)
        for one in self._shared:
            one.hand_out()
        return True

    def _read(self) -> bool:
        paths = [path.with_suffix("") for path in self.folder.glob(f"{_PREFIX}-*.index")]
        paths.sort(key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
        for path in paths:
            try:
                self._checkpoint.restore(str(path)).assert_consumed()
                if self._host.digest != self._digest():
                    raise ValueError("its values differ from those that were saved")
            except Exception as error:  # TensorFlow has many errors for damaged files, IndexError among them
                reason = str(error).strip().split("\n")[0]
                log.warning("the checkpoint %s cannot be read and is left out: %s", path, reason)
                continue
            return True
        if paths:
            raise DamagedError(f"no checkpoint in {self.folder} can be read, so that the training cannot be continued: "
                             "start it again")
        return False

    def _digest(self) -> str:
        found = hashlib.sha256()
        for variable in self._values:
            if _summed_on_read(variable):
                continue  # each replica gets its share of a restored sum, and the sum of shares may round otherwise
            value = np.array(variable)
            found.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
        return found.hexdigest()


def _summed_on_read(value: Any) -> bool:
    return len(getattr(value, "values", ())) > 1 and value.synchronization == tf.VariableSynchronization.ON_READ


class _Shared:
    """A variable of a running mean, of which every worker has its own value, and the value of all workers together.

    Args:
        variable: the variable.
        metric: the Keras metric to which the variable belongs.
        workers: the workers.
    """

    def __init__(self, variable: Any, metric: Any, workers: Workers):
        self.variable = variable
        self.metric = metric
        self.workers = workers
        self.total = tf.Variable(tf.zeros(variable.shape, variable.dtype), trainable=False)

    def offered(self) -> Any:
        """This worker's part of the sum over all workers."""
        mine = np.array(self._mine())
        return self.workers.beside(mine) if hasattr(self.metric, "merged") else mine

    def together(self, total: Any) -> Any:
        """The value of all workers together, from the sum."""
        return self.metric.summary(np.concatenate(total)) if hasattr(self.metric, "merged") else total

    def hand_out(self) -> None:
        """Gives everything to the chief, and nothing to the other workers."""
        self._mine().assign(self.total if self.workers.is_chief else tf.zeros_like(self.total))

    def _mine(self) -> Any:
        return self.workers.strategy.experimental_local_results(self.variable.value)[0]


class _Host(tf.train.experimental.PythonState):
    """The state outside of variables, as one text in the checkpoint. Arrays keep their bits, whatever their type."""

    def __init__(self, training: Training):
        self.training = training
        self.digest = ""

    def serialize(self) -> bytes:
        text, arrays = self.training.described()
        layout = [(array.dtype.name, array.shape) for array in arrays]
        head = json.dumps({"training": text, "digest": self.digest, "arrays": layout}).encode()
        return b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in arrays)])

    def deserialize(self, content: bytes) -> None:
        stream = io.BytesIO(content)
        head = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        arrays = []
        for name, shape in head["arrays"]:
            dtype = np.dtype(tf.as_dtype(name).as_numpy_dtype)
            count = int(np.prod(shape, dtype=np.int64))
            arrays.append(np.frombuffer(stream.read(count * dtype.itemsize), dtype).reshape(shape))
        self.digest = head["digest"]
        self.training.become(head["training"], arrays)
