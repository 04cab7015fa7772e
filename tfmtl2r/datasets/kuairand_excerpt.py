"""The bundled excerpt of KuaiRand-Pure: short videos shown to users, with the users' feedback."""

from __future__ import annotations

import dataclasses
import importlib.resources
from pathlib import Path

import numpy as np

from tfmtl2r.data.frame import from_frame, read_table
from tfmtl2r.data.lists import Lists
from tfmtl2r.datasets.base import DataSet, Scores
from tfmtl2r.errors import MissingFileError
from tfmtl2r.features.base import Feature
from tfmtl2r.features.category import Category
from tfmtl2r.features.dense import Dense
from tfmtl2r.registry import Card
from tfmtl2r.settings import FilePath
from tfmtl2r.task import Task

CARD = Card(
    title="KuaiRand-Pure excerpt (bundled)",
    paper="Gao et al., KuaiRand, CIKM 2022, https://kuairand.com",
    note="6,245 lists of 6 to 40 short videos; CC BY-SA 4.0; for teaching and smoke tests, not for published results",
)
__all__ = ["KuaiRandExcerpt"]

USER = (
    "hist_len", "hist_like_rate", "hist_long_rate", "user_active_degree", "is_video_author", "follow_user_num_range",
    "fans_user_num_range", "friend_user_num_range", "register_days_range", "onehot_feat0", "onehot_feat1",
    "onehot_feat2", "onehot_feat5", "onehot_feat6", "onehot_feat7", "onehot_feat8",
)  # fmt: skip
FEEDBACK = ("is_click", "long_view", "is_like", "is_profile_enter", "is_follow", "is_comment", "watch_ratio")
GRADES = (0.1, 0.3, 0.6, 1.0)


@dataclasses.dataclass(frozen=True)
class KuaiRandExcerpt(DataSet):
    """Lists of the videos that one user was shown, 25 April to 5 May 2022.

    The tasks are ``click``, ``long_view`` and ``like`` (binary) and ``watch_ratio`` (grades 0 to 4, which start at a
    watched share of 0, .1, .3, .6 and 1). The inputs are 16 features of the user and 12 features of the video. Ids are
    no inputs, because their embeddings overfit; neither is feedback. The data card beside the files describes how the
    excerpt was made and what it cannot be used for.

    Args:
        path: a folder with ``train.parquet``, ``vali.parquet`` and ``test.parquet``; empty reads the bundled files.

    >>> data = KuaiRandExcerpt()
    >>> [data.lists(split).num_lists for split in data.splits]
    [4408, 610, 1227]
    """

    path: FilePath = ""

    def tasks(self) -> tuple[Task, ...]:
        """Click, long view, watch ratio and like."""
        return (
            Task("click", label="is_click", kind="binary", loss="bce"),
            Task("long_view", label="long_view", kind="binary", loss="bce"),
            Task("watch_ratio", label="watch_grade", kind="graded"),
            Task("like", label="is_like", kind="binary"),
        )

    def features(self) -> tuple[str | Feature, ...]:
        """Inferred features, except the skewed duration and a user attribute with 367 codes."""
        return (Dense("duration_s", transform="log1p"), Category("onehot_feat8", dtype="int64", context=True), "*")

    def exclude(self) -> tuple[str, ...]:
        """All feedback, ids, and the day."""
        return (*FEEDBACK, "user_id", "video_id", "author_id", "day")

    def trivial_scores(self) -> dict[str, dict[str, Scores]]:
        """Popularity among other users; for the watched share, shortest video first."""
        return {
            "popularity": {
                "click": lambda lists: lists.columns["video_click_rate"],
                "long_view": lambda lists: lists.columns["video_long_view_rate"],
                "like": lambda lists: lists.columns["video_like_rate"],
            },
            "shortest first": {"watch_ratio": lambda lists: -lists.columns["duration_s"]},
        }

    def read(self, split: str) -> Lists:
        bundled = importlib.resources.files("tfmtl2r.data") / "bundled" / "kuairand_excerpt"
        with importlib.resources.as_file(bundled) as folder:
            path = Path(self.path or folder) / f"{split}.parquet"
            if not path.is_file():
                raise MissingFileError(
                    f"{path}: there is no such file; leave out `path` for the excerpt that is installed with tfmtl2r "
                    "(the full data: https://kuairand.com)"
                )
            frame = read_table(path)
        lists = from_frame(frame, list_id="user_id", context=USER)
        return lists.with_column("watch_grade", np.digitize(lists.columns["watch_ratio"], GRADES).astype(np.float32))
