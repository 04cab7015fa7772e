"""Rankers that the first format wrote: they load, score as they did, and train on as they would have.

Beside each file lies what the version that wrote it computed: a batch (``x_``, ``y_``), its scores (``scores_``), those
for another preference (``asked_``), and those after four further steps of training on it (``after_``).
"""

from pathlib import Path

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import Dense, MultiTaskRanker, Schema
from tfmtl2r._backend import tf
from tfmtl2r.training.saving import current

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.keras"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_scores_and_trains_as_it_did(name):
    stored = np.load(FOLDER / f"{name}.npz")
    x, y, scores, asked, after = (
        {key.removeprefix(prefix): stored[key] for key in stored if key.startswith(prefix)}
        for prefix in ("x_", "y_", "scores_", "asked_", "after_")
    )
    ranker = tfmtl2r.load(FOLDER / f"{name}.keras")
    assert ranker.schema.names == ("x", "age", "brand", "shop")
    assert ranker.has_lists is True
    for found, expected in ((ranker.predict(x, layout="items"), scores),
                            (ranker.predict(x, layout="items", preference=[5, 1, 2]) if asked else {}, asked)):
        assert found.keys() == expected.keys()
        for task, values in expected.items():
            np.testing.assert_allclose(found[task], values, rtol=0, atol=1e-6, err_msg=task)
    ranker.fit(tf.data.Dataset.from_tensors((x, y)).repeat(4), initial_epoch=1, epochs=2, verbose=0)
    trained = ranker.predict(x, layout="items")
    for task, values in after.items():
        np.testing.assert_allclose(trained[task], values, rtol=0, atol=1e-5, err_msg=task)
        assert np.abs(values - scores[task]).max() > 1e-3


def test_a_later_format_is_refused():
    config = MultiTaskRanker("shared_bottom", ["click"], Schema([Dense("price")])).get_config()
    assert config["format"] == 2
    assert current(config) == {key: value for key, value in config.items() if key != "format"}
    with pytest.raises(ValueError, match="saved in format 3 by a later version of tfmtl2r"):
        MultiTaskRanker.from_config({**config, "format": 3})
