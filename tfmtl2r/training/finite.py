"""Numbers that are not finite: in the losses and gradients of a step, and in the weights of a ranker.

A step whose numbers are not finite never changes a weight. What happens in its place is the argument ``on_nan`` of
``compile``. Weights are checked before they are evaluated, saved or exported: a graph can turn NaN into plausible
constants, since ``relu(NaN)`` may be 0.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, NotFiniteError
from tfmtl2r.types import TaskScores

POLICIES = ("error", "skip_batch", "drop_task")
UNCHECKED = "unchecked"
"""The policy of a step that XLA compiles, which has no operations on text. Weights are still checked every epoch."""
_SAID, _END = "not finite: ", " <end>"


def check_policy(policy: str) -> None:
    """Checks a value of ``on_nan``.

    Raises:
        ValueError: for an unknown policy, or one that leaves out batches under several replicas.
    """
    if policy not in POLICIES:
        raise InputError(f"on_nan must be one of {', '.join(map(repr, POLICIES))}, not {policy!r}")
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if policy != "error" and replicas > 1:
        raise InputError(f"on_nan must be 'error' with {replicas} replicas, which have to make the same updates; it is "
                         f"{policy!r}")


def failed(wrong: Any, text: Any) -> Any:
    """An operation that fails with a text if something is wrong; :func:`told` shows the text."""
    return tf.debugging.Assert(~tf.convert_to_tensor(wrong), [tf.strings.join([_SAID, text, _END])])


def check_scores(scores: TaskScores, policy: str) -> Any:
    """Fails with the task whose scores contain NaN, unless the policy is :data:`UNCHECKED`."""
    if policy == UNCHECKED:
        return None
    numbers = [tf.math.reduce_any(tf.math.is_nan(values)) for values in scores.values()]
    task = tf.gather(tf.constant([*scores]), tf.argmax(numbers))
    return failed(tf.reduce_any(numbers), tf.strings.join(["the scores of task ", task, " are NaN"]))


def check_weights(variables: Iterable[Any], before: str) -> None:
    """Refuses weights that are not finite.

    Args:
        variables: Keras variables on which scores depend. A method's state may hold an infinite bound.
        before: what is about to happen, for the message.

    Raises:
        NotFiniteError: for the first variable with NaN or an infinite value.
    """
    floats = [v for v in variables if tf.as_dtype(v.dtype).is_floating]
    finite = [tf.math.is_finite(tf.reduce_sum(tf.cast(v.value, tf.float32))) for v in floats]
    wrong = [v.path for v, one in zip(floats, finite, strict=True) if not bool(one)]
    if wrong:
        raise NotFiniteError(f"{before}: the weights {wrong[0]}{f' and {len(wrong) - 1} others' if wrong[1:] else ''} "
                             "hold NaN or infinite values, so that no score means anything: go back to the last good "
                             "file, and train with a smaller learning rate")


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of steps that raises :class:`tfmtl2r.errors.NotFiniteError` in place of TensorFlow's error."""

    @functools.wraps(function)
    def called(*args: Any) -> Any:
        try:
            return function(*args)
        except tf.errors.InvalidArgumentError as error:
            found = re.search(rf"{_SAID}(.*?){_END}", str(error), flags=re.DOTALL)
            if found is None:
                raise
            raise NotFiniteError(_unescaped(found[1])) from None

    return called


def _unescaped(text: str) -> str:
    """A text as it was before TensorFlow wrote it into its error, with quotes and all bytes beyond ASCII escaped.

    >>> _unescaped(r"the loss of task gr\303\266\303\237e is -nan (on_nan=\'skip_batch\')")
    "the loss of task größe is nan (on_nan='skip_batch')"
    """
    plain = re.sub(r"\\([0-7]{3}|.)", _character, text).encode("latin-1", "replace").decode("utf-8", "replace")
    return re.sub(r"-nan\b", "nan", plain)


def _character(escape: re.Match[str]) -> str:
    code = escape[1]
    return chr(int(code, 8)) if len(code) == 3 else {"n": "\n", "t": "\t", "r": "\r"}.get(code, code)
