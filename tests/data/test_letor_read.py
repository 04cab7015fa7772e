"""Reading LETOR text: values, lists, options, and every error with its line."""

from __future__ import annotations

import bz2
import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

from tfmtl2r.data import letor_stream
from tfmtl2r.data.letor import LetorError, LetorOptions, expand, read_letor, read_letor_with_report

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
PLAIN = "2 qid:7 1:0.5 3:1\n0 qid:7 2:4 # a note\n\n1 qid:8 1:1 2:2 3:-3.5e-1\n"


@pytest.fixture
def write(tmp_path):
    def written(text, name="rows.txt"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return written


def shared(name):
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not there: the public data sets are not part of the project")
    return path


def test_values_lists_and_missing_features(write):
    lists = read_letor(write(PLAIN), zero_based=False)
    np.testing.assert_array_equal(lists.columns["features"], np.float32([[0.5, 0, 1], [0, 4, 0], [1, 2, -0.35]]))
    assert lists.columns["label"].tolist() == [2, 0, 1]
    assert {name: values.dtype.name for name, values in lists.columns.items()} == {
        "features": "float32", "label": "float32", "qid": "int64"}
    assert lists.ids.tolist() == [7, 8]
    assert lists.sizes.tolist() == [2, 1]
    assert lists.list_id == "qid"
    assert lists.source_rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("suffix", "pack"), [(".txt", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)])
@pytest.mark.parametrize("change", [
    lambda text: text, lambda text: text.replace("\n", "\r\n"), lambda text: text.replace("\n", " \n"),
    lambda text: text.replace(" ", "\t"), lambda text: text.replace(" ", "  "), lambda text: text.rstrip("\n"),
    lambda text: "# header\n\n" + text,
])  # fmt: skip
def test_ways_to_write_the_same(write, suffix, pack, change):
    want = read_letor(write(PLAIN), zero_based=False)
    got = read_letor(write(pack(change(PLAIN).encode()), "x" + suffix), zero_based=False)
    assert got.fingerprint() == want.fingerprint()


def test_chunks_do_not_matter(write, monkeypatch):
    pairs = [" ".join(f"{j}:{i * j}" for j in range(1 + i % 2, 6)) for i in range(80)]
    text = "".join(f"{i % 3} qid:{i // 4} {pairs[i]}\n" for i in range(80))
    path = write(text)
    want = read_letor(path, zero_based=False)
    for chunk, piece in ((7, 1), (100, 64), (1000, 1 << 20)):
        monkeypatch.setattr(letor_stream, "CHUNK", chunk)
        monkeypatch.setattr(letor_stream, "PIECE", piece)
        assert read_letor(path, zero_based=False).fingerprint() == want.fingerprint()


def test_width_that_grows_late(write, monkeypatch, tmp_path):
    monkeypatch.setattr(letor_stream, "CHUNK", 16)
    path = write("0 qid:1 1:1\n1 qid:1 1:2\n0 qid:2 3:5\n1 qid:2 1:1 7:2\n")
    want = [[1, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0], [0, 0, 5, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 2]]
    for _ in range(2):
        assert read_letor(path, cache_dir=tmp_path / "c", zero_based=False).columns["features"].tolist() == want
    assert read_letor(path, zero_based=False).columns["features"].tolist() == want
    assert read_letor(path, num_features=9, zero_based=False).columns["features"].shape == (4, 9)


