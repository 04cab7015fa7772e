"""Tables in, scores out, in the order of the rows; and what the client says when it cannot."""

import contextlib
import itertools
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pandas as pd
import pytest
from servicer import Server
from serving_problem import SCHEMA, TASKS, looked_up, make_ranker

import tfmtl2r
from tfmtl2r import Category, Dense, Schema, cli
from tfmtl2r._backend import tf
from tfmtl2r.serving.answers import score_key
from tfmtl2r.serving.client import Client, RemoteSignature, ServingError
from tfmtl2r.serving.examples import requests

SIZES = (3, 1, 7, 2, 12, 1, 5)
KNOWN = {"brand": ["acme", "b c", "é", "new"], "shop": [7, 3, 2**40, -5], "hashed": ["a", "b"], "hashed_id": [1, 2],
         "country": ["de", "xx"]}

pytestmark = pytest.mark.slow


def table(seed=0):
    """Raw rows of lists of many lengths, shuffled, with missing numbers, on an index of its own."""
    random = np.random.default_rng(seed)
    rows = []
    for number, size in enumerate(SIZES):
        context = {"age": random.normal(40, 9), "profile": random.normal(size=2).tolist(),
                   "country": random.choice(KNOWN["country"])}
        for _ in range(size):
            row = {"q": f"query {number}", "price": random.exponential(9), "gain": random.normal(),
                   "vector": random.normal(2, 1, 4).tolist(), **context}
            rows.append(row | {name: random.choice(KNOWN[name]) for name in ("brand", "shop", "hashed", "hashed_id")})
    frame = pd.DataFrame(rows)
    frame.loc[4, "price"] = np.nan
    frame = frame.iloc[random.permutation(len(frame))]
    return frame.set_index(pd.Index([f"row {i}" for i in range(len(frame))]))


@pytest.fixture(scope="module")
def server(exported):
    with Server(exported.folder.parent) as server:
        server.wait_for(1)
        yield server


@pytest.fixture(params=["grpc", "rest"])
def client(request, server):
    with Client(server.target if request.param == "grpc" else server.rest, "ranker", timeout=30) as client:
        yield client


@pytest.mark.parametrize("batch_size", [3, 64])
def test_scores_come_back_in_the_order_of_the_rows(client, exported, batch_size):
    frame = table()
    answer = client.predict_frame(frame, "q", batch_size=batch_size)
    expected = exported.ranker.predict(frame, list_id="q")
    assert list(answer.index) == list(frame.index)
    read = {"value_buy", "value_dwell", "probability_buy"}
    assert set(answer) == {*(f"score_{task.name}" for task in TASKS), *read, "score"}
    assert set(answer.dtypes) == {np.dtype(np.float32)}
    for name in expected:
        np.testing.assert_allclose(answer[name], expected[name], rtol=0, atol=1e-5)
    blend = 0.2 * expected["score_click"] + 0.6 * expected["score_buy"] + 0.2 * expected["score_dwell"]
    np.testing.assert_allclose(answer["score"], blend, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("change", "message"), [
    (lambda f: f.drop(columns="price").assign(prise=1.0), "no column for the input 'price'; did you mean 'prise'"),
    (lambda f: f.assign(brand=1.0), "'brand': expected text"),
    (lambda f: f.assign(price="9"), "'price': expected numbers, got text"),
    (lambda f: f.assign(shop=0.5), "'shop' is not an integer"),
    (lambda f: f.assign(vector=[[1.0, 2.0]] * len(f)), r"'vector': shape is \(4,\)"),
    (lambda f: f.assign(age=np.arange(len(f))), "'age' is a context column"),
    (lambda f: f.iloc[:0], "the table is empty"),
    (lambda f: f.drop(columns="q"), "no column 'q'"),
])
def test_tables_that_do_not_fit(server, change, message):
    with Client(server.target, "ranker") as client, pytest.raises((ValueError, KeyError), match=message):
        client.predict_frame(change(table()), "q")


