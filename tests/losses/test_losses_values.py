"""Values against formulas written out in numpy, options, names."""

import numpy as np
import pytest

from tfmtl2r import _keras2, losses
from tfmtl2r._backend import tf
from tfmtl2r.losses._plackett_luce import negative_log_likelihood
from tfmtl2r.losses._tf_ranking import Bridged
from tfmtl2r.losses.base import default_loss

Y = np.array([3.0, 0.0, 1.0, 2.0])
S = np.array([0.4, 1.1, -0.6, 0.2])
PAIRS = [(i, j) for i in range(4) for j in range(4) if Y[i] > Y[j]]
DISCOUNT = 1 / np.log2(np.arange(2, 6))


def value(name, y=Y, s=S, weights=None, seed=(1, 2), **options):
    """The loss of one list, seen through padding."""
    size = len(y)
    pad = ((0, 0), (0, 2))
    weights = None if weights is None else np.pad([weights], pad)
    labels, scores = np.pad([y], pad, constant_values=5.0), np.pad([s], pad, constant_values=9.0)
    found, _ = losses.get(name, **options).per_list(labels, scores, [[True] * size + [False] * 2], weights, seed=seed)
    return float(found[0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def log_softmax(s):
    return s - np.log(np.sum(np.exp(s)))


def approximate_ranks(s, t):
    return np.array([1 + sum(sigmoid((s[j] - s[i]) / t) for j in range(len(s)) if j != i) for i in range(len(s))])


def max_dcg(y):
    return np.sum((2 ** np.sort(y)[::-1] - 1) * DISCOUNT[: len(y)])


def neural_sort(s):
    size = len(s)
    rows = [(size + 1 - 2 * r) * s - np.abs(s[:, None] - s).sum(axis=1) for r in range(1, size + 1)]
    return np.exp([log_softmax(row) for row in rows])


def test_softmax():
    assert value("softmax") == pytest.approx(-np.sum(Y / Y.sum() * log_softmax(S)), rel=1e-5)
    assert value("softmax", temperature=0.5) == pytest.approx(-np.sum(Y / Y.sum() * log_softmax(S / 0.5)), rel=1e-5)


def test_softmax_with_lambda_weights():
    rank = 1 + np.argsort(np.argsort(-S))
    worth = (2**Y - 1) / np.log2(1 + rank)
    expected = -np.sum(worth / worth.sum() * log_softmax(S))
    assert value("softmax", lambda_weight="dcg") == pytest.approx(expected, rel=1e-5)


def test_softmax_with_item_weights():
    w = np.array([2.0, 1.0, 0.5, 3.0])
    expected = -np.sum(w * Y * log_softmax(S)) / Y.sum() / w.mean()
    assert value("softmax", weights=w) == pytest.approx(expected, rel=1e-5)


def test_poly_one_softmax():
    p, q = np.exp(log_softmax(S)), Y / Y.sum()
    expected = -np.sum(q * np.log(p)) + 2.0 * (1 - np.sum(q * p))
    assert value("poly_one_softmax", epsilon=2.0) == pytest.approx(expected, rel=1e-5)
    assert value("poly_one_softmax", epsilon=0.0) == pytest.approx(value("softmax"), rel=1e-5)


def test_unique_softmax():
    odds = np.exp(S)
    expected = -sum((2 ** Y[i] - 1) * np.log(odds[i] / (odds[i] + odds[Y[i] > Y].sum())) for i in range(4))
    assert value("unique_softmax") == pytest.approx(expected, rel=1e-5)


def test_approx_ndcg():
    for t in (0.1, 1.0):
        dcg = np.sum((2**Y - 1) / np.log2(1 + approximate_ranks(S, t)))
        assert value("approx_ndcg", temperature=t) == pytest.approx(1 - dcg / max_dcg(Y), rel=1e-4)


def test_approx_mrr():
    expected = 1 - np.sum(Y / approximate_ranks(S, 0.1)) / Y.sum()
    assert value("approx_mrr") == pytest.approx(expected, rel=1e-4)


def test_pairwise_losses():
    margins = np.array([S[i] - S[j] for i, j in PAIRS])
    assert value("pairwise_logistic") == pytest.approx(np.mean(np.log1p(np.exp(-margins))), rel=1e-5)
    assert value("pairwise_hinge") == pytest.approx(np.mean(np.maximum(0, 1 - margins)), rel=1e-5)
    assert value("pairwise_soft_zero_one") == pytest.approx(np.mean(sigmoid(-margins)), rel=1e-5)


def test_pairwise_item_weights_multiply_the_pairs_of_the_better_item():
    w = np.array([2.0, 1.0, 0.5, 3.0])
    expected = np.mean([w[i] * np.log1p(np.exp(-(S[i] - S[j]))) for i, j in PAIRS]) / w.mean()
    assert value("pairwise_logistic", weights=w) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "pair_weight"),
    [
        ({"lambda_weight": "label_diff"}, lambda i, j, r: Y[i] - Y[j]),
        (
            {"lambda_weight": "dcg"},
            lambda i, j, r: (2 ** Y[i] - 2 ** Y[j]) * abs(DISCOUNT[abs(r[i] - r[j]) - 1] - DISCOUNT[abs(r[i] - r[j])]),
        ),
        ({"lambda_weight": "precision", "lambda_top_n": 2}, lambda i, j, r: Y[j] == 0 and (r[i] <= 2) != (r[j] <= 2)),
    ],
)
def test_lambda_weights(options, pair_weight):
    rank = 1 + np.argsort(np.argsort(-S))
    w = np.array([float(pair_weight(i, j, rank)) for i, j in PAIRS])
    each = np.log1p(np.exp([-(S[i] - S[j]) for i, j in PAIRS]))
    assert value("pairwise_logistic", **options) == pytest.approx(np.sum(w * each) / np.sum(w), rel=1e-5)


