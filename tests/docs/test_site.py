"""Pages that are made of the registries, and the whole site."""

import importlib
import re
import subprocess
import sys

import gallery
import numpy as np
import papers
import pytest
import reference
import trajectories
from document import ROOT

import tfmtl2r
from tfmtl2r import architectures, methods
from tfmtl2r.commands.list import PACKAGES


@pytest.fixture(scope="module")
def made():
    return gallery.pages()


def test_every_part_is_in_the_gallery(made):
    assert {f"methods/{name}.rst" for name in methods.names()} <= made.keys()
    assert {f"architectures/{name}.rst" for name in architectures.names()} <= made.keys()
    for kind, package in PACKAGES.items():
        for name in importlib.import_module(package).registry.names():
            assert f"``{name}``" in made["parts/index.rst"], (kind, name)


def test_a_method_has_formula_options_promises_and_numbers(made):
    page = made["methods/cagrad.rst"]
    for part in ("CAGrad (conflict-averse gradient descent)", ".. autoclass:: tfmtl2r.methods.cagrad.CAGrad",
                 "* - ``c``\n     - ``0.4``", "radius around the mean gradient", "ends on the pareto set",
                 "`Liu et al. 2021 <https://arxiv.org/abs/2110.14048>`__", "features: 1 pass", "kuairand-3",
                 ".. figure"):
        assert part in page, part


def test_every_paper_is_on_the_map():
    text = papers.pages()["papers.txt"]
    rows = dict(re.findall(r"^\| `(\w+)` (.*) \|$", text, re.MULTILINE))
    assert "[Liu et al. 2021](https://arxiv.org/abs/2110.14048)" in rows["cagrad"]
    assert "`tfmtl2r/methods/nmt.py`" in rows["nmt"]
    assert "This is a reconstruction from the abstract" in rows["nmt"]
    assert "our reading of the abstract" in rows["emtl"]
    for name in methods.names():
        if methods.card(name).paper:
            assert re.search(r"`\w+/test_\w+\.py`", rows[name]), f"no test names {name}"


@pytest.mark.slow
def test_every_public_name_is_in_the_reference():
    pages = reference.pages()
    assert {"api/tfmtl2r.rst", "api/tfmtl2r.losses.rst", "api/index.rst"} <= pages.keys()
    for name in tfmtl2r.__all__:
        assert name in pages["api/tfmtl2r.rst"], name


@pytest.mark.slow
def test_paths_and_their_verdicts():
    inside = trajectories.pareto_set()
    assert np.allclose(inside[[0, -1]], trajectories.CENTRES[::-1])
    starts = np.array(trajectories.STARTS)
    ends = {"All paths end at one point": [inside[50]] * 3, "The end depends on the start": inside[[10, 90, 190]],
            "1 of 3 paths end where no goal can gain alone": [inside[50], starts[0], starts[1]]}
    for expected, points in ends.items():
        assert trajectories.verdict(np.stack([starts, points], axis=1)) == expected
    found = trajectories.paths("linear_scalarization")
    assert found.shape == (3, trajectories.STEPS + 1, 2)
    assert trajectories.verdict(found) == "All paths end at one point"


@pytest.mark.slow  # and not long, of which a share leaves out most: every run of the slow tests builds the site
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="pip install 'tfmtl2r[docs]'")
    flags = ["-W", "--keep-going", "-q", "-b", "html"]
    command = [sys.executable, "-m", "sphinx", *flags, str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    for page in ("index", "generated/methods/cagrad", "generated/architectures/mmoe", "papers", "how_to/migrate"):
        assert (tmp_path / f"{page}.html").is_file()
