"""From a log of your own to a served ranker: one Parquet file, one experiment file, four commands, one request.

    python recipes/own_table.py

Writes a made-up log of a video feed (users, videos, authors, watched histories, times, seconds of watching with gaps)
and ``feed.toml``, which describes it. The other lines are the commands that you would type for a log of your own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

import tfmtl2r
from tfmtl2r.cli import main as tfmtl2r_command

EXPERIMENT = """\
format = 2
name = "feed"
architecture = {name = "mmoe", num_experts = 4, expert_units = [64, 32], head_units = [16]}
method = "nash_mtl"
gradients = "features"

[data]
files = "log.parquet"
list_id = "session"
item_id = "video"
time = "shown"
context = ["user", "history", "gaps"]
split = {by = "time", vali = 0.1, test = 0.2}

[[features]]
name = "history"                  # what the user watched before, newest last, beside the video that is scored
kind = "sequence"
shares = "video"
side = ["gaps"]                   # seconds before this session, of each video
pooling = "target_attention"

[[features]]
name = ["user", "author"]
kind = "category"
width = 8

[[features]]
name = "video"
kind = "category"
width = 8
min_count = 3

[[features]]
name = "uploaded"
kind = "time"
reference = "shown"
parts = []                        # its age alone

[[features]]
name = "position"
kind = "category"

[[features]]
name = "duration"

[[tasks]]
name = "click"
kind = "binary"

[[tasks]]
name = "like"
kind = "binary"

[[tasks]]
name = "watch"
label = "seconds"
kind = "regression"
transform = "log1p"

[optimizer]
learning_rate = 0.003

[training]
epochs = 6
patience = 0
batch_size = 32
bias_features = ["position"]      # explains clicks at the top in training; serving does not need it
"""


def log(sessions: int, seed: int) -> pd.DataFrame:
    """A made-up log: users prefer some authors, click at the top, and watch what they like for longer."""
    rng = np.random.default_rng(seed)
    users, videos, authors, start = 60, 200, 20, pd.Timestamp("2026-03-01")
    author = rng.integers(0, authors, videos)
    taste, quality = rng.normal(size=(users, authors)), rng.normal(size=videos)
    age, duration = rng.integers(1, 300, videos), rng.integers(8, 90, videos)
    seen: dict[int, list[tuple[int, float]]] = {user: [] for user in range(users)}
    rows = []
    for session in range(sessions):
        user, now = int(rng.integers(users)), 3600.0 * session
        shown = rng.choice(videos * (sessions + session) // (2 * sessions), 8, replace=False)  # new ones come up
        past = seen[user][-20:]
        for position, video in enumerate(shown, start=1):
            worth = 1.5 * taste[user, author[video]] + quality[video] + rng.normal()
            click = rng.random() < 1 / (1 + np.exp(0.5 * position - worth))
            seconds = duration[video] * min(1.0, rng.gamma(2.0, 0.2) * np.exp(0.4 * worth)) if click else 0.0
            rows.append({
                "session": f"s{session}", "user": f"u{user}", "video": int(video), "author": f"a{author[video]}",
                "history": [one for one, _ in past], "gaps": [now - then for _, then in past],
                "shown": start + pd.Timedelta(seconds=now), "uploaded": start - pd.Timedelta(days=int(age[video])),
                "duration": float(duration[video]), "position": position, "click": int(click),
                "like": int(click and rng.random() < 1 / (1 + np.exp(2 - worth))),
                "seconds": np.nan if rng.random() < 0.05 else seconds,  # the player did not report
            })
            seen[user] += [(int(video), now)] if click else []
    return pd.DataFrame(rows)


def score_a_request(version: Path) -> None:
    """Scores three videos with the export, as a client of TensorFlow Serving would; no position is needed."""
    now = int(pd.Timestamp("2026-04-01").timestamp())
    request = {
        "user": ["u3"], "history": [[7, 11]], "history_size": [2], "gaps": [[90_000.0, 3600.0]], "gaps_size": [2],
        "video": [[7, 12, 999]], "author": [["a1", "a2", "new"]], "duration": [[20.0, 35.0, 60.0]],
        "uploaded": [[now - 86400] * 3], "shown": [[now] * 3], "list_size": [3],
    }
    types = {"history_size": np.int32, "gaps_size": np.int32, "gaps": np.float32, "duration": np.float32,
             "list_size": np.int32}
    inputs = {name: np.array(value, types.get(name)) for name, value in request.items()}
    found = tfmtl2r.load(version)["serving_default"](**inputs)
    answer = {name: np.round(value.numpy()[0].astype(float), 3).tolist() for name, value in found.items()}
    print("one request:", json.dumps(answer))


def main() -> None:
    """Writes both files, then trains, evaluates, exports and scores."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sessions", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    log(options.sessions, options.seed).to_parquet("log.parquet")
    Path("feed.toml").write_text(EXPERIMENT)
    for command in (["prepare", "feed.toml"], ["train", "feed.toml", "--overwrite"],
                    ["evaluate", "feed", "--by", "new:video"], ["export", "feed"]):
        print("\n$ tfmtl2r", *command, flush=True)
        tfmtl2r_command(command)
    versions = [int(path.name) for path in Path("saved_models/feed").iterdir() if path.name.isdigit()]
    score_a_request(Path("saved_models/feed") / str(max(versions)))


if __name__ == "__main__":
    main()
