"""Requests as they should not be, through the session loader: a clear error or the documented default."""

import numpy as np
import pytest
from serving_problem import SCHEMA, asked

from tfmtl2r._backend import tf
from tfmtl2r.serving.examples import merged, requests
from tfmtl2r.serving.parsing import item_messages, list_messages, one_item_lists

Refused = tf.errors.InvalidArgumentError
SERIALIZED = ("predict_elwc", "regress", "classify")


def run(exported, signature="predict_blended", **changes):
    request = {**asked(), **changes}
    names = exported.loaded.meta_graph.signature_def[signature].inputs
    return exported.run({name: request[name] for name in names}, signature)


def assert_sound(answer):
    for name, values in answer.items():
        assert values.dtype.kind != "f" or np.isfinite(values).all(), name


def resized(request, lists, length):
    """A request of other lists: the first item of the first list, over and over."""
    changed = {}
    for name, value in request.items():
        axes = (lists, length) if value.shape[:2] == (3, 11) else (lists,)
        changed[name] = np.broadcast_to(value[(slice(0, 1),) * len(axes)], (*axes, *value.shape[len(axes):]))
    return {**changed, "list_size": np.full(lists, length, np.int32)}


@pytest.mark.parametrize(("change", "message"), [
    ({"price": np.ones([3, 12], np.float32)}, "differ in the number of lists or items from.*price.*3 12"),
    ({"brand": np.full([3, 12], "acme", object)}, "differ in the number.*price.*brand"),
    ({"shop": np.ones([3, 1], np.int64)}, "differ in the number.*shop"),
    ({"age": np.ones(1, np.float32)}, "differ in the number.*age"),
    ({"age": np.ones([3, 1], np.float32)}, r"age.*not compatible with expected shape \[\?\]"),
    ({"price": np.ones([3, 11, 1], np.float32)}, r"price.*not compatible with expected shape \[\?,\?\]"),
    ({"price": np.ones(11, np.float32)}, "price.*not compatible"),
    ({"vector": np.ones([3, 11, 5], np.float32)}, r"vector.*\[3,11,5\].*\[\?,\?,4\]"),
    ({"vector": np.ones([3, 11, 1], np.float32)}, "vector.*not compatible"),
    ({"list_size": np.int32([3])}, "differ in the number.*list_size"),
    ({"list_size": np.int32(3)}, "list_size.*not compatible"),
    ({"blend_weights": np.ones([3, 2], np.float32)}, r"blend_weights.*\[3,2\].*\[\?,3\]"),
    ({"blend_weights": np.ones([1, 3], np.float32)}, "differ in the number.*blend_weights"),
    ({"blend_weights": np.ones(3, np.float32)}, "blend_weights.*not compatible"),
])
def test_shapes(exported, change, message):
    """The graph itself refuses them: the server does not look at shapes."""
    with pytest.raises(Refused, match=message):
        run(exported, **change)


@pytest.mark.parametrize(("change", "message"), [
    ({"item_ids": np.full([3, 4], "a", object)}, "differ in the number.*item_ids"),
    ({"k": np.int32([1])}, "differ in the number.*k"),
])
def test_shapes_of_rank(exported, change, message):
    with pytest.raises(Refused, match=message):
        run(exported, "rank", **change)


def test_names_and_types(exported):
    request = requests(SCHEMA)[0]
    with pytest.raises(ValueError, match=r"missing: price; unknown: prise \('prise'; did you mean 'price'\?\)"):
        exported.run({"prise" if name == "price" else name: value for name, value in request.items()})
    with pytest.raises(ValueError, match="missing: age, list_size; unknown: none"):
        exported.run({name: value for name, value in request.items() if name not in ("age", "list_size")})
    with pytest.raises(TypeError, match="'price' takes float32"):
        exported.run({**request, "price": np.full([2, 3], "1", object)})
    with pytest.raises(TypeError, match=r"'shop' takes int64: .*float64"):
        exported.run({**request, "shop": np.full([2, 3], 0.5)})
    with pytest.raises(TypeError, match="'brand' takes string"):
        exported.run({**request, "brand": np.ones([2, 3])})
    with pytest.raises(ValueError, match=r"no signature 'predict'; this export has.*predict_elwc"):
        exported.run(request, "predict")


