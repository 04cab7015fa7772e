"""Every architecture against its paper: special cases in which it is another one, and numbers worked out by hand."""

import numpy as np
import pytest
from architecture_problem import VALID, connected

from tfmtl2r import architectures
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.dense import StackedDense
from tfmtl2r.layers.funnel import logits_of_products
from tfmtl2r.layers.gates import mixture, mixture_of_own
from tfmtl2r.testing.architecture import NUMBERS, SCHEMA, TASKS, make_features


@pytest.fixture
def features(rng):
    return make_features(rng)


def copy(target, source):
    """The same weights, variable by variable."""
    for to, value in zip(target.weights, source.weights, strict=True):
        to.assign(tf.reshape(tf.convert_to_tensor(value), to.shape))


def copy_all(target, source, *parts):
    for part in ("encoder", "towers", "scorers", *parts):
        copy(getattr(target, part), getattr(source, part))


def assert_same_scores(one, other, features):
    scores = other(batch=Batch(features, valid=VALID))
    for task, value in one(batch=Batch(features, valid=VALID)).items():
        np.testing.assert_allclose(value, scores[task], atol=1e-6)


def cross_gradients(architecture, features):
    """``[T, T]``: whether the score of a task reaches what belongs to another, the encoder aside."""
    encoder = {id(v) for v in architecture.encoder.trainable_variables}
    variables = [v for v in architecture.trainable_variables if id(v) not in encoder]
    with tf.GradientTape(persistent=True) as tape:
        totals = [tf.reduce_sum(s**2) for s in architecture(batch=Batch(features, valid=VALID)).values()]
    reached = np.zeros([len(TASKS), len(TASKS)], bool)
    for t, total in enumerate(totals):
        for gradient in tape.gradient(total, [v.value for v in variables], unconnected_gradients="zero"):
            reached[t] |= (gradient.numpy().reshape(len(TASKS), -1) != 0).any(axis=1)
    return reached


def number_of_parameters(name, **options):
    return connected(name, schema=NUMBERS, **options).count_params()


def test_parameter_counts():
    """4 inputs, 3 tasks, hidden widths 6 and 5, towers of 4: written out layer by layer."""
    towers = 3 * ((5 * 4 + 4) + (4 + 1))
    net = (4 * 6 + 6) + (6 * 5 + 5)
    gate = lambda width, experts: width * experts + experts  # noqa: E731
    assert number_of_parameters("shared_bottom") == net + towers
    assert number_of_parameters("single_task") == 3 * net + towers
    assert number_of_parameters("mmoe") == 3 * net + 3 * gate(4, 3) + towers
    assert number_of_parameters("omoe") == 3 * net + gate(4, 3) + towers
    assert number_of_parameters("cgc") == (3 * 2 + 2) * net + 3 * gate(4, 4) + towers
    second = (5 * 6 + 6) + (6 * 5 + 5)
    assert number_of_parameters("ple") == 8 * (net + second) + 3 * gate(4, 4) + gate(4, 8) + 3 * gate(5, 4) + towers
    assert number_of_parameters("cross_stitch") == 3 * net + 2 * 9 + towers
    towers = 3 * ((6 * 4 + 4) + (4 + 1))
    subnets = 3 * ((4 * 6 + 6) + (6 * 6 + 6))
    assert number_of_parameters("snr", connection="aver") == subnets + 2 * 9 + towers
    assert number_of_parameters("snr") == subnets + 2 * 9 * (1 + 6 * 6) + towers
    assert number_of_parameters("esmm") == 3 * (net + 5 + 1)
    assert number_of_parameters("aitm") == 3 * (net + 5 + 1) + 2 * (5 * 5 + 5 + 3 * 25)


