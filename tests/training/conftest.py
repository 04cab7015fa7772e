"""A small ranking problem with every kind of feature and label, and rankers on it."""

import dataclasses

import numpy as np
import pytest

from tfmtl2r import Category, Dense, Schema
from tfmtl2r._backend import tf
from tfmtl2r.task import Task


@dataclasses.dataclass
class Problem:
    """29 lists of 3 to 7 items: uneven last batches, padding, missing labels, lists without a relevant item."""

    tasks: tuple
    schema: Schema
    x: dict
    y: dict

    def batches(self, size=8, **options):
        return tf.data.Dataset.from_tensor_slices((self.x, self.y)).batch(size, **options)


@pytest.fixture
def problem(rng):
    lists, length = 29, 7
    sizes = rng.integers(3, length + 1, lists).astype(np.int32)
    real = np.arange(length) < sizes[:, None]
    vector = rng.normal(size=(lists, length, 4)).astype(np.float32)
    brand = rng.integers(0, 5, (lists, length)).astype(np.int32)
    base = vector @ rng.normal(size=(4, 3)) + rng.normal(size=(5, 3))[brand]
    click = (base[..., 0] > 0.5).astype(np.float32)
    click[:3] = 0  # nothing relevant
    grade = np.clip(np.round(base[..., 1] - base[..., 0]), 0, 4).astype(np.float32)
    grade[5] = np.nan
    dwell = base[..., 2].astype(np.float32)
    labels = {"click": click, "grade": grade, "dwell": dwell}
    tasks = (
        Task("click", kind="binary", metrics=("ndcg@3",)),
        Task("grade", loss="approx_ndcg", metrics=("ndcg@3",)),
        Task("dwell", kind="regression", metrics=("mse",)),
    )
    schema = Schema([
        Dense("vector", shape=(4,)),
        Dense("age", context=True),
        Category("brand", vocabulary=tuple("abcd"), dim=3),
    ])
    x = {
        "vector": np.where(real[..., None], vector, 0),
        "age": rng.normal(size=lists).astype(np.float32),
        "brand": np.where(real, brand, 0),
        "list_size": sizes,
    }
    return Problem(tasks, schema, x, {k: np.where(real, v, np.nan).astype(np.float32) for k, v in labels.items()})
