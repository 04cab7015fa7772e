"""Random changes of training batches: values swapped within a list, features that count as missing; training only."""

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.features import Bag
from tfmtl2r.layers import randomness
from tfmtl2r.training.augmentation import augmented

SIZES = np.array([40, 1, 0, 25])
SCHEMA = Schema([
    Dense("v", shape=(3,)), Dense("x"), Category("brand", vocabulary=("a", "b")), Bag("tags", vocabulary=("a", "b")),
    Dense("age", context=True), Category("country", vocabulary=("a",), context=True)])


def lists(seed=0):
    """Every value of a list is distinct; places after the end are -1."""
    shape = (4, 40)
    place = np.arange(160).reshape(shape).astype(np.int32)
    place[np.arange(40) >= SIZES[:, None]] = -1
    vector = np.stack([place, place + 1000, place + 2000], -1).astype(np.float32)
    features = {"v": vector, "x": place.astype(np.float32), "brand": place,
                "tags": np.stack([place, place + 1000], -1), "tags_size": place + 5,
                "age": np.arange(4, dtype=np.float32), "country": np.arange(4, dtype=np.int32)}
    return Batch({name: tf.constant(value) for name, value in features.items()}, list_size=tf.constant(SIZES, tf.int32),
                 valid=tf.sequence_mask(SIZES, 40))


def changed(augment=0.0, feature_dropout=0.0, step=0, batch=None):
    batch = batch or lists()
    seed = randomness.step_seed(3, step)
    return {name: value.numpy() for name, value in
            augmented(batch, SCHEMA, augment, feature_dropout, seed).features.items()}


def test_without_a_chance_nothing_changes():
    batch = lists()
    assert augmented(batch, SCHEMA, 0.0, 0.0, randomness.step_seed(0, 0)) is batch


def test_values_come_from_another_item_of_the_list():
    before, after = changed(), changed(augment=1.0)
    real = np.arange(40) < SIZES[:, None]
    moved = {}
    for name, bases in {"v": (0, 1000, 2000), "x": (0,), "brand": (0,), "tags_size": (5,)}.items():
        old, new = (values[name].reshape(4, 40, -1) for values in (before, after))
        for number, base in enumerate(bases):
            for one in range(4):
                inside = set((old[one, real[one], number]).tolist())
                assert set(new[one, real[one], number].tolist()) <= inside, (name, base)
            moved[name, base] = (new != old)[real][:, number]
    assert 0.3 < np.mean([each.mean() for each in moved.values()]) < 0.7  # each item's chance is from U(0, 1)
    assert (moved["v", 0] != moved["v", 1000]).any(), "the components of a vector change one by one"
    np.testing.assert_array_equal(after["tags"][..., 0][real] + 5, after["tags_size"][real])  # one value, two inputs
    assert after["x"][1, 0] == before["x"][1, 0]  # a list of one
    for name in ("age", "country"):
        np.testing.assert_array_equal(after[name], before[name])


def test_items_differ_in_how_much_of_them_changes():
    batch = Batch({"v": tf.tile(tf.range(50.0)[None, :, None], [1, 1, 400])}, list_size=tf.constant([50]),
                  valid=tf.ones([1, 50], tf.bool))
    after = augmented(batch, Schema([Dense("v", (400,))]), 0.5, 0.0, randomness.step_seed(0, 0)).features["v"]
    share = (after != batch.features["v"]).numpy().mean(-1)[0]
    assert share.min() < 0.1
    assert 0.4 < share.max() < 0.6
    assert abs(share.mean() - 0.25) < 0.08


