"""What becomes of the columns of an experiment file, before anything is trained."""

import numpy as np
import pandas as pd

from tfmtl2r import cli

EXPERIMENT = """
name = "watched"

[data]
files = "log.parquet"
list_id = "q"
context = ["age"]
leave_out = ["other"]
split = {vali = 0.2, test = 0.2}

[[features]]
name = "clicked"
kind = "sequence"
shares = "video"
pooling = {name = "target_attention", normaliser = "softmax"}

[[features]]
name = "video"
kind = "category"
width = 3

[[features]]
name = "*"

[[tasks]]
name = "click"
kind = "binary"

[[tasks]]
name = "grade"
label = "seconds"
transform = "grades"

[[tasks]]
name = "seconds"
kind = "regression"
transform = {name = "winsorise", upper = 0.9}
"""


def test_columns_labels_and_a_history_with_its_own_row(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "watched.toml").write_text(EXPERIMENT)
    rng = np.random.default_rng(0)
    click, video = rng.integers(0, 2, 120), rng.integers(0, 9, 120)
    table = pd.DataFrame({
        "q": np.repeat(np.arange(40), 3), "age": np.repeat(rng.normal(size=40), 3), "video": video, "click": click,
        "clicked": [[9, 10, *([own] if clicked else [])] for own, clicked in zip(video, click, strict=True)],
        "tags": [rng.choice(["a", "b"], rng.integers(0, 3)).tolist() for _ in range(120)], "other": 1,
        "seconds": rng.exponential(20, 120),
    })
    table.to_parquet("log.parquet")
    assert cli.main(["prepare", "watched.toml"]) == 0
    out = capsys.readouterr().out
    assert "clicked: sequence of the item, 4 wide; dim: 3; dtype: int64; shares: video; pooling: {'name': 'targ" in out
    assert "video: category of the item, 3 wide; vocabulary: 9 values; dim: 3; dtype: int64" in out
    assert "age: dense of the list, 1 wide" in out
    assert "tags: bag of the item, " in out
    assert "left out: other" in out
    assert "click: 0: " in out
    assert "train split: 31 lists, 93 items" in out
    assert "vali split: " in out
    assert "KiB of inputs in train; " in out
    assert " parameters, " in out
    assert "steps per epoch, 8 epochs" in out
    assert "'clicked' contains the row's own 'video' in 100 % of the rows with a 'click' above 0, but in 0 %" in out

    table.assign(clicked=[[9, 10]] * 120).to_parquet("log.parquet")
    by_time = EXPERIMENT.replace("split = {vali", 'time = "when"\nsplit = {by = "time", vali')
    (tmp_path / "watched.toml").write_text(by_time)
    later = table.assign(clicked=[[9, 10]] * 120, when=np.arange(120), video=np.where(np.arange(120) < 90, video, 77))
    later.to_parquet("log.parquet")
    assert cli.main(["prepare", "watched.toml"]) == 0
    out = capsys.readouterr().out
    assert "SUSPECTED" not in out
    assert "test split: 8 lists, 24 items, from 98 to 119\n  video: 100.0 % of the ids are unknown" in out
    table.assign(clicked=[[9, 10]] * 120, when=np.arange(120)).to_parquet("log.parquet")
    assert cli.main(["prepare", "watched.toml"]) == 0
    assert "SUSPECTED" not in capsys.readouterr().out
    assert cli.main(["prepare", "watched.toml", "--sort"]) == 1
    assert "an experiment file is prepared alone and without flags" in capsys.readouterr().err
