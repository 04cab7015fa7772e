"""Several rankers as one: scores and values of the parts, merged by their definitions, in Python and in the export."""

import json

import numpy as np
import pytest
from serving_problem import rows

import tfmtl2r
from tfmtl2r import Category, Dense, Merged, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import tf
from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.scoring import score
from tfmtl2r.layers.numbers import standardised
from tfmtl2r.serving.check import METADATA
from tfmtl2r.serving.examples import requests
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.task import LabelStatistics
from tfmtl2r.training.members import uncertainty_of

TASKS = (Task("click"), Task("buy", kind="binary", loss="bce"),
         Task("dwell", kind="regression", transform="log1p", statistics=LabelStatistics(2.0, 0.5)))
ONE = Schema([Dense("price", mean=(3.0,), variance=(4.0,)), Category("brand", vocabulary=("acme", "b"), dim=3)])
TWO = Schema([Category("brand", vocabulary=("b", "x y"), dim=2), Dense("age", context=True),
              Dense("price", mean=(1.0,), variance=(2.0,))])


def make(architecture, schema, tasks=TASKS, **options):
    return MultiTaskRanker(architecture, tasks, schema, **options)


@pytest.fixture(scope="module")
def pair():
    return Merged([make({"name": "shared_bottom", "units": [4]}, ONE, has_lists=True),
                   make({"name": "mmoe", "num_experts": 2, "expert_units": [4]}, TWO)])


@pytest.fixture(scope="module")
def exported(pair, tmp_path_factory):
    return tfmtl2r.export(pair, tmp_path_factory.mktemp("exports") / "pair", rows=rows(pair.schema))


def test_golden_values_of_standardised_scores():
    members = np.array([(3, 1, 2, 0), (100, 101, 99, 100), (0.1, 0.1, 0.1, 0.1)], np.float32)
    found = standardised(tf.constant(members), tf.constant(True, shape=members.shape)).numpy()
    np.testing.assert_allclose(found[0], (1.341640786, -0.447213595, 0.447213595, -1.341640786), rtol=1e-6)
    np.testing.assert_allclose(found[1], (0, 1.414213562, -1.414213562, 0), rtol=1e-6)
    np.testing.assert_array_equal(found[2], 0)
    np.testing.assert_allclose(found.mean(0), (0.447213595, 0.322333322, -0.322333322, -0.447213595), rtol=1e-6)


@pytest.mark.parametrize("filled", [0.0, 7.0, np.nan])
def test_padding_is_in_no_mean(filled):
    scores, valid = tf.constant([[2.0, 4.0, filled], [5.0, filled, filled]]), tf.sequence_mask([2, 1], 3)
    np.testing.assert_allclose(standardised(scores, valid), [[-1, 1, 0], [0, 0, 0]], atol=1e-6)


def test_the_export_merges_what_its_members_predict(pair, exported):
    request = requests(pair.schema, seed=5)[1]
    with LoadedExport(exported) as loaded:
        answer = loaded.run("serving_default", request)
    valid = np.arange(request["price"].shape[1]) < request["list_size"][:, None]
    by_hand = []
    for one in pair.rankers:
        names = [*one.schema.inputs, "list_size"]
        given = tfmtl2r.layers.features.Lookup(one.schema)({name: tf.constant(request[name]) for name in names})
        scores = one.predict(given, len(valid))
        by_hand.append((scores, {task: np.asarray(v) for task, v in one.values(scores).items()}))
    z = [np.asarray(standardised(tf.constant(scores["click"]), tf.constant(valid))) for scores, _ in by_hand]
    np.testing.assert_allclose(answer["score_click"][valid], np.mean(z, axis=0)[valid], atol=1e-5)
    assert not {"value_click", "uncertainty_click"} & set(answer)
    for task in ("buy", "dwell"):
        values = [values[task][valid] for _, values in by_hand]
        np.testing.assert_allclose(answer[f"value_{task}"][valid], np.mean(values, axis=0), rtol=1e-5)
        np.testing.assert_allclose(answer[f"uncertainty_{task}"][valid], np.std(values, axis=0), rtol=1e-3, atol=1e-6)
        assert (answer[f"uncertainty_{task}"][~valid] == 0).all()
    np.testing.assert_allclose(answer["score_dwell"][valid], answer["value_dwell"][valid], rtol=1e-6)
    p = answer["probability_buy"][valid]
    np.testing.assert_allclose(answer["score_buy"][valid], np.log(p / (1 - p)), atol=1e-5)


def test_what_the_export_says(exported):
    metadata = json.loads((exported / METADATA).read_text())
    assert metadata["members"] == 2
    assert set(metadata["left_out"]) == {"regress", "classify"}  # a click score depends on its list
    assert "consists of 2 members" in (exported.parent / "README.md").read_text()


def test_the_metrics_are_those_of_the_merged_scores(pair, rng):
    columns = {"price": rng.normal(size=20), "age": np.repeat(rng.normal(size=5), 4), "brand": np.array(["b"] * 20),
               **{task.name: rng.integers(0, 2, 20) for task in TASKS}}
    lists = Lists(columns, offsets=np.arange(0, 21, 4))
    scores = pair.predict(lists)
    assert set(scores) == {"click", "buy", "dwell", uncertainty_of("buy"), uncertainty_of("dwell")}
    for name, one in scores.items():
        assert one.shape == (20,), name
        assert np.isfinite(one).all(), name
    again = tfmtl2r.evaluation.evaluate(scores, lists, TASKS)
    found = score(pair, lists)
    assert found["click"]["ndcg@5"].value == again["click"]["ndcg@5"].value
    off = scores["dwell"] - columns["dwell"]
    np.testing.assert_allclose(found["dwell"]["mse"].value, np.mean(off**2), rtol=1e-5)


def test_members_that_are_alike_change_no_order(pair):
    one = pair.rankers[0]
    twice = Merged([one, one])
    request = requests(ONE, seed=3)[1]
    tensors = {name: tf.constant(value) for name, value in request.items()}
    alone = one.predict(tfmtl2r.layers.features.Lookup(ONE)(tensors), 3)
    merged = twice.predict(twice.lookup()(tensors), 3)
    np.testing.assert_allclose(merged["buy"], alone["buy"], atol=1e-5)
    assert np.nanmax(merged[uncertainty_of("buy")]) == 0
    for row, own in zip(merged["click"], alone["click"], strict=True):
        np.testing.assert_array_equal(np.argsort(row), np.argsort(own))


def test_what_cannot_be_merged(pair):
    one = pair.rankers[0]
    free = (Task("click", kind="binary", loss="softmax"),)
    for members, message in [
        ([one], "at least two"),
        ([one, make("shared_bottom", ONE, TASKS[:2])], "same tasks in the same order: ranker 2 has click, buy,"),
        ([one, make("shared_bottom", ONE, has_lists=False)], "the other plain rows"),
        ([one, make("shared_bottom", ONE, conditioned=1.0)], "only one of them reads a preference"),
        ([one, make("shared_bottom", None)], "does not know its features"),
        ([one, make("shared_bottom", Schema([Dense("price", shape=(2,))]))], "feature 'price' of ranker 2"),
        ([make("shared_bottom", ONE, free, has_lists=False)] * 2, "nothing to standardise"),
    ]:
        with pytest.raises(InputError, match=message):
            Merged(members)
