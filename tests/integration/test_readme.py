"""What the README and the extension guide show is so: lists of names, and examples."""

import json
import re
import shlex
from pathlib import Path

import pytest

import tfmtl2r
from tfmtl2r import losses, methods
from tfmtl2r.commands.list import methods_markdown, summary
from tfmtl2r.serving.session import LoadedExport

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("command", "text"), [
    ("tfmtl2r list --summary", summary), ("tfmtl2r list methods --markdown", methods_markdown),
])  # fmt: skip
def test_blocks_are_what_the_commands_print(command, text):
    """Renew a block: paste what its command prints."""
    block = re.search(rf"<!-- {command} -->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    assert block is not None
    assert block.group(1) == text()


def test_pictures_and_files_exist():
    for path in [*re.findall(r"\]\(([\w/.]+)\)", README),
                 *(f"recipes/{name}" for name in re.findall(r"`(\w+\.py)`", README))]:
        assert (ROOT / path).exists(), path


def test_the_blocks_of_the_extension_guide_print_what_their_comments_say(capsys):
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    names = {"__name__": "guide"}
    try:
        for block in blocks:
            exec(block, names)
            expected = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
            assert capsys.readouterr().out.splitlines() == expected != []
    finally:
        for kind, name in re.findall(r"^@(\w+)\.register\(\"(\w+)\"", guide, re.MULTILINE):
            getattr(tfmtl2r, kind).registry.unregister(name)
    assert len(blocks) == 7


def test_the_parts_of_your_own_are_registered():
    first, second, *_ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "register" not in first
    names = {"__name__": "my_parts"}
    exec(second, names)
    try:
        assert methods.registry.describe(names["ranker"].method) == {"name": "largest"}
        assert losses.get(names["dwell"].loss).scale == 2.0
    finally:
        methods.registry.unregister("largest")
        losses.registry.unregister("absolute")


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    assert len(code.strip().split("\n")) <= 22
    assert code.startswith("import tfmtl2r"), "TensorFlow's start-up lines are held back only if it comes first"
    names = {}
    exec(code, names)
    assert names["version"].name == "1"
    assert "serving_default" in names["signatures"]
    [line] = re.findall(r"^curl .*$", README, re.MULTILINE)
    _, _, body, url = shlex.split(line)
    assert url == f"localhost:8501/v1/models/{names['version'].parent.name}:predict"
    with LoadedExport(names["version"]) as served:  # as the server loads it
        answer = served.run("serving_default", json.loads(body)["inputs"])
    assert answer["score"].shape == answer["value_click"].shape == (1, 2)
