"""What lies beside the versions: ``batching.config``, ``models.config`` and a README whose requests work."""

import base64
import json
import logging
import re
import shlex
import threading
import types

import numpy as np
import pytest
from serving_problem import SCHEMA

from tfmtl2r._backend import tf
from tfmtl2r.serving import configs, readme
from tfmtl2r.serving.check import METADATA
from tfmtl2r.serving.configs import BATCHING, LOCK, MODELS, entry, labels, write_configs
from tfmtl2r.serving.readme import README
from tfmtl2r.serving.signatures import PREDICT
from tfmtl2r.serving.versions import numbers


@pytest.fixture
def base(tmp_path):
    (tmp_path / "ranker" / "1").mkdir(parents=True)
    return tmp_path / "ranker"


def test_labels_over_several_exports(base):
    write_configs(base)
    assert labels(base / MODELS) == {"stable": 1, "canary": 1}
    seen = []
    for version in (2, 3):
        (base / str(version)).mkdir()
        write_configs(base)
        seen.append(labels(base / MODELS))
    assert seen == [{"stable": 1, "canary": 2}, {"stable": 1, "canary": 3}]
    (base / "1").rmdir()
    write_configs(base)
    assert labels(base / MODELS) == {"stable": 2, "canary": 3}, "a version that is gone is nobody's"


def test_promoting_by_hand_is_kept(base):
    (base / "2").mkdir()
    write_configs(base)
    path = base / MODELS
    text = path.read_text()
    assert re.search(r'key: "stable"\s+value: 1', text)
    path.write_text(re.sub(r'(key: "stable"\s+value: )1', r"\g<1>2", text))
    (base / "3").mkdir()
    write_configs(base)
    assert labels(path) == {"stable": 2, "canary": 3}


def test_as_the_server_reads_it(base):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    other = 'model_config_list { config { name: "other" base_path: "/elsewhere" model_platform: "tensorflow" } }'
    (base / MODELS).write_text(other)
    write_configs(base)
    config = text_format.Parse((base / MODELS).read_text(), model_server_config_pb2.ModelServerConfig())
    first, mine = config.model_config_list.config
    assert (first.name, first.base_path) == ("other", "/elsewhere")
    assert (mine.name, mine.base_path, mine.model_platform) == ("ranker", str(base), "tensorflow")
    assert mine.model_version_policy.WhichOneof("policy_choice") == "all"


def written(base, change):
    """``models.config`` after a user's change."""
    path = base / MODELS
    path.write_text(change(path.read_text()))
    (base / str(max(numbers(base)) + 1)).mkdir()
    write_configs(base)
    return entry(path, base.name)


def test_the_path_and_the_policy_of_a_user_are_kept(base):
    write_configs(base)
    mine = written(base, lambda text: text.replace(str(base), "/models/ranker").replace("all {", "latest {"))
    assert (mine.base_path, mine.model_version_policy.WhichOneof("policy_choice")) == ("/models/ranker", "latest")
    assert dict(mine.version_labels) == {"stable": 1, "canary": 2}


def test_a_label_goes_to_no_version_that_is_not_served(base, caplog):
    """The server would refuse the whole file, again and again."""
    write_configs(base)
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        mine = written(base, lambda text: re.sub(r"all \{\s*\}", "specific { versions: 1 }", text))
    assert dict(mine.version_labels) == {"stable": 1, "canary": 1}
    assert "serves the versions 1 of ranker only, so the new version 2 is not loaded and gets no label" in caplog.text


def test_exports_at_the_same_time(base, monkeypatch):
    """One has read the versions when the other writes: it has to wait, or the older label would stay."""
    reading, go_on = threading.Event(), threading.Event()

    def slow(folder):
        found = numbers(folder)
        reading.set()
        go_on.wait()
        return found

    monkeypatch.setattr(configs, "numbers", slow)
    first = threading.Thread(target=write_configs, args=(base,))
    first.start()
    reading.wait()
    (base / "2").mkdir()
    second = threading.Thread(target=write_configs, args=(base,))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    go_on.set()
    first.join()
    second.join()
    assert labels(base / MODELS)["canary"] == 2