@pytest.mark.parametrize(("row", "message"), [
    ("x qid:1 1:1", "expected a label that is a number, got 'x'"),
    ("nan qid:1 1:1", "expected a label that is a finite number, got 'nan'"),
    ("1 1:1", "expected qid:QUERY behind the label, got '1:1'.*group file"),
    ("1", "expected qid:QUERY behind the label, got the line end"),
    ("1 qid: 1:1", "expected a 64-bit integer behind qid:, got ''"),
    ("1 qid:a 1:1", "expected a 64-bit integer behind qid:, got 'a'"),
    ("1 qid:1.5 1:1", "expected a 64-bit integer behind qid:, got '1.5'"),
    ("1 qid:9223372036854775808 1:1", "expected a 64-bit integer"),
    ("1 qid:1 1:", "expected the value of feature 1 that is a number, got ''"),
    ("1 qid:1 1:x", "expected the value of feature 1 that is a number, got 'x'"),
    ("1 qid:1 1:1_0", "expected the value of feature 1 that is a number, got '1_0'"),
    ("1 qid:1 1:0x10", "expected the value of feature 1 that is a number"),
    ("1 qid:1 1:NaN", "expected the value of feature 1 that is a finite number, got 'NaN'; leave out"),
    ("1 qid:1 1:1 2:-inf", "expected the value of feature 2 that is a finite number, got '-inf'"),
    ("1 qid:1 1:1e39", "the value of feature 1 is too large for float32: '1e39'"),
    ("1 qid:1 1:1e999", "the value of feature 1 is too large for float32"),
    ("1 qid:1 1:1 1:2", "feature id 1 comes twice; expected increasing ids"),
    ("1 qid:1 3:1 2:2", "feature id 2 comes after 3; expected increasing ids"),
    ("1 qid:1 0:1 2:2", "feature id 0, but LETOR counts from 1.*zero_based=True"),
    ("1 qid:1 -0:1", "expected ID:VALUE, got '-0:1'"),
    ("1 qid:1 -1:1", "expected ID:VALUE, got '-1:1'"),
    ("1 qid:1 1.0:1", "expected ID:VALUE, got '1.0:1'"),
    ("1 qid:1 1e2:1", "expected ID:VALUE, got '1e2:1'"),
    ("1 qid:1 :1", "expected ID:VALUE, got ':1'"),
    ("1 qid:1 5", "expected ID:VALUE, got '5'"),
    ("1 qid:1 1:2:3", "expected the value of feature 1 that is a number, got '2:3'"),
    ("1 qid:1 qid:2 1:2", "expected ID:VALUE, got 'qid:2'"),
    ("2:3 1:4", "expected a label that is a number, got '2:3'"),
    ("1 qid:1 100001:1", "feature id 100001; expected at most 100000.*num_features"),
    ("1 qid:1 99999999999999999999999:1", "feature id 1000000000000000000; expected at most"),
    ("1 qid:1 1:+-1", r"expected the value of feature 1 that is a number, got '\+-1'"),
    ("1 qid:1 1:\u0661", "expected the value of feature 1 that is a number"),
])  # fmt: skip
def test_malformed_rows(write, row, message, caplog):
    path = write(f"0 qid:1 1:1 2:1\n\n# note\n{row}\n2 qid:1 1:3 2:4\n")
    with pytest.raises(LetorError, match=rf"rows\.txt:4: .*{message}"):
        read_letor(path)
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        lists, report = read_letor_with_report(path, LetorOptions(on_error="skip"))
    assert lists.columns["label"].tolist() == [0, 2]
    assert lists.source_rows.tolist() == [0, 2]
    assert (report.rows, report.skipped) == (2, 1)
    assert report.problems[0].startswith(f"{path}:4: ")
    assert f"{path}: left out 1 of 3 rows, the first because: {path}:4:" in caplog.text


@pytest.mark.parametrize(("content", "name", "message"), [
    (b"", "a.txt", r"a\.txt:1: the file has no rows; expected lines such as"),
    (b"# only a comment\n\n", "a.txt", "the file has no rows"),
    (gzip.compress(PLAIN.encode() * 5000)[:-300], "a.gz", r"a\.gz:\d+: the file cannot be read beyond this line"),
    (bz2.compress(PLAIN.encode())[:-5], "a.bz2", r"a\.bz2:1: the file cannot be read beyond"),
    (b"not gzip", "a.gz", r"a\.gz:1: the file cannot be read beyond this line: Not a gzipped file"),
    (b"1 qid:1\n", "a.txt", "no row has a feature"),
    (b"1 qid:1 1:2\n1 qid:2 1:2\n0 qid:1 1:1\n", "a.txt",
     r"a\.txt:3: query 1 comes again after other queries; its first row is line 1.*sort=True"),
    (b"\x00\xff\xfe", "a.txt", r"a\.txt:1: expected a label"),
])  # fmt: skip
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_whole_file_errors(write, content, name, message, on_error, tmp_path):
    path = write(content, name)
    if on_error == "skip" and content.startswith(b"\x00"):
        message = r"all 1 rows are malformed, the first because: .*a\.txt:1:"
    for cache_dir in (None, tmp_path / "cache"):
        with pytest.raises(LetorError, match=message):
            read_letor(path, on_error=on_error, cache_dir=cache_dir, zero_based=False)
    assert not list((tmp_path / "cache").glob("*"))


def test_options_out_of_range(write, tmp_path):
    path = write(PLAIN)
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', not 'ignore'"):
        read_letor(path, on_error="ignore")
    with pytest.raises(ValueError, match="num_features must be at least 1"):
        read_letor(path, num_features=0)
    with pytest.raises(LetorError, match=r"rows\.txt:1: feature id 3; expected 2 features \(num_features\)"):
        read_letor(path, num_features=2)
    for options in ({}, {"cache_dir": tmp_path}):
        with pytest.raises(FileNotFoundError, match="there is no such file"):
            read_letor(tmp_path / "missing.txt", **options)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        expand([str(tmp_path / "missing")])
    assert expand([str(tmp_path)]) == [path]


def test_a_line_without_end(write, monkeypatch):
    monkeypatch.setattr(letor_stream, "CHUNK", 100)
    monkeypatch.setattr(letor_stream, "LONGEST_LINE", 1000)
    with pytest.raises(LetorError, match=r"rows\.txt:2: the line is longer than"):
        read_letor(write(b"1 qid:1 1:1\n" + b"1" * 5000))


