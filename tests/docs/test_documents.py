"""Every code block of the README, the guides and the site runs; pages, pictures and links exist."""

import re
import sys

import pytest
from document import ROOT, Page, blocks, mark_of, pages

PAGES = pages()


def shown(path):
    return path.relative_to(ROOT).as_posix()


def stand_in(base, name):
    """The tests' server. Pages without a server must not load gRPC."""
    sys.path.insert(0, str(ROOT / "tests" / "serving"))
    try:
        from servicer import Server
    finally:
        sys.path.pop(0)
    return Server(base, name)


def cases():
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if any(True for _ in blocks(text)):
            mark = mark_of(text)
            yield pytest.param(path, id=shown(path), marks=[getattr(pytest.mark, mark)] if mark else [])


@pytest.mark.parametrize("path", [*cases()])
def test_the_code_of_a_page_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Page(path, stand_in).run()


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_links_pictures_and_recipes_exist(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target) and "generated/" not in target:
            assert (path.parent / target.partition("#")[0]).exists(), target
    for name in re.findall(r"`(?:recipes/)?(\w+\.py)`", text):
        assert name in MADE_UP or [*ROOT.glob(f"recipes/{name}"), *ROOT.glob(f"tfmtl2r/*/{name}")], name


MADE_UP = {"my_parts.py", "largest.py"}
"""Files that a page's reader has."""


@pytest.mark.parametrize(("text", "error"), [
    ("```python\nprint(1 + 1)  # 3\n```", "page.md:2"),
    ("```console\n$ tfmtl2r list blends\nnothing like it\n```", "printed:\nblends"),
    ("```console\n$ tfmtl2r list nothing\n```", "tfmtl2r', 'list', 'nothing"),
    ("```console\n$ rm -r *\n```", "write the block as sh"),
    ("```toml\n[training]\nepoch = 3\n```", "epoch"),
    ("```sh\ntfmtl2r train\n```", "write console"),
    ("```sh\npython recipes/nothing.py\n```", "recipes/nothing.py"),
    ("```ruby\n1\n```", "not 'ruby'"),
    ("```{code-block} toml\na = 1\n```", "names its file"),
])  # fmt: skip
def test_wrong_pages_fail(text, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(text + "\n")
    with pytest.raises(Exception, match=re.escape(error)):
        Page(tmp_path / "page.md", stand_in).run()


def test_a_page_is_one_session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(
        "```{code-block} text\n:caption: a/b.txt\n\nhello\n```\n\n```python\nfrom pathlib import Path\n```\n"
        "\n```python\nword = Path('a/b.txt').read_text().strip()\nprint(word)  # hello\n```\n")
    assert Page(tmp_path / "page.md", stand_in).run()["word"] == "hello"