def test_files_of_the_user_are_kept(base, caplog):
    (base / BATCHING).write_text("max_batch_size { value: 7 }\n")
    (base / MODELS).write_text("no config")
    with caplog.at_level(logging.WARNING, "tfmtl2r"):
        write_configs(base)
    assert (base / MODELS).read_text() == "no config"
    assert "is left as it is" in caplog.text
    assert (base / BATCHING).read_text() == "max_batch_size { value: 7 }\n"
    assert sorted(path.name for path in base.iterdir()) == [LOCK, "1", BATCHING, MODELS]


def test_batching_pads(exported):
    text = (exported.folder.parent / BATCHING).read_text()
    settings = dict(re.findall(r"^(\w+)(?: \{ value)?: (\w+)", text, re.MULTILINE))
    assert settings["pad_variable_length_inputs"] == "true"
    assert int(settings["max_batch_size"]) >= 5000


def example_of(values):
    """A tf.Example from the server's JSON: a number with a point is a float, one without an integer."""
    example = tf.train.Example()
    for name, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            kind = {float: "float_list", int: "int64_list", str: "bytes_list"}[type(item)]
            item = item.encode() if isinstance(item, str) else item
            getattr(example.features.feature[name], kind).value.append(item)
    return example.SerializeToString()


def tensors(body):
    """The inputs that the server makes of a JSON request."""
    if "examples" in body:
        context = example_of(body.get("context", {}))
        return {"inputs": [context + example_of(example) for example in body["examples"]]}
    if body["signature_name"] == "predict_elwc":
        return {"inputs": [base64.b64decode(item["b64"]) for item in body["inputs"]["inputs"]]}
    return body["inputs"]


def curls(text):
    """``(url, body)`` of every request of a README, as a shell would read it."""
    for line in re.findall(r"^curl .*$", text, re.MULTILINE):
        _, flag, body, url = shlex.split(line)
        assert flag == "-d"
        yield url, json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_every_curl_line_works(exported):
    text = (exported.folder.parent / README).read_text()
    metadata = json.loads((exported.folder / METADATA).read_text())
    requests = list(curls(text))
    assert {body["signature_name"] for _, body in requests} == set(metadata["signatures"]) - {"serving_default"}
    scores = {}
    for url, body in requests:
        name = body["signature_name"]
        method = metadata["signatures"][name]["method"].rpartition("/")[2]
        assert url == f"http://localhost:8501/v1/models/model:{method}"
        answer = exported.run(tensors(body), name)
        assert set(answer) == set(metadata["signatures"][name]["outputs"])
        assert all(np.isfinite(value).all() for value in answer.values() if value.dtype.kind == "f")
        scores[name] = answer.get("score", answer.get("outputs"))
    for name in ("predict_blended", "predict_elwc"):
        np.testing.assert_allclose(scores[name], scores["predict_features"], atol=1e-3)
    assert np.abs(scores["predict_preferred"] - scores["predict_features"]).max() > 1e-4  # its preference is not zeros
    np.testing.assert_allclose(scores["regress"], scores["predict_features"][0], atol=1e-3)
    np.testing.assert_allclose(scores["rank"][0], -np.sort(-scores["predict_features"][0]), atol=1e-3)


def test_a_name_with_a_space():
    planned = types.SimpleNamespace(method=PREDICT, feed=lambda request: {})
    line = readme._curl("my model", "rank", types.SimpleNamespace(signatures={"rank": planned}), SCHEMA, {})
    assert shlex.split(line)[-1] == "http://localhost:8501/v1/models/my%20model:predict"


def test_readme_says_what_there_is(exported):
    text = (exported.folder.parent / README).read_text()
    assert '--model_config_file="$PWD/models.config"' in text
    assert '--batching_parameters_file="$PWD/batching.config"\n' in text
    for part in ("# model", "tensorflow_model_server", "--model_config_file_poll_wait_seconds=10",
                 "sum over tasks of weight", "click 0.2, buy 0.6, dwell 0.2", "labels/canary:predict",
                 "keeps every version in memory until its folder is deleted", "also `serving_default`",
                 "`probability_buy`", "from 0 to 1e+20 per", "every list still has one place"):
        assert part in text.replace("\n", " ")
    assert max(len(line) for line in text.splitlines() if not line.startswith("curl")) <= 120
