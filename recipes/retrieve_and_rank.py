"""One SavedModel from a user to films: TFRS finds candidates among all films, a multi-task ranker orders them.

    python recipes/retrieve_and_rank.py --data ml-latest-small --user 1

Trains two towers with TensorFlow Recommenders (who rates what) and a ranker for rating and like on MovieLens, and puts
the index of all films, the features of users and films, and the ranker into one graph: ``recommend(user) -> items,
scores``. Before it is published it is loaded as TensorFlow Serving loads it, and passes the checks of every export: its
answers, alone and merged with others, are those of the graph here.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import tfmtl2r
from tfmtl2r import Experiment, recommenders
from tfmtl2r.data import read_table
from tfmtl2r.datasets.movielens import MovieLens
from tfmtl2r.layers import Lookup
from tfmtl2r.serving import PREDICT, TOLERANCE, Record, complete, described, publish, quiet

# isort: split
# After tfmtl2r, which holds back TensorFlow's start-up lines.
import keras
import tensorflow as tf

DIM = 32
FILM = ("genres", "year", "item_mean", "item_count")
USER = ("user_mean", "user_count")


def main() -> None:
    """Trains, exports and recommends."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", required=True, help="folder with train, vali, test and movies")
    parser.add_argument("--user", type=int, default=1, help="whom to recommend films to")
    parser.add_argument("--candidates", type=int, default=100, help="how many films the index finds")
    parser.add_argument("--items", type=int, default=10, help="how many of them are recommended")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--to", default="saved_models/retrieve_and_rank")
    options = parser.parse_args()
    dataset = tfmtl2r.datasets.get("movielens", path=options.data)
    store = features(dataset)
    users, films = towers(store, options.epochs)
    experiment = Experiment(name="retrieve-and-rank", data=dataset, method="mgda", gradients="features",
                            architecture={"name": "mmoe", "num_experts": 4},
                            training={"epochs": options.epochs, "patience": 0})
    ranker, card = experiment.run(verbose=0, dataset=dataset, overwrite=True)
    for task, row in card.results["test"].items():
        print(f"ranker, {task}: " + ", ".join(f"{name} {value['value']:.4f}" for name, value in row.items()))
    model = RetrieveAndRank(ranker, store, users, films, options.candidates, options.items)
    ways = {"two towers": lambda rows: model.candidates(tf.constant(rows)).numpy(),
            "most rated films": lambda rows: most_rated(store, rows, options.candidates)}
    for name, find in ways.items():
        found = recall(store, dataset.lists("test"), find)
        print(f"{name}: {found:.1%} of the films that test users came to like are among {options.candidates} of "
              f"{store.films.size}")
    version = export(model, options.to)
    print(f"exported and checked: {version}\nfor user {options.user}:")
    answer = tfmtl2r.load(version)["recommend"](user=[options.user])
    titles = read_table(next(Path(options.data).glob("movies.csv*"))).set_index("movieId")["title"]
    for place, film in enumerate(answer["items"].numpy()[0]):
        scores = "  ".join(f"{t.name} {answer[f'score_{t.name}'].numpy()[0, place]:+.2f}" for t in ranker.tasks)
        print(f"  {scores}  {titles[film]}")


@dataclasses.dataclass(frozen=True)
class Store:
    """What is known about users and films before a request: a row each, row 0 of the users for unknown ones.

    Args:
        users, films: their ids; user i has row i + 1.
        user, film: features by name.
        seen: rows of the films that each user rated, padded with -1.
        pairs: user and film row of every training rating.
    """

    users: np.ndarray
    films: np.ndarray
    user: dict[str, np.ndarray]
    film: dict[str, np.ndarray]
    seen: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray]


