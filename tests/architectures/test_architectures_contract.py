"""Every architecture keeps to what all architectures keep to; options and files that the public checks do not know."""

import os
import subprocess
import sys

import numpy as np
import pytest
from architecture_problem import VALID, connected, small, smooth

from tfmtl2r import MultiTaskRanker, architectures
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.testing import architecture_checks
from tfmtl2r.testing.architecture import SCHEMA, SUITE, TASKS, check_architecture, make_features

NAMES = architectures.names()
GRADIENTS = {
    "groups_match_gradients", "groups_match_gradients_on_numbers", "ones_are_the_plain_sum",
    "ones_are_the_plain_sum_on_numbers",
}
SMOOTH = {*GRADIENTS, "padding_trains_nothing", "bfloat16_trains_in_the_same_direction"}
WIDE = {"bfloat16_does_not_tie_items", "bfloat16_does_not_tie_items_in_training"}
EXPECTED_FAILURES = {}
VARIANTS = [
    ("shared_bottom", {"layer_norm": True}),
    ("shared_bottom", {"units": (), "head_units": (4, 4)}),
    ("ple", {"levels": 1}),
    ("ple", {"levels": 3, "task_experts": 1}),
    ("ple", {"shared_experts": 0}),
    ("cgc", {"shared_experts": 0}),
    ("snr", {"connection": "aver"}),
    ("snr", {"levels": 1}),
    ("cross_stitch", {"units": (6,)}),
    ("ensemble", {"share": "trunk"}),
    ("ensemble", {"share": "kernels"}),
    ("ensemble", {"batches": "own"}),
    ("ensemble", {"share": "kernels", "base": {"name": "ple", **small("ple"), "activation": "tanh"}}),
]


def described(name, check):
    """The options that a check needs: small ones, without dead units for gradients, wide against ties."""
    options = small(name)
    if check in SMOOTH | WIDE:
        options |= smooth(name)
    if check in WIDE:
        options |= {key: (16,) for key in ("units", "expert_units", "subnet_units", "head_units") if key in options}
        options |= {"units": 16} if isinstance(small(name).get("units"), int) else {}
    return {"name": name, **options}


def slow(check):
    return [pytest.mark.long] if check.slow else []


def parameters():
    for name in NAMES:
        for check in SUITE.checks(name):
            failures = {key: why for key, why in EXPECTED_FAILURES.get(name, {}).items() if key == check.name}
            yield from architecture_checks(described(name, check.name), failures, only=check.name, marks=slow)


@pytest.mark.product
@pytest.mark.parametrize("check", list(parameters()))
def test_keeps_the_contract(check):
    check()


@pytest.mark.product
@pytest.mark.parametrize("check", [
    pytest.param(check, marks=[pytest.mark.slow] if check.startswith("ones") else []) for check in sorted(GRADIENTS)
])
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_variants_keep_groups_and_cut(name, options, check):
    check_architecture({**described(name, check), **options}, only=check)


@pytest.fixture
def features(rng):
    return make_features(rng)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.product
def test_one_width_is_not_a_stack_of_widths(name):
    stacks = [option.name for option in architectures.registry.options(name) if isinstance(option.default, tuple)
              and option.name.endswith("units")]
    stacks += ["head_units"] if name == "dml" else []
    assert stacks or name in ("deepmtl2r", "ensemble")
    for option in stacks:
        for one in (64, "64"):
            with pytest.raises(TypeError, match=rf"{option} is one width per layer, such as \(64,\).*got '?64"):
                architectures.get(name, **{option: one})


@pytest.mark.product
def test_dropout_acts_in_training_only(features, name):
    options = [option.name for option in architectures.registry.options(name)]
    if "dropout" not in options:
        pytest.skip("has no dropout")
    rates = {key: 0.5 for key in ("dropout", "gate_dropout") if key in options}
    architecture = connected(name, **rates, **({"penalty": 0.0} if "penalty" in options else {}))
    for weight in architecture.weights:
        if "log_alpha" in weight.path:
            weight.assign(tf.fill(weight.shape, 50.0))  # hard-concrete gates that are surely open: no noise but dropout
    train = architecture(batch=Batch(features, valid=VALID), training=True)
    evaluate = architecture(batch=Batch(features, valid=VALID))
    assert any((train[task] != evaluate[task]).numpy().any() for task in TASKS)
    for task, again in architecture(batch=Batch(features, valid=VALID)).items():
        np.testing.assert_array_equal(again, evaluate[task])


RELOAD = """
import pathlib, sys, numpy as np
import tfmtl2r
folder = pathlib.Path(sys.argv[1])
x = dict(np.load(folder / "x.npz"))
for path in sorted(folder.glob("*.keras")):
    np.savez(folder / f"{path.stem}.npz", **tfmtl2r.load(path)(x))
"""


@pytest.mark.slow
def test_save_and_load_in_a_new_process(features, rng, tmp_path):
    """Every weight is moved from where it starts, so that one which the file forgets is missed.

    One process for all: the variables of one file must not depend on what was loaded before it.
    """
    x = {**{key: value.numpy() for key, value in features.items()}, "list_size": VALID.numpy().sum(1).astype(np.int32)}
    np.savez(tmp_path / "x.npz", **x)
    models = {}
    for name in NAMES:
        models[name] = MultiTaskRanker({"name": name, **small(name)}, TASKS, SCHEMA)
        models[name].compile("sgd")
        for weight in models[name].architecture.weights:
            weight.assign(np.array(weight) + rng.normal(size=weight.shape, scale=0.3))
        models[name].save(tmp_path / f"{name}.keras")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", RELOAD, str(tmp_path)], check=True, env=environment)
    for name, model in models.items():
        loaded, scores = np.load(tmp_path / f"{name}.npz"), model(x)
        for task in TASKS:
            np.testing.assert_allclose(loaded[task][VALID], scores[task][VALID], atol=1e-5, err_msg=name)