def test_weights_of_a_request(server):
    """An input that no column holds is the same for every list."""
    frame = table()
    with Client(server.target, "ranker", timeout=30) as client:
        weights = np.eye(len(TASKS), dtype=np.float32)[1]
        answer = client.predict_frame(frame, "q", signature="predict_blended", constants={"blend_weights": weights})
        np.testing.assert_allclose(answer["score"], answer[f"score_{TASKS[1].name}"], rtol=0, atol=1e-6)
        with pytest.raises(ValueError, match="no column for the input 'blend_weights'"):
            client.predict_frame(frame, "q", signature="predict_blended")
        with pytest.raises(ValueError, match=r"'blend_weights' takes the shape \(None, 3\), got \(7, 2\)"):
            client.predict_frame(frame, "q", signature="predict_blended", constants={"blend_weights": [1, 2]})
        with pytest.raises(ValueError, match="'rank' returns only the best items"):
            client.predict_frame(frame, "q", signature="rank")


def test_list_id_where_there_are_lists(server):
    with Client(server.target, "ranker") as client:
        with pytest.raises(ValueError, match="scores lists: give the column of the list id"):
            client.predict_frame(table())
        with pytest.raises(ValueError, match="batch_size must be at least 1"):
            client.predict_frame(table(), "q", batch_size=0)


def test_inputs_are_looked_at_before_they_are_sent(server):
    good = requests(SCHEMA)[0]
    with Client(server.target, "ranker") as client:
        without = {name: value for name, value in good.items() if name != "price"}
        with pytest.raises(ValueError, match=r"missing: price; unknown: prise \('prise'; did you mean 'price'\?\)"):
            client.predict({**without, "prise": good["price"]})
        with pytest.raises(TypeError, match=r"input 'brand' takes string: expected text, got 1.0"):
            client.predict({**good, "brand": np.ones([2, 3])})
        with pytest.raises(TypeError, match="input 'price' takes float32"):
            client.predict({**good, "price": good["brand"]})
        with pytest.raises(TypeError, match="'list_size' takes int32: 1099511627776 does not fit"):
            client.predict({**good, "list_size": [2**40, 2]})
        with pytest.raises(TypeError, match="'list_size' takes int32"):
            client.predict({**good, "list_size": [1.5, 2]})
        with pytest.raises(ValueError, match=r"'price' takes the shape \(None, None\), got \(6,\)"):
            client.predict({**good, "price": good["price"].ravel()})
        with pytest.raises(ValueError, match="no signature 'serving_defalt'; did you mean 'serving_default'"):
            client.predict(good, "serving_defalt")
        with pytest.raises(ValueError, match="items on the second axis, but price has 2 and others gain 3"):
            client.predict({**good, "price": good["price"][:, :2]})
        with pytest.raises(ValueError, match=r"lists \(or rows\) on the first axis, but price has 2 and others age 1$"):
            client.predict({**good, "age": good["age"][:1]})
        for size in ([4, 2], [-1, 2]):
            with pytest.raises(ValueError, match=rf"'list_size' contains {size[0]}, but the lists have 3 places"):
                client.predict({**good, "list_size": size})
        as_lists = {name: value.tolist() for name, value in good.items()}
        np.testing.assert_array_equal(client.predict(as_lists)["score"], client.predict(good)["score"])


def test_nested_lists_of_several_lengths_are_padded(client):
    """The sizes follow from the lists. What pads them is never read as an item."""
    good = requests(SCHEMA)[0]  # lists of 2 and 3 places
    sizes = good["list_size"].tolist()
    nested = {name: [row[:size] for row, size in zip(value.tolist(), sizes, strict=True)]
              if value.shape[1:2] == good["price"].shape[1:2] and name not in ("age", "profile") else value
              for name, value in good.items() if name != "list_size"}  # fmt: skip
    assert len(set(sizes)) > 1
    expected = client.predict(good)
    for given in (nested, {**nested, "list_size": sizes}):
        found = client.predict(given)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values[:, :max(sizes)] if values.ndim > 1 else values, atol=1e-6)
    with pytest.raises(ValueError, match=rf"'list_size' is \[1, 1\], but the lists of '\w+' have \[{sizes[0]}, "):
        client.predict({**nested, "list_size": [1, 1]})
    with pytest.raises(ValueError, match=r"list 1 has 1 items in the input 'price', but 2 in '\w+'"):
        client.predict({**nested, "price": [nested["price"][0], nested["price"][1][:-1]]})
    with pytest.raises(TypeError, match="input 'brand' takes string: expected text, got None"):
        client.predict({**nested, "brand": [[None] * size for size in sizes]})
    with pytest.raises(ValueError, match="missing: list_size"):
        client.predict({name: np.asarray(value) for name, value in good.items() if name != "list_size"})


