"""No option is idle: another value of any of them changes some update, and a description keeps it."""

import numpy as np
import pytest

from tfmtl2r import methods
from tfmtl2r.testing.steps import Run

RNG = np.random.default_rng(7)
ROWS = RNG.normal(size=(5, 12)) - 0.5 * RNG.normal(size=12)
LOSSES = np.array([1.0, 1.3, 1.1, 0.8, 1.0])
PREFERENCE = np.array([0.3, 0.2, 0.2, 0.2, 0.1])
# Per method and option another value, and where the defaults leave an option without work, what it works beside.
OTHER = {
    "aligned_mtl": {"scale": "median"},
    "cagrad": {"c": 0.8},
    "conflict_free": {},
    "cosmos": {"lam": 5.0},
    "cr_mogm": {"alpha": 0.5, "method": "linear_scalarization"},
    "conic_grad": {"c": 0.95},
    "db_mtl": {"beta": 0.1, "beta_sigma": 1.0},
    "dual_proj": {},
    "dynamic_weight_average": {"temperature": 0.2},
    "emtl": {"penalty": 1.0},
    "epo": {"tolerance": 0.9},
    "epsilon_constraint": {
        "bounds": (9.0, 0.3, 9.0, 9.0, 9.0), "main": 2, "mu": (1.0, {"bounds": (9.0, 0.3, 9.0, 9.0, 9.0)}),
        "momentum": (0.0, {"bounds": (9.0, 0.9, 9.0, 9.0, 9.0)}),
    },
    "excess_mtl": {"eta": 1.0, "warmup": (2, {"eta": 0.5})},
    "fair_grad": {"alpha": 3.0, "max_norm": 0.1},
    "famo": {"lr": 0.3, "gamma": 0.5},
    "gls": {},
    "gradcraft": {"r": 0.9, "beta": 0.9, "epsilon": 0.3},
    "graddrop": {"leak": 0.5},
    "gradnorm": {"alpha": 0.0, "lr": 0.3},
    "gradvac": {"beta": 0.9},
    "imtl_full": {"lr": 0.5},
    "imtl_g": {},
    "imtl_l": {"lr": 0.3},
    "krum": {"f": 0, "k": 3},
    "linear_scalarization": {},
    "log_cagrad": {"c": 0.8},
    "log_imtl_g": {},
    "log_mgda": {},
    "mgda": {},
    "moco": {
        "beta": 0.2, "beta_sigma": 0.1, "gamma": (0.01, {"gamma_sigma": 0.5}), "gamma_sigma": (0.1, {"gamma": 0.01}),
        "rho": (1.0, {"gamma": 0.01}), "variant": "libmtl",
    },
    "modo": {"gamma": 0.05, "rho": (3.0, {"gamma": 0.01})},
    "nash_mtl": {"max_norm": 0.1},
    "nmt": {
        "priorities": (2, 1, 3, 4, 5), "bounds": (0.5, np.inf, np.inf, np.inf, np.inf), "tolerance": 0.3,
        "dual_lr": 0.2, "stage_epochs": 1, "rescale": False, "damping": 2.0, "momentum": 0.9,
        "max_multiplier": (0.01, {"tolerance": 0.0}),
    },
    "pbi": {"theta": 1.0},
    "pcd": {"main": 1, "tau": 0.5, "beta": (0.1, {"tau": 0.5}), "eps": (10.0, {"tau": 0.5})},
    "pcgrad": {},
    "random_loss_weighting": {},
    "scale_invariant": {},
    "sdmgrad": {
        "lam": 0.1, "solve": "stochastic", "lr": (0.01, {"solve": "stochastic", "steps": 4}),
        "steps": (3, {"solve": "stochastic"}),
    },
    "soft_weighted_chebyshev": {"mu": 2.0},
    "stch": {"mu": 0.1, "warmup": 1},
    "stl": {"task": 1},
    "trimmed_mean": {"trim": 1},
    "uncertainty_weighting": {"lr": 0.3},
    "upgrad": {},
    "wc_mgda": {"u": 10.0},
    "weighted_chebyshev": {},
}
CASES = [(name, option) for name, options in OTHER.items() for option in options]


def updates(name, options):
    """Seven steps, an epoch each, on losses that fall and rise at different rates."""
    preference = PREFERENCE if methods.registry.constructor(name).takes_preference else None
    run = Run(methods.get(name, **options), 5, 12, preference, eager=True)
    falling = np.array([1.15, 0.6, 1.1, 0.9, 1.0])
    steps = []
    for epoch in range(7):
        losses = LOSSES * falling**epoch
        stretched = ROWS * np.random.default_rng(epoch).uniform(0.5, 1.5, (5, 1))
        steps.append(run.step(stretched, losses, epoch=epoch, after=losses * falling))
    return np.array(steps)


@pytest.mark.product
@pytest.mark.parametrize(("name", "option"), CASES)
def test_another_value_changes_some_update(name, option):
    value = OTHER[name][option]
    value, beside = value if isinstance(value, tuple) and isinstance(value[-1], dict) else (value, {})
    usual, other = updates(name, beside), updates(name, {**beside, option: value})
    assert np.abs(usual - other).max() > 1e-6 * np.abs(usual).max()
    method = methods.get(name, **{**beside, option: value})
    assert methods.get(methods.registry.describe(method)) == method


def test_every_option_of_every_method_is_tested():
    """A new method puts its options into the table above."""
    assert {name: {o.name for o in methods.registry.options(name)} for name in methods.names()} == {
        name: set(options) for name, options in OTHER.items()
    }
