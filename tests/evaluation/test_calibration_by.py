"""Calibration per value of a column: in files, exports, merged rankers and ensembles, and what is refused."""

import copy

import numpy as np
import pandas as pd
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, Experiment, MultiTaskRanker, Schema, Task, calibrators
from tfmtl2r._backend import keras
from tfmtl2r.data import Lists, batches
from tfmtl2r.evaluation.calibration import fit_calibrators, reliability
from tfmtl2r.evaluation.file_scores import item_scores
from tfmtl2r.evaluation.scoring import score, score_slices
from tfmtl2r.evaluation.slices import slicing
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.training.merged import Merged

SMALL = {"name": "shared_bottom", "units": (4,), "head_units": ()}
BY = {"name": "per_value", "columns": ["device"], "calibrator": "platt"}


def lists(number=300, seed=0):
    """Lists of four items; clicks on a tv are more frequent, which the loss, a softmax in each list, cannot know."""
    random = np.random.default_rng(seed)
    x, device = random.normal(size=4 * number), np.repeat(random.integers(0, 2, number), 4)
    click = (random.random(x.size) < 1 / (1 + np.exp(2 - 3 * device - 2 * x))).astype(float)
    names = np.array(["web", "tv"], object)[device]
    surface = np.array(["feed", "search"], object)[random.integers(0, 2, x.size)]
    return Lists({"x": x, "click": click, "device": names, "surface": surface},
                 offsets=np.arange(0, x.size + 1, 4))


TRAIN, VALI = lists(), lists(400, seed=1)
X = Schema([Dense("x"), Category("device", vocabulary=("tv", "web"), context=True),
            Category("surface", vocabulary=("feed", "search"))])


def ranker_of(calibration, architecture=SMALL, train_metrics=False):
    keras.utils.set_random_seed(0)
    task = Task("click", kind="binary", loss="softmax", metrics=("ndcg@2", "ece"), calibration=calibration)
    ranker = MultiTaskRanker(architecture, [task], X, has_lists=True)
    ranker.compile(keras.optimizers.Adam(0.05), train_metrics=train_metrics)
    ranker.fit(batches(TRAIN, [task], X, batch_size=100), epochs=2, verbose=0)
    fit_calibrators(ranker, VALI)
    return ranker


@pytest.fixture(scope="module")
def ranker():
    return ranker_of(BY)


def scores_of(ranker, of=VALI):
    return ranker.predict(batches(of, (), X), layout="items")


@pytest.mark.slow
def test_each_value_is_calibrated_by_its_own_items(ranker):
    """The values are those of a calibrator that is fitted with the ids of the items; slices show the gain."""
    found = scores_of(ranker)
    ids = 1.0 + (VALI.columns["device"] == "web")[:, None]
    by_hand = calibrators.get(BY)
    fitted = by_hand.fit(found["click"], VALI.columns["click"], columns=ids)
    expected = by_hand.apply(found["click"], np.float32(fitted), np.float32(ids))
    np.testing.assert_allclose(ranker.values(found)["click"], expected, atol=1e-5)
    whole = copy.deepcopy(ranker)
    table = fitted.copy()
    table[1:, 0] = np.nan  # all items have the calibrator of all
    whole.calibrations.by_task["click"].numbers.assign(table)
    slices = {name: score_slices(one, VALI, [slicing(VALI, "device")])["device"]["slices"]
              for name, one in (("by", ranker), ("whole", whole))}
    for device in ("tv", "web"):
        ece = {name: found[device]["results"]["click"]["ece"]["value"] for name, found in slices.items()}
        assert ece["by"] < ece["whole"] / 2
    logs = ranker.evaluate(batches(VALI, ranker.tasks, X), return_dict=True, verbose=0)
    assert logs["click_ece"] == pytest.approx(score(ranker, VALI)["click"]["ece"].value, abs=1e-4)
    curve = reliability(ranker, VALI, bins=4)["click"]
    assert curve["ece"] < 0.05