class TestMixtures:
    def test_mmoe_with_one_expert_is_shared_bottom(self, features):
        mmoe, bottom = connected("mmoe", num_experts=1), connected("shared_bottom")
        copy_all(bottom, mmoe)
        for to, source in zip(bottom.trunk.weights, mmoe.experts.weights, strict=True):
            to.assign(tf.reshape(tf.convert_to_tensor(source), to.shape))
        assert_same_scores(mmoe, bottom, features)

    def test_mmoe_with_equal_gates_is_omoe(self, features):
        omoe, mmoe = connected("omoe"), connected("mmoe")
        copy_all(mmoe, omoe, "experts")
        for to, source in zip(mmoe.gates.weights, omoe.gates.weights, strict=True):
            to.assign(tf.repeat(tf.convert_to_tensor(source), 3, axis=0))
        assert_same_scores(omoe, mmoe, features)

    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_gates_by_hand(self, features, temperature):
        """One gate of MMoE in NumPy; a higher temperature mixes more evenly."""
        mmoe = connected("mmoe", temperature=temperature)
        x = mmoe.encoder(batch=Batch(features, valid=VALID)).numpy()
        kernel, bias = (np.array(w) for w in mmoe.gates.weights)
        logits = np.exp((np.einsum("nf,tfe->tne", x, kernel) + bias) / temperature)
        gates = logits / logits.sum(-1, keepdims=True)
        np.testing.assert_allclose(mmoe.inspect(Batch(features, valid=VALID))["gates"], gates.mean(1), atol=1e-6)
        experts = mmoe.experts(x[None])
        mixed = np.einsum("tne,end->tnd", gates, experts)
        expected = mmoe.scorers(mmoe.towers(tf.constant(mixed, tf.float32)))[..., 0]
        for t, scores in enumerate(mmoe(batch=Batch(features, valid=VALID)).values()):
            np.testing.assert_allclose(scores[VALID], expected[t], atol=1e-5)

    def test_zero_gates_take_the_mean_of_the_experts(self, features):
        omoe = connected("omoe")
        for weight in omoe.gates.weights:
            weight.assign(tf.zeros_like(weight))
        x = omoe.encoder(batch=Batch(features, valid=VALID))
        mixed = omoe.shared(Batch(features, valid=VALID), False)[0]
        np.testing.assert_allclose(mixed, tf.reduce_mean(omoe.experts(x[None]), 0), atol=1e-6)

    def test_gate_dropout_leaves_distributions(self, features):
        mmoe = connected("mmoe", gate_dropout=0.5)
        x = mmoe.encoder(batch=Batch(features, valid=VALID))
        gates = mmoe.gates(x[None], training=True).numpy()
        np.testing.assert_allclose(gates.sum(-1), 1, rtol=1e-6)
        assert 0.2 < (gates == 0).mean() < 0.6, "half of them, but never all of a gate"

    def test_mixture_functions(self, rng):
        gates = rng.normal(size=(3, 7, 4)).astype(np.float32)
        experts = rng.normal(size=(4, 7, 5)).astype(np.float32)
        np.testing.assert_allclose(mixture(gates, experts), np.einsum("tne,end->tnd", gates, experts), atol=1e-5)
        own = rng.normal(size=(12, 7, 5)).astype(np.float32)
        expected = np.einsum("tnm,tmnd->tnd", gates, own.reshape(3, 4, 7, 5))
        np.testing.assert_allclose(mixture_of_own(tf.constant(gates), tf.constant(own)), expected, atol=1e-5)

    @pytest.mark.parametrize("groups", [1, 2, 6])
    def test_several_layers_read_one_slice(self, rng, groups):
        layer = StackedDense(6, 2)
        x = rng.normal(size=(groups, 3, 4, 5)).astype(np.float32)
        expected = layer(np.repeat(x, 6 // groups, axis=0))
        np.testing.assert_allclose(layer(x), expected, atol=1e-6)
        with pytest.raises(ValueError, match=r"6 stacked dense layers cannot read 4 inputs"):
            layer(rng.normal(size=(4, 3, 5)))


class TestExtraction:
    def test_ple_of_one_level_is_cgc(self, features):
        ple, cgc = connected("ple", levels=1), connected("cgc")
        copy(cgc, ple)
        assert_same_scores(ple, cgc, features)

    @pytest.mark.parametrize("levels", [1, 2, 3])
    def test_without_shared_experts_tasks_are_independent(self, features, levels):
        ple = connected("ple", levels=levels, shared_experts=0, activation="tanh")
        np.testing.assert_array_equal(cross_gradients(ple, features), np.eye(3, dtype=bool))
        shared = [v for group in ple.variable_groups() if group.shared for v in group.variables]
        assert [id(v) for v in shared] == [id(v) for v in ple.encoder.trainable_variables]

    def test_three_levels_by_hand(self, features):
        """The paper's equations in NumPy, expert by expert and gate by gate."""
        ple = connected("ple", levels=3)
        x = ple.encoder(batch=Batch(features, valid=VALID)).numpy()
        task_input, shared_input = [x] * 3, x
        for level in ple.levels:
            own = [[expert(level.own, 2 * t + i, task_input[t]) for i in range(2)] for t in range(3)]
            common = [expert(level.common, i, shared_input) for i in range(2)]
            next_input = [weighted(level.gates, t, task_input[t], own[t] + common) for t in range(3)]
            if level is not ple.levels[-1]:
                shared_input = weighted(level.shared_gate, 0, shared_input, [*own[0], *own[1], *own[2], *common])
            task_input = next_input
        assert ple.levels[-1].shared_gate is None, "the last level has no shared gate"
        expected = ple.scorers(ple.towers(tf.constant(np.array(task_input), tf.float32)))[..., 0]
        for t, scores in enumerate(ple(batch=Batch(features, valid=VALID)).values()):
            np.testing.assert_allclose(scores[VALID], expected[t], atol=1e-5)

    def test_names_of_what_it_decides(self, features):
        seen = connected("ple").inspect(Batch(features, valid=VALID))
        assert {key: value.shape for key, value in seen.items()} == {
            "gates_1": (3, 4), "shared_gate_1": (1, 8), "gates_2": (3, 4)
        }


def expert(stack, index, value):
    for layer in stack.dense:
        value = np.maximum(value @ layer.kernel[index].numpy() + layer.bias[index].numpy(), 0)
    return value


def weighted(gates, index, query, experts):
    logits = np.exp(query @ gates.logits.kernel[index].numpy() + gates.logits.bias[index].numpy())
    return np.einsum("ne,end->nd", logits / logits.sum(-1, keepdims=True), np.array(experts))


class TestCrossStitch:
    def test_identity_gives_independent_networks(self, features):
        """And those are what single_task is, on the same embeddings."""
        stitch, single = connected("cross_stitch", schema=NUMBERS), connected("single_task", schema=NUMBERS)
        for unit in stitch.stitches:
            unit.alpha.assign(tf.eye(3))
        for part in ("towers", "scorers"):
            copy(getattr(single, part), getattr(stitch, part))
        for to, block in zip(single.trunks.dense, stitch.blocks, strict=True):
            copy(to, block)
        assert_same_scores(stitch, single, features)

    def test_start_and_inspection(self, features):
        alpha = connected("cross_stitch").inspect(Batch(features, valid=VALID))
        assert list(alpha) == ["alpha_1", "alpha_2"]
        expected = np.full((3, 3), 0.05) + np.eye(3) * 0.85
        np.testing.assert_allclose(alpha["alpha_2"], expected, rtol=1e-6)
        alone = connected("cross_stitch", tasks=("click",))
        assert alone.stitches[0].alpha.numpy() == [[1.0]]

    def test_rows_say_who_takes_from_whom(self, features):
        """The first task takes all from the second after the last layer."""
        stitch = connected("cross_stitch", units=(6,))
        stitch.stitches[0].alpha.assign([[0, 1, 0], [0, 1, 0], [0, 0, 1]])
        batch = Batch(features, valid=VALID)
        copied = stitch.shared(batch, False)[0]
        inputs = stitch.tower_inputs([Branch(copied, 3)], batch, False)
        np.testing.assert_allclose(inputs, tf.gather(copied, [1, 1, 2]), atol=1e-6)


class TestSNR:
    def test_open_gates_identity_and_one_subnet_are_shared_bottom(self, features):
        snr, bottom = connected("snr", num_subnets=1, levels=1), connected("shared_bottom", units=(6,))
        snr.connections[0].gates.log_alpha.assign(tf.fill([3, 1], 50.0))
        snr.connections[0].kernel.assign(tf.reshape(tf.repeat(tf.eye(6)[None], 3, 0), [3, 1, 6, 6]))
        copy_all(bottom, snr)
        copy(bottom.trunk, snr.subnets[0])
        assert_same_scores(snr, bottom, features)

    @pytest.mark.parametrize("connection", ["trans", "aver"])
    def test_two_levels_by_hand(self, features, rng, connection):
        """``v_i = sum_j z_ij (u_j W_ij)``, path by path."""
        snr = connected("snr", connection=connection)
        for layer in snr.connections:
            layer.gates.log_alpha.assign(rng.normal(size=layer.gates.log_alpha.shape))
        value = [snr.encoder(batch=Batch(features, valid=VALID)).numpy()] * 3
        for subnets, connections in zip(snr.subnets, snr.connections, strict=True):
            u = [expert(subnets, j, value[j]) for j in range(3)]
            z = np.clip(1.2 / (1 + np.exp(-connections.gates.log_alpha.numpy())) - 0.1, 0, 1)
            maps = connections.kernel.numpy() if connection == "trans" else np.tile(np.eye(6), (3, 3, 1, 1))
            value = [sum(z[i, j] * (u[j] @ maps[i, j]) for j in range(3)) for i in range(3)]
        expected = snr.scorers(snr.towers(tf.constant(np.array(value), tf.float32)))[..., 0]
        for t, scores in enumerate(snr(batch=Batch(features, valid=VALID)).values()):
            np.testing.assert_allclose(scores[VALID], expected[t], atol=1e-5)

    def test_a_closed_gate_kills_its_path(self, features):
        snr = connected("snr", levels=1, activation="tanh")
        snr.connections[0].gates.log_alpha.assign(tf.constant([[-50.0, 5, 5], [5, 5, 5], [5, 5, 5]]))
        with tf.GradientTape() as tape:
            score = tf.reduce_sum(snr(batch=Batch(features, valid=VALID))["click"] ** 2)
        gradient = tape.gradient(score, snr.subnets[0].dense[0].kernel.value).numpy()
        assert (gradient[0] == 0).all()
        assert (gradient[1:] != 0).any()

    def test_penalty_counts_open_gates(self):
        snr = connected("snr", penalty=0.5)
        np.testing.assert_allclose(sum(snr.losses), 0.5 * 18 * 0.83182, rtol=1e-4)
        assert connected("snr", penalty=0.0).losses == []


class TestFunnels:
    def test_esmm_numbers(self):
        """pCTR .2, pCVR .1: the losses of two positives and of two negatives."""
        a = tf.math.log([0.2 / 0.8, 0.1 / 0.9])
        logits = logits_of_products(tf.stack([a, a]))
        for label, expected in [(1.0, 5.52146), (0.0, 0.243346)]:
            loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.fill([2], label), logits=logits)
            np.testing.assert_allclose(tf.reduce_sum(loss), expected, rtol=1e-5)

    def test_logits_of_products_at_all_magnitudes(self, rng):
        """Against float64: sums of logarithms, which hold where 1 - P would cancel, and the product where not."""
        a = np.concatenate([rng.normal(size=(3, 40)) * scale for scale in (0.1, 1, 10, 80)], axis=1).astype(np.float32)
        stacked = tf.repeat(tf.constant(a)[None], 3, 0)
        with tf.GradientTape() as tape:
            tape.watch(stacked)
            logits = logits_of_products(stacked)
        log_p, log_q = -np.logaddexp(0, -a.astype(float)), -np.logaddexp(0, a.astype(float))
        for t in range(3):
            passed = log_p[: t + 1].sum(0)
            failed = np.logaddexp.reduce([log_p[:s].sum(0) + log_q[s] for s in range(t + 1)])
            np.testing.assert_allclose(logits[t], passed - failed, rtol=2e-5, atol=1e-5)
            product = np.prod(1 / (1 + np.exp(-a[: t + 1, :80].astype(float))), axis=0)
            np.testing.assert_allclose(logits[t, :80], np.log(product) - np.log1p(-product), rtol=2e-5, atol=1e-5)
        np.testing.assert_allclose(logits[0], a[0], rtol=1e-5, atol=1e-5)
        gradient = tape.gradient(logits, stacked).numpy()
        assert np.isfinite(gradient).all()
        assert (gradient[0, 1:] == 0).all(), "the first product sees the first stage only"

    def test_later_steps_are_never_likelier(self, features):
        scores = connected("esmm")(batch=Batch(features, valid=VALID))
        values = np.array([scores[task][VALID] for task in TASKS])
        assert (np.diff(values, axis=0) < 0).all()

    def test_the_second_tower_learns_by_the_product(self, features):
        """d loss / d pCVR = pCTR d loss / d pCTCVR, so a hopeless impression teaches it nothing."""
        esmm = connected("esmm", tasks=("click", "buy"), schema=NUMBERS)
        esmm.early[1].bias.assign(tf.fill([1, 1, 1], -40.0))
        with tf.GradientTape() as tape:
            scores = esmm(batch=Batch(features, valid=VALID))
            loss = tf.reduce_sum(tf.math.softplus(scores["buy"]))
        gradients = tape.gradient(loss, [v.value for layer in esmm.last for v in layer.trainable_variables])
        assert max(np.abs(g).max() for g in gradients) < 1e-12

    def test_calibrator_number(self):
        aitm = connected("aitm", tasks=("click", "buy"))
        logit = lambda y: tf.math.log(y) - tf.math.log1p(-y)  # noqa: E731
        scores = {"click": logit(tf.constant([0.8, 0.3])), "buy": logit(tf.constant([0.5, 0.4]))}
        value, weight = aitm.penalty(scores, Batch({}))
        np.testing.assert_allclose(tf.reduce_sum(value * weight) / tf.reduce_sum(weight), 0.03, rtol=1e-5)
        padded = {task: tf.stack([tf.concat([s, [9.0]], 0)] * 2) for task, s in scores.items()}
        value, weight = aitm.penalty(padded, Batch({}, valid=tf.constant([[True, True, False], [True, False, False]])))
        np.testing.assert_allclose(value, [0.03, 0.0], atol=1e-7)
        np.testing.assert_array_equal(weight, [2.0, 1.0])
        assert connected("aitm", calibrator=0.0).penalty(scores, Batch({})) is None

    def test_transfer_by_hand(self, features, rng):
        """Both tokens, attention and values in NumPy, down the funnel."""
        aitm = connected("aitm")
        for transfer in aitm.transfers:
            transfer.kernels.assign(rng.normal(size=transfer.kernels.shape))
        x = aitm.encoder(batch=Batch(features, valid=VALID)).numpy()
        q = [expert(aitm.early, 0, x), expert(aitm.early, 1, x), expert(aitm.last, 0, x)]
        z, attention = [q[0]], {}
        for own, transfer, task in zip(q[1:], aitm.transfers, TASKS[1:], strict=True):
            (dense,), (w1, w2, w3) = transfer.hand_on.dense, transfer.kernels.numpy()
            handed = np.maximum(z[-1] @ dense.kernel.numpy() + dense.bias.numpy(), 0)
            tokens = np.array([handed, own])
            logits = np.exp(((tokens @ w1) * (tokens @ w2)).sum(-1) / np.sqrt(5))
            weights = logits / logits.sum(0)
            attention[f"transfer_to_{task}"] = weights.mean(1)
            z.append((weights[..., None] * (tokens @ w3)).sum(0))
        expected = aitm.scorers(tf.constant(np.array(z), tf.float32))[..., 0]
        for t, scores in enumerate(aitm(batch=Batch(features, valid=VALID)).values()):
            np.testing.assert_allclose(scores[VALID], expected[t], atol=1e-5)
        seen = aitm.inspect(Batch(features, valid=VALID))
        assert set(seen) == set(attention)
        for key, weights in attention.items():
            np.testing.assert_allclose(seen[key], weights, atol=1e-5)

    @pytest.mark.parametrize("name", ["esmm", "aitm"])
    def test_one_task_is_no_funnel(self, name):
        with pytest.raises(ValueError, match=r"funnel of at least two tasks, got \['click'\]; use single_task"):
            connected(name, tasks=("click",))


class TestSingleTask:
    @pytest.mark.parametrize("schema", [SCHEMA, NUMBERS], ids=["categories", "numbers"])
    def test_each_network_is_a_shared_bottom_of_its_own(self, features, schema):
        single = connected("single_task", schema=schema)
        assert not any(group.shared for group in single.variable_groups())
        scores = single(batch=Batch(features, valid=VALID))
        for t, task in enumerate(TASKS):
            alone = connected("shared_bottom", tasks=(task,), schema=schema)
            copy(alone.encoder, single.encoder.encoders[t if schema is SCHEMA else 0])
            for part, own in (("trunk", single.trunks), ("towers", single.towers), ("scorers", single.scorers)):
                for to, stacked in zip(getattr(alone, part).weights, own.weights, strict=True):
                    to.assign(tf.reshape(stacked[t], to.shape))
            np.testing.assert_allclose(alone(batch=Batch(features, valid=VALID))[task], scores[task], atol=1e-6)

    def test_tables_have_paths_of_their_own(self):
        paths = [v.path for v in connected("single_task").encoder.trainable_variables]
        assert len(set(paths)) == len(paths) == 3


@pytest.mark.parametrize(("name", "options", "message"), [
    ("mmoe", {"num_experts": 0}, "MMoE needs at least one expert with at least one layer, got 0 experts"),
    ("omoe", {"expert_units": ()}, "OMoE needs at least one expert with at least one layer"),
    ("mmoe", {"gate_dropout": 1.0}, r"gate_dropout must lie in \[0, 1\), not 1.0"),
    ("ple", {"temperature": 0.0}, "temperature must be above 0, not 0.0"),
    ("ple", {"levels": 0}, "PLE needs at least one level, got 0"),
    ("cgc", {"task_experts": 0}, "CGC needs at least one expert per task.*use mmoe"),
    ("cross_stitch", {"units": ()}, "CrossStitch needs at least one layer"),
    ("cross_stitch", {"self_weight": 0.0}, r"self_weight must lie in \(0, 1\], not 0.0"),
    ("snr", {"connection": "sum"}, "connection must be one of 'trans', 'aver', not 'sum'"),
    ("snr", {"levels": 0}, "SNR needs at least one level"),
    ("snr", {"zeta": 1.0}, "zeta > 1"),
    ("aitm", {"calibrator": -1.0}, "calibrator must be 0 or more, not -1.0"),
    ("aitm", {"units": ()}, "AITM needs towers with at least one layer"),
    ("single_task", {"encoder": "transformer"}, "single_task shares nothing"),
])  # fmt: skip
def test_options_that_make_no_sense(name, options, message):
    with pytest.raises(ValueError, match=message):
        architectures.get(name, **options)


def test_layouts_of_the_cut(features):
    """What a balancing method in feature mode looks at."""
    items = int(VALID.numpy().sum())
    shapes = {}
    for name in ("ple", "cgc", "esmm"):
        shapes[name] = [tuple(t.shape) for t in connected(name).shared(Batch(features, valid=VALID), False)]
    assert shapes["cgc"] == [(items, 6), (2, items, 5)]
    assert shapes["ple"] == [(items, 6), (6, items, 5), (2, items, 5), (2, items, 5)]
    assert shapes["esmm"] == [(2, items), (1, items, 6)]
