"""What the command prints fits into a terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from tfmtl2r.advice.facts import Facts, Goal, Pair, Sharing
from tfmtl2r.advice.judging import advise
from tfmtl2r.advice.opposition import Opposition
from tfmtl2r.commands import advise as command

FIGHTS = Opposition(-0.8, 0.05, 1e-8, 32)
UNSURE = Opposition(0.1, float("nan"), 0.6, 32)


@pytest.mark.parametrize("width", [80, 120])
def test_tables_and_words_fit(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    names = ["watch time of a session", "click"]
    pairs = [Pair(*names, FIGHTS, FIGHTS), Pair(*names, FIGHTS, UNSURE)]
    facts = Facts([Goal(name, "binary", 0.999, 0.123) for name in names], pairs,
                  [Sharing(names[0], "normalised_entropy", -0.1234, -0.2345, -0.1111, 0.0123, 1e-9, 0.2),
                   Sharing(names[1], "mse", 136811.6211, 457907.9062, -321096.3125, 17173.3066, 1.0, 0.2)],
                  width=32)  # fmt: skip
    console = Console(width=width, record=True)
    for table in (command._goals(facts), command._pairs(facts)):
        console.print(table)
    command._say(facts, advise(facts))
    text, said = console.export_text(), capsys.readouterr().out
    assert max(map(len, [*text.splitlines(), *said.splitlines()])) <= width
    for shown in ("99.9 %", "12.3 %", "-0.1111", "\u00b10.0123", "-0.80 \u00b1 0.05", "< .001", "457908", "-321096"):
        assert shown in text
    assert "\u2026" not in text
    assert "nan" not in text
    assert "imtl_g: IMTL-G" in said