@pytest.mark.parametrize(("lists", "length"), [(0, 0), (0, 4), (2, 0), (1, 1), (1, 5000)])
@pytest.mark.parametrize("signature", ["predict_blended", "rank"])
def test_sizes(exported, signature, lists, length):
    answer = run(exported, signature, **{**resized(asked(), lists, length), "k": np.full(lists, 9000, np.int32)})
    assert {values.shape for values in answer.values()} == {(lists, length if lists or signature != "rank" else 0)}
    assert_sound(answer)
    if lists and length:
        assert answer["valid"].all()
        np.testing.assert_allclose(answer["score"], np.broadcast_to(answer["score"][:, :1], (lists, length)), atol=1e-5)


def test_5000_items_as_examples(exported):
    request = resized(asked(), 1, 5000)
    expected = run(exported, **request)["score"][0, 0]
    elwc = list_messages(request, SCHEMA, {"blend_weights": 3})[0].SerializeToString()
    items = [m.SerializeToString() for m in item_messages(one_item_lists(request, SCHEMA), SCHEMA)]
    np.testing.assert_allclose(exported.run({"inputs": [elwc]}, "predict_elwc")["score"][0], expected, atol=1e-5)
    np.testing.assert_allclose(exported.run({"inputs": items}, "regress")["outputs"], expected, atol=1e-5)


@pytest.mark.parametrize(("given", "meant"), [([99, 3, 0], [11, 3, 0]), ([-5, 2, 2**31 - 1], [0, 2, 11])])
def test_list_size_outside_the_tensor(exported, given, meant):
    answer, clipped = (run(exported, list_size=np.int32(sizes)) for sizes in (given, meant))
    for name in answer:
        np.testing.assert_array_equal(answer[name], clipped[name])
    assert answer["valid"].sum(axis=1).tolist() == meant


def test_what_merging_hides(exported):
    """The server pads before the graph sees a request: what alone is refused or clipped has scores without meaning.

    So the README of an export warns of it, and the client looks before it sends.
    """
    first, other = requests(SCHEMA, seed=4)[:2]
    sound = exported.run(first)
    short = {**first, "price": first["price"][:, :2]}
    with pytest.raises(Refused, match="differ in the number of lists or items"):
        exported.run(short)
    hidden = exported.run(merged([short, other]))
    assert not np.allclose(hidden["score"][0, 2], sound["score"][0, 2])
    long = {**first, "list_size": np.int32([99, 2])}
    assert exported.run(long)["valid"].sum(axis=1).tolist() == [3, 2]
    assert exported.run(merged([long, other]))["valid"].sum(axis=1).tolist() == [11, 2, 11, 4, 0]
    wide = {**first, "vector": np.pad(first["vector"], [(0, 0), (0, 0), (0, 1)])}
    with pytest.raises(Refused, match="vector"):  # for both callers
        exported.run(merged([wide, other]))


@pytest.mark.parametrize("number", [2**32 + 1, -(2**31) - 1])
def test_integers_that_would_wrap(exported, number):
    with pytest.raises(TypeError, match=f"'list_size' takes int32: {number} does not fit"):
        run(exported, list_size=np.array([number, 1, 1]))