def test_files_copies_and_frames_know_it(ranker, tmp_path):
    found = scores_of(ranker)
    expected = np.asarray(ranker.values(found)["click"])
    ranker.save(tmp_path / "model.keras")
    again = tfmtl2r.load(tmp_path / "model.keras")
    np.testing.assert_allclose(again.values(scores_of(again))["click"], expected, rtol=1e-5)
    np.testing.assert_array_equal(copy.deepcopy(ranker).values(found)["click"], expected)
    np.testing.assert_allclose(item_scores(ranker, VALI)["value_click"], expected, rtol=1e-5)
    frame = pd.DataFrame({**{name: VALI.columns[name][:8] for name in X.names}, "q": np.arange(8) // 4})
    np.testing.assert_allclose(ranker.predict(frame, list_id="q")["value_click"], expected[:8], rtol=1e-5)
    padded = ranker.values(ranker.predict(batches(VALI, (), X)))["click"]
    np.testing.assert_allclose(np.ravel(padded), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="also depend on the column 'device': pass all that predict returns"):
        ranker.values({"click": found["click"]})


def test_merged_rankers_average_the_values_of_their_devices(ranker):
    expected = np.asarray(ranker.values(scores_of(ranker))["click"])
    both = Merged([ranker, ranker])
    merged = both.readings()["click"].value(both.predict(VALI)["click"])
    np.testing.assert_allclose(merged, expected, atol=1e-4)


@pytest.mark.slow
def test_an_item_feature_and_two_columns_calibrate_an_ensemble():
    by = {**BY, "columns": ["surface", "device"]}
    ensemble = ranker_of(by, {"name": "ensemble", "base": SMALL, "members": 2}, train_metrics=True)
    found = scores_of(ensemble)
    ids = np.stack([1.0 + (VALI.columns["surface"] == "search"), 1.0 + (VALI.columns["device"] == "web")], axis=1)
    by_hand = calibrators.get(by)
    fitted = by_hand.fit(found["click"], VALI.columns["click"], columns=ids)
    expected = by_hand.apply(found["click"], np.float32(fitted), np.float32(ids))
    np.testing.assert_allclose(ensemble.values(found)["click"], expected, atol=1e-4)


@pytest.mark.slow
def test_an_export_answers_by_device(ranker, tmp_path):
    version = tfmtl2r.export(ranker, tmp_path / "served", rows=VALI)
    expected = np.asarray(ranker.values(scores_of(ranker))["click"])
    request = {"x": VALI.columns["x"][:8].astype(np.float32).reshape(2, 4), "list_size": np.array([4, 4], np.int32),
               "device": VALI.columns["device"][:8:4], "surface": VALI.columns["surface"][:8].reshape(2, 4)}
    with LoadedExport(version) as loaded:
        np.testing.assert_allclose(np.ravel(loaded.run("serving_default", request)["value_click"]), expected[:8],
                                   rtol=1e-4)
        new = loaded.run("serving_default", {**request, "device": np.array(["radio", "radio"], object)})
    table = ranker.calibrations.by_task["click"].numbers.numpy()
    np.testing.assert_allclose(np.ravel(new["value_click"]),
                               calibrators.get("platt").apply(np.ravel(new["score_click"]), table[0, 1:]), rtol=1e-4)


def test_columns_that_a_request_lacks_are_refused():
    for by, message in (("devise", "'devise', which is no feature of the ranker.*did you mean 'device'"),
                        ("x", "'x', which is Dense, and needs .* kind = \"category\"")):
        with pytest.raises(ValueError, match=f"the calibration of task 'click' is by the .* {message}"):
            MultiTaskRanker(SMALL, [Task("click", kind="binary", calibration={**BY, "columns": [by]})], X)


def test_the_key_by_of_an_experiment(tmp_path):
    frame = pd.DataFrame({**TRAIN.columns, "q": np.arange(TRAIN.num_items) // 4})
    frame.to_csv(tmp_path / "log.csv", index=False)
    options = {"directory": str(tmp_path), "architecture": SMALL, "data": {"files": str(tmp_path / "log.csv"),
               "list_id": "q"}, "training": {"epochs": 1, "telemetry_every": 0}}
    click = {"name": "click", "kind": "binary"}
    first = Experiment(name="first", tasks=[click], calibration={"kind": "platt", "by": ["device"]}, **options)
    tasks = first.select(first.dataset())
    assert tasks[0].calibration == {**BY, "calibrator": "platt"}
    assert first.tree()["calibration"] == {"kind": "platt", "by": ["device"]}
    model = first.model(first.dataset())
    assert model.readings()["click"].columns == ("device",)
    own = first.but(tasks=[{**click, "calibration": "isotonic"}], calibration={"by": ["device"]})
    assert own.select(own.dataset())[0].calibration["calibrator"] == "isotonic"
    off = first.but(tasks=[{**click, "calibration": "none"}])
    assert off.select(off.dataset())[0].calibration == "none"
    with pytest.raises(ValueError, match=r"calibration\.by has no effect without a calibrator"):
        Experiment(name="bare", tasks=[click], calibration={"by": ["device"]}, **options).select(first.dataset())
