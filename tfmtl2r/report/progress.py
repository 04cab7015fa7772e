"""The progress of a training in the terminal: a live line in an epoch, and a small table after it."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfmtl2r._backend import keras
from tfmtl2r.figures import figure, signed
from tfmtl2r.names import LogName
from tfmtl2r.training.trackers import directions, metrics_of

_EVERY = 0.2
"""Seconds between two live lines."""


class Progress(keras.callbacks.Callback):
    """Shows a training in the terminal.

    In a terminal, a line shows step, throughput and the time that is left. After each epoch comes a table with a row
    for each task: its training loss, its first metric on the validation split (its loss there without a metric), the
    change since the epoch before, and the best value so far. Better is green, worse is yellow, and the best epoch has a
    star. Losses of different scale do not hide each other: each task has a row of its own.

    Args:
        file: where to write; standard output by default.
    """

    def __init__(self, file: TextIO | None = None):
        super().__init__()
        self.console = Console(file=file or sys.stdout, highlight=False)
        self._before: dict[str, float] = {}
        self._best: dict[str, float] = {}
        self._done = 0
        self._first = True

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Remembers which values are better if they are larger."""
        tasks, lists = self.model.tasks, self.model.has_lists is not False
        self._names = [task.name for task in tasks]
        self._signs = directions(tasks, lists)
        self._first_metric = {task.name: metrics[0].label for task in tasks if (metrics := metrics_of(task, lists))}
        self._began = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock of the epoch."""
        self._start = self._shown = time.perf_counter()
        self._steps, self._traced = 0, 0.0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the live line, if the output is a terminal."""
        now = time.perf_counter()
        self._steps = batch + 1
        if self._first:
            self._first, self._traced = False, now - self._start
        if self.console.is_terminal and now - self._shown > _EVERY:
            self._shown = now
            self._live(f"  step {self._steps}{self._of_steps()}{self._rate(now)}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the line and the table of the epoch."""
        now, found = time.perf_counter(), {**(logs or {})}
        self._done += 1
        epochs = self.params.get("epochs")
        left = (now - self._began) / self._done * max(0, (epochs or 0) - epoch - 1)
        self._live("")
        traced = f", the first step {_time(self._traced)} of it: the graph was built" if self._traced > 1 else ""
        rest = f", at most {_time(left)} left" if left else ""
        self.console.print(f"epoch {epoch + 1}{f' of {epochs}' if epochs else ''}: {_time(now - self._start)}"
                           f"{self._rate(now)}{traced}{rest}")
        self.console.print(self._table(found))

    def _live(self, text: str) -> None:
        if self.console.is_terminal:
            width = self.console.width - 1
            self.console.file.write("\r" + text[:width].ljust(width) + ("" if text else "\r"))
            self.console.file.flush()

    def _of_steps(self) -> str:
        steps = self.params.get("steps")
        return f" of {steps}" if steps else ""

    def _rate(self, now: float) -> str:
        """Steps in a second, without the first step of a training, which builds the graph."""
        steps, seconds = self._steps - bool(self._traced), now - self._start - self._traced
        return f", {steps / seconds:.3g} steps/s" if steps > 0 and seconds > 0 else ""

    def _table(self, logs: Mapping[str, float]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("  task", overflow="fold")
        for name in ("loss", "metric", "value", "change", "best"):
            table.add_column(name, justify="left" if name == "metric" else "right")
        for task in self._names:
            table.add_row(f"  {escape(task)}", _number(logs.get(f"{task}_loss")), *self._cells(task, logs))
        return table

    def _cells(self, task: str, logs: Mapping[str, float]) -> list[str]:
        """Metric, value, change and best value of a task."""
        own = {name.quantity: key for key in logs if (name := LogName.parse(key, self._names)).task == task
               and name.validation}
        quantity = next((one for one in (self._first_metric.get(task), "loss") if one in own), None)
        if quantity is None:
            return ["", "", "", ""]
        key, value = own[quantity], float(logs[own[quantity]])
        sign = self._signs.get(str(LogName(quantity, task)), -1 if quantity == "loss" else 0)
        before, best = self._before.get(key), self._best.get(key)
        self._before[key] = value
        if best is None or math.isnan(best) or (value - best) * (sign or math.nan) > 0:
            self._best[key], star = value, " [bold]*[/bold]"
        else:
            star = "  "
        change, moved = "", 0.0 if before is None else value - before
        if before is not None:
            colour = "green" if moved * sign > 0 else "yellow" if moved * sign < 0 else "default"
            change = f"[{colour}]{signed(moved)}[/]"
        return [f"vali {escape(quantity)}", _number(value), change, f"{_number(self._best[key])}{star}"]


class JsonLines(keras.callbacks.Callback):
    """Writes one JSON object after each epoch: ``epoch``, ``seconds`` and all logged values; null is not a number."""

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock of the epoch."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the line."""
        values = {key: float(value) if math.isfinite(value) else None for key, value in (logs or {}).items()}
        print(json.dumps({"epoch": epoch + 1, "seconds": round(time.perf_counter() - self._start, 3), **values}),
              flush=True)


def _number(value: float | None) -> str:
    return "" if value is None else figure(value)


def _time(seconds: float) -> str:
    """A duration.

    >>> _time(0.25), _time(75), _time(7320)
    ('0.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
