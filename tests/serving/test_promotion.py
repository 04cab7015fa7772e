"""An export is compared with the one that it would replace, on the same requests, before it is promoted."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from serving_problem import make_ranker

import tfmtl2r
from tfmtl2r import Dense, Schema, cli
from tfmtl2r.data import Lists
from tfmtl2r.evaluation.promotion import KEY, _agreement, compare
from tfmtl2r.serving.check import METADATA, check

SCHEMA = Schema([Dense("price")])
TASKS = ("click", "dwell/s")


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Two exports whose rankers differ in the sign of their scores for one task, and a table of requests."""
    base = tmp_path_factory.mktemp("exports")
    ranker = make_ranker(SCHEMA, TASKS)
    tfmtl2r.export(ranker, base / "old")
    shutil.copytree(base / "old", base / "same")
    ranker.set_weights([-weight if weight.shape[-1:] == (1,) else weight for weight in ranker.get_weights()])
    tfmtl2r.export(ranker, base / "new")
    rng = np.random.default_rng(0)
    pd.DataFrame({"q": np.repeat(np.arange(6), 12), "price": rng.normal(size=72),
                  "place": np.repeat(["shop", "web", "shop"], 24)}).to_parquet(base / "requests.parquet")
    return base


def test_agreement_by_hand():
    lists = Lists({"x": np.zeros(7)}, np.array([0, 4, 7]))
    new, old = np.array([4.0, 3, 2, 1, 5, 6, 6]), np.array([4.0, 2, 3, 1, 0, 0, 0])
    found = _agreement("all", "score", lists, np.ones(7, bool), new, old, top=2)
    assert found.lists == 2
    assert found.overlap == pytest.approx((1 / 2 + 1 / 2) / 2)  # equal scores keep the order of the rows
    assert found.order == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15); the second list has no order
    assert (found.mean, found.largest) == pytest.approx((19 / 7, 6.0))
    part = _agreement("some", "score", lists, np.array([1, 0, 0, 1, 0, 0, 0], bool), new, old, top=2)
    assert (part.lists, part.order, np.isnan(part.overlap)) == (1, pytest.approx(1.0), True)


@pytest.mark.slow  # three exports
def test_an_export_agrees_with_itself_and_not_with_another(exports):
    same = compare(exports / "same", exports / "old", top=3)
    assert {row.output for row in same.rows} >= {"score", "score_click", "score_dwell/s"}
    assert all(row.largest == 0 and row.order == pytest.approx(1) for row in same.rows)
    assert same.within(min_overlap=1.0, max_latency_ms=1e6, max_size_mb=1e3).failures == ()
    other = compare(exports / "new", exports / "old", [str(exports / "requests.parquet")], ["place"], 3, "q")
    assert {row.of for row in other.rows} == {"all", "place = shop", "place = web"}
    assert {row.of: row.lists for row in other.rows} == {"all": 6, "place = shop": 4, "place = web": 2}
    score = {row.of: row for row in other.rows if row.output == "score"}["all"]
    assert score.order == pytest.approx(-1)
    assert score.overlap == 0
    failed = other.within(min_overlap=0.5, max_latency_ms=0.0, max_size_mb=0.0).failures
    assert len(failed) == 5
    assert failed[0] == "top-3 overlap of score in the slice 'all' is 0.0000, below 0.5"


@pytest.mark.slow  # three exports
def test_the_command_keeps_the_comparison_and_fails_by_its_limits(exports, capsys):
    given = [str(exports / "new"), "--against", str(exports / "old"), "--min-overlap", "0.95"]
    assert cli.main(["export-check", *given]) == 1
    printed = capsys.readouterr()
    assert "failed: " in printed.err
    assert "below 0.95" in printed.err
    kept = json.loads((exports / "new/1" / METADATA).read_text())[KEY]
    assert [one["passed"] for one in kept] == [False]
    assert cli.main(["export-check", *given[:3]]) == 0  # replaces the comparison with the same export
    kept = json.loads((exports / "new/1" / METADATA).read_text())[KEY]
    assert [one["passed"] for one in kept] == [True]
    check(exports / "new")
    assert cli.main(["export-check", str(exports / "same"), "--max-size-mb", "0"]) == 1
    assert "above 0 MB" in capsys.readouterr().err


@pytest.mark.slow  # three exports
def test_what_cannot_be_compared_is_refused(exports, tmp_path, capsys):
    tfmtl2r.export(make_ranker(Schema([Dense("price"), Dense("age")]), TASKS), tmp_path / "wide")
    with pytest.raises(ValueError, match=r"read different inputs \(age\).*name files of requests"):
        compare(tmp_path / "wide", exports / "old")
    with pytest.raises(ValueError, match="slices need files"):
        compare(exports / "new", exports / "old", by=["place"])
    with pytest.raises(ValueError, match="at least 1"):
        compare(exports / "new", exports / "old", top=0)
    assert cli.main(["export-check", str(exports / "new"), "--by", "place"]) == 1
    assert "name the earlier one (--against)" in capsys.readouterr().err
