"""What a training shows in the terminal."""

import io
import json
import types

import pytest

from tfmtl2r import Task
from tfmtl2r.report.progress import JsonLines, Progress

TASKS = (Task("click", kind="binary", metrics=("ndcg@10", "auc")),
         Task("a [b] task", kind="regression", metrics=("mse",)))
LOGS = [{"loss": 1e6, "click_loss": 0.7, "a [b] task_loss": 1e6, "val_click_ndcg@10": 0.5, "val_click_auc": 0.9,
         "val_click_loss": 0.6, "val_a [b] task_mse": 9.0},
        {"loss": 1e6, "click_loss": 0.6, "a [b] task_loss": 2e6, "val_click_ndcg@10": 0.4, "val_click_auc": 0.95,
         "val_click_loss": 0.5, "val_a [b] task_mse": 8.5}]


def shown(progress, tasks=TASKS, logs=LOGS):
    progress.set_model(types.SimpleNamespace(tasks=tasks, has_lists=True))
    progress.set_params({"epochs": 3, "steps": 4})
    progress.on_train_begin()
    for epoch, found in enumerate(logs):
        progress.on_epoch_begin(epoch)
        for step in range(4):
            progress.on_train_batch_end(step)
        progress.on_epoch_end(epoch, found)


def test_a_table_after_each_epoch():
    file = io.StringIO()
    shown(Progress(file))
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    assert "\r" not in file.getvalue()  # no live line, since this is no terminal
    rows = [line.split() for line in lines]
    assert rows[0][:4] == ["epoch", "1", "of", "3:"]
    assert ["click", "0.7000", "vali", "ndcg@10", "0.5000", "0.5000", "*"] in rows
    assert ["click", "0.6000", "vali", "ndcg@10", "0.4000", "-0.1000", "0.5000"] in rows
    assert ["a", "[b]", "task", "2e+06", "vali", "mse", "8.5000", "-0.5000", "8.5000", "*"] in rows
    assert max(map(len, lines)) <= 80


def test_tasks_without_validation_have_their_loss_alone():
    file = io.StringIO()
    shown(Progress(file), logs=[{"loss": 1.0, "click_loss": 0.7, "a [b] task_loss": 2.0}])
    assert ["click", "0.7000"] in [line.split() for line in file.getvalue().splitlines()]


def test_a_terminal_shows_a_live_line(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("tfmtl2r.report.progress._EVERY", 0.0)
    file = Terminal()
    shown(Progress(file))
    assert "step 2 of 4" in file.getvalue()


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_json_lines(capsys, value):
    lines = JsonLines()
    lines.on_epoch_begin(0)
    lines.on_epoch_end(0, {"loss": value})
    read = json.loads(capsys.readouterr().out)
    assert read["epoch"] == 1
    assert read["loss"] == (0.5 if value == 0.5 else None)
