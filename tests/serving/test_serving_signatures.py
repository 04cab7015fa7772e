"""Every signature of an export, through the session loader, against ``model.predict`` and brute force."""

import json
import re

import numpy as np
import pytest
from serving_problem import SCHEMA, SMALL, TASKS, asked, predicted

import tfmtl2r
from tfmtl2r import Category, Dense, Schema
from tfmtl2r._backend import tf
from tfmtl2r.serving.answers import Answers
from tfmtl2r.serving.blend import Blend, resolved
from tfmtl2r.serving.check import METADATA
from tfmtl2r.serving.parsing import item_messages, list_messages, one_item_lists
from tfmtl2r.serving.signatures import input_names, planned
from tfmtl2r.task import Task
from tfmtl2r.training.readings import readings_of

NAMES = [task.name for task in TASKS]
DEFAULT = np.float32([0.2, 0.6, 0.2])


def valid_of(request):
    return np.arange(request["price"].shape[1]) < request["list_size"][:, None]


def feed(exported, request, signature):
    return {name: request[name] for name in exported.loaded.meta_graph.signature_def[signature].inputs}


def blend_of(scores, weights):
    """The weighted sum of ``model.predict``'s scores under weights ``[B, T]``."""
    return sum(weights[:, i, None] * scores[task] for i, task in enumerate(NAMES))


def test_which_signatures(exported):
    definitions = exported.loaded.meta_graph.signature_def
    methods = {name: definitions[name].method_name.rpartition("/")[2] for name in definitions if name[0] != "_"}
    predict = ("serving_default", "predict_features", "predict_blended", "predict_preferred", "predict_elwc", "rank")
    assert methods == {**dict.fromkeys(predict, "predict"), "regress": "regress", "classify": "classify"}
    assert json.loads((exported.folder / METADATA).read_text())["left_out"] == {}


def test_blend_weights_of_a_request(exported):
    request = asked()
    request["blend_weights"] = np.float32([[1, 0, 2], [0, 0, 0], [3, 3, 3]])
    answer = exported.run(feed(exported, request, "predict_blended"), "predict_blended")
    scores, valid = predicted(exported.ranker, request_features(request)), valid_of(request)
    expected = blend_of(scores, np.stack([[1, 0, 2], DEFAULT, [3, 3, 3]]))
    np.testing.assert_allclose(answer["score"][valid], expected[valid], rtol=1e-5, atol=1e-5)
    assert (answer["score"][~valid] == np.float32(-1e9)).all()
    plain = exported.run(feed(exported, request, "predict_features"))
    for name in set(plain) - {"score"}:
        np.testing.assert_array_equal(answer[name], plain[name])


def request_features(request):
    return {name: request[name] for name in (*SCHEMA.names, "list_size")}


@pytest.mark.parametrize("number", [0, 1])
def test_elwc_gives_what_raw_tensors_give(exported, number):
    request = asked(number=number)
    messages = list_messages(request, SCHEMA, {"blend_weights": 3})
    answer = exported.run({"inputs": [m.SerializeToString() for m in messages]}, "predict_elwc")
    expected = exported.run(feed(exported, request, "predict_blended"), "predict_blended")
    assert set(answer) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(answer[name], values, rtol=0, atol=1e-6)


