"""Files keep the layers of features under their names: new files, files of format 1, and names that users give."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.names import safe_name

FORMAT_1 = Path(__file__).parent / "format_1"
ODD = ("Product Type", "a/b", "price (EUR)", "1", "émile", "a b", "a_b", "A_B", "weights", "name", "x" * 99, "#", "日")
TASKS = [Task("click", kind="binary", metrics=()), Task("buy", kind="binary", metrics=())]
SMALL = {"name": "shared_bottom", "units": (4,), "head_units": (2,)}


def tensors(arrays, part):
    found = {key.split("/", 1)[1]: arrays[key] for key in arrays if key.startswith(f"{part}/")}
    return {name: tf.constant(v, tf.float32 if v.dtype.kind == "f" else tf.int32) for name, v in found.items()}


@pytest.mark.parametrize("name", ["plain", "conditioned", "position"])
@pytest.mark.slow
def test_files_of_format_1_load_and_go_on(name, tmp_path):
    """Scores and the next update, which reads the optimizer's state of every table, are those of the old version."""
    arrays = dict(np.load(FORMAT_1 / f"{name}.npz"))
    x, y = tensors(arrays, "x"), tensors(arrays, "y")
    ranker = tfmtl2r.load(FORMAT_1 / f"{name}.keras")
    ranker.save(tmp_path / "again.keras")
    for one in (ranker, tfmtl2r.load(tmp_path / "again.keras")):
        for task, want in tensors(arrays, "before").items():
            np.testing.assert_allclose(one(x)[task], want, rtol=1e-6, atol=1e-7)
        one.fit(tf.data.Dataset.from_tensors((x, y)), epochs=1, verbose=0)
        # Each list of a conditioned ranker's batch draws its own preference now, so that its update is another one.
        for task, want in tensors(arrays, "after").items() if name != "conditioned" else ():
            np.testing.assert_allclose(one(x)[task], want, rtol=1e-4, atol=1e-5)  # other libraries round otherwise


def schema(*features):
    return Schema(features)


def twins(first="brand", second="shop"):
    return Category(first, vocabulary=("a", "b"), dim=2), Category(second, vocabulary=("c", "d"), dim=2)


def ranker(features, **options):
    keras.utils.set_random_seed(1)
    made = tfmtl2r.MultiTaskRanker(SMALL, TASKS, schema(*features), **options)
    made.compile("adam")
    return made


@pytest.mark.parametrize("options", [{}, {"conditioned": 1.0}])
def test_a_table_is_found_by_the_name_of_its_feature(tmp_path, options):
    one = ranker(twins(), **options)
    one.save_weights(tmp_path / "x.weights.h5")
    with h5py.File(tmp_path / "x.weights.h5") as file:
        found = {}
        file.visititems(lambda path, item: found.update({path: item}) if path.endswith("/vars/0") else None)
        tables = {path.split("/")[-3]: np.array(item) for path, item in found.items() if "by_feature" in path}
        assert not any("/embeddings/" in path for path in found), "a table stands in the file once"
    assert set(tables) == {"feature_brand", "feature_shop"}
    encoder = one.architecture.encoder
    for name, table in encoder.embeddings.items():
        np.testing.assert_array_equal(tables[f"feature_{name}"], table.embeddings)


@pytest.mark.parametrize("other", [
    [*twins("shop", "brand"), Dense("price")], [Dense("price"), *twins()], [*twins(), Dense("cost")],
    [*twins(), Dense("price"), Dense("cost")],
], ids=["tables swapped", "another order", "another number", "one more"])
def test_weights_of_other_features_are_refused(tmp_path, other):
    ranker([*twins(), Dense("price")]).save_weights(tmp_path / "x.weights.h5")
    with pytest.raises(ValueError, match=r"(?s)written for the features brand, shop, price, but this"):
        ranker(other).load_weights(tmp_path / "x.weights.h5")


@pytest.mark.slow
def test_names_of_users_train_save_and_load(tmp_path, rng):
    features = [Category(name, vocabulary=("x", "y"), dim=2) for name in ODD]
    features += [Dense(f"{name}?") for name in ODD] + [Category("of a list/", buckets=3, context=True)]
    one = ranker(features)
    x = {f.name: rng.integers(0, 3, (4, 3) if not f.context else 4) if isinstance(f, Category) else
         rng.normal(size=(4, 3)).astype(np.float32) for f in features}
    x = {name: tf.constant(v, tf.float32 if v.dtype.kind == "f" else tf.int32) for name, v in x.items()}
    x["list_size"] = tf.constant([3, 1, 2, 3])
    y = {task.name: rng.integers(0, 2, (4, 3)).astype(np.float32) for task in TASKS}
    one.fit(tf.data.Dataset.from_tensors((x, y)), epochs=2, verbose=0)
    want = one.predict(x)["click"]
    one.save(tmp_path / "x.keras")
    np.testing.assert_array_equal(tfmtl2r.load(tmp_path / "x.keras").predict(x)["click"], want)
    tables = one.architecture.encoder.embeddings
    assert set(tables) == {f.name for f in features if f.embedded}
    paths = [table.embeddings.path for table in tables.values()]
    assert len(set(paths)) == len(paths)


def test_safe_names_differ_where_names_do():
    names = [*ODD, "a?b", "a.b", "a-b", "a_b_", " a b"]
    assert len({safe_name(name) for name in names}) == len(names)
    assert safe_name("brand_2") == "brand_2"
