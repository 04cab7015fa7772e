"""Recipes on public data, with one seed and little training: tables, files, and that nothing is run twice."""

import csv

import pytest
from test_trade_off_recipes import DATA, run

pytestmark = pytest.mark.slow
SHORT = ("--seeds", "1", "--epochs", "1")


def folder_of(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"there is no folder {DATA / name}")
    return str(DATA / name)


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.long
def test_census_income(tmp_path):
    arguments = ("--data", folder_of("census_income_kdd"), "--groups", "income_married", "--architectures",
                 "shared_bottom", "drgrad", "dml-shared_bottom", *SHORT)  # fmt: skip
    out = run(tmp_path, "census_income.py", *arguments)
    assert "income_married: test AUC" in out
    assert "dml-shared_bottom - shared_bottom, income:" in out
    found = rows(tmp_path / "runs/census-income_married/architectures.csv")
    assert [row["variant"] for row in found] == ["shared_bottom", "drgrad", "dml-shared_bottom"]
    assert all(float(row["income auc"]) > 0.9 and float(row["never_married auc"]) > 0.98 for row in found)
    again = run(tmp_path, "census_income.py", *arguments)
    assert "done " not in again
    assert again.split("income_married: test AUC")[1] == out.split("income_married: test AUC")[1]


@pytest.mark.long
def test_kuairand(tmp_path):
    out = run(tmp_path, "kuairand.py", "--data", folder_of("kuairand_pure"), "--tasks", "click", "like", "follow",
              "--architectures", "shared_bottom", "aitm", *SHORT)  # fmt: skip
    for metric in ("ndcg@5", "grouped_auc", "auc"):
        assert f"KuaiRand-Pure, test {metric}" in out
    assert "popularity" in out
    found = rows(tmp_path / "runs/kuairand-click-like-follow/grouped_auc.csv")
    assert [row["variant"] for row in found] == ["shared_bottom", "aitm"]
    assert all(float(row["click grouped_auc"]) > 0.6 for row in found)


def test_movielens(tmp_path):
    out = run(tmp_path, "movielens.py", "--data", folder_of("movielens_latest_small"), "--architectures",
              "shared_bottom", "ple", *SHORT)  # fmt: skip
    assert "shared_bottom rating rmse" in out
    found = rows(tmp_path / "runs/movielens-time/architectures.csv")
    assert all(0.7 < float(row["rating mse"]) < 1.1 for row in found)


@pytest.mark.long
def test_synthetic_conflict(tmp_path, looked_at):
    out = run(tmp_path, "synthetic_conflict.py", "--rows", "600", "--architectures", "mmoe", "drgrad", "--problems",
              "conflict", *SHORT)  # fmt: skip
    assert out.count("synthetic_conflict, cosine") == 5
    looked_at(tmp_path / "runs/synthetic-conflict/auc.png")


@pytest.mark.long
def test_planted_conflicts(tmp_path):
    out = run(tmp_path, "planted_conflicts.py", "--problems", "graded lists", "--quick")
    lines = [line for line in out.splitlines() if "graded lists" in line]
    cells = [[cell.strip() for cell in line.split("\u2502")[1:5]] for line in lines]
    assert [row[1:] for row in cells] == [["-0.9", "1", "1"], ["0", "1", "0"], ["1", "1", "0"]]


@pytest.mark.long
def test_deepmtl2r(tmp_path):
    out = run(tmp_path, "deepmtl2r_mslr.py", "--data", folder_of("mslr"), "--methods", "linear_scalarization", "mgda",
              "--layers", "1", "--list-limit", "30", "--preferences", "3", "--heads", "shared", *SHORT)  # fmt: skip
    assert "relevance" in out
    assert "1.00 x linear_scalarization" in out
    assert "linear_scalarization: test hypervolume" in out
    assert len([*(tmp_path / "runs/deepmtl2r-2-shared").glob("*/run.json")]) == 3 + 1
