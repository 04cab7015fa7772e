"""A regression in seconds, a click and a grade train together well with the settings that nobody chose."""

import numpy as np
import pandas as pd
import pytest

import tfmtl2r
from tfmtl2r import Experiment
from tfmtl2r.evaluation import trivial_results

OTHER = {"watch_ratio", "long_view", "is_like", "is_profile_enter", "is_follow", "is_comment", "user_id", "video_id",
         "author_id"}
TASKS = {"click": {"name": "click", "label": "is_click", "kind": "binary"},
         "grade": {"name": "grade", "label": "watch_grade"},
         "dwell": {"name": "dwell", "label": "dwell_s", "kind": "regression"}}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The bundled excerpt of KuaiRand as a table of one's own, with the seconds that a user watched."""
    folder = tmp_path_factory.mktemp("log")
    data = tfmtl2r.datasets.get("kuairand_excerpt")
    for split in data.splits:
        lists = data.lists(split)
        frame = pd.DataFrame({name: lists.column(name) for name in lists.columns if name not in OTHER})
        frame["dwell_s"] = lists.column("watch_ratio") * lists.column("duration_s")
        frame["query"] = np.repeat(np.arange(lists.num_lists), lists.sizes)
        frame.to_parquet(folder / f"{split}.parquet")
    return folder, trivial_results(data, "test")


def results(folder, tasks, name):
    left_out = [one["label"] for task, one in TASKS.items() if task not in tasks]
    _, card = Experiment(
        name, directory=str(folder / "runs"), architecture={"name": "mmoe", "num_experts": 4},
        data={"files": str(folder), "list_id": "query", "leave_out": left_out}, tasks=[TASKS[task] for task in tasks],
        training={"epochs": 4, "telemetry_every": 0},
    ).run(verbose=0)
    return {task: {metric: one["value"] for metric, one in row.items()} for task, row in card.results["test"].items()}


@pytest.mark.long
def test_seconds_beat_their_mean_and_clicks_lose_nothing(files):
    folder, trivial = files
    together, without = (results(folder, tasks, name)
                         for tasks, name in ((list(TASKS), "together"), (["click", "grade"], "without")))
    train, test = (pd.read_parquet(folder / f"{split}.parquet").dwell_s for split in ("train", "test"))
    assert together["dwell"]["mse"] < 0.92 * ((test - train.mean()) ** 2).mean()
    assert together["click"]["auc"] > 0.65
    assert together["click"]["ndcg@5"] > trivial["random"]["click"]["ndcg@5"]["value"] + 0.08
    assert together["click"]["ndcg@5"] > without["click"]["ndcg@5"] - 0.015  # about two standard deviations over seeds
    assert together["click"]["auc"] > without["click"]["auc"] - 0.015
    assert together["grade"]["ndcg@5"] > without["grade"]["ndcg@5"] - 0.015
