"""The recipe that puts retrieval and ranking into one SavedModel, on MovieLens where it is."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from servicer import Server

import tfmtl2r
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import batches
from tfmtl2r.serving import warmup
from tfmtl2r.serving.check import check
from tfmtl2r.serving.client import Client

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "movielens_latest_small"


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("retrieve_and_rank", ROOT / "recipes" / "retrieve_and_rank.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def made(recipe, tmp_path_factory):
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there: MovieLens is not part of the project")
    dataset = tfmtl2r.datasets.get("movielens", path=str(DATA))
    store = recipe.features(dataset)
    users, films = recipe.towers(store, epochs=3)
    keras.utils.set_random_seed(0)
    tasks = dataset.tasks()
    ranker = tfmtl2r.MultiTaskRanker({"name": "shared_bottom", "units": (16,), "head_units": (8,)}, tasks,
                                     dataset.schema(tasks))
    ranker.compile("adam")
    ranker.fit(batches(dataset.lists("train"), tasks, ranker.schema, batch_size=32), verbose=0)
    model = recipe.RetrieveAndRank(ranker, store, users, films, candidates=50, items=10)
    return dataset, store, model, recipe.export(model, tmp_path_factory.mktemp("export") / "films")


def test_features_are_those_of_the_data_set(made, recipe):
    """What is served is what the ranker saw: no skew between training and serving."""
    dataset, store, _, _ = made
    columns = dataset.lists("test").columns
    film_row = {film: row for row, film in enumerate(store.films)}
    user_row = {user: row for row, user in enumerate(store.users, start=1)}
    known = np.array([film in film_row and user in user_row
                      for film, user in zip(columns["movieId"], columns["userId"], strict=True)])
    assert known.sum() > 1000
    films = [film_row[film] for film in columns["movieId"][known]]
    users = [user_row[user] for user in columns["userId"][known]]
    for name in recipe.FILM:
        np.testing.assert_allclose(store.film[name][films], columns[name][known], rtol=1e-5)
    for name in recipe.USER:
        np.testing.assert_allclose(store.user[name][users], columns[name][known], rtol=1e-5)


def test_brute_force_in_numpy(made):
    """Retrieval, exclusion, ranking and order, one user at a time."""
    _, store, model, version = made
    vectors, films = model.vectors, model.index._candidates.numpy()
    answer = tfmtl2r.load(version)["recommend"](user=store.users[:5])
    for i in range(5):
        similar = films @ vectors[i + 1]
        seen = store.seen[i + 1][store.seen[i + 1] >= 0]
        similar[seen] = -np.inf
        candidates = np.argsort(-similar, kind="stable")[:50]
        scores = model.score(tf.constant([i + 1]), tf.constant(candidates[None]))
        blended = np.mean([values.numpy()[0] for values in scores.values()], axis=0)
        best = np.argsort(-blended, kind="stable")[:10]
        np.testing.assert_array_equal(answer["items"].numpy()[i], store.films[candidates[best]])
        np.testing.assert_allclose(answer["score"].numpy()[i], blended[best], rtol=1e-5, atol=1e-6)
        for task, values in scores.items():
            found = answer[f"score_{task}"].numpy()[i]
            np.testing.assert_allclose(found, values.numpy()[0][best], rtol=1e-5, atol=1e-6)
        assert not set(answer["items"].numpy()[i]) & set(store.films[seen])


def test_checked_like_every_export(made):
    _, _, _, version = made
    assert check(version.parent) == version
    assert {record.signature for record in warmup.read(version / warmup.WARMUP)} == {"serving_default", "recommend"}


def test_more_candidates_than_films(made, recipe):
    """TFRS looks for as many more as it leaves out, and would fail inside the graph."""
    _, store, model, _ = made
    films = model.index._candidates.numpy()
    most = len(films) - store.seen.shape[1]
    with pytest.raises(ValueError, match=rf"can find 1 to {most} films.*lower --candidates"):
        recipe.RetrieveAndRank(model.ranker, store, model.vectors, films, most + 1, 10)
    largest = recipe.RetrieveAndRank(model.ranker, store, model.vectors, films, most, 10)
    assert largest.candidates(tf.constant([1])).shape == (1, most)


def test_retrieval_finds_more_than_popularity(made, recipe):
    dataset, store, model, _ = made
    lists = dataset.lists("test")
    found = recipe.recall(store, lists, lambda rows: model.candidates(tf.constant(rows)).numpy())
    assert found > recipe.recall(store, lists, lambda rows: recipe.most_rated(store, rows, 50))


def test_served(made):
    """Through a server, several users at once, one of them unknown."""
    _, store, model, version = made
    users = [int(store.users[7]), -5, int(store.users[0])]
    expected = model.recommend(tf.constant(users, tf.int64))
    with Server(version.parent, "films", batching={}) as server:
        server.wait_for(1)
        for target in (server.target, server.rest):
            with Client(target, "films", timeout=60) as client:
                answer = client.predict({"user": users}, "recommend")
                np.testing.assert_array_equal(answer["items"], expected["items"])
                np.testing.assert_allclose(answer["score"], expected["score"], rtol=1e-5)
                assert (np.diff(answer["score"], axis=1) <= 0).all()
                assert np.isfinite(answer["score"]).all()
