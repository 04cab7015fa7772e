"""Every architecture can be exported, passes every check and gives what the model gives.

The representative among the fast tests is the export that all of them share.
"""

import json

import numpy as np
import pytest
from serving_problem import predicted

import tfmtl2r
from tfmtl2r import Category, Dense, Schema, architectures
from tfmtl2r._backend import keras
from tfmtl2r.serving.check import METADATA
from tfmtl2r.serving.examples import merged, requests
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.task import Task

SCHEMA = Schema([Dense("price"), Dense("age", context=True), Category("brand", vocabulary=("a", "b"), dim=2)])
TASKS = (Task("click", kind="binary", loss="bce"), Task("buy", kind="binary", loss="bce"), Task("like", kind="binary"))
SMALL = {"units": (6, 5), "head_units": (4,), "expert_units": (6, 5), "subnet_units": (6,), "num_layers": 1,
         "num_heads": 2, "feedforward": 8, "position": ("age",)}
LIST_ENCODER = {"encoder": {"name": "transformer", "units": 4, "num_layers": 1, "num_heads": 1, "feedforward": 8}}


def small(name):
    """Small sizes where an architecture has them; a single width where it takes one."""
    options = {option.name: option.default for option in architectures.registry.options(name) if option.name in SMALL}
    return {"name": name, **{key: 8 if key == "units" and isinstance(default, int) else SMALL[key]
                             for key, default in options.items()}}


def exported_well(described, folder, lists=True):
    keras.utils.set_random_seed(5)
    schema = SCHEMA if lists else Schema([SCHEMA.features[0]])
    ranker = tfmtl2r.MultiTaskRanker(described, TASKS, schema, has_lists=lists)
    version = tfmtl2r.export(ranker, folder)
    request = merged(requests(ranker.schema, lists, seed=8))
    expected = predicted(ranker, request)
    with LoadedExport(version) as loaded:
        read = {*ranker.architecture.schema.names, "list_size"}  # what only training looks at is no input
        answer = loaded.run("serving_default", {name: value for name, value in request.items() if name in read})
    real = np.isfinite(expected["click"])
    for task in ranker.tasks:  # an ensemble also predicts uncertainties
        np.testing.assert_allclose(answer[f"score_{task.name}"][real], expected[task.name][real], rtol=1e-5, atol=1e-5)
    left_out = json.loads((version / METADATA).read_text())["left_out"]
    assert not ranker.architecture.list_context or ranker.list_context
    context = ranker.list_context  # also of merged scores without a level
    assert ("regress" in left_out) == context
    return left_out


@pytest.mark.product
@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture(tmp_path, name):
    exported_well(small(name), tmp_path)


@pytest.mark.slow
def test_with_an_encoder_of_lists(tmp_path):
    """Scores depend on the list, and yet not on what the server merged the list with."""
    left_out = exported_well({**small("mmoe"), **LIST_ENCODER}, tmp_path)
    assert "in the context of its list" in left_out["classify"]


@pytest.mark.slow
def test_plain_rows(tmp_path):
    assert set(exported_well(small("mmoe"), tmp_path, lists=False)) == {"predict_elwc", "rank"}
