"""The HTML report: self-contained, true to the run cards, and deaf to markup."""

import dataclasses
import html.parser
import importlib.resources
import json
import re
import shutil

import numpy as np
import pytest
from made_up_runs import fake_sweep, write

from tfmtl2r import cli
from tfmtl2r.evaluation.significance import Comparison, delta_m
from tfmtl2r.experiment import Experiment
from tfmtl2r.pages.html import Cell, Column, Front, Point, Section, Table, page, write_html
from tfmtl2r.runs.finished import load_all
from tfmtl2r.sweeps.study import EQUAL, SINGLE, TUNED, conclusions, merged, resolution, study, tuned, verdict

VOID = {"meta", "circle", "rect", "path", "line", "polyline"}
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


class Parser(html.parser.HTMLParser):
    """Checks that tags match; collects attributes, tables as data-v, and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.tables, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag == "td":
            self.tables[-1][-1].append(dict(attributes)["data-v"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


def assert_nothing_from_outside(text):
    parser = Parser(text)
    for tag, attributes in parser.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "image", "use", "a"}
        assert not {"src", "href", "xlink:href", "srcset", "action", "style"} & set(attributes), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), attributes
    assert sum(tag == "script" for tag, _ in parser.tags) == 1
    assert not re.search(r"https?:|@import|url\(|fetch\(|import\(|XMLHttpRequest|innerHTML|eval\(", text)
    policy = next(a["content"] for tag, a in parser.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    return parser


def test_a_sweep_is_self_contained_and_its_numbers_are_those_of_the_run_cards(sweep, capsys):
    assert cli.main(["report", str(sweep)]) == 0
    path = sweep / "report.html"
    assert capsys.readouterr().out.strip() == str(path)
    parser = assert_nothing_from_outside(path.read_text(encoding="utf-8"))
    rankers, indicators, runs = ([row for row in table if row] for table in parser.tables)
    cards = [run.card for run in load_all(sweep)]
    assert len(runs) == len(cards) == 4 + 6 + 6 + 2
    for row, card in zip(runs, cards, strict=True):
        want = [card.results["test"].get(f"task_{t}", {}).get("ndcg@10", {}).get("value") for t in (1, 2)]
        assert row[4:6] == ["" if value is None else repr(value) for value in want]
        assert float(row[6]) == card.step_ms
    keyed = [a for tag, a in parser.tags if tag == "circle" and "data-key" in a]
    assert {a["data-key"] for a in keyed} == {c.name for c in cards if len(c.results["test"]) == 2}
    by_name = {row[0]: row for row in rankers}
    assert set(by_name) == {EQUAL, TUNED, SINGLE, "epo", "mgda"}
    single = {t: {"ndcg@10": {"value": np.mean([c.results["test"][t]["ndcg@10"]["value"] for c in cards
                                                if list(c.results["test"]) == [t]])}} for t in ("task_1", "task_2")}
    of_mgda = [c.results["test"] for c in cards if c.config["method"] == "mgda"]
    assert float(by_name["mgda"][3]) == pytest.approx(np.mean([delta_m(r, single) for r in of_mgda]), abs=1e-12)
    assert float(by_name[SINGLE][3]) == pytest.approx(0, abs=1e-9)
    assert (by_name[TUNED][6], by_name[SINGLE][6], by_name["mgda"][6]) == ("3", "2", "1")
    assert (by_name[EQUAL][5], by_name[SINGLE][5]) == ("0.0025", "0.005")
    assert (by_name["mgda"][4], by_name["epo"][4]) == ("", by_name["epo"][4])
    assert {row[0]: row[3] for row in indicators}["epo"] == by_name["epo"][4]
    assert [float(row[3]) for row in rankers] == sorted(float(row[3]) for row in rankers)


def test_a_study_has_a_section_for_each_sweep_and_baselines_join(sweep, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(sweep, folder / "first")
    fake_sweep(folder / "second", tasks=3)
    for seed in (0, 1):
        base = Experiment(f"trees-s{seed}", method={"name": "LambdaMART"}, training={"seed": seed})
        rng = np.random.default_rng(seed)
        write(folder / "first/baselines" / base.name, base, {f"task_{t}": rng.random(40) + 2 for t in (1, 2)})
    assert cli.main(["report", str(folder), "--to", str(tmp_path / "x/page.html")]) == 0
    text = (tmp_path / "x/page.html").read_text(encoding="utf-8")
    parser = assert_nothing_from_outside(text)
    assert [name in parser.text for name in ("first", "second", "baselines")] == [True, True, False]
    assert len(parser.tables) == 6
    assert parser.tables[0][1][0] == "LambdaMART"  # by far the best
    assert "LambdaMART against tuned weights: significantly better on task_1, task_2, worse on no task." in text
    assert text.count("<polyline") == 3 + (8 + 8 + 2)  # lines of three methods; a line per run where there are 3 tasks


def test_markup_in_names_is_shown_not_obeyed(tmp_path):
    table = Table(HOSTILE, [Column(HOSTILE, hint=HOSTILE), Column("v", "max")],
                  [[Cell(HOSTILE, HOSTILE), Cell(1.0)], [Cell("b"), Cell(float("nan"))]], [HOSTILE, "k"])
    front = Front(HOSTILE, (HOSTILE, "y"), (True, False), [Point((1.0, 2.0), HOSTILE, HOSTILE, HOSTILE)],
                  single={HOSTILE: (0.5, None), "b": (0.6, 2.0)})
    path = write_html(tmp_path / "new/p.html", HOSTILE, [Section(HOSTILE, [HOSTILE], [table, front])], HOSTILE)
    parser = assert_nothing_from_outside(path.read_text(encoding="utf-8"))
    assert parser.text.count(HOSTILE) >= 6
    assert sum(a.get("data-tip") == HOSTILE for _, a in parser.tags) == 3
    assert parser.tables[0][1] == [HOSTILE, "1.0"]
    assert parser.tables[0][2] == ["b", ""]
    assert not any("onerror" in a for _, a in parser.tags)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has 1 columns, but a row of 2 cells"):
        page("p", [Section("s", (), [Table("t", [Column("a")], [[Cell(1), Cell(2)]])])])
    for values in ((1.0,), (1.0, float("inf"))):
        with pytest.raises(ValueError, match="expected 2 finite values"):
            page("p", [Section("s", (), [Front("f", ("x", "y"), (True, True), [Point(values, "g", "h")])])])
    assert cli.main(["report", str(tmp_path)]) == 1


def test_places_follow_values():
    points = [Point((0.0, 1.0), "a", "low"), Point((1.0, 3.0), "a", "high"), Point((0.5, 2.0), "b", "middle")]
    text = page("p", [Section("s", (), [Front("f", ("x", "y"), (True, True), points, {"a": np.array([[0, 3], [1, 1]])})
                                        ])])
    found = re.findall(r'translate\(([\d.]+) ([\d.]+)\)" data-group="(\d)">.*?data-tip="(\w+)"', text)
    at = {tip: (float(x), float(y)) for x, y, _, tip in found}
    assert at["low"][0] < at["middle"][0] < at["high"][0]
    assert at["low"][1] > at["middle"][1] > at["high"][1]
    np.testing.assert_allclose(np.add(at["low"], at["high"]) / 2, at["middle"], atol=0.11)
    stairs = re.search(r'<polyline[^>]*points="([^"]+)"', text).group(1).split()
    corners = [tuple(map(float, spot.split(","))) for spot in stairs]
    assert corners == [(at["high"][0], at["low"][1]), (at["low"][0], at["low"][1]), (at["low"][0], at["high"][1])]


def test_tuned_weights_are_chosen_by_validation_alone(tmp_path):
    # Validation likes the preference for task_2, most of all in seed 1; test results like another.
    def vali(experiment, task):
        return 0.5 + 0.3 * (experiment.preference["task_2"] if experiment.preference else 0) * (task == "task_2")

    fake_sweep(tmp_path / "s", vali=vali)
    weighted = [run for run in load_all(tmp_path / "s") if run.method == "linear_scalarization" and run.preference]
    best = tuned(weighted)
    assert [run.seed for run in best] == [0, 1]
    assert [run.preference for run in best] == [pytest.approx((0.2, 0.8))] * 2


def test_weights_cannot_be_tuned_on_what_is_no_number(tmp_path):
    fake_sweep(tmp_path / "a", vali=lambda experiment, task: np.nan if experiment.training.seed else 0.5)
    found = study(tmp_path / "a")
    assert [run.seed for ranker in found.rankers if ranker.name == TUNED for run in ranker.runs] == [0]
    assert "No tuned weights, because a validation metric is not a finite number: seed 1." in conclusions(found)
    fake_sweep(tmp_path / "b", vali=lambda experiment, task: np.nan)
    found = study(tmp_path / "b")
    assert TUNED not in {ranker.name for ranker in found.rankers}
    assert "There are no tuned weights: no run has a finite number for every validation metric." in conclusions(found)
    assert cli.main(["report", str(tmp_path / "b")]) == 0


def test_architectures_are_held_against_their_own_single_task_runs(tmp_path):
    planned = fake_sweep(tmp_path / "s", architectures=("shared_bottom", "mmoe"))
    (tmp_path / "s/sweep.json").write_text(json.dumps({"runs": [e.config() for e in planned] + [{"name": "lost"}]}))
    found = study(tmp_path / "s")
    rows = {ranker.name: ranker for ranker in found.rankers}
    assert {f"{SINGLE} mmoe", f"{SINGLE} shared_bottom", f"{EQUAL} mmoe", f"{TUNED} shared_bottom"} < set(rows)
    for name, ranker in rows.items():
        seen = [*ranker.runs, *(run for alone in ranker.alone.values() for run in alone)]
        assert {run.architecture for run in seen} == {name.split()[-1]}
    assert "1 planned runs have no result: lost." in conclusions(found)
    for experiment in planned:
        if len(experiment.task_names) == 1:
            shutil.rmtree(tmp_path / "s" / experiment.name)
    assert all(ranker.change is None for ranker in study(tmp_path / "s").rankers)
    assert cli.main(["report", str(tmp_path / "s")]) == 0
    for experiment in planned:
        if len(experiment.task_names) != 1:
            shutil.rmtree(tmp_path / "s" / experiment.name)
    base = Experiment("alone", data=planned[0].data, tasks=("task_1",), training={"patience": 0})
    write(tmp_path / "s/alone", base, {"task_1": np.ones(4)})
    assert cli.main(["report", str(tmp_path / "s")]) == 0  # runs of one task alone have a table, and no front
    assert len(Parser((tmp_path / "s/report.html").read_text()).tables) == 1


def test_only_the_legend_has_small_pictures():
    css = importlib.resources.files("tfmtl2r.pages").joinpath("page.css").read_text(encoding="utf-8")
    assert [line.split(" {")[0] for line in css.splitlines() if "width: 14px" in line] == [".legend svg"]
    assert css.index("svg { display: block; width: 100%") < css.index(".legend svg")


def test_too_few_lists_are_said_to_show_nothing(tmp_path):
    fake_sweep(tmp_path / "s", lists=4)
    assert "That none is significant means nothing here." in conclusions(study(tmp_path / "s"))[-1]


def comparison(ours, task, mark):
    difference = -0.1 if mark == "-" else 0.1
    return Comparison(ours, TUNED, task, "ndcg@10", difference, 0, 0, 0, 0.01 if mark else 0.9, 30, "max")


def test_the_words_follow_from_the_comparisons(sweep):
    rows = [comparison("a", "t", "+"), comparison("a", "u", ""), comparison("b", "t", "+"), comparison("b", "u", "-"),
            comparison("c", "t", "-"), comparison("d", "t", ""), comparison("trees", "t", "-")]
    said = verdict(rows, TUNED, ["a", "b", "c", "d"])
    rule = "(significantly better on at least one task, worse on none)"
    assert said[0].startswith(f"1 of 4 special methods beat tuned weights {rule}: a (+t). No clear")
    assert "No clear difference from tuned weights: d." in said[0]
    assert "Worse on a task and better on none than tuned weights: c (-t)." in said[0]
    assert "Better on one task and worse on another than tuned weights: b (+t, -u)." in said[0]
    behind = verdict(rows, TUNED, ["a", "b", "c", "d"], {"a": 1.0, "b": 2.0, TUNED: 0.5})[0]
    assert "(delta-m), these methods are still worse than tuned weights: a. No clear" in behind
    assert said[1] == "Trees against tuned weights: significantly better on no task, worse on t."
    none = verdict(rows[2:], TUNED, ["b", "c", "d"])[0]
    assert none.startswith(f"No special method beats tuned weights {rule}. ")
    found = study(sweep)
    told = " ".join(conclusions(found))
    assert f"No special method beats tuned weights {rule}." in told
    assert "Worse on a task and better on none than equal weights: epo (-task_1, -task_2)." in told
    assert "with one training, at one preference (0.5 : 0.5); a method without a preference" in told
    assert "They use 40 test lists" in told
    assert "means nothing" not in told


def test_what_so_few_lists_can_show_is_said():
    rows = [dataclasses.replace(comparison("a", "t", ""), low=-0.02, high=0.06),
            dataclasses.replace(comparison("b", "t", ""), low=0.01, high=0.03),
            dataclasses.replace(comparison("c", "t", "+"), low=0.05, high=0.15)]  # fmt: skip
    width, hints = resolution(rows, TUNED)
    assert "within ± 0.040 on t ndcg@10" in width
    assert "among 3 comparisons" in width
    assert hints.startswith("Differences from tuned weights whose own 95 % interval excludes 0")
    assert hints.endswith(": b t +0.100 [+0.010, +0.030].")
    assert resolution([dataclasses.replace(rows[0], low=float("nan"))], TUNED) == []


def test_rankers_that_are_the_same_rule_are_one_row(sweep):
    ranker = next(r for r in study(sweep).rankers if r.special)
    twin = dataclasses.replace(ranker, name="twin", volume=None)
    other = dataclasses.replace(ranker, name="other", runs=ranker.runs[:1])
    plain = dataclasses.replace(ranker, name="plain", special=False)
    found = merged([twin, ranker, other, plain])
    assert [r.name for r in found] == [f"twin = {ranker.name}", "other", "plain"]
    assert found[0].volume == ranker.volume
