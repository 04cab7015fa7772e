"""MovieLens: ratings of films, listwise per user, split per user by time."""

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
    title="MovieLens latest-small, or another one in its format (your own copy)",
    paper="Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015, https://doi.org/10.1145/2827872; "
    "https://grouplens.org/datasets/movielens/",
    note="GroupLens licence: not for commercial use, redistribution only with its README and under the same terms; "
    "ratings in half stars with the films' genres and years. Good for one label seen as a regression and as a binary "
    "goal. Pitfalls: users chose what they rated, so nothing is known about films that were not; a statistic that "
    "leaves out just the row's own rating gives the rating away within a user, so only earlier ratings or those of "
    "other folds are counted; 610 users",
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
"""Ratings at the mean that are added to each user and film."""
PENALTY = 20.0
"""Of a user's slopes on the films' attributes; the best of 5, 10, 20 and 40 on MovieLens small's validation split."""


@dataclasses.dataclass(frozen=True)
class MovieLens(DataSet):
    """Films that one user rated within a split.

    Tasks: ``rating`` (.5 to 5, regression) and ``like`` (a rating of at least 4, binary). Inputs: the genres (one
    component per genre that the films have, in alphabetical order), the year of the film, and how many ratings of the
    user and the film are known, with their smoothed mean. These statistics come from training ratings only: for a
    training row those before it in time, for ``vali`` and ``test`` all of them. Leaving out just the row's own rating
    would not do: within a user, such a mean is the higher the lower the rating is.

    With ``folds``, a training row's statistics are those of all training ratings outside its fold, earlier and later
    ones, so that they are about as rich as those of ``vali`` and ``test``. There are three more: ``user_bias``,
    ``biases`` (the mean rating and the biases of user and film) and ``taste`` (what the user's slopes on genres, year
    and number of ratings say about the film beyond that; see :class:`tfmtl2r.datasets._taste.Taste`). They clearly
    help, but whoever serves the model must compute ``taste`` for each pair of user and film.

    With ``tfds`` the ratings are split here: each user's, in the order of time, 8 : 1 : 1, like the files that ``path``
    expects.

    Args:
        path: a folder with ``train``, ``vali``, ``test`` (``userId,movieId,rating,timestamp``) and ``movies``
            (``movieId,title,genres``) as ``.csv`` or ``.csv.gz``.
        ids: make the user and the film inputs too.
        protocol: ``time``: the splits as they are, each user's latest ratings last. ``random``: all ratings drawn anew,
            8 : 1 : 1, as in the DML paper; then a row's statistics may know ratings of a later time.
        sampled_lists: where above 0, training lists are so many draws of ``list_length`` ratings per user, through
            TensorFlow Recommenders' ``sample_listwise``, in place of one list with all of them.
        list_length: of those.
        folds: into how many folds training ratings are drawn, each row's statistics being of the others; 0: of earlier
            ratings.
        seed: of all draws.
        tfds: read tensorflow-datasets' ``movielens`` with this configuration, such as ``100k-ratings``, in place of a
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
            raise InputError(f"folds must be 0 or at least 2, not {self.folds}: each row needs other folds")
        if self.tfds and self.path:
            raise InputError("give either a path or a configuration of tensorflow-datasets (tfds), not both")
        if not self.path and not self.tfds:
            raise InputError(f"path is empty: give the folder with the ratings; {SOURCE}")

    def tasks(self) -> tuple[Task, ...]:
        """Rating and like."""
        return (
            Task("rating", kind="regression", loss="mse", metrics=("mse",)),
            Task("like", kind="binary", loss="bce", metrics=("auc", "ndcg@10")),
        )

    def features(self) -> tuple[str | Feature, ...]:
        """Genres, year, statistics, and ids if asked for."""
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
        """The time, and the ids unless they are asked for."""
        return ("timestamp", *(() if self.ids else ("userId", "movieId")))

    def trivial_scores(self) -> dict[str, dict[str, Scores]]:
        """Means of user and film, how often the film was rated, and with folds the biases, alone and with taste."""

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
            from tfmtl2r.data.sampling import sample_lists  # it loads TensorFlow Recommenders

            return sample_lists(lists, self.sampled_lists, self.list_length, self.seed)
        return lists

    def _statistics(self, rows: pd.DataFrame, split: str) -> pd.DataFrame:
        """What training ratings say about the users and films of the rows, none of which says it about itself."""
        train = self._ratings("train")
        if split != "train":
            return self._known(train, rows)
        if not self.folds:
            return pd.concat([_earlier(train, "user", "userId"), _earlier(train, "item", "movieId")], axis=1)
        fold = np.random.default_rng(self.seed).permutation(len(train)) % self.folds
        return pd.concat([self._known(train[fold != k], train[fold == k]) for k in range(self.folds)]).loc[train.index]

    def _known(self, train: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        """Statistics of these training ratings, for the rows."""
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
        bias = model.user_bias[at_user]  # row -1, of users without ratings, is 0
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
        """Films with their year, and one row of 0 and 1 per film."""
        path, table = self._table("movies", MOVIE_COLUMNS)
        twice = table["movieId"].duplicated()
        if twice.any():
            raise InputError(f"{path}: row {int(twice.to_numpy().argmax())} (counted from 0): film "
                             f"{table['movieId'][twice].iloc[0]} stands there for the second time")
        sets = [set(str(text).split("|")) - {NO_GENRES, ""} for text in table["genres"]]
        names = sorted(set().union(*sets))
        if not names:
            raise InputError(f"{path}: no film has a genre; expected genres such as Comedy|Drama")
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
    """The films and the three splits of a set of tensorflow-datasets, which has one split only."""
    rows = [
        (int(row["user_id"]), int(row["movie_id"]), float(row["user_rating"]), int(row["timestamp"]),
         row["movie_title"].decode(), "|".join(f"{genre:02}" for genre in np.ravel(row["movie_genres"])))
        for row in examples(name, "train")
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=[*RATING_COLUMNS, "title", "genres"])
    ordered = table.sort_values(["timestamp", "movieId"], kind="stable")
    # Eight tenths of each user's ratings, then one, then the rest.
    rank = ordered.groupby("userId").cumcount()
    size = ordered.groupby("userId")["rating"].transform("size")
    part = (rank >= np.floor(0.8 * size)).astype(int) + (rank >= np.floor(0.8 * size) + np.floor(0.1 * size))
    splits = {split: ordered[part == i][list(RATING_COLUMNS)].sort_index() for i, split in enumerate(DataSet.splits)}
    return {**splits, "movies": table[list(MOVIE_COLUMNS)].drop_duplicates("movieId")}


def _earlier(train: pd.DataFrame, prefix: str, key: str) -> pd.DataFrame:
    """Smoothed mean and count of the ratings before each row, ties in time in the order of the file."""
    ordered = train.sort_values("timestamp", kind="stable")
    # The mean of all ratings would hold the row's own: it is the mean of the earlier ones too.
    before = np.arange(len(ordered))
    overall = (ordered["rating"].cumsum() - ordered["rating"] + 3.0 * PRIOR) / (before + PRIOR)
    groups = ordered.groupby(key)["rating"]
    count = groups.cumcount()
    mean = (groups.cumsum() - ordered["rating"] + PRIOR * overall) / (count + PRIOR)
    return pd.DataFrame({f"{prefix}_mean": mean, f"{prefix}_count": count.astype(np.float64)}).loc[train.index]


def _all(train: pd.DataFrame, prefix: str, key: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Smoothed mean and count of all these ratings, for the users or films of the rows."""
    groups = train.groupby(key)["rating"]
    count = groups.count().reindex(rows[key]).fillna(0).to_numpy(np.float64)
    total = groups.sum().reindex(rows[key]).fillna(0).to_numpy(np.float64)
    mean = (total + PRIOR * float(train["rating"].mean())) / (count + PRIOR)
    return pd.DataFrame({f"{prefix}_mean": mean, f"{prefix}_count": count}, index=rows.index)