def test_sort_keeps_the_order_of_first_appearance(write):
    path = write("1 qid:9 1:1\n1 qid:2 1:2\n0 qid:9 1:3\n0 qid:2 1:4\n2 qid:9 1:5\n")
    lists = read_letor(path, sort=True)
    assert lists.ids.tolist() == [9, 2]
    assert lists.columns["features"][:, 0].tolist() == [1, 3, 5, 2, 4]
    assert lists.source_rows.tolist() == [0, 2, 4, 1, 3]


def test_zero_based_is_never_guessed(write, caplog):
    zero = write("1 qid:1 0:5 1:6\n0 qid:1 0:0 1:7\n")
    assert read_letor(zero, zero_based=True).columns["features"].tolist() == [[5, 6], [0, 7]]
    sparse = write("1 qid:1 2:6\n", "sparse.txt")
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        assert read_letor(sparse).columns["features"].tolist() == [[0, 6]]
    assert "were assumed to count from 1" in caplog.text
    assert read_letor(sparse, zero_based=True).columns["features"].tolist() == [[0, 0, 6]]
    caplog.clear()
    read_letor(sparse, zero_based=False)
    read_letor(write("1 qid:1 1:6\n", "dense.txt"))
    assert not caplog.text


def test_group_file(write, caplog):
    rows = write("1 1:1\n0 1:2\n2 1:3\n")
    lists = read_letor(rows, group=write("2\n\n1\n", "rows.query"))
    assert lists.ids.tolist() == [0, 1]
    assert lists.sizes.tolist() == [2, 1]
    bad = write("1 1:1\n0 1:x\n2 1:3\n", "bad.txt")
    assert read_letor(bad, group=write("2\n1\n", "rows.query"), on_error="skip").sizes.tolist() == [1, 1]


@pytest.mark.parametrize(("group", "rows", "message"), [
    ("2\n2\n", "1 1:1\n0 1:2\n2 1:3\n", r"rows\.txt: has 3 rows, but the lists of .*rows\.query add up to 4"),
    ("1\n", "1 1:1\n0 1:2\n", "has 2 rows, but the lists of .* add up to 1"),
    ("2\nx\n", "1 1:1\n", r"rows\.query:2: expected the number of rows of a list, such as 12, got 'x'"),
    ("0\n", "1 1:1\n", r"rows\.query:1: expected the number of rows"),
    ("", "1 1:1\n", r"rows\.query: the group file is empty"),
    ("1\n", "1 qid:3 1:1\n", r"rows\.txt:1: got 'qid:3', but a group file was given"),
])  # fmt: skip
def test_group_file_errors(write, group, rows, message):
    with pytest.raises(LetorError, match=message):
        read_letor(write(rows), group=write(group, "rows.query"))


def test_comments_become_columns(write):
    text = "1 qid:1 1:1 #docid = A-1 prob = 0.5\n0 qid:1 1:1\n1 qid:1 1:2 # docid=B prob = 2e-1 label = 3\n"
    columns = read_letor(write(text), comments=True).columns
    assert columns["docid"].tolist() == ["A-1", "", "B"]
    np.testing.assert_array_equal(columns["prob"], [0.5, np.nan, 0.2])
    np.testing.assert_array_equal(columns["comment_label"], [np.nan, np.nan, 3])
    assert columns["label"].tolist() == [1, 0, 1]
    assert set(read_letor(write(text)).columns) == {"features", "label", "qid"}


@pytest.mark.parametrize("name", ["mslr/vali.txt.gz", "letor_mq2008/vali.txt.gz", "letor_ohsumed/vali.txt.gz"])
def test_same_as_scikit_learn(name):
    load = pytest.importorskip("sklearn.datasets").load_svmlight_file
    path = shared(name)
    features, labels, qids = load(str(path), query_id=True)
    lists = read_letor(path)
    np.testing.assert_array_equal(lists.columns["features"], features.toarray().astype(np.float32))
    np.testing.assert_array_equal(lists.columns["label"], labels)
    np.testing.assert_array_equal(lists.columns["qid"], qids)


def test_same_as_scikit_learn_without_qid():
    load = pytest.importorskip("sklearn.datasets").load_svmlight_file
    path = shared("lightgbm_lambdarank/rank.test.gz")
    features, labels = load(str(path), n_features=300, zero_based=False)
    lists = read_letor(path, group=SHARED / "lightgbm_lambdarank/rank.test.query", num_features=300, zero_based=False)
    np.testing.assert_array_equal(lists.columns["features"], features.toarray().astype(np.float32))
    np.testing.assert_array_equal(lists.columns["label"], labels)
    assert (lists.num_items, lists.num_lists) == (768, 50)
