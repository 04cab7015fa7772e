"""What a type checker sees of the public names: types, and errors where a user misspells something."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["tfmtl2r", *(f"tfmtl2r.{path.parent.name}" for path in sorted((ROOT / "tfmtl2r").glob("*/__init__.py")))]
MISTAKES = {
    "tfmtl2r.expotr": "has no attribute",
    "tfmtl2r.Taks('click')": "has no attribute",
    "tfmtl2r.methods.Methd": "has no attribute",
    "tfmtl2r.losses.Loss.per_lst": "has no attribute",
    "ranker.compil()": "has no attribute",
    "ranker.prefernce": "has no attribute",
    "ranker.architecture.conect": "has no attribute",
    "ranker.compile(methd='mgda')": "Unexpected keyword argument",
    "ranker.compile('adam', gradients=1)": "incompatible type",
    "tfmtl2r.MultiTaskRanker('mmoe', ['click'], lsts=True)": "Unexpected keyword argument",
    "tfmtl2r.MultiTaskRanker('mmoe', 3)": "incompatible type",
    "tfmtl2r.Task('click', knd='graded')": "Unexpected keyword argument",
    "tfmtl2r.Task('click', priority='first')": "incompatible type",
    "tfmtl2r.Task('click', loss=3)": "incompatible type",
    "ranker.fit([], epoch=3)": "Unexpected keyword argument",
    "ranker.evaluate([], bogus=1)": "Unexpected keyword argument",
    "ranker.predict([], bogus=1)": "Unexpected keyword argument",
    "ranker.save('x.keras', bogus=3)": "Unexpected keyword argument",
    "tfmtl2r.export(3, 'saved_models/x')": "incompatible type",
    "tfmtl2r.methods.combine(3, [[1.0]])": "incompatible type",
    "tfmtl2r.methods.get('mgda').weihg": "has no attribute",
    "tfmtl2r.datasets.get('mslr').lsts('train')": "has no attribute",
}


def names():
    return [f"{package}.{name}" for package in PACKAGES
            for name in sorted(getattr(importlib.import_module(package), "__all__", ()))]


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What mypy says of each line of a user's file."""
    folder = tmp_path_factory.mktemp("user")
    head = [f"import {package}" for package in PACKAGES]
    head.append("ranker = tfmtl2r.MultiTaskRanker('mmoe', [tfmtl2r.Task('click')])")
    lines = [*head, *(f"reveal_type({name})" for name in names()), *MISTAKES]
    (folder / "user.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent", "--no-implicit-reexport",
         "--config-file=", "user.py"],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False, env={**os.environ, "MYPYPATH": str(ROOT)},
    )
    found = {}
    for line in done.stdout.splitlines():
        if at := re.match(r"user\.py:(\d+): (\w+: .*)", line):
            found.setdefault(lines[int(at.group(1)) - 1], []).append(at.group(2))
    assert found, done.stdout + done.stderr
    return found


@pytest.mark.slow
def test_every_public_name_has_a_type(checked):
    for name in names():
        (seen,) = checked[f"reveal_type({name})"]
        assert seen.startswith('note: Revealed type is "'), (name, seen)
        assert seen != 'note: Revealed type is "Any"', name
        assert not re.search(r"-> Any\"$", seen), (name, seen)


@pytest.mark.slow
def test_mistakes_are_errors(checked):
    for line, words in MISTAKES.items():
        found = checked.get(line, [])
        assert any(seen.startswith("error:") and words in seen for seen in found), (line, found)
    assert not [line for line, seen in checked.items()
                if line not in MISTAKES and any(one.startswith("error:") for one in seen)]
