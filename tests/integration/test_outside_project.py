"""A project of somebody else: one file of public names, through training, a new process, an export and a sweep.

The same file is used in three ways: as ``--plugins``, imported by a script, and through entry points of an installed
package. Each process is a new one, as it is for a user.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomlkit

import tfmtl2r

pytestmark = pytest.mark.slow

PARTS = Path(__file__).parent / "outside_parts.py"
CHOICE = ["--data", "tiny_shop", "--data.shelves", "20", "--epochs", "2", "--patience", "0", "--batch-size", "5",
          "--telemetry-every", "0"]
TRAIN = ["train", "--name", "one", "--architecture", "thin_trunk", "--architecture.width", "6", "--method",
         "quiet_first", "--method.power", "0.5", *CHOICE]
SWEEP = ["sweep", "grid", "--architectures", "thin_trunk:width=6", "--methods", "quiet_first:power=0.5", "mgda",
         "--no-single-task", "--jobs", "1", *CHOICE]
ENTRY_POINTS = """
    [tfmtl2r.losses]
    half_square = outside_parts:HalfSquare
    [tfmtl2r.metrics]
    top_hit = outside_parts:TopHit
    [tfmtl2r.methods]
    quiet_first = outside_parts:QuietFirst
    [tfmtl2r.architectures]
    thin_trunk = outside_parts:ThinTrunk
    [tfmtl2r.datasets]
    tiny_shop = outside_parts:TinyShop
"""
CHECKS = """
    import dataclasses
    import outside_parts as own
    import pytest
    from tfmtl2r import testing

    PARTS = (testing.loss_checks("half_square"), testing.metric_checks("top_hit"),
             testing.method_checks("quiet_first", {"card_names_a_source": "invented here"}),
             testing.architecture_checks("thin_trunk"))

    @pytest.mark.parametrize("check", [check for part in PARTS for check in part])
    def test_parts(check):
        check()

    class Shouting(own.HalfSquare):
        def compute(self, labels, scores, known, weights, seed):
            return super().compute(labels, scores, known, weights, seed) + 1e-3 * labels[:, :1] ** 0 * scores[:, :1]

    def test_shouts():
        testing.check_loss(Shouting())
