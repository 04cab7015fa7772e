"""Warm-up records: what the server reads, with the answers that the check compares."""

import numpy as np
import pytest
from serving_problem import SCHEMA, TASKS, rows
from tensorflow_serving.apis import prediction_log_pb2

from tfmtl2r import Dense, Schema
from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.data import Lists
from tfmtl2r.serving import warmup
from tfmtl2r.serving.examples import from_rows, requests
from tfmtl2r.serving.warmup import WARMUP, Record


def logs(folder):
    for serialized in tf.data.TFRecordDataset(str(folder / WARMUP)):
        yield prediction_log_pb2.PredictionLog.FromString(serialized.numpy())


def test_records_of_every_signature_start_with_real_rows(exported):
    records = list(warmup.read(exported.folder / WARMUP))
    table = rows(SCHEMA)
    real = from_rows(table, SCHEMA)
    names = [name for name in exported.loaded.meta_graph.signature_def if name[0] != "_"]
    assert sorted({record.signature for record in records}) == sorted(names)
    for name in names:
        mine = [record for record in records if record.signature == name]
        assert len(mine) == 2 + len(requests(SCHEMA))
        assert all(record.outputs for record in mine)
        if name in ("serving_default", "rank"):
            np.testing.assert_array_equal(mine[0].inputs["price"], table.columns["price"][: table.sizes[0]][None])
            np.testing.assert_array_equal(mine[1].inputs[LIST_SIZE], real[1][LIST_SIZE])
            assert mine[1].inputs["brand"].tolist() == [[text.encode() for text in row] for row in real[1]["brand"]]


def test_as_the_server_reads_them(exported):
    kinds = {"regress": "regress_log", "classify": "classify_log"}
    for log in logs(exported.folder):
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        assert kind == kinds.get(request.model_spec.signature_name, "predict_log")
        assert request.model_spec.name == "model"
        if kind == "classify_log":
            labels = [c.label for c in log.classify_log.response.result.classifications[0].classes]
            assert labels == [*(task.name for task in TASKS), "blend"]


def test_written_and_read(tmp_path):
    predict = Record("predict_features", {"price": np.float32([[1, 2]]), "brand": np.array([["a", "é"]], object)},
                     {"score": np.float32([[3, 4]]), "valid": np.array([[True, False]])})
    example = tf.train.Example()
    example.features.feature["price"].float_list.value.append(1.0)
    inputs = {"inputs": [example.SerializeToString(), b""]}
    regress = Record("regress", inputs, {"outputs": np.float32([1, 2])})
    scores = {"classes": np.array([[b"a", b"b"]] * 2, object), "scores": np.float32([[1, 2], [3, 4]])}
    records = [("x/predict", predict), ("x/regress", regress), ("x/classify", Record("classify", inputs, scores))]
    warmup.write(tmp_path / "folder" / "file", "model", records)
    for (_, record), read in zip(records, warmup.read(tmp_path / "folder" / "file"), strict=True):
        assert read.signature == record.signature
        for side in ("inputs", "outputs"):
            found, expected = getattr(read, side), getattr(record, side)
            assert set(found) == set(expected)
            for name, values in expected.items():
                values = np.array([[b"a", "é".encode()]], object) if name == "brand" else values
                np.testing.assert_array_equal(found[name], values)


def test_the_context_is_merged_into_every_example(tmp_path):
    """Records of others, with a context, are read as the server hands them on."""
    log = prediction_log_pb2.PredictionLog()
    lists = log.regress_log.request.input.example_list_with_context
    lists.context.features.feature["age"].float_list.value.append(40.0)
    for price in (1.0, 2.0):
        lists.examples.add().features.feature["price"].float_list.value.append(price)
    with tf.io.TFRecordWriter(str(tmp_path / "file")) as writer:
        writer.write(log.SerializeToString())
    (record,) = warmup.read(tmp_path / "file")
    spec = {name: tf.io.FixedLenFeature([], tf.float32) for name in ("age", "price")}
    parsed = tf.io.parse_example(tf.constant(record.inputs["inputs"]), spec)
    assert parsed["age"].numpy().tolist() == [40.0, 40.0]
    assert parsed["price"].numpy().tolist() == [1.0, 2.0]
    assert record.outputs == {}


def test_files_that_are_no_warmup(tmp_path):
    path = tmp_path / "file"
    log = prediction_log_pb2.PredictionLog()
    log.multi_inference_log.request.SetInParent()
    for content, message in [(b"\xff\xff", "no PredictionLog"), (log.SerializeToString(), "multi_inference_log"),
                             (b"", "contains nothing")]:
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(content)
        with pytest.raises(ValueError, match=message):
            list(warmup.read(path))
    path.write_bytes(b"no record file at all")
    with pytest.raises(tf.errors.DataLossError):
        list(warmup.read(path))


def test_requests_from_rows():
    schema = Schema([Dense("price"), Dense("age", context=True)])
    table = Lists({"price": np.array([3.0, 1.0, np.nan, 4.0]), "age": np.array([7, 7, 8, 9])}, np.array([0, 2, 3, 4]),
                  context=("age",))
    first, second = from_rows(table, schema)
    assert first["price"].tolist() == [[3.0, 1.0]]
    assert first["list_size"].tolist() == [2]
    assert second["age"].tolist() == [8.0, 9.0]
    np.testing.assert_array_equal(second["price"], [[np.nan], [4.0]])
    assert len(from_rows(table.select([1]), schema)) == 1
    assert [request["list_size"].tolist() for request in from_rows(table, schema, count=2)] == [[2], [1]]
    plain = Lists({"price": np.array([3.0, 1.0])})
    made = from_rows(plain, Schema([Dense("price")]), lists=False)
    assert [request["price"].tolist() for request in made] == [[3.0], [1.0]]
    with pytest.raises(ValueError, match="are plain rows, but the ranker is exported for lists"):
        from_rows(plain, Schema([Dense("price")]))
    with pytest.raises(ValueError, match="no column 'prize'"):
        from_rows(table, Schema([Dense("prize")]))


def test_messages_that_end_in_zeros(exported, tmp_path):
    """Numpy's bytes drop them; a list of zero weights, the last feature of its context, ends so."""
    example = tf.train.Example()
    example.features.feature["price"].float_list.value.append(0.0)
    message = example.SerializeToString()
    assert message.endswith(b"\0")
    answer = {"outputs": np.float32([1])}
    for inputs in ([message], np.array([message], object)):
        warmup.write(tmp_path / "file", "model", [("x/regress", Record("regress", {"inputs": inputs}, answer))])
        (record,) = warmup.read(tmp_path / "file")
        assert record.inputs["inputs"].tolist() == [message]
        assert np.isfinite(exported.run({"inputs": inputs}, "regress")["outputs"]).all()
