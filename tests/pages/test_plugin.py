"""The page of TensorBoard: what it reads, and what it draws in a browser."""

import html
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from measuring import BROWSER
from tensorboard import program
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.core import core_plugin

from tfmtl2r._backend import tf
from tfmtl2r.pages.plugin import Page
from tfmtl2r.report import hparams
from tfmtl2r.report.histories import Histories

TASKS = ["click", "dwell <b>", "like"]


def write(folder, sign=-1.0, steps=6):
    """A training in which the first two tasks fight with growing force, and its results."""
    histories, rng = Histories(), np.random.default_rng(0)
    writer = tf.summary.create_file_writer(str(folder / "train"))
    for step in range(1, steps + 1):
        cosines = np.eye(3)
        cosines[0, 1] = cosines[1, 0] = sign * step / steps
        histories.add("cosine", 10 * step, cosines, "matrix", [TASKS, TASKS])
        histories.add("share", 10 * step, np.array([0.2, 0.3, 0.5]), "shares", [TASKS])
        histories.add("inside/gates", step, rng.dirichlet(np.ones(2), 3), "gates", [TASKS, ["expert 0", "expert 1"]])
        with writer.as_default(step=step):
            histories.write(step)
    writer.close()
    results = {task: {"ndcg@5": {"value": 0.5 + sign * place / 10}} for place, task in enumerate(TASKS)}
    hparams.write(folder, {"name": "one", "method": "mgda"}, results)


def answer(folder):
    """What the page gets from a folder of logs."""
    files = plugin_event_multiplexer.EventMultiplexer()
    files.AddRunsFromDirectory(str(folder))
    files.Reload()
    page = Page(base_plugin.TBContext(data_provider=data_provider.MultiplexerDataProvider(files, str(folder))))
    told = []
    read = page.get_plugin_apps()["/data"]
    body = b"".join(read({"PATH_INFO": "/data"}, lambda status, headers: told.append(status)))
    return told[0], json.loads(body)


def test_whole_histories_are_read(tmp_path):
    write(tmp_path / "one", steps=40)  # TensorBoard keeps 10 points of a tensor
    status, found = answer(tmp_path)
    assert status == "200 OK"
    assert {run: sorted(tags) for run, tags in found.items()} == {
        "one/train": ["cosine", "inside/gates", "share"], "one/results": ["results"]}
    cosine = found["one/train"]["cosine"]
    assert cosine["steps"] == list(range(10, 410, 10))
    assert cosine["labels"] == [TASKS, TASKS]
    assert cosine["values"][-1][1] == -1
    assert found["one/results"]["results"]["settings"]["method"] == "mgda"


def test_an_empty_folder_and_a_half_written_file_are_no_errors(tmp_path):
    assert answer(tmp_path) == ("200 OK", {})
    write(tmp_path / "one")
    for path in (tmp_path / "one" / "train").iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    status, found = answer(tmp_path)
    assert status == "200 OK"
    assert "one/results" in found


def test_it_imports_nothing_heavy_and_survives_another_backend():
    code = ("import sys, tfmtl2r.pages.plugin as p; print(sorted({'tensorflow', 'keras', 'pandas', 'matplotlib', "
            "'pyarrow'} & {*sys.modules}), p.Page.plugin_name)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={"KERAS_BACKEND": "jax", "PATH": "", "PYTHONPATH": ":".join(sys.path)})
    assert done.stdout.strip() == "[] tfmtl2r"


@pytest.fixture
def board(tmp_path):
    """TensorBoard with the page, on a folder of two runs."""
    write(tmp_path / "fight")
    write(tmp_path / "peace", sign=1.0)
    board = program.TensorBoard(plugins=[core_plugin.CorePluginLoader(), Page])
    board.configure(argv=[None, "--logdir", str(tmp_path), "--port", "0", "--load_fast", "false"])
    return board.launch()


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_draws_what_it_should(board, tmp_path, width):
    page = f"{board}data/plugin_entry.html?name=tfmtl2r"
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         f"--window-size={width},2400", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=15000", "--dump-dom", page], capture_output=True, text=True, check=True, timeout=100)
    told = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not told, told
    text = html.unescape(done.stdout)
    assert re.findall(r'data-tag="([^"]+)"', text) == ["cosine", "share", "inside/gates", "served", "front"]
    assert "<b>" not in done.stdout  # names are text
    assert "click and dwell <b> -1.00" in text
    assert "click and dwell <b> 1.00" in text
    assert len(re.findall("<circle", text)) == len(re.findall('type="checkbox"', text)) == 2
    assert "fight: click ndcg@5 0.5" in text
    assert "like 0.50" in text
