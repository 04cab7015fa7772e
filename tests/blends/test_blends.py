"""Every kind of blend against golden values and float64 references, padded or not, in lists and in plain rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmtl2r import blends
from tfmtl2r._backend import tf
from tfmtl2r.blends import Heads

S = np.array([[2, 0], [1, 1], [0, 3.0]])
KINDS = ("graded", "binary")
FACTS = {"values": True, "deviations": np.array([2.0, 0.5]), "constants": np.array([1.0, 0.5])}
EVERY = [*blends.names(), {"name": "mixture", "constants": True}, {"name": "mixture", "temperature": 2.0}]


def heads(scores, valid=None, constants=None, deviations=FACTS["deviations"]):
    scores = np.asarray(scores, np.float32)
    return Heads(tf.constant(scores), None if valid is None else tf.constant(valid), KINDS, tf.constant(scores * 3 + 1),
                 deviations, constants)


def blend(kind, scores, weights, valid=None, **facts):
    """One list, ``[L, T]``."""
    valid = np.ones(len(scores), bool) if valid is None else np.asarray(valid)
    found = blends.get(kind).blend(heads([scores], [valid], **facts), tf.constant([weights], tf.float32))
    return found.numpy()[0]


@pytest.mark.parametrize(("weights", "valid", "constants", "expected"), [
    ((0.5, 0.5), None, None, [-1.039517, -1.717793, -0.761613]),
    ((0.8, 0.2), None, None, [-0.615085, -1.520412, -1.423857]),
    ((1, 0), None, None, [-0.407606, -1.407606, -2.407606]),
    ((0.8, 0.2), [True, True, False], None, [-0.448422, -1.017867, -np.inf]),
    ((0.8, 0.2), None, (1, 0.5), [-0.517526, -1.468699, -1.749953]),
    ((0.8, 0.2), None, (2, 1), [-0.517526, -1.468699, -1.749953]),
])
def test_golden_values_of_the_mixture(weights, valid, constants, expected):
    kind = {"name": "mixture", "constants": constants is not None}
    np.testing.assert_allclose(blend(kind, S, weights, valid, constants=constants), expected, atol=2e-6)


def reference(kind, scores, weights):
    """The formulas in float64, item by item."""
    name = kind if isinstance(kind, str) else kind["name"]
    if name == "mixture":
        tau = 1.0 if isinstance(kind, str) else kind.get("temperature", 1.0)
        k = FACTS["constants"] if not isinstance(kind, str) and kind.get("constants") else np.ones(2)
        chances = np.exp(scores / tau) / np.exp(scores / tau).sum(0)
        return np.log(chances @ (weights * k / (weights * k).sum()))
    if name == "rank":
        ranks = np.array([[(column > s).sum() + (1 + (column == s).sum()) / 2 for s in column] for column in scores.T])
        return (1 / (60 + ranks.T)) @ weights
    if name == "product":
        return np.log(np.stack([np.log1p(np.exp(scores[:, 0])), 1 / (1 + np.exp(-scores[:, 1]))], 1)) @ weights
    return {"sum": scores, "value": scores * 3 + 1, "deviation": scores / FACTS["deviations"]}[name] @ weights


@settings(max_examples=15, deadline=None)
@given(scores=st.lists(st.tuples(*[st.integers(-6, 6)] * 2), min_size=1, max_size=6), share=st.floats(0.01, 0.99),
       padding=st.integers(0, 3), junk=st.floats(-1e6, 1e6, width=32))
def test_every_kind_against_its_formula_whatever_the_padding(scores, share, padding, junk):
    scores, weights = np.array(scores, float), np.array([share, 1 - share])
    padded = np.concatenate([scores, np.full((padding, 2), junk)])
    valid = np.arange(len(padded)) < len(scores)
    for kind in EVERY:
        needs = blends.get(kind).needs
        found = blend(kind, padded, weights, valid, constants=FACTS["constants"] if "constants" in needs else None)
        np.testing.assert_allclose(found[:len(scores)], reference(kind, scores, weights), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", EVERY)
def test_a_task_of_weight_0_has_no_influence(kind):
    other = S * [1, -7]
    facts = {"constants": FACTS["constants"] if "constants" in blends.get(kind).needs else None}
    np.testing.assert_array_equal(blend(kind, S, (1, 0), **facts), blend(kind, other, (1, 0), **facts))


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("size", [1e8, 1e-30])
def test_large_and_tiny_scores_and_weights_stay_finite(kind, size):
    facts = {"constants": FACTS["constants"] if "constants" in blends.get(kind).needs else None}
    for weights in ((1e18, 1.0), (1e-20, 1e-20)):
        assert np.isfinite(blend(kind, S * size, weights, **facts)).all()


def test_a_list_without_items_gives_no_nan():
    for kind in EVERY:
        facts = {"constants": FACTS["constants"] if "constants" in blends.get(kind).needs else None}
        assert not np.isnan(blend(kind, S, (1, 1), [False] * 3, **facts)).any()


@pytest.mark.parametrize("kind", ["sum", "deviation", "value"])
def test_plain_rows(kind):
    rows = blends.get(kind).blend(heads(S), tf.constant([[0.3, 0.7]] * 3)).numpy()
    np.testing.assert_allclose(rows, reference(kind, S, np.array([0.3, 0.7])), rtol=1e-5)
    assert "lists" not in blends.get(kind).needs


def test_which_kinds_need_lists():
    assert {name for name in blends.names() if "lists" in blends.get(name).needs} == {"mixture", "product", "rank"}


def test_a_head_that_does_not_vary_keeps_its_scale():
    found = blend("deviation", S, (1, 1), deviations=np.array([0.0, 0.5]))
    np.testing.assert_allclose(found, S @ [1, 2])


@pytest.mark.parametrize(("former", "now"), [
    ("weighted_sum", "sum"), ("product_of_powers", "product"), ("rank_fusion", "rank"),
])
def test_former_names_still_load(former, now):
    assert blends.registry.name_of(type(blends.get(former))) == now


@pytest.mark.parametrize(("options", "message"), [
    ({"name": "mixture", "temperature": 0}, "temperature must be a number above 0"),
    ({"name": "sum", "temperature": 2.0}, "'sum' has no option temperature"),
])
def test_wrong_options(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        blends.get(options)


def test_an_own_kind():
    @blends.register("best_head_of_test")
    class Best(blends.Blend):
        """The larger score."""

        definition = "the larger score"

        def blend(self, heads, weights):
            return tf.reduce_max(heads.scores, axis=-1)

    try:
        np.testing.assert_array_equal(blend("best_head_of_test", S, (1, 1)), [2, 1, 3])
    finally:
        blends.registry.unregister("best_head_of_test")
