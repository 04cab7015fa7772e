"""KuaiRand-Pure, the standard log of 25 April to 5 May 2022: short videos shown to users, with the users' feedback."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tfmtl2r.data.frame import from_frame, read_table
from tfmtl2r.data.lists import Lists, missing_column
from tfmtl2r.data.rates import log_odds, out_of_fold_rates
from tfmtl2r.datasets.base import DataSet, Scores
from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.features.base import Feature
from tfmtl2r.features.category import Category
from tfmtl2r.features.dense import Dense
from tfmtl2r.features.sequence import Sequence
from tfmtl2r.registry import Card
from tfmtl2r.settings import FilePath
from tfmtl2r.task import Task

CARD = Card(
    title="KuaiRand-Pure (your own copy)",
    paper="Gao et al., KuaiRand, CIKM 2022, https://arxiv.org/abs/2208.08696; https://kuairand.com",
    note="CC BY-SA 4.0; users in a time window with clicks, long views, likes, follows, comments and watch time; split "
    "by day. Good for multi-task ranking with related goals of very different frequency (click 45 %, like 1.7 %, "
    "follow .13 %). Pitfalls: the source has exact duplicates, which are dropped here; video statistics are totals of "
    "the month and leak the future, so they are not read; the feature tab alone gives half of the gain from random to "
    "popularity, so this gain is not personalisation; embeddings of ids overfit after two epochs, so rates are the "
    "default; most lists have 1 to 5 videos, and only lists with a positive and a negative item count for NDCG; like "
    "has few such lists, so use AUC",
)
__all__ = ["KuaiRand"]

SOURCE = "get KuaiRand-Pure from https://kuairand.com, cut its standard log by day and put the files into this folder"
LOGS = {"train": "log_train_0425_0501", "vali": "log_vali_0502_0503", "test": "log_test_0504_0505"}
FEEDBACK = ("is_click", "long_view", "is_like", "is_follow", "is_comment", "watch_ratio", "watch_grade")
IDS = ("video_id", "author_id")
GRADES = (0.1, 0.3, 0.6, 1.0)
LOG_COLUMNS = (
    "user_id", "video_id", "date", "hourmin", "is_click", "is_like", "is_follow", "is_comment", "long_view",
    "play_time_ms", "duration_ms", "tab",
)  # fmt: skip
USER_COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
USER_CODES = (
    "user_active_degree", "is_live_streamer", "is_video_author",
    # Not the fourth: its 1,471 codes are nearly an id.
    *(f"onehot_feat{i}" for i in range(18) if i != 3),
)  # fmt: skip
VIDEO_COLUMNS = ("video_id", "author_id", "video_type", "upload_dt", "upload_type", "server_width", "server_height",
                 "music_type", "tag")  # fmt: skip
HISTORIES = ("watch_seq", "like_seq", "long_watch_seq")
HISTORY_COLUMNS = ("user_id", "history_len", *HISTORIES)
ATTENTION = {"name": "target_attention", "units": [32, 16], "normaliser": "sigmoid"}
VIDEO_WIDTH, VIDEO_COUNT = 8, 10
"""Width of the embedding of a video, and the rows that a video needs for an embedding of its own."""
PRIOR = 20.0
"""Number of impressions at the mean rate that are added to each video, so that rare videos have no extreme rates."""
RATED = {"user": "user_id", "video": "video_id", "author": "author_id"}
"""Name -> key column of the entities whose training rates are inputs. Rates of pairs, such as user and tag, make trees
better (clicks .8128 for .8097) and networks worse (.8064 for .8095)."""
RATED_LABELS = {"click": "is_click", "long_view": "long_view", "like": "is_like", "follow": "is_follow",
                "comment": "is_comment"}  # fmt: skip
MIXED_NDCG = {"name": "ndcg", "k": 5, "mixed_only": True}


@dataclasses.dataclass(frozen=True)
class KuaiRand(DataSet):
    """Lists of all videos that one user was shown within the days of a split.

    The tasks are ``click``, ``long_view``, ``like``, ``follow`` and ``comment`` (binary) and ``watch_ratio`` (grades 0
    to 4, which start at a watched share of 0, .1, .3, .6 and 1). The default tasks are the first three; the others are
    rare or follow from long views.

    The inputs are attributes of the user and the video, hour, tab, and counts from the histories, which end on 24
    April, the day before the log begins. With ``rates``, the inputs also contain the rate of each binary label for the
    user, the video and its author in the training split (as smoothed log-odds), and the number of rows behind each
    rate. The rates of a training row leave out the day of the row, so that they do not contain its own labels. The
    rates of validation and test rows use all training days. Other feedback and video statistics are no inputs.

    Args:
        path: a folder with ``log_train_0425_0501``, ``log_vali_0502_0503``, ``log_test_0504_0505``,
            ``user_features_pure``, ``video_features_basic_pure`` and ``user_history_until_0424``, each as ``.csv.gz``
            or ``.csv``.
        ids: use the ids of the user, the video and its author as inputs.
        rates: use training rates as inputs; see :func:`tfmtl2r.data.rates.out_of_fold_rates`.
        histories: use the videos that a user watched, liked and watched for long until 24 April as inputs, each with
            target attention (:class:`tfmtl2r.features.Sequence`). The id of the video is then an input, too, whose
            embedding is shared.
        prior: number of rows at the mean rate that are added to each user, video and author, so that rare ones have no
            extreme rates.

    Raises:
        ValueError: for a missing path, or a prior that is not above 0.

    >>> data = KuaiRand("KuaiRand-Pure")
    >>> data.default_tasks
    ('click', 'long_view', 'like')
    """

    path: FilePath = ""
    ids: bool = False
    rates: bool = True
    histories: bool = False
    prior: float = PRIOR

    def __post_init__(self) -> None:
        if not self.path:
            raise InputError(f"path is empty: set it to the folder with the files of KuaiRand-Pure; {SOURCE}")
        if not self.prior > 0:
            raise InputError(f"prior must be above 0, not {self.prior!r}")

    def tasks(self) -> tuple[Task, ...]:
        """All tasks; NDCG@5 is over lists with a positive and a negative item."""
        return (
            _binary("click", "is_click", MIXED_NDCG, "auc"),
            _binary("long_view", "long_view", MIXED_NDCG, "auc"),
            _binary("like", "is_like", "auc", MIXED_NDCG),
            _binary("follow", "is_follow", "auc"),
            _binary("comment", "is_comment", "auc"),
            Task("watch_ratio", label="watch_grade", kind="graded"),
        )

    @property
    def default_tasks(self) -> tuple[str, ...]:
        """Click, long view and like."""
        return ("click", "long_view", "like")

    def features(self) -> tuple[str | Feature, ...]:
        """Features of the user, the impression and the video."""
        integers: dict[str, Any] = {"dtype": "int64"}
        ids = [Category("user_id", context=True, **integers), *(Category(name, **integers) for name in IDS)]
        if self.histories:
            video = Category("video_id", min_count=VIDEO_COUNT, dim=VIDEO_WIDTH, **integers)
            ids = [video, *(one for one in ids if self.ids and one.name != "video_id")]
            ids += [Sequence(name, context=True, shares="video_id", pooling=ATTENTION) for name in HISTORIES]
        rates = [Dense(f"{name}_{task}_log_odds") for name in RATED for task in RATED_LABELS]
        rates += [Dense(f"{name}_train_count", transform="log1p") for name in RATED]
        return (
            *(Dense(name, context=True, transform="log1p") for name in (*USER_COUNTS, "hist_len")),
            Dense("hist_like_rate", context=True), Dense("hist_long_rate", context=True),
            Category(USER_CODES[0], context=True),
            *(Category(name, context=True, **integers) for name in USER_CODES[1:]),
            Category("tab", **integers), Category("hour", **integers),
            *(Dense(name, transform="log1p") for name in ("duration_s", "video_age_days", "video_hist_count")),
            Dense("video_hist_like_rate"), Dense("video_hist_long_rate"), Dense("seen_before", transform="log1p"),
            Dense("server_width"), Dense("server_height"),
            Category("video_type"), Category("upload_type"), Category("music_type", **integers), Category("tag"),
            *(rates if self.rates else ()), *(ids if self.ids or self.histories else ()),
        )  # fmt: skip

    def exclude(self) -> tuple[str, ...]:
        """All feedback, and the ids that are no inputs."""
        used = ("user_id", *IDS) if self.ids else ("video_id",) if self.histories else ()
        return (*FEEDBACK, *(name for name in ("user_id", *IDS) if name not in used))

    def trivial_scores(self) -> dict[str, dict[str, Scores]]:
        """Rates of the video and of the tab in the training split."""
        labels = {"click": "is_click", "long_view": "long_view", "like": "is_like"}
        return {
            "popularity": {task: self._rate("video_id", label) for task, label in labels.items()},
            "tab": {task: self._rate("tab", label) for task, label in labels.items()},
        }

    def _rate(self, key: str, label: str) -> Callable[[Lists], np.ndarray]:
        def scores(lists: Lists) -> np.ndarray:
            train = self.lists("train").columns
            groups = pd.Series(train[label]).groupby(train[key])
            mean = float(train[label].mean())
            rates = (groups.sum() + PRIOR * mean) / (groups.count() + PRIOR)
            return rates.reindex(lists.columns[key]).fillna(mean).to_numpy(np.float64)

        return scores

    def pooled(self) -> Lists:
        if self.rates:
            raise InputError("the rates of KuaiRand are computed from the labels of its training days, so that folds "
                             "of all days would contain their own test labels: set rates = false, or use its own "
                             "splits")
        return super().pooled()

    def read(self, split: str) -> Lists:
        frame = self._impressions(split)
        history = self._tables[2]
        frame = frame.assign(**history.counts(frame), **(self._rates(frame) if self.rates else {}))
        context = [*USER_COUNTS, *USER_CODES, "hist_len", "hist_like_rate", "hist_long_rate", "user_id"]
        if self.histories:
            frame = frame.join(history.texts, on="user_id")
            context += HISTORIES
        return from_frame(_impression(frame), list_id="user_id", context=context)

    def _impressions(self, split: str) -> pd.DataFrame:
        """The log of a split with the attributes of user and video, each impression once."""
        log = self._table(LOGS[split], LOG_COLUMNS, distinct=True)
        users, videos, _ = self._tables
        for key, table, name in (("user_id", users, "user_features_pure"),
                                 ("video_id", videos, "video_features_basic_pure")):
            unknown = ~log[key].isin(table.index)
            if unknown.any():
                raise InputError(f"{self._file(LOGS[split])}: {key} {log[key][unknown].iloc[0]} is not in {name} "
                                 f"({int(unknown.sum())} rows in all); all files must come from the same release")
        return log.join(users, on="user_id").join(videos, on="video_id")

    def _rates(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        """Log-odds and row counts from training rows of other days."""
        out: dict[str, np.ndarray] = {}
        for name, key in RATED.items():
            rates, counts = out_of_fold_rates(self._train_rows, frame, key, [*RATED_LABELS.values()], fold="date",
                                              prior=self.prior)
            out |= dict(zip((f"{name}_{task}_log_odds" for task in RATED_LABELS), log_odds(rates).T, strict=True))
            out[f"{name}_train_count"] = counts[:, 0]
        return out

    @functools.cached_property
    def _train_rows(self) -> pd.DataFrame:
        """The training rows from which the rates of all splits are computed."""
        return self._impressions("train")[[*RATED.values(), *RATED_LABELS.values(), "date"]]

    @functools.cached_property
    def _tables(self) -> tuple[pd.DataFrame, pd.DataFrame, _History]:
        """Users, videos and histories."""
        return self._users(), self._videos(), _History.of(self._table("user_history_until_0424", HISTORY_COLUMNS))

    def _users(self) -> pd.DataFrame:
        return self._table("user_features_pure", ("user_id", *USER_COUNTS, *USER_CODES)).set_index("user_id")

    def _videos(self) -> pd.DataFrame:
        videos = self._table("video_features_basic_pure", VIDEO_COLUMNS).set_index("video_id")
        # A few videos have several tags, for example "39,2"; the first is the main tag.
        videos["tag"] = videos["tag"].astype("string").str.split(",").str[0].fillna("").astype(object)
        return videos

    def _file(self, name: str) -> Path:
        found = [path for end in (".csv.gz", ".csv") if (path := Path(self.path) / f"{name}{end}").is_file()]
        if not found:
            raise MissingFileError(f"{Path(self.path) / name}.csv[.gz]: there is no such file; {SOURCE}")
        return found[0]

    def _table(self, name: str, columns: tuple[str, ...], distinct: bool = False) -> pd.DataFrame:
        path = self._file(name)
        table = read_table(path)
        for column in columns:
            if column not in table.columns:
                raise InputError(missing_column(column, table.columns, str(path)))
        # Duplicates are equal in all columns, including the time in milliseconds.
        table = table.drop_duplicates(ignore_index=True) if distinct else table
        return table[list(columns)]


def _binary(name: str, label: str, *metrics: Any) -> Task:
    return Task(name, label=label, kind="binary", loss="bce", metrics=metrics)


def _pairs(history: pd.Series) -> pd.DataFrame:
    """One row (user, video) for each video in a user's sequence of ids."""
    texts = history.tolist()
    counts = [text.count(" ") + 1 if text else 0 for text in texts]
    videos = np.array(" ".join(text for text in texts if text).split(), dtype=np.int64)
    return pd.DataFrame({"user_id": np.repeat(history.index.to_numpy(), counts), "video_id": videos})