def test_pairwise_mse():
    off = ~np.eye(4, dtype=bool)
    expected = np.mean(((S[:, None] - S) - (Y[:, None] - Y))[off] ** 2)
    assert value("pairwise_mse") == pytest.approx(expected, rel=1e-5)
    assert value("pairwise_mse", y=Y - 10) == pytest.approx(expected, rel=1e-5)


def test_list_mle():
    s = S[np.argsort(-Y)]
    terms = np.array([np.log(np.sum(np.exp(s[i:]))) - s[i] for i in range(4)])
    assert value("list_mle") == pytest.approx(terms.sum(), rel=1e-5)
    assert value("list_mle", lambda_weight="list_mle") == pytest.approx(np.sum(terms * DISCOUNT), rel=1e-5)


def test_list_mle_agrees_with_tf_ranking_where_that_is_exact():
    y, s = tf.constant([Y], tf.float32), tf.constant([S], tf.float32)
    theirs, _ = _keras2.losses_impl().ListMLELoss(name=None).compute_per_list(y, s, None)
    assert value("list_mle") == pytest.approx(float(theirs[0]), rel=1e-5)


def test_plackett_luce_gradient_over_wide_scores():
    scores = tf.constant([[1e4, -1e4, 0.0, 3.0, 7.0]])
    known = tf.constant([[True, True, True, True, False]])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        total = tf.reduce_sum(negative_log_likelihood(scores, tf.constant([[2, 1, 3, 4, 5]]), known))
    # The first pick costs 2e4; the third is between 0 and 3.
    np.testing.assert_allclose(total, 2e4 + np.log1p(np.exp(3.0)), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(total, scores), [[1, -1, -sigmoid(3.0), sigmoid(3.0), 0]], atol=1e-3)


def test_coupled_rankdistil_of_a_sure_teacher_is_the_likelihood_of_its_order():
    teacher = np.array([300.0, -100.0, 100.0, 200.0])
    s = S[np.argsort(-teacher)]
    terms = np.array([np.log(np.sum(np.exp(s[i:]))) - s[i] for i in range(4)])
    assert value("coupled_rankdistil", y=teacher) == pytest.approx(terms.sum(), rel=1e-5)
    assert value("coupled_rankdistil", y=teacher, top_k=2) == pytest.approx(terms[:2].sum(), rel=1e-5)


def test_coupled_rankdistil_of_one_pick_is_the_cross_entropy_of_two_softmaxes():
    expected = -np.sum(np.exp(log_softmax(Y)) * log_softmax(S))
    assert value("coupled_rankdistil", top_k=1, sample_size=20_000) == pytest.approx(expected, rel=0.02)


def test_circle():
    c, m = sigmoid(S), 0.25
    pairs = [np.maximum(0, c[j] + m) * (c[j] - m) - np.maximum(0, 1 + m - c[i]) * (c[i] - 1 + m) for i, j in PAIRS]
    for gamma in (2.0, 64.0):
        expected = np.log1p(np.sum(np.exp(gamma * np.array(pairs))))
        assert value("circle", gamma=gamma) == pytest.approx(expected, rel=1e-4)


def test_circle_of_similarities_agrees_with_tf_ranking():
    impl = _keras2.losses_impl().CircleLoss(name=None, gamma=4.0)
    c = tf.constant([[0.4, 0.9, 0.2, 0.6]])
    theirs, _ = impl.compute_per_list(tf.constant([Y], tf.float32), c, None)
    assert value("circle", s=c.numpy()[0], gamma=4.0, similarity="clip") == pytest.approx(float(theirs[0]), rel=1e-5)