def test_missing_values_are_those_of_whole_lists():
    """A number becomes NaN, an id that of an unknown value, a bag empty; for all items of the list."""
    real, found = np.arange(40) < SIZES[:, None], []
    for step in range(20):
        after = changed(feature_dropout=0.4, step=step)
        gone = {"x": np.isnan(after["x"]), "brand": after["brand"] == 0, "tags": after["tags_size"] == 0,
                **{f"v{i}": np.isnan(after["v"][..., i]) for i in range(3)}}
        gone["brand"][0, 0] = gone["brand"][0, 1]  # place 0 has the id 0 anyway
        for name, each in gone.items():
            for one in (0, 3):
                assert len(set(each[one, real[one]].tolist())) == 1, name
        found.append([each[one, 0] for each in gone.values() for one in (0, 3)] + np.isnan(after["age"]).tolist())
    assert abs(np.mean(found) - 0.4) < 0.08


def test_draws_repeat_with_seed_and_step():
    first = changed(0.5, 0.2)
    for name, value in changed(0.5, 0.2).items():
        np.testing.assert_array_equal(value, first[name])
    assert (changed(0.5, 0.0, step=1)["x"] != changed(0.5)["x"]).any()


def test_plain_rows_lose_values_and_have_nothing_to_swap():
    batch = Batch({name: value[:, 0] if value.shape.rank > 1 else value for name, value in lists().features.items()})
    assert np.isnan(np.concatenate([changed(0, 0.4, step, batch)["v"].ravel() for step in range(9)])).mean() > 0.2
    with pytest.raises(ValueError, match="augment swaps values within a list, but plain rows have no lists: set list_"):
        changed(augment=0.1, batch=batch)


@pytest.fixture(scope="module")
def trained():
    """A ranker after one step with both changes and noise, the data, and its loss."""
    schema = Schema([Dense("x", shape=(3,), mean=(0,) * 3, variance=(1,) * 3, noise=0.3)])

    def ranker(**options):
        keras.utils.set_random_seed(0)
        made = tfmtl2r.MultiTaskRanker({"name": "shared_bottom", "units": (4,)}, [Task("y")], schema)
        made.compile(keras.optimizers.SGD(0.1), train_metrics=False, **options)
        return made

    rng = np.random.default_rng(0)
    x = {"x": rng.normal(size=(4, 5, 3)).astype(np.float32), "list_size": np.int32([5, 4, 3, 2])}
    data = tf.data.Dataset.from_tensors((x, {"y": rng.integers(0, 3, (4, 5)).astype(np.float32)}))
    one, other = ranker(augment=0.5, feature_dropout=0.3), ranker(run_eagerly=True)
    before = one.evaluate(data, verbose=0, return_dict=True), one.predict(x)["y"]
    other_before = other.evaluate(data, verbose=0, return_dict=True)
    np.testing.assert_allclose([*before[0].values()], [*other_before.values()], rtol=1e-6)
    np.testing.assert_allclose(before[1], other.predict(x)["y"], rtol=1e-6)
    return one, data, [made.fit(data, verbose=0).history["loss"] for made in (one, other)]


def test_only_training_changes_batches(trained):
    _, _, (changed_loss, plain_loss) = trained
    assert abs(changed_loss[0] / plain_loss[0] - 1) > 1e-3


def test_a_saved_ranker_trains_on_in_the_same_way(trained, tmp_path):
    ranker, data, _ = trained
    ranker.save(tmp_path / "ranker.keras")
    again = tfmtl2r.load(tmp_path / "ranker.keras")
    assert again.get_compile_config()["augment"] == 0.5
    assert again.get_compile_config()["feature_dropout"] == 0.3
    histories = [made.fit(data, verbose=0).history for made in (ranker, again)]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-6)


@pytest.mark.parametrize(("options", "message"), [
    ({"augment": 1.1}, r"augment must be a probability from 0 to 1, not 1\.1"),
    ({"augment": float("nan")}, "augment must be a probability"),
    ({"feature_dropout": 1.0}, "feature_dropout must be a probability of at least 0 and below 1"),
])
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tfmtl2r.MultiTaskRanker("shared_bottom", [Task("y")]).compile(**options)


def test_rows_are_refused_before_training():
    with pytest.raises(ValueError, match="augment swaps values within a list"):
        tfmtl2r.MultiTaskRanker("shared_bottom", [Task("y")], has_lists=False).compile(augment=0.1)
