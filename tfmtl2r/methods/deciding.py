"""One step of a method: on a matrix of gradients for the user, on tensors for the trainer."""

from __future__ import annotations

import numpy as np

from tfmtl2r import returned
from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError
from tfmtl2r.methods import get
from tfmtl2r.methods.base import Method, Signals, State
from tfmtl2r.preferences import is_preference, scaled
from tfmtl2r.types import Array, Described, Rows, Tensor, Vector


def weigh(method: Method, signals: Signals, state: State) -> tuple[Vector, State]:
    """Task weights of a method; an absent task gets weight 0, and its state does not change.

    Returns:
        Weights ``[T]`` in the dtype of the losses, without gradient, and the next state.
    """
    source = f"{type(method).__name__}.weigh"
    found = method.weigh(signals, state)  # type: ignore[attr-defined]
    weights, after = returned.pair(found, source, "(task weights [T], next state)")
    weights = returned.tensor(weights, signals.losses.shape, source, "one weight for each task, [T]")
    weights = tf.stop_gradient(tf.cast(weights, signals.losses.dtype))
    return tf.where(signals.present, weights, 0.0), standing_still(signals.present, state, after, source)


def merge(method: Method, rows: Rows, signals: Signals, state: State) -> tuple[Vector, State]:
    """The update of a method that needs the gradients; the rows of absent tasks are zeros."""
    rows = tf.where(signals.present[:, None], rows, tf.zeros_like(rows))
    source = f"{type(method).__name__}.combine"
    found = method.combine(rows, signals, state)  # type: ignore[attr-defined]
    update, after = returned.pair(found, source, "(update [P], next state)")
    update = returned.tensor(update, rows.shape[1:], source, "one number for each parameter, [P]")
    return tf.stop_gradient(tf.cast(update, rows.dtype)), standing_still(signals.present, state, after, source)


def standing_still(present: Tensor, before: State, after: State, source: str) -> State:
    """The next state, without changes to the entries of absent tasks; no changes at all if no task is present.

    Args:
        present: ``bool[T]``.
        before: the state before.
        after: the state that the method returned.
        source: what returned it, for error messages.
    """
    after, tasks = returned.state(after, before, source), present.shape[0]
    some = tf.reduce_any(present)
    kept = {}
    for key, old in before.items():
        old = tf.convert_to_tensor(old)
        moves = some
        if old.shape.rank and old.shape[0] == tasks:
            moves = tf.reshape(present, [tasks] + [1] * (old.shape.rank - 1))
            if old.shape.rank == 2 and old.shape[1] == tasks:
                moves = moves & present[None, :]
        kept[key] = tf.stop_gradient(tf.where(moves, tf.cast(after[key], old.dtype), old))
    return kept


def combine(
    method: Method | Described, jacobian: Array, losses: Array | None = None, preference: Array | None = None,
    seed: int = 0,
) -> np.ndarray:
    """One step of a method from a fresh state, on a matrix of task gradients.

    Shapes: ``jacobian`` ``[T, P]``, ``losses`` and ``preference`` ``[T]``; the result is ``[P]``. A scalarisation
    weights the rows by the derivative of its objective with respect to each loss.

    Args:
        method: a method, its name, or ``{"name": ..., option: value}``.
        jacobian: one gradient per row.
        losses: the losses that belong to the rows; ones by default.
        preference: importance of each task, >= 0, normalised to sum 1; uniform by default.
        seed: for methods that draw random numbers.

    Raises:
        ValueError: for shapes that do not fit, numbers that are not finite, or a preference below 0 or all 0.

    >>> from tfmtl2r import methods
    >>> methods.combine("ls", [[-4., 1., 1.], [6., 1., 1.]], preference=[3., 1.]).tolist()
    [-3.0, 2.0, 2.0]
    """
    chosen: Method = get(method)
    rows = np.asarray(jacobian, np.float64)
    if rows.ndim != 2 or not rows.size:
        raise InputError(f"jacobian must have shape [T, P] with T, P >= 1, got {rows.shape}")
    tasks = rows.shape[0]
    losses = _vector("losses", losses, tasks, default=1.0)
    preference = _vector("preference", preference, tasks, default=1.0 / tasks)
    if not np.isfinite(rows).all():
        raise InputError("jacobian contains numbers that are not finite")
    if not is_preference(preference):
        raise InputError(f"preference must be >= 0 and not all 0, got {preference.tolist()}")
    if chosen.positive_preference and (preference == 0).any():
        raise InputError(f"{type(chosen).__name__} divides by the preference: all shares must be above 0, got "
                         f"{preference.tolist()}")
    if chosen.positive_losses and (losses <= 0).any():
        raise InputError(f"{type(chosen).__name__} needs losses above 0, got {losses.tolist()}")
    signals = Signals(
        losses=tf.constant(losses),
        preference=tf.constant(scaled(preference)),
        present=tf.ones([tasks], tf.bool),
        gram=tf.constant(rows @ rows.T),
        cross=tf.constant(rows @ rows.T),
        step=tf.constant(0, tf.int64),
        epoch=tf.constant(0, tf.int64),
        seed=tf.constant([seed, 0], tf.int32),
    )
    state = {key: tf.constant(value) for key, value in chosen.initial_state(tasks, rows.shape[1]).items()}
    if "rows" in chosen.needs:
        return merge(chosen, tf.constant(rows), signals, state)[0].numpy()
    return weigh(chosen, signals, state)[0].numpy() @ rows


def _vector(name: str, value: Array | None, tasks: int, default: float) -> np.ndarray:
    vector = np.full(tasks, default) if value is None else np.asarray(value, np.float64)
    if vector.shape != (tasks,) or not np.isfinite(vector).all():
        raise InputError(f"{name} must be {tasks} finite numbers, one per task, got {value!r}")
    return vector
