"""Blends against their formulas, written out in numpy."""

import numpy as np
import pytest
from serving_problem import make_ranker

import tfmtl2r
from tfmtl2r import Dense, Schema
from tfmtl2r._backend import tf
from tfmtl2r.serving.answers import Answers
from tfmtl2r.serving.blend import Blend, blended, chosen, resolved
from tfmtl2r.serving.differences import differences
from tfmtl2r.serving.export import TOLERANCE, factors, moved
from tfmtl2r.serving.parsing import list_messages
from tfmtl2r.serving.session import LoadedExport
from tfmtl2r.task import Task
from tfmtl2r.training.readings import readings_of

TASKS = (Task("click", kind="binary"), Task("stars"), Task("dwell", kind="regression"))
WEIGHTS = {"click": 0.5, "stars": 2.0, "dwell": -1.0}
VALID = np.array([[True, True, True, True], [True, True, False, False], [False] * 4])


def make_scores(rng):
    return {task.name: rng.normal(size=VALID.shape).astype(np.float32) * 3 for task in TASKS}


def by_hand(kind, scores, weights):
    """``weights``: ``[B, T]``."""
    out = np.zeros(VALID.shape)
    for place in zip(*np.nonzero(VALID), strict=True):
        for task, weight in zip(TASKS, weights[place[0]], strict=True):
            score = float(scores[task.name][place])
            if kind == "sum":
                out[place] += weight * score
            elif kind == "product":
                value = 1 / (1 + np.exp(-score)) if task.kind == "binary" else np.log1p(np.exp(score))
                out[place] += np.log(value**weight)
            else:
                others = scores[task.name][place[0]][VALID[place[0]]]
                ties = (others == score).sum()  # these have the mean of their ranks
                out[place] += weight / (60 + (others > score).sum() + (1 + ties) / 2)
    return out


@pytest.mark.parametrize("kind", ["sum", "product", "rank"])
def test_formula(rng, kind):
    scores, blend = make_scores(rng), Blend(WEIGHTS, kind)
    scores["stars"][0, 1] = scores["stars"][0, 2]  # a tie
    own = np.array([[1, 0, 3], [0, 0, 0], [2, 2, 2]], np.float32)
    for weights, meant in [(None, np.tile(blend.values, (3, 1))), (own, np.stack([own[0], blend.values, own[2]]))]:
        found = blended(blend, TASKS, scores, VALID, weights).numpy()
        np.testing.assert_allclose(found[VALID], by_hand(kind, scores, meant)[VALID], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["sum"])
def test_plain_rows(rng, kind):
    scores = {task.name: rng.normal(size=4).astype(np.float32) for task in TASKS}
    listed = {task: values[None] for task, values in scores.items()}
    own = np.tile(np.float32([[1, 2, 3]]), (4, 1))
    for weights, same in [(None, None), (own, own[:1])]:
        expected = blended(Blend(WEIGHTS, kind), TASKS, listed, np.ones([1, 4], bool), same)[0]
        np.testing.assert_allclose(blended(Blend(WEIGHTS, kind), TASKS, scores, None, weights), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["sum", "product", "rank"])
@pytest.mark.parametrize("size", [-1e8, -100.0, 0.0, 100.0, 1e8])
def test_extreme_scores_stay_finite(kind, size):
    scores = {task.name: np.full(VALID.shape, size, np.float32) for task in TASKS}
    assert np.isfinite(blended(Blend(WEIGHTS, kind), TASKS, scores, VALID).numpy()).all()


def test_a_product_keeps_the_order_where_it_would_underflow():
    scores = {task.name: np.float32([[-300.0, -301.0, -302.0]]) for task in TASKS}
    blend = Blend({"click": 9, "stars": 9, "dwell": 9}, "product")
    found = blended(blend, TASKS, scores, np.ones([1, 3], bool))
    assert (np.diff(found.numpy()) < 0).all()


