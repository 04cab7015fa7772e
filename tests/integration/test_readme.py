"""The README says what is so: its list of names, and its example."""

import re
from pathlib import Path

import pytest

from tfmtl2r.commands.list import summary

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_names_are_those_of_the_registries():
    """Renew it: tfmtl2r list --summary."""
    block = re.search(r"<!-- tfmtl2r list --summary -->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    assert block is not None
    assert block.group(1) == summary()


def test_pictures_and_files_exist():
    for path in [*re.findall(r"\]\(([\w/.]+)\)", README), "recipes/quickstart.py", "recipes/bench_methods.py"]:
        assert (ROOT / path).exists(), path


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    assert len(code.strip().split("\n")) <= 22
    names = {}
    exec(code, names)
    assert names["version"].name == "1"
    assert "serving_default" in names["signatures"]