def test_neural_sort_cross_entropy():
    expected = -np.sum(neural_sort(Y) * np.log(neural_sort(S))) / 4
    assert value("neural_sort_cross_entropy") == pytest.approx(expected, rel=1e-4)


def test_neural_sort_ndcg():
    placed = neural_sort(S)
    placed /= np.maximum(placed.sum(axis=0), 1)
    expected = 1 - np.sum(placed @ (2**Y - 1) * DISCOUNT) / max_dcg(Y)
    assert value("neural_sort_ndcg") == pytest.approx(expected, rel=1e-4)


def test_neural_sort_ndcg_is_not_negative_where_the_unscaled_one_is():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, size=(4000, 3)).astype(np.float32)
    s = rng.normal(size=(4000, 3)).astype(np.float32)
    theirs, _ = _keras2.losses_impl().NeuralSortNDCGLoss(name=None).compute_per_list(y, tf.constant(s), None)
    assert np.min(theirs + 1) < -0.01
    # Without the clamp of the base class, which would hide it together with the gradient.
    loss = losses.get("neural_sort_ndcg")
    known = np.ones_like(y, bool)
    ours = loss.compute(tf.constant(y), tf.constant(s), tf.constant(known), None, (0, 0))
    assert np.min(ours) > -1e-5


def test_sampled_losses_tend_to_the_plain_one_without_noise():
    """Scores so far apart that noise does not change the order."""
    far = np.array([0.0, 2e5, 1e5, 3e5])
    assert value("gumbel_approx_ndcg", s=far) == pytest.approx(value("approx_ndcg", s=far), rel=1e-4)
    neighbours = {(i, j): (2 ** Y[i] - 2 ** Y[j]) for i, j in PAIRS if abs(far[i] - far[j]) == 1e5}
    expected = sum(w * max(0, far[j] - far[i]) / 0.1 for (i, j), w in neighbours.items()) / sum(neighbours.values())
    assert value("yeti_logistic", s=far) == pytest.approx(expected, rel=1e-3)


def test_gumbel_approx_ndcg_has_the_mean_of_tf_rankings():
    sampler = _keras2.losses_impl().GumbelSampler(sample_size=4000, seed=1)
    labels, noisy, _ = sampler.sample(tf.constant([Y], tf.float32), tf.constant([S], tf.float32))
    theirs, _ = _keras2.losses_impl().ApproxNDCGLoss(name=None).compute_per_list(labels, noisy / 0.1, None)
    assert value("gumbel_approx_ndcg", sample_size=4000) == pytest.approx(float(np.mean(theirs)) + 1, abs=0.01)


def test_bce_and_mse():
    y, w = np.array([1.0, 0.0, 0.25]), np.array([2.0, 1.0, 3.0])
    each = np.log1p(np.exp(S[:3])) - y * S[:3]
    assert value("bce", y=y, s=S[:3]) == pytest.approx(np.mean(each), rel=1e-5)
    assert value("bce", y=y, s=S[:3], weights=w) == pytest.approx(np.average(each, weights=w), rel=1e-5)
    assert value("bce", y=[4.0, 0.0], s=S[:2]) == pytest.approx(value("bce", y=[1.0, 0.0], s=S[:2]))
    assert value("mse", y=Y - 2) == pytest.approx(np.mean((S - Y + 2) ** 2), rel=1e-5)


def test_bce_is_tf_rankings_sigmoid_cross_entropy_and_mse_its_mean_squared():
    y, s = tf.constant([[1.0, 0.0, 1.0, 0.0]]), tf.constant([S], tf.float32)
    impl = _keras2.losses_impl()
    theirs, _ = impl.SigmoidCrossEntropyLoss(name=None).compute_per_list(y, s, None)
    assert value("sigmoid_cross_entropy", y=y.numpy()[0]) == pytest.approx(float(theirs[0]), rel=1e-6)
    theirs, _ = impl.MeanSquaredLoss(name=None).compute_per_list(y, s, None)
    assert value("mean_squared", y=y.numpy()[0]) == pytest.approx(float(theirs[0]), rel=1e-6)


OTHER = {
    "temperature": 2.5,
    "epsilon": 0.5,
    "gamma": 3.0,
    "margin": 0.1,
    "similarity": "clip",
    "sample_size": 3,
    "gumbel_temperature": 3.0,
    "top_k": 2,
    "k": 2,
    "sigma": 0.4,
    "mu": 1.0,
    "reduction": "mean",
    "gain": "linear",
    "iterations": 1,
    "levels": 2,
    "spacing": 0.5,
    "click_margin": 0.1,
    "none_margin": 0.9,
    "bce": 0.5,
    "samples": 4,
    "weighing": "label_diff",
    "alpha": 0.3,
    "normalise": "positives",
    "y0": 0.3,
}