def test_ranks_do_not_see_padding(rng):
    scores, blend = make_scores(rng), Blend(WEIGHTS, "rank")
    other = {task: np.where(VALID, values, 99.0).astype(np.float32) for task, values in scores.items()}
    one, two = (blended(blend, TASKS, s, VALID).numpy()[VALID] for s in (scores, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("row", [[-1, 1, 1], [0, 0, 0], [np.nan, 1, 1], [np.inf, 1, 1], [-np.inf, 0, 0],
                                 [3e38, 1, 1]])
def test_no_preference_is_the_default(row):
    found = chosen(tf.constant([row, [1, 0, 0]], tf.float32), Blend(WEIGHTS)).numpy()
    np.testing.assert_array_equal(found, [[0.5, 2.0, -1.0], [1, 0, 0]])


@pytest.fixture(scope="module")
def steep(tmp_path_factory):
    """An export with scores as large as trained ones."""
    ranker = make_ranker(Schema([Dense("price")]), TASKS)
    ranker.set_weights([weight + np.float32(3) * (weight.ndim == 2) for weight in ranker.get_weights()])
    with LoadedExport(tfmtl2r.export(ranker, tmp_path_factory.mktemp("export") / "steep")) as loaded:
        yield loaded


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "usable"), [(1e20, True), (3e38, False)])
def test_large_weights_times_large_scores(steep, weight, usable):
    items = {"price": np.float32([[9, 20, 1]]), "list_size": np.int32([3])}
    plain = steep.run("predict_features", items)
    assert abs(plain["score"]).max() > 10
    asked = {**items, "blend_weights": np.full([1, 3], weight, np.float32)}
    listed = {"item_ids": np.array([["a", "b", "c"]], object), "k": np.int32([3])}
    message = list_messages(asked, Schema([Dense("price")]), {"blend_weights": 3})[0].SerializeToString()
    total = sum(plain[f"score_{task.name}"] for task in TASKS)
    expected = np.float32(weight) * total if usable else plain["score"]
    for inputs, signature in ((asked, "predict_blended"), ({"inputs": [message]}, "predict_elwc")):
        np.testing.assert_allclose(steep.run(signature, inputs)["score"], expected, rtol=1e-5)
    np.testing.assert_allclose(steep.run("rank", {**asked, **listed})["score"], -np.sort(-expected), rtol=1e-5)


def test_resolved():
    ranker = tfmtl2r.MultiTaskRanker("shared_bottom", TASKS, Schema([Dense("price")]))
    assert resolved(ranker, {"dwell": -0.5}).weights == {"click": 0.0, "stars": 0.0, "dwell": -0.5}
    fused = resolved(ranker, Blend(kind="rank"))
    assert fused.kind == "rank"
    assert fused.weights == pytest.approx({"click": 1 / 3, "stars": 1 / 3, "dwell": 1 / 3})
    ranker.compile()
    ranker.set_preference([1, 0, 3])
    assert resolved(ranker).weights == {"click": 0.25, "stars": 0.0, "dwell": 0.75}


@pytest.mark.parametrize(("blend", "message"), [
    ({"clck": 1.0}, "'clck', which is not a task.*click, stars, dwell"),
    ({"click": float("nan")}, "finite"),
    ({"click": -3e38}, r"finite weights from -1e\+20 to 1e\+20"),
    ({"click": 0.0}, "at least one"),
    ({}, "at least one"),
])
def test_wrong_weights(blend, message):
    ranker = tfmtl2r.MultiTaskRanker("shared_bottom", TASKS, Schema([Dense("price")]))
    with pytest.raises(ValueError, match=message):
        resolved(ranker, blend)


def test_wrong_kind():
    with pytest.raises(ValueError, match=r"'mean'.* Known: deviation, mixture, product, rank, sum, value"):
        Blend(kind="mean")


@pytest.mark.parametrize("ties", [2, 5, 11])
def test_the_tolerance_of_a_blend_of_ranks_covers_any_order_of_equal_scores(rng, ties):
    """Rounding orders equal items of a list differently if the server merges requests."""
    task, valid = Task("click", kind="binary"), np.ones([1, 11], bool)
    answers = Answers((task,), Blend({"click": 1.0}, "rank"), True, readings_of((task,), has_lists=True))
    scores = rng.normal(size=valid.shape).astype(np.float32)
    scores[0, rng.permutation(11)[:ties]] = 0.5

    def answer(values):
        found = answers.scores({"click": values}, tf.constant(valid), {})
        return {name: value.numpy() for name, value in found.items()}

    exact, found = answer(scores), {}
    for off in moved({"click": scores}, TOLERANCE):
        factor = factors(exact, answer(off["click"]), TOLERANCE)["score"]
        found["score"] = max(factor, found.get("score", 1.0))
    rounded = answer(scores + np.float32(5e-7) * rng.permutation(11).astype(np.float32))
    assert list(differences("rounded", "exact", rounded, exact, TOLERANCE)), "otherwise, this test shows nothing"
    assert not list(differences("rounded", "exact", rounded, exact, TOLERANCE, found))
    wrong = {**rounded, "score": rounded["score"][:, ::-1]}
    assert bool(list(differences("wrong", "exact", wrong, exact, TOLERANCE, found))) == (ties < 11)
