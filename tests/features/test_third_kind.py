"""A kind of feature that the package does not know, in one class: no file elsewhere may need an edit for it.

It reads two columns, a time and the offset of its zone, keeps a statistic of the training split, looks up with a layer
of its own, and has a trainable layer.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, Schema, Task, features
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import batches, fit_schema, from_frame, write_elwc
from tfmtl2r.data.elwc import read_elwc
from tfmtl2r.features.base import Feature, Values
from tfmtl2r.layers.features import Encoder, Lookup
from tfmtl2r.serving.examples import requests
from tfmtl2r.serving.session import LoadedExport

DAY = 86400


class HourOfDay(keras.layers.Layer):
    """Seconds since 1970, ``int64``, to hours since midnight, float32."""

    def call(self, seconds):
        return tf.cast(tf.where(seconds < 0, tf.constant(-1, tf.int64), seconds % DAY), tf.float32) / 3600.0


class Scale(keras.layers.Layer):
    """One trainable number per component."""

    def build(self, input_shape):
        self.factor = self.add_weight(name="factor", shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


@dataclasses.dataclass(frozen=True)
class Clock(Feature):
    """The time of day as sine and cosine."""

    name: str
    zone: str
    context: bool = False
    usual_offset: float | None = None

    @property
    def raw(self):
        return {self.name: Values("int64"), self.zone: Values("float32")}

    @property
    def looked_up(self):
        return {self.name: Values("float32"), self.zone: Values("float32")}

    @property
    def width(self):
        return 2

    def fit(self, columns, min_count):
        offsets = self.read(columns)[self.zone]
        return dataclasses.replace(self, usual_offset=float(np.nanmean(offsets)))

    def lookups(self):
        return {self.name: HourOfDay(name=f"hour_{self.key}")}

    def layer(self, dtype, others):
        scale = Scale(dtype=dtype, name=f"scale_{self.key}")
        scale.build((None, 2))
        return scale

    def encode(self, tensors, layers):
        hours, offset = tensors[self.name], tensors[self.zone]
        offset = tf.where(tf.math.is_nan(offset), self.usual_offset, offset)
        angle = 2 * np.pi * (hours + offset)[..., None] / 24
        point = tf.concat([tf.sin(angle), tf.cos(angle)], axis=-1)
        return layers[self.name](tf.where(hours[..., None] < 0, 0.0, point))

    def example(self, shape, random):
        zones = random.integers(-3, 4, shape).astype(np.float32)
        return {self.name: random.integers(0, 10**9, shape), self.zone: zones}

    def written(self, values):
        return {**values, self.zone: np.nan_to_num(values[self.zone])}


@pytest.fixture(autouse=True, scope="module")
def registered():
    features.register("test_clock")(Clock)
    yield
    features.registry.unregister("test_clock")


@pytest.fixture(params=[False, True], ids=["per item", "per list"])
def table(request, rng):
    sizes = rng.integers(2, 5, 12)
    count = int(sizes.sum())
    frame = pd.DataFrame({
        "q": np.repeat(np.arange(12), sizes), "when": rng.integers(10**9, 2 * 10**9, count),
        "zone": rng.integers(-2, 3, count).astype(float), "price": rng.normal(size=count),
        "brand": rng.choice(["a", "b"], count), "click": rng.integers(0, 2, count),
    })
    if request.param:
        frame[["when", "zone"]] = frame.groupby("q")[["when", "zone"]].transform("first")
    frame.loc[frame["q"] == 3, "zone"] = np.nan
    return from_frame(frame, "q", context=["when", "zone"] if request.param else [])


TASKS = [Task("click", kind="binary", metrics=())]


def fitted(table):
    schema = fit_schema(table, TASKS, [Clock("when", zone="zone", context="when" in table.context), "*"])
    assert schema.names == ("when", "price", "brand")
    assert tuple(schema.inputs) == ("when", "zone", "price", "brand")
    return schema


def make(schema):
    keras.utils.set_random_seed(2)
    ranker = tfmtl2r.MultiTaskRanker({"name": "shared_bottom", "units": (4,), "head_units": (2,)}, TASKS, schema)
    ranker.compile(keras.optimizers.Adam(0.05))
    return ranker


@pytest.mark.slow
def test_the_whole_way(table, tmp_path):
    """Fits, trains, saves, loads, exports, serves, writes and reads examples."""
    schema = fitted(table)
    first = table.first_of_lists("zone") if table.context else table.columns["zone"]
    assert schema.features[0].usual_offset == pytest.approx(np.nanmean(first))
    assert Schema.from_config(json.loads(json.dumps(schema.get_config()))) == schema

    ranker, data = make(schema), batches(table, TASKS, schema, batch_size=4)
    ranker.fit(data, epochs=2, verbose=0)
    encoder = ranker.architecture.encoder
    assert not np.allclose(encoder.embeddings["when"].factor, 1.0), "its variable is trained"
    want = ranker.predict(batches(table, (), schema, batch_size=4), layout="items")["click"]

    ranker.save(tmp_path / "model.keras")
    np.testing.assert_allclose(
        tfmtl2r.load(tmp_path / "model.keras").predict(batches(table, (), schema), layout="items")["click"], want,
        rtol=1e-5, atol=1e-6)

    version = tfmtl2r.export(ranker, tmp_path / "export", rows=table)
    with LoadedExport(version) as loaded:
        names = set(loaded.meta_graph.signature_def["serving_default"].inputs)
        assert names == {"when", "zone", "price", "brand", "list_size"}
        for request in requests(schema, seed=3):
            tensors = Lookup(schema)({name: tf.convert_to_tensor(value) for name, value in request.items()})
            expected = ranker.predict(tensors, batch_size=len(request["list_size"]))["click"]
            scores = loaded.run("serving_default", request)["score_click"]
            real = np.arange(scores.shape[1]) < request["list_size"][:, None]
            np.testing.assert_allclose(scores[real], np.asarray(expected)[:, : scores.shape[1]][real], atol=1e-5)

    write_elwc(table, tmp_path / "lists.tfrecord", list_id="q")
    again = read_elwc(tmp_path / "lists.tfrecord", schema, ["click"])
    np.testing.assert_allclose(
        ranker.predict(batches(again, (), schema), layout="items")["click"], want, rtol=1e-4, atol=1e-5)


def test_what_is_encoded(table):
    """By hand, beside features of other kinds, behind the numbers and before the tables."""
    schema = Schema([Category("brand", vocabulary=("a",), dim=2), Clock("when", zone="zone", usual_offset=1.0),
                     Dense("price")])
    encoder = Encoder(schema)
    assert encoder.fields == (2, 1, 2)
    seconds = [1_700_000_000, 1_700_000_000, -1]
    raw = {"brand": tf.constant(["a", "?", "a"]), "when": tf.constant(seconds, tf.int64),
           "zone": tf.constant([0.0, np.nan, 0.0]), "price": tf.constant([1.0, 2.0, 3.0])}
    encoded = encode(encoder, Lookup(schema)(raw))
    hours = np.array([22 + 13 / 60 + 20 / 3600, 23 + 13 / 60 + 20 / 3600])
    np.testing.assert_allclose(encoded[:2, 0], np.sin(2 * np.pi * hours / 24), atol=1e-5)
    np.testing.assert_allclose(encoded[:2, 1], np.cos(2 * np.pi * hours / 24), atol=1e-5)
    np.testing.assert_array_equal(encoded[2, :2], 0)
    np.testing.assert_array_equal(encoded[:, 2], [1, 2, 3])
    np.testing.assert_array_equal(encoded[:, 3:], encoder.embeddings["brand"].embeddings.numpy()[[1, 0, 1]])


def encode(encoder, rows):
    return encoder(batch=Batch(rows)).numpy()


def test_its_weights_stand_under_its_name(table, tmp_path):
    import h5py

    ranker = make(fitted(table))
    ranker.save_weights(tmp_path / "x.weights.h5")
    with h5py.File(tmp_path / "x.weights.h5") as file:
        found = []
        file.visit(lambda path: found.append(path) if path.endswith("vars/0") else None)
    assert {path.split("/")[-3] for path in found if "encoder" in path} == {"feature_when", "feature_brand"}


def test_two_features_may_not_share_an_input():
    with pytest.raises(ValueError, match="two features have an input called 'zone'"):
        Schema([Clock("when", zone="zone"), Dense("zone")])


def test_a_label_may_not_be_any_of_its_columns(table):
    with pytest.raises(ValueError, match="'click' is the label of task 'click'"):
        fit_schema(table, TASKS, [Clock("when", zone="click")])


def test_a_kind_without_a_name_cannot_be_saved():
    @dataclasses.dataclass(frozen=True)
    class Nameless(Clock):
        pass

    with pytest.raises(ValueError, match=r"Nameless .*tfmtl2r\.features\.register"):
        tfmtl2r.MultiTaskRanker("shared_bottom", TASKS, Schema([Nameless("when", zone="zone", usual_offset=0.0)]))


def test_a_file_without_the_kind_names_it(table, tmp_path):
    ranker = make(fitted(table))
    ranker.save(tmp_path / "x.keras")
    features.registry.unregister("test_clock")
    try:
        with pytest.raises(ValueError, match="kind of feature 'test_clock' is missing"):
            tfmtl2r.load(tmp_path / "x.keras")
    finally:
        features.register("test_clock")(Clock)


def test_kinds_are_listed_and_declared_without_tensorflow():
    code = (
        "import sys, tfmtl2r; from tfmtl2r import features; assert {'dense', 'category'} <= set(features.names())\n"
        "assert features.get('number', name='x', shape=(2,)).width == 2\n"
        "schema = tfmtl2r.Schema([tfmtl2r.Dense('price'), tfmtl2r.Category('brand', vocabulary=('a',))])\n"
        "assert tfmtl2r.Schema.from_config(schema.get_config()) == schema\n"
        "assert features.card('dense').title == 'Number'\n"
        "print([name for name in ('tensorflow', 'keras', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
