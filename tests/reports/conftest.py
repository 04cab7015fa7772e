"""A small table and a compiled ranker on it, which no test changes; a factory makes rankers that tests may change.

The tests of this folder repeat reports from the public trackers of other libraries. Each test is named by its symptom,
and its docstring names the report.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import MultiTaskRanker, Task
from tfmtl2r._backend import keras
from tfmtl2r.data import Lists, batches, fit_schema, from_frame

TASKS = (Task("click", kind="binary", loss="bce", metrics=("ndcg@5", "auc")), Task("dwell", kind="regression"))


@dataclasses.dataclass
class Shop:
    """Ten searches of three products, with a click and a dwell time."""

    frame: pd.DataFrame
    lists: Lists
    ranker: Any

    def batches(self, size: int = 4, **options: Any) -> Any:
        return batches(self.lists, TASKS, self.ranker.schema, batch_size=size, **options)


def made(schema, tasks=TASKS, **options):
    keras.utils.set_random_seed(0)
    ranker = MultiTaskRanker({"name": "shared_bottom", "units": [4], "head_units": [3]}, tasks, schema)
    ranker.compile("sgd", run_eagerly=True, **options)
    return ranker


@pytest.fixture(scope="session")
def make():
    """Makes a compiled ranker: ``make(schema)``."""
    return made


@pytest.fixture(scope="session")
def shop():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "search": np.repeat(np.arange(10), 3), "price": rng.gamma(2, 10, 30), "stars": rng.normal(size=30),
        "brand": pd.Categorical(rng.choice([*"abc"], 30)), "click": rng.integers(0, 2, 30).astype(float),
        "dwell": rng.normal(size=30),
    })
    lists = from_frame(frame, "search")
    return Shop(frame, lists, made(fit_schema(lists, TASKS)))