@pytest.mark.product
@pytest.mark.parametrize("name", losses.names())
def test_every_option_changes_the_value(name):
    # Scores with pairs in the wrong order on both sides of a cutoff.
    y, s = np.array([0.0, 3.0, 1.0, 2.0, 0.0, 1.0]), np.array([2.0, 0.5, 1.5, -0.3, 0.1, 1.0])
    for option in (o.name for o in losses.registry.options(name)):
        base, other = {}, {option: OTHER.get(option)}
        if option == "lambda_weight":
            other = {option: "list_mle" if name == "list_mle" else "dcg"}
        if option in ("beta", "log_scores"):  # of the noise in NeuralNDCG's scores
            base, other = {"samples": 4}, {"samples": 4, option: 0.5 if option == "beta" else True}
        if option == "gain" and name == "softmax":  # linear by default
            other = {option: "exp2"}
        if option == "soften":  # at the temperature 1, both are the same
            base, other = {"temperature": 2.0}, {"temperature": 2.0, option: "both"}
        if option == "lambda_top_n":
            base, other = {"lambda_weight": "dcg_v2"}, {"lambda_weight": "dcg_v2", option: 1}
        assert value(name, y, s, **base) != pytest.approx(value(name, y, s, **other), rel=1e-4), option


@pytest.mark.parametrize("name", ["dcg", "dcg_v2", "precision"])
def test_every_lambda_weight_has_a_cutoff(name):
    y, s = np.array([0.0, 3.0, 1.0, 2.0, 0.0]), np.array([2.0, 0.5, 1.5, -0.3, 0.1])
    one, three = (value("pairwise_hinge", y, s, lambda_weight=name, lambda_top_n=n) for n in (1, 3))
    assert one != pytest.approx(three, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("softmax", {"temperature": 0.0}, "temperature must be above 0, not 0.0"),
        ("softmax", {"lambda_weight": "dcg_v2"}, "must be 'dcg' or None, not 'dcg_v2'"),
        ("list_mle", {"lambda_weight": "dcg"}, "must be 'list_mle' or None"),
        ("list_mle", {"temperature": -1.0}, "temperature must be above 0"),
        ("poly_one_softmax", {"epsilon": -0.1}, "epsilon must be >= 0"),
        ("circle", {"similarity": "cosine"}, "similarity must be one of sigmoid, clip"),
        ("circle", {"gamma": 0.0}, "gamma must be above 0"),
        ("coupled_rankdistil", {"top_k": 0}, "top_k must be above 0"),
        ("gumbel_approx_ndcg", {"sample_size": 0}, "sample_size must be above 0"),
        ("yeti_logistic", {"gumbel_temperature": 0.0}, "gumbel_temperature must be above 0"),
        ("pairwise_logistic", {"lambda_weight": "ndcg"}, "must be one of dcg, dcg_v2, label_diff, precision or None"),
        ("pairwise_logistic", {"lambda_weight": "precision"}, "'precision' needs lambda_top_n"),
        ("pairwise_logistic", {"lambda_top_n": 3}, "lambda_top_n has no effect with lambda_weight None"),
        ("pairwise_logistic", {"lambda_weight": "dcg", "lambda_top_n": 0}, "lambda_top_n must be above 0"),
    ],
)
def test_a_senseless_option_is_an_error(name, options, message):
    with pytest.raises(ValueError, match=message):
        losses.get(name, **options)


def test_counts_are_refused_where_lambda_weights_have_an_exponential_gain():
    losses.get("pairwise_logistic").validate(np.array([99.0]))
    with pytest.raises(ValueError, match="PairwiseLogistic met a label of 99, but it uses the gain"):
        losses.get("pairwise_logistic", lambda_weight="dcg").validate(np.array([99.0]))


def test_every_key_of_tf_ranking_is_a_name():
    keys = set(_keras2.ranking().keras.losses.RankingLossKey.all_keys())
    assert len(keys) == 15
    for key in keys:
        assert losses.registry.resolve(key) in losses.names(), key


def test_every_loss_has_a_title_and_bridged_ones_exist_in_tf_ranking():
    for name in losses.names():
        assert losses.card(name).title
        loss = losses.get(name)
        if isinstance(loss, Bridged) and loss.impl:
            assert hasattr(_keras2.losses_impl(), loss.impl)


def test_default_losses():
    assert default_loss("binary", lists=True) == "softmax"
    assert default_loss("graded", lists=True) == {"name": "softmax", "gain": "exp2"}
    assert default_loss("binary", lists=False) == "bce"
    for kind, lists in (("graded", False), ("regression", False), ("regression", True)):
        assert default_loss(kind, lists) == "mse"
    with pytest.raises(ValueError, match="kind must be one of"):
        default_loss("click", lists=True)
