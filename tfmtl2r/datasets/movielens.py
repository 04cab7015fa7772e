"""MovieLens: ratings of films, one list per user, split by time for each user."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from tfmtl2r.data.frame import from_frame, read_table
from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.datasets._taste import fit, standardised
from tfmtl2r.datasets._tfds import examples
from tfmtl2r.datasets.base import DataSet, Scores
from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.features.base import Feature
from tfmtl2r.features.category import Category
from tfmtl2r.features.dense import Dense
from tfmtl2r.registry import Card
from tfmtl2r.settings import FilePath
from tfmtl2r.task import Task

CARD = Card(
    title="MovieLens latest-small, or another release in its format (your own copy)",
    paper="Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015, https://doi.org/10.1145/2827872; "
    "https://grouplens.org/datasets/movielens/",
    note="GroupLens licence: not for commercial use, redistribution only with its README and under the same terms; "
    "ratings in half stars with the films' genres and years; 610 users. Good for one label as a regression and as a "
    "binary task. Pitfalls: users chose which films they rated, so nothing is known about other films; a statistic "
    "that leaves out only the row's own rating reveals this rating within a user, so statistics count only earlier "
    "ratings or ratings of other folds",
)
__all__ = ["MovieLens"]

SOURCE = (
    "get ml-latest-small from https://grouplens.org/datasets/movielens/, split ratings.csv per user by time into "
    "train.csv, vali.csv and test.csv, and put them with movies.csv into this folder"
)
RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
MOVIE_COLUMNS = ("movieId", "title", "genres")
NO_GENRES = "(no genres listed)"
PROTOCOLS = ("time", "random")
PRIOR = 5.0
"""Number of mean ratings that are added to each user and film."""
PENALTY = 20.0
"""L2 penalty of a user's slopes on film attributes; best of 5, 10, 20 and 40 on the validation split of latest-small.
"""


@dataclasses.dataclass(frozen=True)
class MovieLens(DataSet):
    """Lists of the films that one user rated within a split.

    The tasks are ``rating`` (.5 to 5, regression) and ``like`` (a rating of at least 4, binary). The inputs are the
    genres (one component per genre of the films, in alphabetical order), the year of the film, and the number and
    smoothed mean of the known ratings of the user and of the film. These statistics come only from training ratings.
    For a training row they use earlier ratings; for ``vali`` and ``test`` they use all training ratings. It would not
    be enough to leave out only the row's own rating: within a user, a mean of the other ratings is higher if the rating
    is lower.

    With ``folds``, the statistics of a training row use all training ratings outside its fold, earlier and later ones.
    They are then about as rich as the statistics of ``vali`` and ``test``. There are also three more inputs:
    ``user_bias``, ``biases`` (mean rating plus the biases of user and film) and ``taste`` (the dot product of the
    user's slopes with the film's genres, year and number of ratings; see
    :class:`tfmtl2r.datasets._taste.Taste`). These inputs clearly help, but ``taste`` must be computed for every pair of
    user and film when the model is served.

    With ``tfds``, the ratings of each user are split 8 : 1 : 1 in the order of time, like the files in ``path``.

    Args:
        path: a folder with ``train``, ``vali``, ``test`` (``userId,movieId,rating,timestamp``) and ``movies``
            (``movieId,title,genres``) as ``.csv`` or ``.csv.gz``.
        ids: use the ids of the user and the film as inputs.
        protocol: ``time`` keeps the splits of the files, with each user's latest ratings in the test split. ``random``
            splits all ratings randomly, 8 : 1 : 1, as in the DML paper; a row's statistics may then use later ratings.
        sampled_lists: if above 0, the number of training lists per user. Each list has ``list_length`` ratings drawn by
            TensorFlow Recommenders' ``sample_listwise``. With 0, a user has one list with all ratings.
        list_length: length of sampled lists.
        folds: number of folds of the training ratings; statistics of a row come from the other folds. With 0, they come
            from earlier ratings.
        seed: seed of all draws.
        tfds: configuration of ``movielens`` in tensorflow-datasets, for example ``100k-ratings``, used in place of a
            path.

    Raises:
        ValueError: for neither a path nor a configuration, or both, an unknown protocol, or a number of folds that is
            neither 0 nor at least 2.

    >>> [(task.name, task.kind) for task in MovieLens("ml-latest-small").tasks()]
    [('rating', 'regression'), ('like', 'binary')]
    """

    prior: ClassVar[float] = PRIOR
    path: FilePath = ""
    ids: bool = False
    protocol: str = "time"
    sampled_lists: int = 0
    list_length: int = 10
    folds: int = 0
    seed: int = 0
    tfds: str = ""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {self.protocol!r}")
        if self.folds < 0 or self.folds == 1:
            raise InputError(f"folds must be 0 or at least 2, not {self.folds}: statistics come from other folds")
        if self.tfds and self.path:
            raise InputError("set either path or tfds (a configuration of tensorflow-datasets), not both")
        if not self.path and not self.tfds:
            raise InputError(f"path is empty: set it to the folder with the ratings; {SOURCE}")

    def tasks(self) -> tuple[Task, ...]:
        """Rating and like."""
        return (
            Task("rating", kind="regression", loss="mse", metrics=("mse",)),
            Task("like", kind="binary", loss="bce", metrics=("auc", "ndcg@10")),
        )

    def features(self) -> tuple[str | Feature, ...]:
        """Genres, year and statistics; with ``ids``, the ids of user and film."""
        genres = self.lists("train").columns["genres"].shape[1]
        ids = (Category("userId", context=True, dtype="int64"), Category("movieId", dtype="int64"))
        return (
            Dense("genres", shape=(genres,)), Dense("year"),
            Dense("user_mean"), Dense("user_count", transform="log1p"),
            Dense("item_mean"), Dense("item_count", transform="log1p"),
            *(Dense(name) for name in ("user_bias", "biases", "taste") if self.folds),
            *(ids if self.ids else ()),
        )  # fmt: skip

    def exclude(self) -> tuple[str, ...]:
        """The timestamp, and the ids unless ``ids`` is set."""
        return ("timestamp", *(() if self.ids else ("userId", "movieId")))

    def trivial_scores(self) -> dict[str, dict[str, Scores]]:
        """Means of user and film and the film's number of ratings; with ``folds``, biases without and with taste."""

        def summed(*names: str) -> dict[str, Scores]:
            scores = lambda lists: np.sum([lists.columns[name] for name in names], axis=0)  # noqa: E731
            return dict.fromkeys(("rating", "like"), scores)

        return {
            "user mean": {"rating": summed("user_mean")["rating"]},
            "film mean": summed("item_mean"),
            "popularity": {"like": summed("item_count")["like"]},
            "user and film mean": {"like": summed("user_mean", "item_mean")["like"]},
            **({"biases": summed("biases"), "biases and taste": summed("biases", "taste")} if self.folds else {}),
        }

    def pooled(self) -> Lists:
        raise InputError("the statistics of MovieLens are computed from its training ratings, so that folds of all "
                         "ratings would contain their own test labels: use its own splits")

    def read(self, split: str) -> Lists:
        rows, (movies, genres) = self._ratings(split), self._movies
        film = movies.index.get_indexer(pd.Index(rows["movieId"]))
        frame = rows.assign(like=(rows["rating"] >= 4).astype(np.float32), year=movies["year"].to_numpy()[film],
                            film=film, **self._statistics(rows, split))
        lists = from_frame(frame, list_id="userId", context=("userId",))
        columns = dict(lists.columns)
        columns["genres"] = genres[columns.pop("film")]
        lists = dataclasses.replace(lists, columns=columns)
        if split == "train" and self.sampled_lists:
            from tfmtl2r.data.sampling import sample_lists  # imports TensorFlow Recommenders

            return sample_lists(lists, self.sampled_lists, self.list_length, self.seed)
        return lists

    def _statistics(self, rows: pd.DataFrame, split: str) -> pd.DataFrame:
        """Statistics of training ratings for the users and films of the rows, without the rows' own ratings."""
        train = self._ratings("train")
        if split != "train":
            return self._known(train, rows)
        if not self.folds:
            return pd.concat([_earlier(train, "user", "userId"), _earlier(train, "item", "movieId")], axis=1)
        fold = np.random.default_rng(self.seed).permutation(len(train)) % self.folds
        return pd.concat([self._known(train[fold != k], train[fold == k]) for k in range(self.folds)]).loc[train.index]

    def _known(self, train: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        """Statistics of the given training ratings for the given rows."""
        simple = [_all(train, "user", "userId", rows), _all(train, "item", "movieId", rows)]
        if not self.folds:
            return pd.concat(simple, axis=1)
        movies, genres = self._movies
        users = pd.Index(train["userId"].unique())
        (user, item), (at_user, at_item) = (
            (users.get_indexer(pd.Index(of["userId"])), movies.index.get_indexer(pd.Index(of["movieId"])))
            for of in (train, rows)
        )
        count = np.log1p(np.bincount(item, minlength=len(movies)))
        attributes = np.column_stack([genres, standardised(movies["year"].to_numpy(), item), standardised(count, item)])
        model = fit(user, item, train["rating"].to_numpy(np.float64), attributes, len(users) + 1, prior=PRIOR,
                    penalty=PENALTY)
        bias = model.user_bias[at_user]  # index -1 (users without ratings) has bias 0
        taste = (model.slopes[at_user] * attributes[at_item]).sum(axis=1)
        own = {"user_bias": bias, "biases": model.mean + bias + model.item_bias[at_item], "taste": taste}
        return pd.concat([*simple, pd.DataFrame(own, index=rows.index)], axis=1)

    def _ratings(self, split: str) -> pd.DataFrame:
        if self.protocol == "time":
            return self._stored(split)
        if "drawn" not in self._cache:
            whole = pd.concat([self._stored(name) for name in self.splits], ignore_index=True)
            order = np.random.default_rng(self.seed).permutation(len(whole))
            parts = np.split(order, [int(0.8 * len(order)), int(0.8 * len(order)) + int(0.1 * len(order))])
            self._cache["drawn"] = {name: whole.iloc[np.sort(part)].reset_index(drop=True)
                                    for name, part in zip(self.splits, parts, strict=True)}
        return self._cache["drawn"][split]

    def _stored(self, split: str) -> pd.DataFrame:
        if ("stored", split) in self._cache:
            return self._cache["stored", split]
        path, table = self._table(split, RATING_COLUMNS)
        odd = ~table["rating"].between(0.5, 5.0)
        if odd.any():
            raise InputError(f"{path}: row {int(odd.to_numpy().argmax())} (counted from 0): expected a rating from .5 "
                             f"to 5, got {table['rating'][odd].iloc[0]}")
        unknown = ~table["movieId"].isin(self._movies[0].index)
        if unknown.any():
            raise InputError(f"{path}: film {table['movieId'][unknown].iloc[0]} is not in "
                             f"{self._file('movies').name} ({int(unknown.sum())} rows in all)")
        self._cache["stored", split] = table
        return table

    @functools.cached_property
    def _movies(self) -> tuple[pd.DataFrame, np.ndarray]:
        """Films with their year, and the genres of each film as a row of 0 and 1."""
        path, table = self._table("movies", MOVIE_COLUMNS)
        twice = table["movieId"].duplicated()
        if twice.any():
            raise InputError(f"{path}: row {int(twice.to_numpy().argmax())} (counted from 0): film "
                             f"{table['movieId'][twice].iloc[0]} appears for the second time")
        sets = [set(str(text).split("|")) - {NO_GENRES, ""} for text in table["genres"]]
        names = sorted(set().union(*sets))
        if not names:
            raise InputError(f"{path}: no film has a genre; expected genres, for example Comedy|Drama")
        genres = np.array([[name in given for name in names] for given in sets], np.float32)
        year = table["title"].astype(str).str.extract(r"\((\d{4})[^()]*\)\s*$")[0].astype("float64")
        return table.assign(year=year).set_index("movieId"), genres

    def _file(self, name: str) -> Path:
        found = [path for end in (".csv.gz", ".csv") if (path := Path(self.path) / f"{name}{end}").is_file()]
        if not found:
            raise MissingFileError(f"{Path(self.path) / name}.csv[.gz]: there is no such file; {SOURCE}")
        return found[0]

    def _table(self, name: str, columns: tuple[str, ...]) -> tuple[Path, pd.DataFrame]:
        if self.tfds:
            if "tfds" not in self._cache:
                self._cache["tfds"] = _tables_of(f"movielens/{self.tfds}")
            return Path("movielens", self.tfds, name), self._cache["tfds"][name]
        path = self._file(name)
        table = read_table(path)
        for column in columns:
            if column not in table.columns:
                raise InputError(missing_column(column, table.columns, str(path)))
        return path, table[list(columns)]


def _tables_of(name: str) -> dict[str, pd.DataFrame]:
    """Films and three splits of a data set in tensorflow-datasets, which has a single split."""
    rows = [
        (int(row["user_id"]), int(row["movie_id"]), float(row["user_rating"]), int(row["timestamp"]),
         row["movie_title"].decode(), "|".join(f"{genre:02}" for genre in np.ravel(row["movie_genres"])))
        for row in examples(name, "train")
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=[*RATING_COLUMNS, "title", "genres"])
    ordered = table.sort_values(["timestamp", "movieId"], kind="stable")
    # Train has the first eight tenths of each user's ratings, vali the next tenth, test the rest.
    rank = ordered.groupby("userId").cumcount()
    size = ordered.groupby("userId")["rating"].transform("size")
    part = (rank >= np.floor(0.8 * size)).astype(int) + (rank >= np.floor(0.8 * size) + np.floor(0.1 * size))
    splits = {split: ordered[part == i][list(RATING_COLUMNS)].sort_index() for i, split in enumerate(DataSet.splits)}
    return {**splits, "movies": table[list(MOVIE_COLUMNS)].drop_duplicates("movieId")}


def _earlier(train: pd.DataFrame, prefix: str, key: str) -> pd.DataFrame:
    """Smoothed mean and count of the ratings before each row; the order of the file decides between equal times."""
    ordered = train.sort_values("timestamp", kind="stable")
    # The overall mean uses only earlier ratings, too. The mean of all ratings would contain the row's own rating.
    before = np.arange(len(ordered))
    overall = (ordered["rating"].cumsum() - ordered["rating"] + 3.0 * PRIOR) / (before + PRIOR)
    groups = ordered.groupby(key)["rating"]
    count = groups.cumcount()
    mean = (groups.cumsum() - ordered["rating"] + PRIOR * overall) / (count + PRIOR)
    return pd.DataFrame({f"{prefix}_mean": mean, f"{prefix}_count": count.astype(np.float64)}).loc[train.index]


def _all(train: pd.DataFrame, prefix: str, key: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Smoothed mean and count of all given ratings for the users or films of the rows."""
    groups = train.groupby(key)["rating"]
    count = groups.count().reindex(rows[key]).fillna(0).to_numpy(np.float64)
    total = groups.sum().reindex(rows[key]).fillna(0).to_numpy(np.float64)
    mean = (total + PRIOR * float(train["rating"].mean())) / (count + PRIOR)
    return pd.DataFrame({f"{prefix}_mean": mean, f"{prefix}_count": count}, index=rows.index)