def test_elwc_without_weights_takes_the_default(exported):
    request = asked()
    messages = list_messages(request, SCHEMA, {})
    answer = exported.run({"inputs": [m.SerializeToString() for m in messages]}, "predict_elwc")
    expected = exported.run(feed(exported, request, "predict_features"))
    np.testing.assert_allclose(answer["score"], expected["score"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("k", [[11, 11, 11], [1, 4, 9], [3, 0, -2], [2**31 - 1, 2, 1], [0, 0, 0]])
def test_rank(exported, k):
    """Against a sort of what ``model.predict`` gives, list by list."""
    request = {**asked(), "k": np.int32(k)}
    request["blend_weights"] = np.float32([[0, 0, 0], [1, 5, 2], [1, 1, 1]])
    answer = exported.run(feed(exported, request, "rank"), "rank")
    scores = predicted(exported.ranker, request_features(request))
    blend = blend_of(scores, np.stack([DEFAULT, [1, 5, 2], [1, 1, 1]]))
    assert {values.shape for values in answer.values()} == {(3, min(max(*k, 0), 11))}
    for row, size in enumerate([11, 4, 0]):
        count = min(max(k[row], 0), size)
        order = np.argsort(-blend[row, :size], kind="stable")[:count]
        assert answer["indices"][row].tolist() == [*order, *[-1] * (answer["indices"].shape[1] - count)]
        ids = [f"item {item} of list {row}".encode() for item in order]
        assert answer["ids"][row].tolist() == [*ids, *[b""] * (answer["ids"].shape[1] - count)]
        assert answer["valid"][row].tolist() == [place < count for place in range(answer["valid"].shape[1])]
        np.testing.assert_allclose(answer["score"][row, :count], blend[row, order], rtol=1e-5, atol=1e-5)
        for task in NAMES:
            np.testing.assert_allclose(answer[f"score_{task}"][row, :count], scores[task][row, order], atol=1e-5)
            assert (answer[f"score_{task}"][row, count:] == np.float32(-1e9)).all()


def answers_of(tasks, lists):
    return Answers(tasks, Blend({tasks[0].name: 1.0}), lists, readings_of(tasks, lists))


def test_rank_puts_any_item_before_padding_and_ties_in_order():
    answers = answers_of((Task("a", kind="regression"),), True)
    scores = {"a": tf.constant([[-3e9, 5.0, 5.0, 7.0, 8.0], [-2e9, -3e9, 0.0, 0.0, 0.0]])}
    valid = tf.sequence_mask([4, 2], 5)
    extras = {"k": tf.constant([5, 5]), "item_ids": tf.constant([list("abcde")] * 2),
              "blend_weights": tf.zeros([2, 1])}
    answer = answers.best(scores, valid, extras)
    assert answer["indices"].numpy().tolist() == [[3, 1, 2, 0, -1], [0, 1, -1, -1, -1]]
    assert b"".join(answer["ids"].numpy()[0].tolist()) == b"dbca"


def test_regress_and_classify_score_every_item_alone(exported):
    request = one_item_lists(asked(), SCHEMA)
    inputs = {"inputs": [m.SerializeToString() for m in item_messages(request, SCHEMA)]}
    regressed, classified = exported.run(inputs, "regress"), exported.run(inputs, "classify")
    scores = predicted(exported.ranker, request)
    blend = blend_of(scores, np.tile(DEFAULT, (15, 1)))[:, 0]
    assert regressed["outputs"].shape == (15,)
    np.testing.assert_allclose(regressed["outputs"], blend, atol=1e-5)
    assert classified["classes"].tolist() == [[*(name.encode() for name in NAMES), b"blend"]] * 15
    expected = np.stack([*(scores[task][:, 0] for task in NAMES), blend], axis=1)
    np.testing.assert_allclose(classified["scores"], expected, atol=1e-5)




def make_plan(schema, lists=True, blend=None, **options):
    ranker = tfmtl2r.MultiTaskRanker({**SMALL, **options}, TASKS, schema)
    return planned(ranker, resolved(ranker, blend), lists)


@pytest.mark.slow
def test_what_is_left_out_is_said():
    schema = Schema([Dense("price")])
    transformer = {"name": "transformer", "units": 4, "num_layers": 1, "num_heads": 1, "feedforward": 4}
    plan = make_plan(schema, encoder=transformer)
    assert set(plan.left_out) == {"regress", "classify"}
    assert "in the context of its list" in plan.left_out["regress"]
    assert "rank" in plan.signatures
    plan = make_plan(schema, blend=Blend(kind="rank"))
    assert set(plan.left_out) == {"regress", "classify"}
    assert "compares the items" in plan.left_out["classify"]
    plan = make_plan(schema, lists=False)
    assert set(plan.left_out) == {"predict_elwc", "rank"}
    assert "list_size" not in plan.signatures["predict_features"].inputs
    assert set(plan.signatures) == {"serving_default", "predict_features", "predict_blended", "predict_preferred",
                                    "regress", "classify"}
    for kind in ("rank", "product", "mixture"):
        with pytest.raises(ValueError, match=f"'{kind}' needs lists"):
            make_plan(schema, lists=False, blend=Blend(kind=kind))


def test_names_of_further_inputs_are_kept_free():
    names = input_names(Schema([Dense("k"), Dense("item_ids"), Category("score", vocabulary=("a",))]),
                        ["k", "item_ids", "score"], lists=True)
    assert names == {"k": "feature_k", "item_ids": "feature_item_ids", "score": "feature_score",
                     "list_size": "list_size"}
    assert input_names(Schema([Dense("BM25 body"), Dense("1")]), [], False) == {"BM25 body": "BM25_body",
                                                                               "1": "feature_1"}
    hard = ["Age", "age", "a b", "a/b", "a_b", "价格", "価格", "$", "self", "K", "k", "feature_k", "1", "List_size"]
    names = input_names(Schema([Dense(name) for name in hard]), ["k", "score"], lists=True)
    assert len({name.lower() for name in [*names.values(), "k", "score"]}) == len(hard) + 3
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) for name in names.values())
    assert names["list_size"] == "list_size"  # clients know the model of lists by this name


def test_only_binary_tasks_with_a_sigmoid_link_have_probabilities():
    tasks = (Task("like", kind="binary"), Task("seen", kind="binary", loss="mse"), Task("stars", loss="bce"))
    assert answers_of(tasks, True).with_probability == []
    assert answers_of(tasks, True).with_value == ["seen", "stars"]
    assert answers_of(tasks, False).with_probability == ["like"]
    levels = tuple(Task(f"l{n}", kind="binary", loss={"name": "ordinal", "levels": n}) for n in (1, 2))
    assert answers_of(levels, True).with_probability == ["l1"]
