"""Every kind of feature the whole way: table, training, saved model, examples, export under the server's rules."""

import json

import numpy as np
import pandas as pd
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, Schema, Task, features
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import batches, fit_schema, from_frame, write_elwc
from tfmtl2r.data.elwc import read_elwc
from tfmtl2r.layers.features import Lookup
from tfmtl2r.serving.check import METADATA
from tfmtl2r.serving.examples import merged, requests
from tfmtl2r.serving.session import LoadedExport

pytestmark = pytest.mark.slow
TASKS = [Task("click", kind="binary", metrics=()), Task("buy", kind="binary", metrics=())]
LISTS = 12


def table():
    """Lists with a column of every type: ids, tags with weights, histories of user and item."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 5, LISTS)
    items, users = int(sizes.sum()), np.repeat(np.arange(LISTS), sizes)
    tags = [rng.choice(["a", "b", "c"], rng.integers(0, 4)).tolist() for _ in range(items)]
    watched = [rng.integers(0, 6, rng.integers(0, 5)).tolist() for _ in range(LISTS)]
    return from_frame(pd.DataFrame({
        "user": users, "video": rng.integers(0, 6, items), "price": rng.normal(size=items),
        "tags": tags, "weights": [rng.uniform(size=len(cell)).tolist() for cell in tags],
        "watched": [watched[user] for user in users],
        "gaps": [[float(10 * one) for one in watched[user]] for user in users],
        "actions": [["like" if one % 2 else "skip" for one in watched[user]] for user in users],
        "similar": [rng.integers(0, 9, rng.integers(0, 4)).tolist() for _ in range(items)],
        "shown": pd.to_datetime(rng.integers(1.6e9, 1.8e9, items), unit="s"), "now": pd.Timestamp(1.81e9, unit="s"),
        "made": pd.to_datetime(rng.integers(1.5e9, 1.6e9, items), unit="s"), "near": rng.integers(0, 9, items),
        "upload": pd.array([None if one < 3 else int(one * 1.6e11) for one in rng.integers(0, 9, items)], "Int64"),
        "image": [None if number == 2 else rng.normal(size=3).tolist() for number in range(items)],
        "query": rng.choice(["red shoes", "", "new phone"], items), "duration": np.where(users % 2, np.nan, users),
        "click": rng.integers(0, 2, items), "buy": rng.integers(0, 2, items),
    }).assign(liked=lambda frame: frame["watched"], seen=lambda frame: frame["watched"]), "user",
        context=["watched", "liked", "seen", "gaps", "actions"])


DECLARED = [
    features.Bag("tags", weights="weights", dim=3),
    features.Bag("watched", shares="video", context=True, pooling="max"),
    features.Sequence("liked", shares="video", context=True, side=("gaps", "actions"), max_length=3, pooling={
        "name": "target_attention", "units": [3], "activation": "dice", "normaliser": "softmax"}),
    features.Sequence("seen", shares="video", context=True, pooling={"name": "last", "blocks": 1, "heads": 2}),
    features.Sequence("similar", dim=2, pooling="sqrtn", missing=False),
    Category("video", dtype="int64", dim=4),
    features.Time("shown", zone="Europe/Berlin", reference="now"),
    features.Time("made", parts=(), reference="now", half_life=30.0, age_buckets=True),
    Category("near", shares="similar"),
    features.Time("upload", unit="ms", parts=("weekday",)),
    features.Vector("image", projection=2, frozen=False, normalise=True), Dense("duration", missing=True),
    Dense("price", copies=("rank_gauss", "quantile_clip"), within_list=True, steps=3, noise=0.1), "*",
]


@pytest.fixture(scope="module")
def way(tmp_path_factory):
    """The trained ranker, its table and its export."""
    lists = table()
    schema = fit_schema(lists, TASKS, DECLARED)
    keras.utils.set_random_seed(2)
    ranker = tfmtl2r.MultiTaskRanker({"name": "mmoe", "num_experts": 2, "expert_units": (4,)}, TASKS, schema, "pcgrad")
    ranker.compile(tfmtl2r.LazyAdam(0.05))
    variables = ranker.architecture.encoder.trainable_variables
    before = [np.array(value) for value in variables]
    ranker.fit(batches(lists, TASKS, schema, batch_size=4), epochs=2, verbose=0)
    same = [value.path for value, old in zip(variables, before, strict=True) if np.array_equal(value, old)]
    folder = tmp_path_factory.mktemp("way")
    version = tfmtl2r.export(ranker, folder / "export", rows=lists)
    scores = ranker.predict(batches(lists, (), schema, batch_size=4), layout="items")
    with LoadedExport(version) as loaded:
        yield ranker, lists, scores, loaded, folder, same


def test_everything_is_trained(way):
    assert not way[-1]


def test_the_schema_is_plain_data(way):
    schema = way[0].schema
    assert Schema.from_config(json.loads(json.dumps(schema.get_config()))) == schema


def test_saved_and_loaded(way):
    ranker, lists, scores, _, folder, _ = way
    ranker.save(folder / "model.keras")
    again = tfmtl2r.load(folder / "model.keras").predict(batches(lists, (), ranker.schema), layout="items")
    for task, values in scores.items():
        np.testing.assert_allclose(again[task], values, rtol=1e-5, atol=1e-6)


def test_examples_of_records(way):
    """A file of ExampleListWithContext gives the same scores, and its columns of lists are found without a schema."""
    ranker, lists, scores, _, folder, _ = way
    write_elwc(lists, folder / "lists.tfrecord", list_id="user")
    again = read_elwc(folder / "lists.tfrecord", ranker.schema, ["click", "buy"])
    found = ranker.predict(batches(again, (), ranker.schema), layout="items")
    for task, values in scores.items():
        np.testing.assert_allclose(found[task], values, rtol=1e-4, atol=1e-5)
    whole = read_elwc(folder / "lists.tfrecord", list_id="user")
    assert whole.kept("tags").elements().sizes.tolist() == lists.kept("tags").elements().sizes.tolist()


def test_every_signature_alone_and_merged(way):
    """The export answers as predict does, for requests of all sizes, alone and merged as the server merges them."""
    ranker, _, _, loaded, _, _ = way
    several = requests(ranker.schema, seed=3)
    whole = merged(several)
    for request in [*several, whole]:
        tensors = Lookup(ranker.schema)({name: tf.convert_to_tensor(value) for name, value in request.items()})
        expected = ranker.predict(tensors, batch_size=len(request["list_size"]))
        answer = loaded.run("serving_default", request)
        real = np.arange(answer["valid"].shape[1]) < request["list_size"][:, None]
        for task in ("click", "buy"):
            np.testing.assert_allclose(answer[f"score_{task}"][real], expected[task][real], atol=1e-5)
    alone = [loaded.run("serving_default", request)["score"] for request in several]
    together = loaded.run("serving_default", whole)["score"]
    row = 0
    for request, scores in zip(several, alone, strict=True):
        real = np.arange(scores.shape[1]) < request["list_size"][:, None]
        np.testing.assert_allclose(together[row : row + len(scores), : scores.shape[1]][real], scores[real], atol=1e-5)
        row += len(scores)


def test_items_of_lists_have_no_score_alone(way):
    """A feature is standardised within its list: the export has no signature for single items, and tells why."""
    _, _, _, loaded, folder, _ = way
    metadata = json.loads((folder / "export" / "1" / METADATA).read_text())
    assert not {"regress", "classify"} & set(loaded.meta_graph.signature_def)
    for name in ("regress", "classify"):
        assert "'price' is standardised within the list" in metadata["left_out"][name]


def test_padding_has_no_effect(way):
    """Whatever stands behind the end of a list, in any feature, changes no score."""
    ranker, _, _, loaded, _, _ = way
    request = requests(ranker.schema, seed=5)[1]
    score = loaded.run("serving_default", request)["score"]
    changed = dict(request)
    for feature in ranker.schema.features:
        for name, values in feature.raw.items():
            if values.shape == (None,):
                past = np.arange(request[name].shape[-1] + 2) >= request[f"{name}_size"][..., None]
                wide = np.concatenate([request[name], request[name][..., :1], request[name][..., :1]], axis=-1)
                changed[name] = np.where(past, "a" if wide.dtype == object else 1, wide).astype(wide.dtype)
    real = np.arange(score.shape[1]) < request["list_size"][:, None]
    np.testing.assert_allclose(loaded.run("serving_default", changed)["score"][real], score[real], atol=1e-5)


@pytest.mark.long
def test_onnx(way):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    from tfmtl2r.serving.onnx import export_onnx

    folder = way[4]
    assert export_onnx(folder / "export", folder / "ranker.onnx").is_file()
