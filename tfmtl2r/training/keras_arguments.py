"""Arguments of Keras' ``compile``, ``fit``, ``evaluate`` and ``predict`` that would have no effect on a ranker.

A ranker refuses each of these arguments by its name, and the message contains what to use in its place.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError

COMPILE = {
    "loss": "every task has a loss of its own: Task(name, loss=...)",
    "loss_weights": "use preference=[...], or Task(name, weight=...)",
    "metrics": "every task has metrics of its own: Task(name, metrics=(...))",
    "weighted_metrics": "metrics use the weights in the data: Task(name, metrics=(...))",
    "auto_scale_loss": "a ranker never scales its loss: leave it out, and use mixed_bfloat16 for mixed precision",
}
"""Argument of Keras' ``compile`` that a ranker does not have -> what to use."""
WEIGHTED = {"class_weight": "labels have a weight per task, in the third part of a batch: (features, labels, weights)"}
"""Argument of the methods that train which a ranker does not have -> what to use."""

_Method = TypeVar("_Method", bound=Callable[..., Any])
_VALIDATION = ("validation_steps", "validation_batch_size", "validation_freq")


def batched(x: Any) -> bool:
    """Whether data are batches already: a data set, a ``PyDataset`` or a generator."""
    sets = (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset, types.GeneratorType)
    return isinstance(x, sets)


def streamed(x: Any) -> bool:
    """Whether only the first batches of the data reveal their structure."""
    return isinstance(x, (keras.utils.PyDataset, types.GeneratorType))


def refuse(where: str, given: Mapping[str, Any], instead: Mapping[str, str]) -> None:
    """Refuses arguments that a method does not have.

    Args:
        where: name of the method.
        given: the given arguments by name; None stands for an argument that is not given.
        instead: name of an argument that is refused -> what to use.

    Raises:
        ValueError: for the first such argument.

    >>> refuse("compile", {"metrics": None, "loss": "mse"}, COMPILE)
    Traceback (most recent call last):
    tfmtl2r.errors.InputError: compile has no argument loss: every task has a loss of its own: Task(name, loss=...)
    """
    for name, remedy in instead.items():
        if given.get(name) is not None:
            raise InputError(f"{where} has no argument {name}: {remedy}")


def check_steps(steps: int) -> None:
    """Refuses several steps per call of a compiled function under a distribution strategy.

    Raises:
        ValueError: for more than one step with more than one replica.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1 and steps != 1:
        raise InputError(f"steps_per_execution must be 1 with {replicas} replicas: Keras 3 cannot run several "
                         "steps at once under a distribution strategy")


def signature_of(method: _Method) -> Callable[[Callable[..., Any]], _Method]:
    """Gives a method the signature of Keras' method, for readers, editors and type checkers."""

    def decorated(function: Callable[..., Any]) -> _Method:
        vars(function)["__signature__"] = inspect.signature(method)
        return cast(_Method, function)

    return decorated


def bound(method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a method of Keras' model by name, without those that are not given.

    Args:
        method: ``"fit"`` or ``"evaluate"``.
        args, kwargs: the arguments.

    Raises:
        TypeError: for unknown arguments.
        ValueError: for an argument that would have no effect on a ranker.
    """
    arguments = inspect.signature(getattr(keras.Model, method)).bind(None, *args, **kwargs).arguments
    given = {name: value for name, value in arguments.items() if name not in ("self", "kwargs")}
    given |= arguments.get("kwargs", {})
    refuse(method, given, _without_effect(given))
    return given


def _without_effect(given: Mapping[str, Any]) -> dict[str, str]:
    """Arguments that would have no effect beside the others -> what to use."""
    found = dict(WEIGHTED)
    inside = "_use_cached_eval_dataset" in given  # the call of evaluate inside of fit, which passes fit's batch_size
    if batched(given.get("x")) and not inside:
        found["batch_size"] = "the data are batches already: change the size of these batches"
    validation = given.get("validation_data")
    if validation is None and not given.get("validation_split"):
        found |= dict.fromkeys(_VALIDATION, "without validation_data it would have no effect")
        if given.get("validation_freq") == 1:  # Keras' own default
            del found["validation_freq"]
    elif validation is not None:
        if given.get("validation_split"):
            found["validation_split"] = "there is validation_data, so it would have no effect: leave out one of the two"
        if batched(validation):
            found["validation_batch_size"] = "the validation data are batches already: change the size of these batches"
    return found
