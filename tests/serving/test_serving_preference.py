"""A conditioned ranker behind the session loader: every request says which trade-off it wants."""

import json

import numpy as np
import pytest
from serving_problem import SCHEMA, looked_up, make_ranker, rows

import tfmtl2r
from tfmtl2r.serving.check import problems
from tfmtl2r.serving.examples import requests
from tfmtl2r.serving.session import LoadedExport

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def conditioned(tmp_path_factory):
    ranker = make_ranker(conditioned=1.0)
    folder = tfmtl2r.export(ranker, tmp_path_factory.mktemp("export") / "model", rows=rows(SCHEMA))
    with LoadedExport(folder) as loaded:
        yield ranker, folder, loaded


def ask(loaded, request, preference):
    weights = np.zeros((len(request["list_size"]), 3), np.float32)
    signature = "predict_blended" if preference is None else "predict_preferred"
    extra = {} if preference is None else {"preference": np.asarray(preference, np.float32)}
    return loaded.run(signature, {**request, "blend_weights": weights, **extra})


def test_every_preference_gets_its_own_scores(conditioned):
    ranker, _, loaded = conditioned
    request = requests(SCHEMA, seed=4)[1]
    lists = len(request["list_size"])
    plain, found, scored = ask(loaded, request, None), {}, ("click", "buy", "dwell")
    for preference in ((1, 0, 0), (0, 1, 0), (2, 1, 1)):
        found[preference] = ask(loaded, request, [preference] * lists)
        features = looked_up(ranker, request)
        for task, scores in ranker.predict(features, preference=preference, batch_size=lists).items():
            valid = found[preference]["valid"]
            np.testing.assert_allclose(found[preference][f"score_{task}"][valid], scores[valid], atol=1e-5)
    gaps = [np.abs(found[1, 0, 0][f"score_{task}"] - found[0, 1, 0][f"score_{task}"]).max() for task in scored]
    assert min(gaps) > 1e-3
    # The tasks' weights are 1, 3 and 1, and a row of zeros asks for them.
    for preference in ([0, 0, 0], [1, 3, 1], [-1, 2, 2], [np.nan, 1, 1]):
        same = ask(loaded, request, [preference] * lists)
        np.testing.assert_allclose(same["score_click"], plain["score_click"], atol=1e-5)


def test_each_list_of_a_request_has_its_own(conditioned):
    _, _, loaded = conditioned
    request = requests(SCHEMA, seed=4)[0]
    mixed = ask(loaded, request, [[1, 0, 0], [0, 0, 1]])
    for row, preference in enumerate(([1, 0, 0], [0, 0, 1])):
        alone = ask(loaded, request, [preference] * 2)
        np.testing.assert_allclose(mixed["score_buy"][row], alone["score_buy"][row], atol=1e-5)


def test_the_export_passes_its_check_and_says_what_it_reads(conditioned):
    _, folder, _ = conditioned
    assert problems(folder) == []
    signatures = json.loads((folder / "assets.extra" / "tfmtl2r.json").read_text())["signatures"]
    assert signatures["predict_preferred"]["inputs"]["preference"]["shape"] == [None, 3]
    assert "preference" in signatures["rank"]["inputs"]
    assert "preference" not in signatures["serving_default"]["inputs"]
    readme = (folder.parent / "README.md").read_text()
    assert '"preference": [[' in readme


def test_wrong_width(conditioned):
    _, _, loaded = conditioned
    with pytest.raises(Exception, match="preference"):
        ask(loaded, requests(SCHEMA, seed=4)[0], [[1, 0]] * 2)
