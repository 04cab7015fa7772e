"""What is measured, how ratios come about, and the commands that show methods."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from tfmtl2r import cli, methods
from tfmtl2r.commands.list import linked, methods_markdown
from tfmtl2r.report import benchmark
from tfmtl2r.report.benchmark import Overhead

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "recipes/bench_methods.py"))


def row(method="mgda", gradients="parameters", tasks=5, ratio=2.0, share=0.01):
    return Overhead(tasks, method, gradients, 10.0 * ratio, ratio, ratio, ratio, 1.0, share)


@pytest.mark.slow
def test_bench_methods_measures_prints_and_writes(tmp_path, capsys, looked_at):
    csv, picture = tmp_path / "deep" / "rows.csv", tmp_path / "rows.png"
    arguments = ["bench", "methods", "--tasks", "2", "--methods", "mgda", "ls", "--rounds", "2", "--steps", "1",
                 "--csv", str(csv), "--picture", str(picture)]
    assert cli.main(arguments) == 0
    rows = benchmark.read_csv(csv)
    kinds = [("linear_scalarization", "losses"), ("mgda", "parameters"), ("mgda", "features")]
    assert [(r.tasks, r.method, r.gradients) for r in rows] == [(2, *kind) for kind in kinds]
    for r in rows:
        assert 0 < r.ratio_q1 <= r.ratio <= r.ratio_q3
        assert r.solver_ms > 0 if r.method == "mgda" else np.isnan(r.solver_ms)
    assert {r.ratio for r in rows if r.method == "linear_scalarization"} == {1.0}
    looked_at(picture)
    assert "2 tasks" in capsys.readouterr().out


def test_every_method_has_its_variants():
    chosen = benchmark.variants(methods.names())
    assert chosen[0] == (benchmark.PLAIN, "losses")
    assert {name for name, _ in chosen} == set(methods.names())
    assert len(chosen) == len(set(chosen))
    assert {mode for name, mode in chosen if name == "graddrop"} == {"parameters"}
    assert {mode for name, mode in chosen if name == "famo"} == {"losses"}


def test_runs_take_turns():
    seen = []
    times = benchmark.interleaved({name: lambda name=name: seen.append(name) or 0.0 for name in "abc"}, 4, 2)
    assert {name: len(spent) for name, spent in times.items()} == {"a": 4, "b": 4, "c": 4}
    for k in range(0, len(seen), 6):  # each twice in every round, the first of which is not counted
        assert sorted(seen[k:k + 6]) == list("aabbcc")
    assert len(seen) == 30


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (row(ratio=2.9), "2.90 times a plain step, limit 2.8"),
        (row(gradients="features", ratio=1.4), "1.40 times a plain step, limit 1.3"),
        (row(tasks=20, share=0.2), "solver takes 20% of the step"),
        (row("graddrop", ratio=4.0), "only 3.2 times less than DeepMTL2R"),
    ],
)
def test_recipe_names_broken_limits(broken, message):
    lines = RECIPE["broken_limits"]([broken])
    assert any(message in line and line.startswith(broken.method) for line in lines)


def test_recipe_has_nothing_to_say_about_what_holds():
    fine = [row(), row(gradients="features", ratio=1.2), row(tasks=20, ratio=9.0), row("famo", "losses", ratio=5.0)]
    assert RECIPE["broken_limits"](fine) == []


def test_recipe_compares_with_methods_that_exist(capsys):
    assert set(RECIPE["DEEPMTL2R"]) <= set(methods.names())
    RECIPE["show_comparison"]([row(ratio=2.0), row(tasks=20)])
    assert "6.3" in capsys.readouterr().out  # 12.7 / 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "nothing"], "choose one of: methods"),
        (["bench", "methods", "--tasks", "0"], "at least 1"),
        (["bench", "methods", "--rounds", "0"], "at least 1"),
        (["bench", "methods", "--methods", "mgad"], "did you mean 'mgda'"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_bench_says_what_it_can_measure(capsys):
    assert cli.main(["bench"]) == 0
    assert "methods  Measures the time of a training step" in capsys.readouterr().out


def test_list_methods_as_markdown(capsys):
    assert cli.main(["list", "methods", "--markdown"]) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines == methods_markdown().split("\n")
    assert len(lines) == len(methods.names()) + 2 >= 44
    assert {line.count("|") for line in lines} == {9}
    mgda = next(line for line in lines if line.startswith("| `mgda` |"))
    assert "| gram | parameters, features | features: 1 pass; parameters: T backward passes |" in mgda
    assert "non conflicting" in mgda
    assert "](https://" in mgda


def test_sources_become_links():
    assert linked("A and B 2020, https://a.b/c") == "[A and B 2020](https://a.b/c)"
    both = "[A 2020](https://a.b); [extended 2021](https://c.d/e)"
    assert linked("A 2020, https://a.b; extended 2021, https://c.d/e") == both
    assert linked("") == ""
