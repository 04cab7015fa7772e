"""Gates that are drawn anew in each step and belong to the model: with two replicas they are those of one."""

import numpy as np
import pytest
from architecture_problem import small

from tfmtl2r import MultiTaskRanker, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.testing.architecture import SCHEMA, TASKS

SNR = {"name": "snr", **small("snr")}
ARCHITECTURES = {
    "snr": SNR,
    "mssm": {"name": "mssm", **small("mssm")},
    "dml": {"name": "dml", "base": SNR},  # draws the base's gates on both sides of the cut
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["snr", "mssm", "dml"])
def test_two_replicas_make_the_same_updates(rng, name, mirrored):
    """Four lists a step; the gates' draws decide every update."""

    x = {
        "x": rng.normal(size=(8, 3, 3)).astype(np.float32), "age": rng.normal(size=8).astype(np.float32),
        "brand": rng.integers(0, 4, (8, 3)).astype(np.int32), "list_size": np.full(8, 3, np.int32),
    }  # fmt: skip
    y = {task: rng.integers(0, 2, (8, 3)).astype(np.float32) for task in TASKS}
    tasks = [Task(task, kind="binary", loss="bce", metrics=()) for task in TASKS]
    trained = []
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        keras.utils.set_random_seed(7)
        with strategy.scope():
            model = MultiTaskRanker(ARCHITECTURES[name], tasks, SCHEMA)
            model.compile(keras.optimizers.SGD(0.5), train_metrics=False)
        start = model.architecture.get_weights()
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(4), epochs=2, verbose=0)
        trained.append(model.architecture.get_weights())
    for before, one, two in zip(start, *trained, strict=True):
        assert (one != before).any()
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)