def test_plain_rows_and_names_that_tensorflow_cannot_carry(tmp_path):
    schema = Schema([Dense("BM25 body"), Dense("1"), Category("score", vocabulary=("a", "b"))])
    ranker = make_ranker(schema, TASKS[1:])
    frame = pd.DataFrame({"BM25 body": np.arange(9.0), "1": np.arange(9)[::-1], "score": list("abcabcabc"), "more": 1})
    rows = {name: frame[name].to_numpy(kind) for name, kind in (("BM25 body", "f4"), ("1", "f4"), ("score", object))}
    labels = {task.name: np.zeros(9, np.float32) for task in TASKS[1:]}
    ranker.evaluate(tf.data.Dataset.from_tensor_slices((looked_up(ranker, rows), labels)).batch(9), verbose=0)
    tfmtl2r.export(ranker, tmp_path / "ranker")
    expected = ranker.predict(looked_up(ranker, rows), batch_size=9)
    with Server(tmp_path / "ranker", configured=True) as server:
        server.wait_for(1)
        for target, version in ((server.target, 1), (server.target, "stable"), (server.rest, "stable")):
            with Client(target, "ranker", version=version) as client:
                answer = client.predict_frame(frame, batch_size=4)
                np.testing.assert_allclose(answer["score_buy"], expected["buy"], rtol=0, atol=1e-5)
                with pytest.raises(ValueError, match="scores plain rows: leave list_id out"):
                    client.predict_frame(frame, "more")
                twice = frame.assign(**{"BM25-body": 1.0})
                with pytest.raises(ValueError, match=r"could be the input 'BM25_body'.*rename one"):
                    client.predict_frame(twice)


def free_port():
    with socket.create_server(("localhost", 0)) as free:
        return free.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_nobody_is_there(scheme):
    with Client(f"{scheme}localhost:{free_port()}", "ranker", timeout=2) as client, \
            pytest.raises(ServingError, match=r"no server answers at .*tfmtl2r serve") as caught:
        client.signature()
    assert caught.value.code == "UNAVAILABLE"


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_server_that_says_nothing(scheme):
    with socket.create_server(("localhost", 0)) as silent:
        target = f"{scheme}localhost:{silent.getsockname()[1]}"
        with Client(target, "ranker", timeout=0.3) as client, pytest.raises(ServingError) as caught:
            client.signature()
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert "did not answer within 0.3 s" in str(caught.value)