@dataclasses.dataclass(frozen=True)
class _History:
    """Videos that users watched, liked and watched for long before the log begins."""

    length: pd.Series
    texts: pd.DataFrame
    watched: pd.DataFrame
    liked: pd.DataFrame
    long: pd.DataFrame

    @classmethod
    def of(cls, table: pd.DataFrame) -> _History:
        table = table.set_index("user_id")
        # If no sequence has two ids, pandas reads the column as numbers, and empty sequences as NaN.
        texts = table[list(HISTORIES)].apply(lambda values: (
            values.astype("Int64") if pd.api.types.is_numeric_dtype(values) else values).astype("string").fillna(""))
        return cls(table["history_len"], texts.astype(object), *(_pairs(texts[name]) for name in HISTORIES))

    def counts(self, log: pd.DataFrame) -> dict[str, np.ndarray]:
        """Counts and smoothed rates per user, per video, and per pair of both, for each row of the log."""

        def per_row(pairs: pd.DataFrame, *key: str) -> np.ndarray:
            counts = pairs.groupby(list(key)).size().rename("count").reset_index()
            return log[list(key)].merge(counts, how="left", on=list(key))["count"].fillna(0).to_numpy(np.float64)

        user, video = per_row(self.watched, "user_id"), per_row(self.watched, "video_id")
        out = {
            "hist_len": self.length.reindex(log["user_id"]).fillna(0).to_numpy(np.float64),
            "video_hist_count": video,
            "seen_before": per_row(self.watched, "user_id", "video_id"),
        }
        for name, pairs in (("like", self.liked), ("long", self.long)):
            mean = len(pairs) / max(len(self.watched), 1)
            for prefix, key, seen in (("hist", "user_id", user), ("video_hist", "video_id", video)):
                out[f"{prefix}_{name}_rate"] = (per_row(pairs, key) + PRIOR * mean) / (seen + PRIOR)
        return out


def _impression(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of the log as labels and inputs."""
    shown = pd.to_datetime(frame["date"].astype(str), format="%Y%m%d")
    age = (shown - pd.to_datetime(frame["upload_dt"])).dt.days
    ratio = np.where(frame["duration_ms"] > 0, frame["play_time_ms"] / frame["duration_ms"].clip(lower=1), np.nan)
    frame = frame.assign(
        hour=frame["hourmin"] // 100,
        duration_s=frame["duration_ms"] / 1000.0,
        video_age_days=age.clip(lower=0).astype("float64"),
        watch_ratio=ratio,
        watch_grade=np.where(np.isnan(ratio), np.nan, np.digitize(ratio, GRADES)),
    )
    return frame.drop(columns=["date", "hourmin", "upload_dt", "play_time_ms", "duration_ms"])