def features(dataset: Any) -> Store:
    """The features that the data set gives to rows after the training period, for every user and film in it."""
    columns = dataset.lists("train").columns
    frame = pd.DataFrame({name: columns[name] for name in ("userId", "movieId", "rating")})
    users, user_row = np.unique(frame["userId"], return_inverse=True)
    films, first, film_row = np.unique(frame["movieId"], return_index=True, return_inverse=True)
    user_count, user_mean = statistics(frame["rating"].to_numpy(), user_row + 1, len(users) + 1)
    item_count, item_mean = statistics(frame["rating"].to_numpy(), film_row, len(films))
    rated = [film_row[user_row == row] for row in range(len(users))]
    seen = np.full([len(users) + 1, max(map(len, rated))], -1, np.int32)
    for row, rows in enumerate(rated, start=1):
        seen[row, : len(rows)] = rows
    film = {name: columns[name][first].astype(np.float32) for name in ("genres", "year")}
    return Store(users, films, {"user_mean": user_mean, "user_count": user_count},
                 {**film, "item_mean": item_mean, "item_count": item_count}, seen, (user_row + 1, film_row))


def statistics(ratings: np.ndarray, rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Count and smoothed mean of the ratings of each row, as the data set has them."""
    count = np.bincount(rows, minlength=size)
    mean = (np.bincount(rows, ratings, size) + MovieLens.prior * ratings.mean()) / (count + MovieLens.prior)
    return count.astype(np.float32), mean.astype(np.float32)


def towers(store: Store, epochs: int, batch_size: int = 512, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of users and films whose products say who rates what; an unknown user is the mean of all.

    The loss is TFRS' softmax over the films of the batch, corrected for how often each film is in one.
    """
    keras.utils.set_random_seed(seed)
    user_rows, film_rows = store.pairs
    users, films = keras.layers.Embedding(len(store.users) + 1, DIM), keras.layers.Embedding(len(store.films), DIM)
    frequency = (np.bincount(film_rows, minlength=len(store.films)) / len(film_rows)).astype(np.float32)
    task, optimizer = recommenders().tasks.Retrieval(), keras.optimizers.Adam(0.01)
    for table in (users, films):
        table.build()

    @tf.function(reduce_retracing=True)
    def step(user: Any, film: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = task(users(user), films(film), candidate_ids=film, compute_metrics=False,
                        candidate_sampling_probability=tf.gather(frequency, film))
        variables = [users.embeddings, films.embeddings]
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return loss / tf.cast(tf.shape(user)[0], tf.float32)

    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = random.permutation(len(user_rows))
        parts = np.split(order, range(batch_size, len(order), batch_size))
        losses = [float(step(user_rows[part], film_rows[part])) for part in parts]
    print(f"two towers: loss {np.mean(losses):.3f} per rating after {epochs} epochs")
    vectors = users.embeddings.numpy()
    vectors[0] = vectors[1:].mean(axis=0)
    return vectors, films.embeddings.numpy()


class RetrieveAndRank(tf.Module):
    """Both stages as one graph.

    Args:
        ranker: trained on features of users and films.
        store: these features.
        users, films: vectors of the towers.
        candidates: how many films the index finds; films that the user rated are left out.
        items: how many of them come back.

    Raises:
        ValueError: for more candidates than there are films beside those that one user may have rated.
    """

    def __init__(self, ranker: Any, store: Store, users: np.ndarray, films: np.ndarray, candidates: int, items: int):
        super().__init__(name="retrieve_and_rank")
        most = len(films) - store.seen.shape[1]  # TFRS finds as many more as it leaves out
        if not 1 <= candidates <= most:
            raise ValueError(f"the index can find 1 to {most} films, since of {len(films)} one user rated "
                             f"{store.seen.shape[1]}, but {candidates} are asked for: lower --candidates")
        self.ranker, self.store, self.items = ranker, store, min(items, candidates)
        self.lookup = Lookup(ranker.schema)
        self.rows = keras.layers.IntegerLookup(vocabulary=store.users.tolist())
        self.vectors = users
        self.index = recommenders().layers.factorized_top_k.BruteForce(k=candidates)
        self.index.index(tf.constant(films), tf.range(len(films)))
        self.weights = {task.name: task.weight / sum(t.weight for t in ranker.tasks) for task in ranker.tasks}
        self.recommend = tf.function(self._recommend, input_signature=[tf.TensorSpec([None], tf.int64, "user")],
                                     autograph=False)
        self.recommend.get_concrete_function()  # an archive tracks layers that are built

    def candidates(self, user: Any) -> Any:
        """Rows of films for rows of users, ``[B, candidates]``, best first."""
        seen = tf.gather(self.store.seen, user)
        return self.index.query_with_exclusions(tf.gather(self.vectors, user), seen)[1]

    def score(self, user: Any, film: Any) -> dict[str, Any]:
        """The ranker's score of each film ``[B, L]`` for its user, by task."""
        raw = {name: tf.gather(self.store.film[name], film) for name in FILM}
        for name in USER:
            raw[name] = tf.repeat(tf.gather(self.store.user[name], user)[:, None], tf.shape(film)[1], axis=1)
        raw["list_size"] = tf.fill(tf.shape(user), tf.shape(film)[1])
        return self.ranker(self.lookup(raw), training=False)

    def _recommend(self, user: Any) -> dict[str, Any]:
        row = self.rows(user)
        film = self.candidates(row)
        scores = self.score(row, film)
        blended = tf.add_n([weight * scores[task] for task, weight in self.weights.items()])
        score, best = tf.math.top_k(blended, self.items)
        answer = {f"score_{task}": tf.gather(values, best, batch_dims=1) for task, values in scores.items()}
        items = tf.gather(self.store.films, tf.gather(film, best, batch_dims=1))
        return {**answer, "score": score, "items": tf.cast(items, tf.int64)}


def recall(store: Store, lists: Any, candidates: Callable[[np.ndarray], np.ndarray]) -> float:
    """The share of the liked films of later lists that retrieval finds, of users and films known from training."""
    film = pd.Index(store.films).get_indexer(lists.columns["movieId"])
    user = pd.Index(store.users).get_indexer(lists.columns["userId"]) + 1
    wanted = (lists.columns["like"] > 0) & (film >= 0) & (user > 0)
    known, where = np.unique(user, return_inverse=True)
    return float((candidates(known)[where] == film[:, None]).any(axis=1)[wanted].mean())


def most_rated(store: Store, rows: np.ndarray, count: int) -> np.ndarray:
    """What retrieval has to beat: the films with the most ratings, without those that the user rated."""
    ratings = np.tile(store.film["item_count"], (len(rows), 1))
    for user, row in zip(ratings, rows, strict=True):
        user[store.seen[row][store.seen[row] >= 0]] = -1
    return np.argsort(-ratings, axis=1, kind="stable")[:, :count]


def export(model: RetrieveAndRank, directory: str | Path) -> Path:
    """Writes the next version, once it passed the checks that every export has to pass."""
    names, users = ("serving_default", "recommend"), [*model.store.users[:3], -1]
    plan = described(PREDICT, {"user": tf.TensorSpec([None], tf.int64)},
                     model.recommend.get_concrete_function().structured_outputs)
    records = []
    for request in (users, users[:1]):
        answer = model.recommend(tf.constant(request, tf.int64))
        known = Record("", {"user": np.array(request, np.int64)}, {k: v.numpy() for k, v in answer.items()})
        records += [(PREDICT, dataclasses.replace(known, signature=name)) for name in names]

    def write(folder: Path) -> None:
        archive = keras.export.ExportArchive()
        for part in (model.lookup, model.rows, model.index):
            archive.track(part)
        for name in names:
            archive.add_endpoint(name, model.recommend)
        with quiet():
            archive.write_out(str(folder), verbose=False)
        metadata = {"signatures": dict.fromkeys(names, plan), "tolerance": TOLERANCE}
        complete(folder, Path(directory).resolve().name, metadata, records)

    return publish(directory, write)


if __name__ == "__main__":
    main()
