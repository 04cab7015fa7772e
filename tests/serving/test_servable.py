"""The stand-in refuses what the server refuses; versions are folders without a model here."""

import types
from concurrent import futures

import numpy as np
import pytest
import servable
from servable import Batcher, Model, RefusedError

from tfmtl2r._backend import tf
from tfmtl2r.serving.configs import MODELS, write_configs
from tfmtl2r.serving.session import quiet


@pytest.fixture
def model(tmp_path, monkeypatch):
    made = types.SimpleNamespace
    monkeypatch.setattr(servable, "Servable", lambda folder, _: made(version=int(folder.name), retire=lambda: None))
    publish(tmp_path, 1)
    return Model(tmp_path, tmp_path.name, None, True, 0.0)


def publish(base, number):
    (base / str(number)).mkdir()
    write_configs(base)


def test_each_export_moves_the_label_at_the_look_after_it_is_loaded(model):
    seen = []
    for number in (1, 2, 3):
        if number > 1:
            publish(model.base, number)
        for _ in range(2):
            model.look()
            seen.append((max(model.servables), model.labels["canary"]))
    assert seen == [(1, 1), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3)]
    assert model.labels["stable"] == 1
    assert len(model.refused) == 2
    (model.base / "2").rmdir()
    model.look()
    assert sorted(model.servables) == [1, 3]


def test_a_file_that_lists_versions_never_gets_its_label_moved(model):
    """Why ``models.config`` lists none: the label is refused before the listed version is looked at."""
    model.look()
    path = model.base / MODELS
    publish(model.base, 2)
    path.write_text(path.read_text().replace("all {", "specific { versions: 1 versions: 2"))
    model._policy.specific.versions.append(1)
    for _ in range(5):
        model.look()
    assert (sorted(model.servables), model.labels["canary"], len(model.refused)) == ([1], 1, 5)


def test_an_empty_tensor_fails_the_batch_of_others():
    batcher = Batcher(lambda name, inputs: inputs, seconds=0.5)
    with futures.ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(batcher.run, "x", {"x": np.zeros([1, length])}) for length in (0, 3)]
        for answer in answers:
            with pytest.raises(RefusedError, match="Got empty tensor in batch of non-empty tensors"):
                answer.result()
    assert batcher.run("x", {"x": np.zeros([1, 0])})["x"].shape == (1, 0)
    batcher.close()


@pytest.mark.parametrize("inputs", [{"x": np.zeros([2, 3]), "y": np.zeros(3)}, {"x": np.float32(3)}])
def test_inputs_that_disagree_about_the_batch(inputs):
    batcher = Batcher(lambda name, inputs: inputs)
    with pytest.raises(RefusedError, match="equal 0th-dimension size"):
        batcher.run("x", inputs)
    batcher.close()


def test_quiet_twice():
    """Threads leave it in another order than they came."""
    logger = tf.get_logger()
    level, filters = logger.level, list(logger.filters)
    first, second = quiet(), quiet()
    for one in (first, second):
        one.__enter__()
    first.__exit__(None, None, None)
    assert logger.filters != filters
    second.__exit__(None, None, None)
    assert (logger.level, logger.filters) == (level, filters)
