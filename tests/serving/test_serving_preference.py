"""Preferences in requests, behind the session loader: of conditioned rankers and others, for every kind of blend."""

import json

import numpy as np
import pytest
from serving_problem import SCHEMA, looked_up, make_ranker, rows

import tfmtl2r
from tfmtl2r import blends
from tfmtl2r.serving.check import problems
from tfmtl2r.serving.examples import requests
from tfmtl2r.serving.session import LoadedExport

pytestmark = pytest.mark.slow
PER_ITEM = {feature.name for feature in SCHEMA.features if not feature.context}


@pytest.fixture(scope="module")
def conditioned(tmp_path_factory):
    ranker = make_ranker(conditioned=1.0)
    folder = tfmtl2r.export(ranker, tmp_path_factory.mktemp("export") / "model", rows=rows(SCHEMA))
    with LoadedExport(folder) as loaded:
        yield ranker, folder, loaded


def ask(loaded, request, preference):
    if preference is None:
        return loaded.run("predict_features", request)
    return loaded.run("predict_preferred", {**request, "preference": np.asarray(preference, np.float32)})


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
    # The tasks' weights are 1, 3 and 1, and a row of zeros selects them.
    for preference in ([0, 0, 0], [1, 3, 1], [-1, 2, 2], [np.nan, 1, 1]):
        same = ask(loaded, request, [preference] * lists)
        np.testing.assert_allclose(same["score_click"], plain["score_click"], atol=1e-5)
        np.testing.assert_allclose(same["score"], plain["score"], atol=1e-5)


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


@pytest.mark.parametrize("kind", [
    "deviation", {"name": "mixture", "constants": True}, {"name": "mixture", "temperature": 2.0}, "rank",
])
def test_an_unconditioned_export_answers_every_preference_as_predict_does(kind, tmp_path):
    ranker = make_ranker()
    ranker.head_statistics.set(np.array([0.5, 2.0, 1.0]), np.array([1.0, 1.5, 0.4]))
    ranker.blend = blends.get(kind)
    folder = tfmtl2r.export(ranker, tmp_path / "model")
    request = requests(SCHEMA, seed=4)[1]
    wider = {name: np.pad(value, [(0, 0), (0, 3), *[(0, 0)] * (value.ndim - 2)], mode="edge")
             if value.ndim > 1 and name in PER_ITEM else value for name, value in request.items()}
    with LoadedExport(folder) as loaded:
        for preference in ((1, 0, 0), (0, 2, 2), (0.2, 0.3, 0.5), (9, 1, 1), (1, 1, 1)):
            expected = ranker.predict(looked_up(ranker, request), preference=preference, batch_size=9)["score"]
            for sent in (request, wider):
                answer = ask(loaded, sent, [preference] * len(expected))
                found = answer["score"][:, :expected.shape[1]]
                valid = answer["valid"][:, :expected.shape[1]]
                np.testing.assert_allclose(found[valid], expected[valid], atol=1e-5)
                assert (answer["score"][~answer["valid"]] == np.float32(-1e9)).all()
    metadata = json.loads((folder / "assets.extra" / "tfmtl2r.json").read_text())
    assert metadata["blend_kind"] == (kind if isinstance(kind, str) else "mixture")
    assert metadata["blend_choice"]["by"] == "ranker"


def test_wrong_width(conditioned):
    _, _, loaded = conditioned
    with pytest.raises(Exception, match="preference"):
        ask(loaded, requests(SCHEMA, seed=4)[0], [[1, 0]] * 2)
