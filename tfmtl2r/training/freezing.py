"""Frozen layers and variables: how files describe them, and what training needs to know about them.

``layer.trainable = False`` freezes a layer, ``variable.trainable = False`` a single variable. A file names frozen
layers and variables by their positions in the ranker, since Keras' names differ between two rankers of one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmtl2r.errors import InputError

FROZEN = "frozen"
"""The key of a ranker's configuration with the positions of frozen layers and variables."""
OPTIMIZED = "optimized"
"""The key of the compile configuration with the positions of the variables that have a state in the optimizer."""


def described(ranker: Any) -> dict[str, Any]:
    """What is frozen, for the configuration of a ranker; empty if nothing is frozen."""
    layers, variables = _layers(ranker), ranker.architecture.variables
    frozen = {id(v) for layer in layers for v in layer._trainable_variables if not v.trainable}
    found = {
        "layers": [i for i, layer in enumerate(layers) if not layer.trainable],
        "variables": [i for i, variable in enumerate(variables) if id(variable) in frozen],
    }
    return {FROZEN: found} if any(found.values()) else {}


def apply(ranker: Any, frozen: Mapping[str, Any] | None) -> None:
    """Freezes what :func:`described` found in an equal ranker."""
    if frozen is None:
        return
    for i, layer in enumerate(_layers(ranker)):  # a layer comes before its parts, which follow it
        if layer.trainable != (i not in frozen["layers"]):
            layer.trainable = i not in frozen["layers"]
    chosen = {id(variable) for i, variable in enumerate(ranker.architecture.variables) if i in frozen["variables"]}
    for layer in _layers(ranker):
        for variable in layer._trainable_variables:
            variable.trainable = id(variable) not in chosen


def optimized(ranker: Any) -> list[int] | None:
    """The positions of the variables that have a state in the optimizer; None before the optimizer has a state."""
    if not ranker.optimizer.built:
        return None
    known = {id(v) for v in ranker.optimizer._trainable_variables}
    return [i for i, variable in enumerate(ranker.architecture.variables) if id(variable) in known]


def to_optimize(ranker: Any, config: dict[str, Any]) -> list[Any] | None:
    """Takes the key :data:`OPTIMIZED` out of a compile configuration and returns its variables.

    Returns:
        The variables; None if the saved optimizer had no state. Files of earlier snapshots have no such key, and their
        optimizer has a state for every trainable variable.
    """
    if OPTIMIZED not in config:
        return ranker.trainable_variables
    places = config.pop(OPTIMIZED)
    return None if places is None else [ranker.architecture.variables[i] for i in places]


def refuse_changed(ranker: Any) -> None:
    """Refuses layers with other variables than the architecture gave them, since no file could be loaded.

    Raises:
        ValueError: for a layer after ``enable_lora`` or ``quantize``.
    """
    for layer in _layers(ranker):
        if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
            what = "the variables of enable_lora" if getattr(layer, "lora_enabled", False) else "quantised weights"
            raise InputError(f"the layer {layer.name!r} has {what}, which no file of a ranker contains, so that it "
                             "could not be loaded: make the ranker again without them")


def check(ranker: Any) -> None:
    """Refuses a training step that would train nothing, that the optimizer could not make, or that could not be saved.

    Raises:
        ValueError: if every variable is frozen, if variables were unfrozen after the first step, or for layers with
            variables that the architecture did not give them.
    """
    refuse_changed(ranker)
    trainable = ranker.trainable_variables
    if not trainable:
        raise InputError("every variable of the ranker is frozen, so training would change nothing: set trainable = "
                         "True for the ranker or for a layer, or call evaluate")
    if not ranker.optimizer.built:
        return
    known = {id(v) for v in ranker.optimizer._trainable_variables}
    new = [v.path for v in trainable if id(v) not in known]
    if new:
        raise InputError(f"the optimizer has no state for {new[0]!r}, which was frozen at the first training step: "
                         "call compile again after unfreezing")
    if ranker.optimizer.use_ema and len(known) != len(trainable):
        raise InputError("use_ema keeps averages of variables that are frozen now, and would overwrite these variables "
                         "at the end: call compile again after freezing")


def _layers(ranker: Any) -> list[Any]:
    return [ranker, *ranker.architecture._flatten_layers()]