def test_numbers_that_would_become_infinite(exported):
    wide = asked()["price"].astype(np.float64)
    np.testing.assert_array_equal(run(exported, price=wide)["score"], run(exported)["score"])
    wide[0, 0] = 1e39
    with pytest.raises(TypeError, match=r"'price' takes float32: 1e\+39 does not fit"):
        run(exported, price=wide)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_missing_numbers_become_the_mean(exported, value):
    request = asked()
    odd = {"vector": np.full_like(request["vector"], value), "age": np.full(3, value, np.float32)}
    mean = {"vector": np.broadcast_to(np.float32([1, 2, 3, 4]), (3, 11, 4)), "age": np.full(3, 40.0)}
    np.testing.assert_allclose(run(exported, **odd)["score"], run(exported, **mean)["score"], atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize("signature", ["predict_blended", "rank"])
def test_odd_numbers_everywhere(exported, signature, value):
    request = asked()
    odd = {name: np.full_like(array, value) for name, array in request.items() if array.dtype == np.float32}
    assert_sound(run(exported, signature, **odd))


def test_unknown_categories_share_one_embedding(exported):
    answers = [
        run(exported, brand=np.full([3, 11], brand, object), shop=np.full((3, 11), shop))
        for brand, shop in [("never seen", 99), ("", -1), (b"\xff\x00no text", -(2**63))]
    ]
    np.testing.assert_array_equal(answers[0]["score"], answers[1]["score"])
    np.testing.assert_array_equal(answers[0]["score"], answers[2]["score"])


@pytest.mark.parametrize("row", [[-1, 1, 1], [0, 0, 0], [np.nan, 1, 1], [np.inf, 0, 1], [-0.0, 0, -0.0]])
def test_weights_that_are_no_preference_are_the_default(exported, row):
    request = asked()
    weights = np.float32([row, [1, 1, 1], row])
    messages = list_messages({**request, "blend_weights": weights}, SCHEMA, {"blend_weights": 3})
    elwc = exported.run({"inputs": [m.SerializeToString() for m in messages]}, "predict_elwc")
    default, ones = (run(exported, blend_weights=np.full([3, 3], value, np.float32))["score"] for value in (0, 1))
    for answer in (run(exported, blend_weights=weights), elwc):
        np.testing.assert_allclose(answer["score"], [default[0], ones[1], default[2]], atol=1e-5)


def test_nothing_but_an_empty_message(exported):
    """No context, no items: an answer without real places, which leaves the other lists as they are."""
    request = asked()
    messages = [m.SerializeToString() for m in list_messages(request, SCHEMA, {"blend_weights": 3})]
    answer = exported.run({"inputs": [b"", *messages]}, "predict_elwc")
    assert not answer["valid"][0].any()
    assert (answer["score"][0] == np.float32(-1e9)).all()
    np.testing.assert_allclose(answer["score"][1:], run(exported)["score"], atol=1e-6)
    assert exported.run({"inputs": [b""]}, "predict_elwc")["valid"].tolist() == [[False]]
    for signature in ("regress", "classify"):  # an item of which nothing is known
        answer = exported.run({"inputs": [b"", b""]}, signature)
        assert_sound(answer)
        assert {len(values) for values in answer.values()} == {2}


def test_an_example_without_features_has_the_mean_of_each(exported):
    request = one_item_lists(asked(), SCHEMA)
    means = {f.name: np.broadcast_to(np.reshape(f.mean or (0.0,) * f.width, f.shape), request[f.name].shape)
             for f in SCHEMA.features if not f.embedded}
    # Undone: a request brings raw values.
    means |= {"price": np.expm1(means["price"]), "gain": np.expm1(means["gain"])}
    unknown = {"brand": "", "hashed": "", "country": "", "shop": -1, "hashed_id": -1}
    unknown = {name: np.full_like(request[name], value) for name, value in unknown.items()}
    names = exported.loaded.meta_graph.signature_def["serving_default"].inputs
    known = {**request, **{k: np.float32(v) for k, v in means.items()}, **unknown}
    expected = exported.run({name: known[name] for name in names})["score"][0]
    np.testing.assert_allclose(exported.run({"inputs": [b""]}, "regress")["outputs"], expected, atol=1e-5)


@pytest.mark.product
@pytest.mark.parametrize("inputs", [["hello"], [b"\xff\xffgarbage"], [b"", b"\x0a\xff"], [[b""]], b""], ids=str)
@pytest.mark.parametrize("signature", SERIALIZED)
def test_garbage(exported, signature, inputs):
    with pytest.raises(tf.errors.OpError, match=r"parse|Failed|serialized|slic"):
        exported.run({"inputs": inputs}, signature)


def test_no_lists_at_all(exported):
    none = np.zeros([0], object)
    with pytest.raises(Refused, match=r"'inputs.*contains no ExampleListWithContext"):
        exported.run({"inputs": none}, "predict_elwc")
    assert exported.run({"inputs": none}, "regress")["outputs"].shape == (0,)
    assert exported.run({"inputs": none}, "classify")["scores"].shape == (0, 4)


def test_the_wrong_kind_of_message(exported):
    example = tf.train.Example()
    example.features.feature["price"].float_list.value.append(1.0)
    with pytest.raises(tf.errors.OpError):
        exported.run({"inputs": [example.SerializeToString()]}, "predict_elwc")


@pytest.mark.parametrize(("feature", "kind", "values", "message"), [
    ("price", "int64_list", [1], "price.*Data types don't match"),
    ("brand", "float_list", [1.0], "brand.*Data types don't match"),
    ("price", "float_list", [1.0, 2.0], "price"),
    ("vector", "float_list", [1.0], "vector"),
    ("blend_weights", "float_list", [1.0, 2.0], "blend_weights"),
    ("age", "bytes_list", [b"old"], "age.*Data types don't match"),
])
def test_features_of_another_type_or_width(exported, feature, kind, values, message):
    request = asked()
    message_of = list_messages(request, SCHEMA, {})[0]
    target = message_of.context if feature in ("age", "blend_weights") else message_of.examples[3]
    target.features.feature[feature].Clear()
    getattr(target.features.feature[feature], kind).value.extend(values)
    with pytest.raises(tf.errors.OpError, match=message):
        exported.run({"inputs": [message_of.SerializeToString()]}, "predict_elwc")
