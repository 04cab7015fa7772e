"""The HTML report works in a browser: sorting, tips, themes, and a policy that stops scripts of others."""

import html
import json
import re
import subprocess

import pytest
from measuring import BROWSER

from tfmtl2r import cli

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
