"""Every architecture, made small, on lists with every kind of feature."""

from tfmtl2r import architectures
from tfmtl2r._backend import tf
from tfmtl2r.architectures import registry
from tfmtl2r.testing import architecture

VALID = tf.constant(architecture.VALID)
SMALL = {
    "units": (6, 5), "head_units": (4,), "expert_units": (6, 5), "subnet_units": (6,), "num_experts": 3,
    "task_experts": 2, "shared_experts": 2, "num_subnets": 3, "num_layers": 1, "num_heads": 2, "feedforward": 8,
    "position": ("age",),
}
WIDTH = 6


def small(name):
    """The options that make an architecture small, of those that it has; where it takes one width, not several."""
    options = {option.name: option.default for option in registry.options(name)}
    sizes = {key: size for key, size in SMALL.items() if key in options}
    if isinstance(options.get("units"), int):
        sizes["units"] = WIDTH
    if name == "ensemble":
        sizes |= {"base": {"name": "mmoe", **small("mmoe"), "activation": "tanh"}, "members": 2}
    return {**sizes, **({"dropout": 0.0} if "dropout" in options else {})}


def connected(name, tasks=architecture.TASKS, schema=architecture.SCHEMA, **options):
    """A small architecture with its variables made."""
    made = architectures.get(name, **{**small(name), **options})
    made.connect(tasks, schema)
    return made


def smooth(name):
    """An activation without dead units, where there is a choice."""
    options = [option.name for option in registry.options(name)]
    return {"activation": "tanh"} if "activation" in options else {}


def check_gradients(name, options, schema, features, groups=True):
    """Groups and cut of a small architecture with other options or features than the public checks know."""
    described = {"name": name, **small(name), **smooth(name), **options}
    if groups:
        architecture.require_groups(described, schema, features)
    architecture.require_plain_sum(described, schema, features)
