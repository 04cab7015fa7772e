"""The HTML report works in a browser, and its charts have the size that they should have."""

import html
import json
import re
import shutil
import subprocess

import pytest

from tfmtl2r import cli

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
CLICKS = """
<script>
  const heads = [...document.querySelectorAll("table")].at(-1).querySelectorAll("th button");
  const order = () => [...document.querySelectorAll("table")].at(-1).tBodies[0].rows;
  const said = [];
  for (const column of [4, 4, 0]) {
    heads[column].click();
    said.push([...order()].map((row) => row.cells[column].dataset.v).join(";"));
  }
  const point = document.querySelector("circle[data-key]");
  point.dispatchEvent(new MouseEvent("mouseover", {bubbles: true, clientX: 50, clientY: 60}));
  said.push(document.getElementById("tip").textContent, document.querySelectorAll("tr.lit").length);
  document.getElementById("theme").click();
  said.push(document.documentElement.dataset.theme);
  document.querySelector(".legend button").click();
  said.push(document.querySelectorAll(".dim").length > 0);
  document.title = JSON.stringify(said);
</script>
"""


MEASURED = """
<script>
  const box = (element) => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const charts = [...document.querySelectorAll("svg")].map((svg) => ({
    small: svg.closest(".legend") !== null, box: box(svg), label: svg.getAttribute("aria-label"),
    marks: [...svg.querySelectorAll("circle, path, polyline, polygon, rect")].map(box),
    texts: [...svg.querySelectorAll("text")].map((text) => [text.textContent, box(text)]),
  }));
  document.title = JSON.stringify({page: document.documentElement.scrollWidth, window: innerWidth, charts: charts});
</script>
"""


def dom(path, profile, width=1280):
    done = subprocess.run(
        [BROWSER, "--headless", f"--window-size={width},900", "--no-sandbox", "--disable-gpu",
         "--disable-dev-shm-usage", "--enable-logging=stderr", f"--user-data-dir={profile}",
         "--virtual-time-budget=3000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, check=True, timeout=80,
    )
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout


def titled(path, script, profile, width=1280):
    """What a script leaves as the page's title. The page's policy would stop the script, as it should."""
    free = re.sub(r"<meta http-equiv[^>]*>", "", path.read_text(encoding="utf-8"))
    changed = path.with_name("changed.html")
    changed.write_text(free.replace("</body>", f"{script}</body>"), encoding="utf-8")
    shown = dom(changed, profile, width)
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", shown, re.DOTALL).group(1)))


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
@pytest.mark.parametrize("width", [1280, 600])
def test_charts_have_a_size_and_hold_their_marks_and_labels(sweep, tmp_path, width):
    """A chart that a stylesheet makes 14 pixels wide still has all its elements: only a measurement sees it."""
    path = tmp_path / "page.html"
    assert cli.main(["report", str(sweep), "--to", str(path)]) == 0
    seen = titled(path, MEASURED, tmp_path / "profile", width)
    assert seen["page"] <= seen["window"]  # nothing is reached by sideways scrolling of the page
    large = [chart for chart in seen["charts"] if not chart["small"]]
    assert large
    for chart in large:
        left, top, right, bottom = chart["box"]
        assert right - left > 0.5 * seen["window"], chart["label"]
        assert bottom - top > 0.25 * (right - left), chart["label"]
        assert len(chart["marks"]) >= 16, chart["label"]
        assert len(chart["texts"]) >= 6, chart["label"]
        for what, place in [*(("mark", place) for place in chart["marks"]), *chart["texts"]]:
            inside = left - 1 <= place[0] and top - 1 <= place[1] and place[2] <= right + 1 and place[3] <= bottom + 1
            assert inside, (chart["label"], what, place, chart["box"])
    for chart in seen["charts"]:
        if chart["small"]:
            assert 8 < chart["box"][2] - chart["box"][0] < 30, chart


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_in_a_browser(sweep, tmp_path):
    assert cli.main(["report", str(sweep), "--to", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = dom(tmp_path / "page.html", tmp_path / "profile")
    assert 'data-ready="yes"' in shown  # its policy lets its own script run
    assert shown.count("<tr") == text.count("<tr")
    down, up, by_method, tip, lit, theme, dimmed = titled(tmp_path / "page.html", CLICKS, tmp_path / "profile")
    values = [float(v) for v in down.split(";") if v]
    assert values == sorted(values, reverse=True)
    assert len(values) == 16
    assert [float(v) for v in up.split(";") if v] == values[::-1]
    assert up.endswith(";;")  # runs without this task stay below
    assert by_method.split(";") == sorted(by_method.split(";"))
    assert "ndcg@10" in tip
    assert (lit, dimmed) == (1, True)
    assert theme in ("light", "dark")
    blocked = text.replace("</body>", "<script>document.title = 'broken in'</script></body>")
    (tmp_path / "blocked.html").write_text(blocked, encoding="utf-8")
    with pytest.raises(AssertionError, match="Content Security Policy"):
        dom(tmp_path / "blocked.html", tmp_path / "profile")
