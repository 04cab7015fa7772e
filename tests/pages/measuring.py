"""Charts of a page, measured in a real Chromium at several widths, light and dark."""

import contextlib
import functools
import html
import http.server
import itertools
import json
import re
import shutil
import subprocess
import threading

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
WIDTHS, THEMES = (480, 1024, 1600), ("light", "dark")
HARNESS = """<!doctype html><title>measuring</title><body><script type="module">
const box = (element) => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
const soon = (time) => new Promise((done) => setTimeout(done, time));
const found = [];
for (const width of WIDTHS) for (const theme of THEMES) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 4000px; border: 0`;
  await new Promise((done) => { frame.onload = done; frame.src = "page.html"; document.body.append(frame); });
  const page = frame.contentDocument, root = page.documentElement;
  for (let turn = 0; turn < 50 && !page.querySelector("svg"); turn++) await soon(50);
  root.dataset.theme = theme;
  await soon(50);
  const acted = (ACT)(page);
  const style = (element) => frame.contentWindow.getComputedStyle(element);
  found.push({ width, theme, acted, page: root.scrollWidth, ground: style(page.body).backgroundColor,
    charts: [...page.querySelectorAll("svg")].map((svg) => ({
      small: svg.closest(".legend") !== null, label: svg.getAttribute("aria-label"), box: box(svg),
      marks: [...svg.querySelectorAll("circle, path, polyline, polygon, rect, line")].map(box),
      texts: [...svg.querySelectorAll("text")].filter((text) => text.textContent).map((text) =>
        [text.firstChild.textContent, box(text), style(text).fill, text.getAttribute("class")]),
    })) });
  frame.remove();
}
const told = document.createElement("pre");
told.id = "found";
told.textContent = JSON.stringify(found);
document.body.append(told);
</script>"""
KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "data": "application/json"}


class Files(http.server.BaseHTTPRequestHandler):
    """Serves files from memory: ``page.html`` is the page to measure."""

    def __init__(self, files, *arguments):
        self.files = files
        super().__init__(*arguments)

    def do_GET(self):
        name = self.path.lstrip("/")
        body = self.files.get(name)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", f"{KINDS.get(name.rpartition('.')[2], 'text/plain')}; charset=utf-8")
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def served(files):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, files))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def chromium(address, profile, *options):
    return subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr",
         f"--user-data-dir={profile}", "--virtual-time-budget=60000", *options, address],
        capture_output=True, text=True, check=True, timeout=200)


def measured(files, profile, act="() => null"):
    """Measures ``page.html`` of the files at every width and in both themes.

    Args:
        files: name -> content.
        profile: a folder for the browser.
        act: a function of the page's document, which is called before the measurement.
    """
    harness = HARNESS.replace("WIDTHS", json.dumps(WIDTHS)).replace("THEMES", json.dumps(THEMES)).replace("ACT", act)
    with served({**files, "harness.html": harness.encode()}) as address:
        done = chromium(f"{address}harness.html", profile, "--dump-dom")
    told = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not told, told
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text is not None, "the page was not measured in time"
    found = json.loads(html.unescape(text.group(1)))
    assert [(one["width"], one["theme"]) for one in found] == [*itertools.product(WIDTHS, THEMES)]
    return found


def inside(one, other, slack=1.0):
    return (other[0] - slack <= one[0] and other[1] - slack <= one[1]
            and one[2] <= other[2] + slack and one[3] <= other[3] + slack)


def overlap(one, other, slack=1.0):
    """Whether two boxes share more than a rim. The box of a text contains some space above and below its letters."""
    high = 0.25 * min(one[3] - one[1], other[3] - other[1])
    return (min(one[2], other[2]) - max(one[0], other[0]) > slack
            and min(one[3], other[3]) - max(one[1], other[1]) > high)


def luminance(colour):
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def faults(found):
    """A line for every chart without a size, mark or label outside of its chart, pair of labels that overlap, and label
    that cannot be read on its ground."""
    lines = []
    for one in found:
        where = f"{one['width']} {one['theme']}"
        if one["page"] > one["width"]:
            lines.append(f"{where}: the page is {one['page']} wide")
        for chart in one["charts"]:
            left, top, right, bottom = chart["box"]
            name = f"{where}: {chart['label']}"
            if right - left < (8 if chart["small"] else 100) or bottom - top < (8 if chart["small"] else 40):
                lines.append(f"{name}: is {right - left:.0f} by {bottom - top:.0f}")
            lines += [f"{name}: mark at {mark} is outside" for mark in chart["marks"] if not inside(mark, chart["box"])]
            lines += [f"{name}: label {text!r} is outside" for text, place, *_ in chart["texts"]
                      if not inside(place, chart["box"])]
            lines += [f"{name}: labels {a[0]!r} and {b[0]!r} overlap"
                      for a, b in itertools.combinations(chart["texts"], 2) if overlap(a[1], b[1])]
            lines += [f"{name}: label {text!r} has the contrast {contrast(fill, one['ground']):.1f}"
                      for text, _, fill, kind in chart["texts"]
                      if kind not in ("light", "dark") and contrast(fill, one["ground"]) < 4.5]
    return lines