"""
COMMANDS = "import json, sys; from tfmtl2r import cli; sys.exit(max(map(cli.main, json.loads(sys.argv[1]))))"


def python(code, *arguments, folder, expected=0, path=None):
    """Runs Python in a process of its own and returns what it printed."""
    paths = [str(Path(tfmtl2r.__file__).parents[1]), *([str(path)] if path else [])]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "500"},
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout + done.stderr


def commands(*lines, **options):
    """Runs command lines, one after the other, in one process."""
    return python(COMMANDS, json.dumps(lines), **options)


def finished(folder):
    """The run, the rows of the sweep, and the scores that training left behind."""
    card = json.loads((folder / "runs/one/run.json").read_text())
    assert set(card["results"]["test"]["click"]) == {"top_hit", "ndcg@2"}
    assert 0 < card["results"]["test"]["click"]["top_hit"]["value"] <= 1
    rows = (folder / "runs/grid/table.csv").read_text().splitlines()
    assert len(rows) in (3, 4)  # the command trains equal weights, too
    assert "quiet_first power=0.5" in "".join(rows[1:])
    assert next((folder / "saved_models/one").glob("*/saved_model.pb")).is_file()
    return card


def installed(folder):
    """The folder of an installed package that offers the parts."""
    site = folder / "site"
    meta = site / "outside_project-1.2.dist-info"
    meta.mkdir(parents=True)
    shutil.copy(PARTS, site)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-project\nVersion: 1.2\n")
    (meta / "entry_points.txt").write_text(textwrap.dedent(ENTRY_POINTS))
    return site


@pytest.fixture(scope="module")
def plugged(tmp_path_factory):
    """A folder in which everything was done with ``--plugins``."""
    folder = tmp_path_factory.mktemp("plugged")
    (folder / "parts").mkdir()
    shutil.copy(PARTS, folder / "parts" / "own.py")
    flag = ["--plugins", "parts/own.py"]
    commands([*TRAIN, *flag], [*SWEEP, *flag], folder=folder)
    commands(["evaluate", "one", *flag], ["export", "one", *flag], folder=folder)
    return folder


def test_by_plugins(plugged):
    card = finished(plugged)
    assert card["plugins"] == [{"name": "own.py", "sha256": card["plugins"][0]["sha256"]}]


def test_an_experiment_file_names_the_plug_in(plugged):
    """The file lies elsewhere: its paths are relative to itself. It repeats the run to the last digit."""
    folder = plugged / "elsewhere"
    folder.mkdir()
    tree = tomllib.loads((plugged / "runs/one/experiment.toml").read_text())
    assert tree["plugins"] == ["../../parts/own.py"]  # what the flag named
    tree |= {"name": "from-file", "directory": "../runs", "plugins": ["../parts/own.py"]}
    (folder / "experiment.toml").write_text(tomlkit.dumps(tree))
    told = commands(["train", "elsewhere/experiment.toml"], ["evaluate", "from-file", "--plugins", "parts/own.py"],
                    folder=plugged)
    assert "oneDNN" not in told  # the plug-in imports TensorFlow itself
    card, same = (json.loads((plugged / "runs" / name / "run.json").read_text()) for name in ("from-file", "one"))
    assert card["plugins"] == same["plugins"]
    assert card["results"]["test"] == same["results"]["test"]


@pytest.mark.long
def test_the_checks_of_tfmtl2r_run_in_the_project_itself(tmp_path):
    shutil.copy(PARTS, tmp_path)
    (tmp_path / "test_parts.py").write_text(textwrap.dedent(CHECKS))
    told = python("import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-o', 'addopts=']))",
                  folder=tmp_path, path=tmp_path, expected=1)
    failed = {line.split("::")[1].split(" ")[0] for line in told.splitlines() if line.startswith("FAILED")}
    assert failed == {"test_shouts"}, told  # the one part that is wrong on purpose
    assert int(re.search(r"(\d+) passed", told).group(1)) > 40, told


def test_without_the_plug_in_as_it_was_commands_stop(plugged, tmp_path):
    (tmp_path / "own.py").write_text(PARTS.read_text() + "\n# another line\n")
    told = commands(["evaluate", "one"], ["export", "one"], ["compare", "grid"],
                    ["evaluate", "one", "--plugins", str(tmp_path / "own.py")], folder=plugged, expected=1)
    assert told.count("used the plug-in own.py, which is not imported: add --plugins own.py") == 3
    assert told.count("used the plug-in own.py with the hash") == 1
    assert "but the file now has the hash" in told
    assert "Traceback" not in told


def test_a_ranker_names_the_file_that_is_missing(plugged):
    told = python("""
        import numpy as np, tfmtl2r
        try:
            tfmtl2r.load("runs/one/model.keras")
        except ValueError as error:
            print(error)
        tfmtl2r.plugins.load("parts/own.py")
        ranker = tfmtl2r.load("runs/one/model.keras")
        print(type(ranker.architecture).__name__, ranker.architecture.width, ranker.method.power)
    """, folder=plugged)
    assert ("the architecture 'thin_trunk' is missing: it came from the file own.py; import it first: --plugins own.py"
            in told)
    assert "ThinTrunk 6 0.5" in told


@pytest.mark.long
def test_by_register_in_a_script(plugged, tmp_path):
    shutil.copy(PARTS, tmp_path)
    python("""
        import outside_parts, tfmtl2r
        from tfmtl2r.sweeps import Sweep, plan

        if __name__ == "__main__":
            base = tfmtl2r.Experiment(
                name="one", data={"name": "tiny_shop", "shelves": 20}, architecture=outside_parts.ThinTrunk(width=6),
                method=outside_parts.QuietFirst(power=0.5),
                training={"epochs": 2, "patience": 0, "batch_size": 5, "telemetry_every": 0})
            ranker, card = base.run(verbose=0)
            tfmtl2r.export(ranker, "saved_models/one")
            with Sweep("runs/grid", jobs=1) as sweep:
                sweep.run(plan(base, ["mgda", {"name": "quiet_first", "power": 0.5}], [[1, 1]]))
            assert not sweep.failed, sweep.failed
    """, folder=tmp_path, path=tmp_path)
    card, same = finished(tmp_path), json.loads((plugged / "runs/one/run.json").read_text())
    assert card["config"]["architecture"] == {"name": "thin_trunk", "width": 6}
    assert card["plugins"] == []
    np.testing.assert_allclose(card["results"]["test"]["click"]["ndcg@2"]["value"],
                               same["results"]["test"]["click"]["ndcg@2"]["value"], rtol=1e-6)
    told = python("""
        import outside_parts, tfmtl2r
        print(tfmtl2r.load("runs/one/model.keras").tasks[1].loss)
    """, folder=tmp_path, path=tmp_path)
    assert "half_squared" in told


@pytest.mark.long
def test_by_entry_point(plugged, tmp_path):
    site = installed(tmp_path)
    told = commands(TRAIN, SWEEP, ["list", "methods"], folder=tmp_path, path=site)
    assert "package outside-project 1.2" in told[told.index("\nquiet_first:"):][:400]
    commands(["evaluate", "one"], ["export", "one"], folder=tmp_path, path=site)
    card, same = finished(tmp_path), json.loads((plugged / "runs/one/run.json").read_text())
    assert card["plugins"] == []
    assert card["results"]["test"] == same["results"]["test"]
    told = commands(["evaluate", "one"], folder=tmp_path, expected=1)
    assert "no data set is called 'tiny_shop'" in told
    assert "tiny_shop" in commands(["list", "datasets", "--plugins", str(PARTS)], folder=tmp_path)


def test_a_plug_in_and_a_package_of_one_name_are_refused(tmp_path):
    told = commands(["list", "losses", "--plugins", str(PARTS)], folder=tmp_path, path=installed(tmp_path), expected=1)
    assert "the loss 'half_square' exists twice: package outside-project 1.2 and file" in told
