"""Every chart of TensorBoard's page and of the HTML report has a size, and its marks and labels lie where they can be
read, at three widths, light and dark."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import fake_sweep
from measuring import BROWSER, faults, measured
from test_plugin import answer, write

from tfmtl2r import cli
from tfmtl2r._backend import tf
from tfmtl2r.pages import plugin
from tfmtl2r.report import hparams
from tfmtl2r.report.histories import Histories

pytestmark = [pytest.mark.slow, pytest.mark.browser,
              pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")]
NAMES = ["click", "dwell time of a visit", "like", "WWWWWWWWWWWWWWWWWWWW"]
MODULE = """<!doctype html><meta charset="utf-8"><body><script type="module">
import { render } from "./plugin.js"; await render();</script>"""
SLIDE = """(page) => {
  const slider = page.querySelector('[data-tag=served] input[type=range]');
  slider.focus();
  const told = [];
  for (const value of [slider.min, slider.max]) {
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
    told.push([slider.getAttribute("aria-valuetext"),
      page.querySelector("[data-tag=served] svg").getAttribute("aria-label"), page.activeElement === slider]);
  }
  page.querySelector("[data-tag=front] circle").dispatchEvent(new MouseEvent("click"));
  told.push(page.querySelector("#card")?.textContent ?? null);
  return told;
}"""


def points(tasks, count=11):
    shares = np.linspace(0, 1, count)
    rest = np.ones(len(tasks) - 1) / (len(tasks) - 1)
    return [{"preference": [share, *(1 - share) * rest],
             "test": {task: {"ndcg@5": 0.4 + 0.1 * (share if place == 0 else 1 - share) + 0.001 * place}
                      for place, task in enumerate(tasks)}} for share in shares]


def train(folder, tasks, seed, kinds=True):
    """The logs of a run that nobody trained, with everything that the page draws."""
    rng, histories = np.random.default_rng(seed), Histories()
    count = len(tasks)
    writer = tf.summary.create_file_writer(str(folder / "train"))
    for step in range(100, 2100, 100):
        cosines = np.clip(rng.normal(size=(count, count)), -1, 1)
        histories.add("cosine", step, (cosines + cosines.T) / 2, "matrix", [tasks, tasks])
        histories.add("conflict", step, rng.random((count, count)), "rates", [tasks, tasks])
        for tag in ("share", "weight"):
            histories.add(tag, step, rng.dirichlet(np.ones(count)), "shares", [tasks])
        for tag, scale in (("multiplier", 100.0), ("loss_ratio", 1.1)):
            histories.add(tag, step, scale * rng.random(count), "lines", [tasks])
        histories.add("layers", step, rng.dirichlet(np.ones(count), 4), "gates",
                      [["embedding_of_a_long_name", "trunk/dense", "trunk/dense_1", "gate"], tasks])
        histories.add("solver", step, rng.integers(1, 9, 1), "lines", [["rounds"]])
        histories.add("unsettled", step, np.zeros(1), "lines", [["solvers at the cap"]])
        histories.add("gate_entropy/gates", step, rng.random(count), "lines", [tasks])
        histories.add("inside/gates", step, rng.dirichlet(np.ones(5), count), "gates",
                      [tasks, [f"expert {place}" for place in range(5)]])
    with writer.as_default(step=1):
        histories.write(1)
    writer.close()
    results = {task: {"ndcg@5": {"value": rng.random()}} for task in tasks}
    hparams.write(folder, {"name": folder.name, "method": "mgda"}, results)


def page_of(logs):
    status, found = answer(logs)
    assert status == "200 OK"
    return {"page.html": MODULE.encode(), "data": json.dumps(found).encode(),
            **{name: Path(plugin.__file__).with_name(name).read_bytes() for name in ("plugin.js", "plugin.css")}}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Runs of four and of twelve tasks; two of them reach nearly the same."""
    logs = tmp_path_factory.mktemp("logs")
    for seed, name in enumerate(["mgda", "nash with a name that is long", "a", "b"]):
        train(logs / name, NAMES, seed)
    train(logs / "many", [f"goal number {place}" for place in range(12)], 9)
    hparams.write_points(logs / "mgda", "curve", points(NAMES), NAMES)
    return page_of(logs)


def test_charts_of_the_page_of_tensorboard(page, tmp_path):
    found = measured(page, tmp_path / "profile", SLIDE)
    assert not faults(found), "\n".join(faults(found)[:20])
    for one in found:
        assert len(one["charts"]) == 11 * 5 + 2
        front = next(chart for chart in one["charts"] if chart["label"].startswith("Results: "))
        assert len(front["marks"]) == 2 + 4  # axes, and the runs that have both goals
        (low, chart, kept), (high, other, _), card = one["acted"]
        assert low.startswith("click 0.00, dwell time of a visit 0.33")
        assert high.startswith("click 1.00, dwell time of a visit 0.00")
        assert "click ndcg@5 0.4," in chart
        assert "click ndcg@5 0.5," in other
        assert kept  # the slider moves on under the arrow keys
        assert "method" in card


def test_a_page_without_samples_says_how_to_get_them(tmp_path):
    hparams.write(tmp_path / "logs" / "short", {"name": "short"}, {task: {"ndcg@5": {"value": 0.5}} for task in NAMES})
    found = measured(page_of(tmp_path / "logs"), tmp_path / "profile", "(page) => page.body.textContent")
    assert not faults(found), "\n".join(faults(found)[:20])
    assert "A training of fewer steps than training.telemetry_every (100) has no sample" in found[0]["acted"]


def test_a_page_without_preferences_says_what_measures_them(tmp_path):
    write(tmp_path / "logs" / "fight")
    found = measured(page_of(tmp_path / "logs"), tmp_path / "profile",
                     "(page) => page.querySelector('[data-tag=served]').textContent")
    assert not faults(found), "\n".join(faults(found)[:20])
    assert "No run here has results at several preferences" in found[0]["acted"]
    assert "tfmtl2r sweep" in found[0]["acted"]


@pytest.mark.parametrize("tasks", [2, 3])
def test_charts_of_the_report(tmp_path, tasks):
    fake_sweep(tmp_path / "first", tasks=tasks)
    assert cli.main(["report", str(tmp_path / "first"), "--to", str(tmp_path / "page.html")]) == 0
    found = measured({"page.html": (tmp_path / "page.html").read_bytes()}, tmp_path / "profile")
    assert not faults(found), "\n".join(faults(found)[:20])
    for one in found:
        large = [chart for chart in one["charts"] if not chart["small"]]
        assert large
        for chart in large:
            left, top, right, bottom = chart["box"]
            assert right - left > 0.5 * one["width"]
            assert bottom - top > 0.25 * (right - left)
            assert len(chart["marks"]) > 15


@pytest.mark.parametrize(("fault", "told"), [
    ("svg.style.width = '14px'", " is 14 by "),
    ("svg.querySelector('text').setAttribute('x', 4000)", "is outside"),
    ("svg.querySelector('rect').setAttribute('y', -500)", "is outside"),
    ("svg.querySelectorAll('text')[1].replaceWith(svg.querySelector('text').cloneNode(true))", "overlap"),
    ("svg.querySelector('text').style.fill = page.documentElement.dataset.theme === 'dark' ? '#222' : '#eee'",
     "has the contrast"),
])
def test_planted_faults_are_found(page, tmp_path, fault, told):
    plant = f"(page) => {{ const svg = page.querySelector('section svg'); {fault}; }}"
    found = faults(measured(page, tmp_path / "profile", plant))
    assert len([line for line in found if told in line]) >= 6  # at every width, light and dark
