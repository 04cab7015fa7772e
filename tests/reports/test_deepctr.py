"""Reports about DeepCTR, FuxiCTR and their relatives."""

import numpy as np
import pandas as pd
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, Schema, Task
from tfmtl2r._backend import keras


@pytest.mark.parametrize("name", ["_emb_feature", "concave points_mean", "characters__,", ".", "a/b", "1"])
def test_a_feature_is_not_a_valid_scope_name(name, make):
    """A name of a feature becomes a name in the graph (https://github.com/shenweichen/DeepCTR/issues/256)."""
    ranker = make(Schema([Category(name, vocabulary=("a",)), Dense(f"{name} ")]))
    frame = pd.DataFrame({"q": [1, 1], name: ["a", "b"], f"{name} ": [0.0, 1.0]})
    assert np.isfinite(ranker.predict(frame, list_id="q")).all(axis=None)


def test_a_value_of_the_test_data_is_out_of_range(shop):
    """"indices[0,0] = 104 is not in [0, 14)" for a value that training did not contain
    (https://github.com/shenweichen/DeepCTR/issues/24)."""
    scores = shop.ranker.predict(shop.frame.assign(brand=["z"] * 30), list_id="search")
    assert np.isfinite(scores).all(axis=None)


def test_integers_with_a_gap_are_out_of_range(make):
    """A table as long as the number of different values fails for the values 0 and 2
    (https://github.com/shenweichen/DeepCTR/issues/323)."""
    from tfmtl2r.data import batches, fit_schema, from_frame

    lists = from_frame(pd.DataFrame({"c": [0, 2, 2**40, -7], "q": [1, 1, 2, 2], "click": [0.0, 1, 0, 1]}), "q")
    tasks = (Task("click", kind="binary", loss="bce"),)
    schema = fit_schema(lists, tasks)
    [(x, _)] = batches(lists, tasks, schema)
    assert sorted(x["c"].numpy().ravel()) == [1, 2, 3, 4]
    assert np.isfinite(make(schema, tasks).predict(x)["click"]).all()


def test_a_loaded_model_predicts_something_else(shop, tmp_path):
    """Scores differ before saving and after loading (https://github.com/shenweichen/DeepCTR/issues/133)."""
    shop.ranker.save(tmp_path / "model.keras")
    loaded = tfmtl2r.load(tmp_path / "model.keras")
    pd.testing.assert_frame_equal(loaded.predict(shop.frame, list_id="search"),
                                  shop.ranker.predict(shop.frame, list_id="search"))


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_an_h5_file_is_written_and_cannot_be_loaded(shop, tmp_path, suffix):
    """``save_model(model, "DeepFM.h5")`` writes a file, and loading it fails
    (https://github.com/shenweichen/DeepCTR/issues/275)."""
    for save in (keras.saving.save_model, keras.models.save_model, lambda model, path: model.save(path)):
        with pytest.raises(ValueError, match=r"from an HDF5 file: save it to a \.keras file, or serve it .*export"):
            save(shop.ranker, str(tmp_path / f"model{suffix}"))


def test_a_missing_value_needs_a_filler(shop):
    """"Feature column=C26 requires to assign fill_na value!" (https://github.com/reczoo/RecZoo/issues/37)."""
    gaps = shop.frame.assign(price=np.nan, brand=None)
    assert np.isfinite(shop.ranker.predict(gaps, list_id="search")).all(axis=None)