class Odd(BaseHTTPRequestHandler):
    """Answers as a proxy would."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200 if self.path.startswith("/v1/models/page") else 502)
        self.end_headers()
        self.wfile.write(b"<html>")


def test_something_else_answers():
    with HTTPServer(("localhost", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        target = f"http://localhost:{server.server_port}"
        with pytest.raises(ServingError, match="no TensorFlow Serving"):
            Client(target, "page").signature()
        with pytest.raises(ServingError, match=r"HTTP 502.*<html>"):
            Client(target, "proxy").signature()
        server.shutdown()


@contextlib.contextmanager
def answering(content):
    """A server that says these bytes to whatever it is asked; yields its address and what it was asked."""
    asked = []
    with socket.create_server(("localhost", 0)) as server:
        def serve():
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65536).decode())
                connection.sendall(content)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://localhost:{server.getsockname()[1]}", asked
        thread.join()


def http_answer(body, length=None):
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length or len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize("content", [
    b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", http_answer("{", 99), http_answer("{}"), http_answer("[3]"),
    http_answer('{"metadata": {"signature_def": {"signature_def": 3}}}'), http_answer("\x00"),
], ids=["another protocol", "cut off", "nothing", "a list", "no signatures", "no JSON"])
def test_answers_that_are_none(content):
    with answering(content) as (target, _), pytest.raises(ServingError, match="is no TensorFlow Serving") as caught:
        Client(target, "ranker").signature()
    assert caught.value.code == "UNKNOWN"


def test_addresses_that_are_none():
    with pytest.raises(ServingError, match="is no TensorFlow Serving"):
        Client("http://local host:8501", "ranker").signature()


def test_names_are_quoted():
    with answering(http_answer("{}")) as (target, asked), pytest.raises(ServingError):
        Client(target, "my model", version="a/b").signature()
    assert asked[0].startswith("GET /v1/models/my%20model/labels/a%2Fb/metadata HTTP/1.1")


def test_the_command(server, tmp_path, capsys, exported):
    frame = table().drop(columns=["vector", "profile"])
    expected = exported.ranker.predict(table(), list_id="q")
    table().to_parquet(tmp_path / "rows.parquet")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    run = ["client", "ranker", str(tmp_path / "rows.parquet"), "--list-id", "q", "--timeout", "30", "--target"]
    assert cli.main([*run, server.target, "--to", str(tmp_path / "out.csv")]) == 0
    assert "33 rows" not in capsys.readouterr().err
    written = pd.read_csv(tmp_path / "out.csv")
    assert list(written["q"]) == list(frame["q"])
    np.testing.assert_allclose(written["score_dwell"], expected["score_dwell"], rtol=0, atol=1e-5)
    assert cli.main([*run, server.rest, "--version", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("q,")
    assert cli.main([*run, server.target, "--version", "7"]) == 1
    assert "NOT_FOUND" in capsys.readouterr().err
    assert cli.main(["client", "ranker", str(tmp_path / "rows.csv"), "--list-id", "q", "--target", server.target]) == 1
    assert "no column for the input 'profile'" in capsys.readouterr().err
    assert cli.main([*run, server.target, "--to", "out.json"]) == 1
    assert ".csv or .parquet" in capsys.readouterr().err


def test_json_is_what_the_server_reads(server):
    """Columns, bytes as base64, NaN as a bare word."""
    sent = []

    def note(url, body):
        sent.append(body)
        return {"outputs": {"score": [[0.0, 0.0]]}}

    with Client(server.rest, "ranker") as client:
        client.signature()
        client._transport._call = note
        price = np.array([[np.nan, 1.0]], np.float32)
        first = {name: value[:1, :2] if value.shape[:2] == (2, 3) else value[:1]
                 for name, value in requests(SCHEMA)[0].items()}
        client.predict({**first, "price": price, "brand": [["é", b"\xff"]], "list_size": [2]})
    assert json.dumps(sent[0]["inputs"]["price"]) == "[[NaN, 1.0]]"
    assert sent[0]["inputs"]["brand"] == [["é", {"b64": "/w=="}]]
    assert sent[0]["signature_name"] == "serving_default"


def test_outputs_have_the_own_names_of_tasks(exported, monkeypatch):
    """A server knows safe names only."""
    names = ["add to cart", "click"]
    keys = {safe: f"score_{name}" for name in names for safe in [score_key(name)]}
    spec = {key: tf.TensorSpec([None, None], tf.float32) for key in keys}
    answer = {key: np.zeros((1, 1), np.float32) for key in keys}
    for tasks, expected in ((names, set(keys.values())), ((), set(keys))):
        client = Client("localhost:1", "shop", tasks=tasks)
        monkeypatch.setattr(client, "_signatures", {"serving_default": RemoteSignature({}, spec, frozenset())})
        orders = itertools.cycle([answer, dict(reversed(answer.items()))])  # an answer of gRPC has any order
        monkeypatch.setattr(client._transport, "predict", lambda arrays, signature, orders=orders: next(orders))
        found = list(client.predict({}))
        assert set(found) == expected
        assert list(client.predict({})) == found
