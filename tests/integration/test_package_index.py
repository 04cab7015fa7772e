"""The README on a package index: nothing in it points to a file that only the repository has."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def for_index():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.for_index


def relative(text):
    return [target for target in re.findall(r"\]\(([^)]+)\)", text) if not re.match(r"[a-z]+:|#", target)]


def test_with_an_address_images_and_files_are_absolute(for_index):
    shown = for_index(README, "https://example.org/us/it/")
    assert relative(README)
    assert relative(shown) == []
    assert "](https://example.org/us/it/raw/HEAD/docs/images/quickstart.png)" in shown
    assert "[Benchmarks](https://example.org/us/it/blob/HEAD/docs/benchmarks.md)" in shown
    assert shown.count("![") == README.count("![")


def test_without_an_address_captions_remain(for_index):
    shown = for_index(README, "")
    assert relative(shown) == []
    assert "*NDCG@5 per task of two rankers and three rankings that need no training*" in shown
    assert "| Benchmarks | what it costs" in shown
    assert for_index("[a](https://b.c) ![d](https://e.f/g.png) [h](#i)", "") == \
        "[a](https://b.c) ![d](https://e.f/g.png) [h](#i)"


@pytest.mark.slow
def test_the_built_metadata_hold_that_readme(for_index):
    code = "from hatchling.metadata.core import ProjectMetadata\n" \
           "from hatchling.plugin.manager import PluginManager\n" \
           f"print(ProjectMetadata({str(ROOT)!r}, PluginManager()).core.readme)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == for_index(README, "").strip()
