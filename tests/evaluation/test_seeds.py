"""Tables over seeds: means, paired differences, CSV, and how wide they are printed."""

import csv
import io
import math

import pytest
from rich.console import Console

from tfmtl2r.evaluation.seeds import by_seed, paired, seeds_table, write_csv
from tfmtl2r.report.tables import show
from tfmtl2r.runs.card import RunCard


def card(architecture, seed, value, step_ms=2.0):
    results = {"test": {"click": {"auc": {"value": value, "direction": "max"}}}}
    config = {"architecture": architecture, "method": "mgda", "training": {"seed": seed}}
    return RunCard(name=f"{architecture}-{seed}", config=config, results=results, step_ms=step_ms)


RUNS = {
    "mmoe": [card("mmoe", 0, 0.70), card("mmoe", 1, 0.80)],
    "ple": [card("ple", 1, 0.83), card("ple", 0, 0.72), card("ple", 5, 0.1)],
}


def text(table):
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


def test_differences_are_paired_by_seed():
    ours, theirs = (by_seed(RUNS[name], "click", "auc") for name in ("ple", "mmoe"))
    mean, error, seeds = paired(ours, theirs)
    assert (mean, seeds) == (pytest.approx(0.025), 2)
    assert error == pytest.approx(0.005)
    assert math.isnan(paired({0: 1.0}, {1: 1.0})[0])


def test_table():
    shown = text(seeds_table(RUNS, {"click": "auc"}, "AUC", baseline="mmoe",
                             extra={"random": {"click": {"auc": {"value": 0.5}}}}))
    assert "0.7500 ± 0.0707" in shown
    assert "+0.0250 ± 0.0050" in shown
    assert "0.5000" in shown
    assert "difference to mmoe" in shown


def test_csv(tmp_path):
    path = write_csv(RUNS, {"click": "auc"}, tmp_path / "new" / "runs.csv")
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == ["variant", "seed", "click auc", "step_ms"]
    assert rows[3] == ["ple", "1", "0.83", "2.0"]
    assert len(rows) == 6


def test_tables_are_not_wrapped_in_a_pipe(capsys):
    show(seeds_table({"mmoe": RUNS["mmoe"], "p" * 90: RUNS["ple"]}, {"click": "auc"}, "AUC", baseline="mmoe"))
    out = capsys.readouterr().out
    assert "0.7500 ± 0.0707" in out
    assert "p" * 90 in out
