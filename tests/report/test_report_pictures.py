"""Tables and pictures show what they are given."""

import numpy as np
import pytest
from rich.console import Console

from tfmtl2r.report.plots import bars, heat_map, reliability
from tfmtl2r.report.tables import results_table

RESULTS = {
    "random": {"click": {"ndcg@5": {"value": 0.5, "direction": "max"}}},
    "ours": {"click": {"ndcg@5": {"value": 0.7, "direction": "max"}},
             "price": {"mse": {"value": 2, "direction": "min"}}},
}


def test_table_marks_the_best_and_leaves_gaps():
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(results_table(RESULTS, "title"))
    console.file.close()
    text = console.export_text(styles=True)
    assert "\x1b[1m0.7000" in text
    assert "\x1b[1m0.5000" not in text
    assert text.count("2.0000") == 1


def test_bars_writes_a_png(tmp_path, looked_at):
    path = bars(RESULTS, {"click": "ndcg@5", "price": "mse"}, tmp_path / "new" / "bars.png")
    looked_at(path)


@pytest.mark.parametrize("tasks", [["click"], ["click", "like", "a rather long name of a task", "buy"]])
def test_reliability_writes_a_png(tmp_path, looked_at, tasks):
    p = np.linspace(0.01, 0.3, 10)
    curve = {"probability": p, "label": p**1.2, "sd": 0.1 * np.sqrt(p), "ece": 0.0123, "if_calibrated": 0.0101}
    looked_at(reliability(dict.fromkeys(tasks, curve), tmp_path / "reliability.png"))


def test_names_are_drawn_as_they_are(tmp_path, caplog):
    """A dollar sign begins no formula (which may not parse), and a glyph that no font has is not told."""
    name = "加入 $x_{$ 車 \\frac"
    bars({name: {name: {"ndcg": {"value": 0.5}}}}, {name: "ndcg"}, tmp_path / "bars.png")
    picture = heat_map(name, np.array([[1.0, np.nan]]), [[name], [name, "b"]])
    assert picture.dtype == np.uint8
    assert picture.std() > 0
    assert caplog.text == ""
