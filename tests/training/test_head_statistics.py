"""The running deviation of each head: padding, replicas, far offsets, files, and what predict makes of it."""

from pathlib import Path

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import MultiTaskRanker, blends
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import Lists
from tfmtl2r.evaluation import measure_heads
from tfmtl2r.training.head_statistics import DECAY, HeadStatistics
from tfmtl2r.training.replicas import Replicas

TASKS = ("a", "b")


def steps(rng, offset=0.0, count=4):
    """Batches of lists of 1 to 5 items: scores ``[B, L, T]`` and sizes ``[B]``."""
    return [(rng.normal(offset, (1.0, 7.0), (6, 5, 2)).astype(np.float32), rng.integers(1, 6, 6)) for _ in range(count)]


def expected(batches):
    """The deviation over all items, of which each has the weight of its batch."""
    items = [scores[np.arange(5) < sizes[:, None]].astype(np.float64) for scores, sizes in batches]
    weights = np.concatenate([np.full(len(each), DECAY ** (len(items) - 1 - n)) for n, each in enumerate(items)])
    items = np.concatenate(items)
    mean = np.average(items, axis=0, weights=weights)
    return np.sqrt(np.average((items - mean) ** 2, axis=0, weights=weights))


def added(layer, scores, sizes, padding=0, replicas=None):
    scores = np.pad(scores, ((0, 0), (0, padding), (0, 0)), constant_values=1e6)
    batch = Batch({}, list_size=tf.constant(sizes), valid=tf.sequence_mask(sizes, scores.shape[1]))
    layer.update(batch, {task: tf.constant(scores[..., i]) for i, task in enumerate(TASKS)}, replicas or Replicas())


@pytest.mark.parametrize(("padding", "offset"), [(0, 0.0), (4, 0.0), (0, 3e4)])
def test_the_deviation_of_all_items_whatever_the_padding(rng, padding, offset):
    layer, batches = HeadStatistics(TASKS), steps(rng, offset)
    assert layer.deviations is None
    for scores, sizes in batches:
        added(layer, scores, sizes, padding)
    # Until the first batch is known, distances are from 0, and float32 has 7 digits.
    np.testing.assert_allclose(layer.deviations, expected(batches), rtol=1e-5 if not offset else 0.2)


def test_plain_rows_and_leading_axes(rng):
    rows, members = HeadStatistics(["a"]), HeadStatistics(["a"])
    scores = rng.normal(size=(2, 3, 4)).astype(np.float32)
    rows.update(Batch({}), {"a": tf.reshape(scores, [-1])}, Replicas())
    members.update(Batch({}, valid=tf.ones([3, 4], tf.bool)), {"a": tf.constant(scores)}, Replicas())
    np.testing.assert_allclose(rows.deviations, scores.std(), rtol=1e-5)
    np.testing.assert_allclose(members.deviations, scores.std(), rtol=1e-5)


def test_two_replicas_are_one(rng, mirrored):
    strategy, alone = mirrored(), HeadStatistics(TASKS)
    with strategy.scope():
        both = HeadStatistics(TASKS)

    @tf.function(autograph=False)
    def step(scores, sizes):
        first = Replicas().places(tf.zeros([1], tf.int32), 4)  # 4 lists on the first replica, 2 on the other
        at = tf.where(first > 0, tf.range(6) >= 4, tf.range(6) < 4)
        part = tf.boolean_mask(scores, at), tf.boolean_mask(sizes, at)
        batch = Batch({}, list_size=part[1], valid=tf.sequence_mask(part[1], 5))
        both.update(batch, {task: part[0][..., i] for i, task in enumerate(TASKS)}, Replicas())

    for scores, sizes in steps(rng):
        added(alone, scores, sizes)
        strategy.run(step, (tf.constant(scores), tf.constant(sizes)))
    np.testing.assert_allclose(both.deviations, alone.deviations, rtol=1e-6)


@pytest.fixture
def trained(problem):
    keras.utils.set_random_seed(1)
    ranker = MultiTaskRanker({"name": "shared_bottom", "units": [4]}, problem.tasks, problem.schema)
    ranker.compile(keras.optimizers.SGD(0.01), train_metrics=False)
    ranker.fit(problem.batches(29), epochs=1, verbose=0)
    return ranker


def test_a_trained_ranker_predicts_the_blend_of_a_preference(problem, trained, tmp_path):
    scores = trained.predict(problem.x, layout="items")
    np.testing.assert_allclose(trained.head_statistics.deviations, [np.std(each) for each in scores.values()], rtol=0.1)
    assert "score" not in scores
    found = trained.predict(problem.x, layout="items", preference=[2, 1, 1])["score"]
    each = [score / sd for score, sd in zip(scores.values(), trained.head_statistics.deviations, strict=True)]
    np.testing.assert_allclose(found, 0.5 * each[0] + 0.25 * each[1] + 0.25 * each[2], atol=1e-5)

    trained.blend = blends.get("mixture", temperature=2.0)
    trained.save(tmp_path / "ranker.keras")
    loaded = tfmtl2r.load(tmp_path / "ranker.keras")
    assert loaded.blend == trained.blend
    np.testing.assert_array_equal(loaded.head_statistics.deviations, trained.head_statistics.deviations)
    mixed = [model.predict(problem.x, preference=[2, 1, 1])["score"] for model in (trained, loaded)]
    np.testing.assert_array_equal(*mixed)
    assert np.nanmax(mixed[0]) < 0  # logarithms of probabilities

    sizes = problem.x["list_size"]
    real = np.arange(7) < sizes[:, None]
    columns = {name: values[real] if values.ndim > 1 else np.repeat(values, sizes)
               for name, values in {**problem.x, **problem.y}.items() if name != "list_size"}
    raw = {**columns, "brand": np.array(["?", *"abcd"])[columns["brand"]]}
    trained.head_statistics.set(np.ones(3), np.zeros(3))
    measure_heads(trained, Lists(raw, np.concatenate([[0], np.cumsum(sizes)]), context=("age",)))
    assert (trained.head_statistics.k >= 1).all()
    assert (trained.head_statistics.deviations != 1).all()


def test_files_of_earlier_versions_have_no_deviations_and_serve_sums():
    ranker = tfmtl2r.load(Path(__file__).parents[1] / "format1" / "shared_bottom.keras")
    assert ranker.head_statistics.deviations is None
    assert ranker.blend is None
    from tfmtl2r.training.blending import default_of

    assert default_of(ranker) == blends.get("sum")
