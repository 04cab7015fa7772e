"""The picture of a study: which rankers differ from equal weights, and that 41 of them can be read."""

import csv
import itertools
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tfmtl2r.sweeps.differences import draw, picture

STUDY = Path(__file__).parents[2] / "docs" / "study" / "compare.csv"


def row(ranker, value, data="a", seeds=5, std=0.1):
    return {"data": data, "ranker": ranker, "delta_m": value, "delta_m_std": std, "seeds": seeds}


def test_colours_and_the_title_follow_from_the_numbers(tmp_path, looked_at):
    rows = [row("equal weights", 1.0), row("mgda = pcgrad", 0.0), row("stch", 2.0), row("famo", 1.02),
            row("single-task", 0.0), row("random order", 90.0), row("equal weights", 1.0, "b"), row("stch", 0.0, "b"),
            row("without single tasks", "", "b")]
    figure = picture(rows)
    title = " ".join(figure.get_suptitle().split())
    assert title == ("Against equal weights: 2 of 4 methods better on some data and worse on none (blue), 1 worse "
                     "somewhere (orange)")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["single-task", "stch", "famo", "mgda", "pcgrad"]
    draw(rows, tmp_path)
    looked_at(tmp_path / "compare.png")
    assert "<svg" in (tmp_path / "compare.svg").read_text(encoding="utf-8")


def test_one_seed_has_no_interval():
    figure = picture([row("equal weights", 1.0, seeds=1, std=""), row("mgda", 0.5, seeds=1, std="")])
    assert "1 of 1 methods better" in figure.get_suptitle()


@pytest.mark.slow
def test_labels_of_all_methods_can_be_read():
    with STUDY.open(newline="", encoding="utf-8") as file:
        figure = picture([*csv.DictReader(file)])
    assert len(readable(figure)) >= 41
    for axes in figure.axes:
        ticks = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(ticks))


def test_a_small_study_without_any_difference_can_be_read(tmp_path, looked_at):
    rankers = ("equal weights", "single-task", "stch", "famo conditioned=1", "mgda")
    rows = [row(ranker, 1.0, std=5) for ranker in rankers]
    assert len(readable(picture(rows))) == 4
    draw(rows, tmp_path)
    looked_at(tmp_path / "compare.png")


def readable(figure):
    """The labels of rows and groups, none of which overlaps another one."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    labels = [label for label in figure.axes[0].get_yticklabels() if label.get_text()]
    groups = [text for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    boxes = [text.get_window_extent(renderer) for text in [*labels, *groups]]
    assert min(box.x0 for box in boxes) >= 0
    ordered = sorted(boxes, key=lambda box: box.y0)
    assert all(one.y1 <= other.y0 + 1 for one, other in itertools.pairwise(ordered))
    return labels
