"""Optimizers that touch only the rows of an embedding table that a step has read.

Keras 3's Adam and Adagrad turn a sparse gradient into a dense one. At ten million rows, a step then takes seconds and
gigabytes. The optimizers of this module do the same arithmetic on the rows of the batch only. On every other variable
they do what the Keras optimizer does. Weight decay and moving averages of weights, if given, read whole tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError
from tfmtl2r.settings import Optimizer as Settings
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.training.schedules import Schedule
from tfmtl2r.types import Tensor

_RELATIVE, _ABSOLUTE = 0.5, 0.01
REFUSED = {
    "gradient_accumulation_steps": "it would store gradients of whole embedding tables: use larger batches",
    "loss_scale_factor": "it undoes a scaling of the loss, and a ranker does not scale the loss: leave it out",
}
"""Options of every Keras optimizer that a ranker refuses -> the reason and the remedy."""


def steps_of(optimizer: Any) -> int:
    """Number of the optimizer's finished steps, also where a strategy mirrors its counter on several devices."""
    return int(optimizer.iterations.numpy())


def refuse(name: str, options: Mapping[str, Any]) -> None:
    """Refuses options of an optimizer that have another effect than their names promise when a ranker uses them.

    Args:
        name: name of the optimizer.
        options: its options.

    Raises:
        ValueError: for an option of :data:`REFUSED`.
    """
    for option, reason in REFUSED.items():
        if options.get(option):
            raise InputError(f"{name}: a ranker takes no {option}, since {reason}")


class RowWise(keras.optimizers.Optimizer):
    """Base class of the optimizers of this module.

    The class clips the gradient of the whole batch. ``weight_decay`` and ``use_ema`` work as in Keras: they read and
    change every row of a table in each step.

    ``adaptive_clip`` (Clippy, Tang et al. 2023, https://arxiv.org/abs/2302.09178) shrinks the update u of a variable w,
    ``w <- w - c u`` with ``c = min(1, min_i (0.5 |w_i| + 0.01) / |u_i|)``: no number changes by more than half of its
    size plus 0.01. Unlike a clipped gradient, this also holds for Adam, which undoes any scale of the gradients. Of a
    table it reads the rows that the batch changes.
    """

    def __init__(self, *args: Any, adaptive_clip: bool = False, **kwargs: Any):
        name = type(self).__name__
        refuse(name, kwargs)
        if kwargs.get("amsgrad"):
            raise InputError(f"{name} has no amsgrad, which updates a further moment of every row: leave it out, or "
                             "use keras.optimizers.Adam(amsgrad=True), which updates every row in each step")
        super().__init__(*args, **kwargs)
        self.adaptive_clip = adaptive_clip

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "adaptive_clip": self.adaptive_clip}

    def _shrunk(self, update: Any, weights: Any) -> Any:
        """The update of a variable, or of the rows of a table that the batch changes, after the adaptive clipping."""
        if not self.adaptive_clip:
            return update
        allowed = _RELATIVE * tf.abs(weights) + _ABSOLUTE
        # A number that does not change allows everything: 0 / 0 and x / 0 are infinite here.
        ratios = tf.where(tf.equal(update, 0.0), tf.constant(np.inf, update.dtype), allowed / tf.abs(update))
        return update * tf.minimum(tf.reduce_min(ratios), 1.0)

    def _clip_gradients(self, grads: Any) -> Any:
        """Clips the gradient of the whole batch, with one entry per row of a table.

        Keras' own clipping differs in three ways. It takes the norm of a table's gradient before repeated rows are
        summed. It makes the gradient dense for ``global_clipnorm``. It clips each replica's share separately. With
        distinct rows the norm equals the norm of the dense gradient.
        """
        if not (self.clipnorm or self.global_clipnorm or self.clipvalue):
            return grads
        replicas = Replicas()
        whole = replicas.sum(list(grads))
        rows = {i: _merged(g, g.dtype) for i, g in enumerate(whole) if isinstance(g, tf.IndexedSlices)}
        clipped = super()._clip_gradients([rows[i][1] if i in rows else g for i, g in enumerate(whole)])
        if replicas.count > 1:  # Keras sums over replicas again
            clipped = [g / replicas.count for g in clipped]
        return [
            tf.IndexedSlices(g, rows[i][0], whole[i].dense_shape) if i in rows else g for i, g in enumerate(clipped)
        ]


@keras.saving.register_keras_serializable("tfmtl2r")
class LazyAdam(RowWise, keras.optimizers.Adam):
    """Adam that changes neither the rows without a gradient nor their moments.

    ``m <- b1 m + (1 - b1) g``, ``v <- b2 v + (1 - b2) g^2``, ``w <- w - lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) +
    eps)`` for the rows that the batch reads; t counts steps, as in Adam. For dense gradients the result equals Keras'
    Adam bit by bit.

    Args:
        learning_rate: step size or schedule.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the denominator.
        **kwargs: other arguments of ``keras.optimizers.Adam``. ``clipnorm``, ``global_clipnorm`` and ``clipvalue``
            clip the gradient of the whole batch, after repeated rows and replicas are summed; ``adaptive_clip=True``
            shrinks updates that are large beside the weights (:class:`RowWise`). ``weight_decay`` and ``use_ema`` work
            as in Keras, on all rows of a table. A step then takes time and memory for whole tables.

    Raises:
        ValueError: for ``amsgrad``, ``gradient_accumulation_steps`` and ``loss_scale_factor``.

    Kingma and Ba 2015, https://arxiv.org/abs/1412.6980

    >>> table = keras.Variable(tf.ones([4, 2]))
    >>> slices = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 1]), tf.constant([4, 2]))
    >>> LazyAdam(0.1).apply([slices], [table])
    >>> [round(float(w), 4) for w in table[:, 0]]
    [1.0, 0.9, 1.0, 1.0]
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ):
        kwargs.setdefault("name", "lazy_adam")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        sparse = isinstance(gradient, tf.IndexedSlices)
        if not sparse and not self.adaptive_clip:
            super().update_step(gradient, variable, learning_rate)
            return
        rows, gradient = _merged(gradient, variable.dtype) if sparse else (None, tf.cast(gradient, variable.dtype))
        place = self._get_variable_index(variable)
        first, second = self._momentums[place].value, self._velocities[place].value
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        rate = tf.cast(learning_rate, variable.dtype)
        rate *= tf.sqrt(1 - tf.pow(tf.cast(self.beta_2, variable.dtype), step))
        rate /= 1 - tf.pow(tf.cast(self.beta_1, variable.dtype), step)
        m = self.beta_1 * _read(first, rows) + (1 - self.beta_1) * gradient
        v = self.beta_2 * _read(second, rows) + (1 - self.beta_2) * tf.square(gradient)
        update = self._shrunk(rate * m / (tf.sqrt(v) + self.epsilon), _read(variable, rows))
        if sparse:
            first.scatter_update(tf.IndexedSlices(m, rows))
            second.scatter_update(tf.IndexedSlices(v, rows))
            variable.scatter_sub(tf.IndexedSlices(update, rows))
        else:
            first.assign(m)
            second.assign(v)
            variable.assign_sub(update)


@keras.saving.register_keras_serializable("tfmtl2r")
class Adagrad(RowWise, keras.optimizers.Adagrad):
    """Adagrad with one accumulator per row of an embedding table: at most an eighth of Adam's memory.

    ``a_r <- a_r + mean_d g_rd^2``, ``w_r <- w_r - lr g_r / sqrt(a_r + eps)`` for the rows that the batch reads. Every
    other variable has an accumulator per number, as in Keras.

    Args:
        learning_rate: step size or schedule.
        initial_accumulator_value: initial value of a.
        epsilon: added under the root.
        **kwargs: other arguments of ``keras.optimizers.Adagrad``; clipping works as in :class:`LazyAdam`.

    Raises:
        ValueError: for the options that :class:`LazyAdam` refuses.

    Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html; by row: Gupta et al. 2014,
    https://doi.org/10.1145/2661829.2662071
    """

    def __init__(
        self, learning_rate: Any = 0.001, initial_accumulator_value: float = 0.1, epsilon: float = 1e-7, **kwargs: Any
    ):
        kwargs.setdefault("name", "row_wise_adagrad")
        super().__init__(learning_rate, initial_accumulator_value, epsilon, **kwargs)

    def build(self, var_list: Any) -> None:
        """Makes the accumulators."""
        if self.built:
            return
        keras.optimizers.Optimizer.build(self, var_list)
        start = keras.initializers.Constant(self.initial_accumulator_value)
        self._accumulators = [
            self.add_variable((v.shape[0], 1), initializer=start, dtype=v.dtype, name=f"{v.name}_rows")
            if is_table(v) else self.add_variable_from_reference(v, "accumulator", initializer=start)
            for v in var_list
        ]  # fmt: skip

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        accumulator = self._accumulators[self._get_variable_index(variable)].value
        by_row, sparse = accumulator.shape != variable.shape, isinstance(gradient, tf.IndexedSlices)
        if not (by_row or sparse or self.adaptive_clip):
            super().update_step(gradient, variable, learning_rate)
            return
        rows, gradient = _merged(gradient, variable.dtype) if sparse else (None, tf.cast(gradient, variable.dtype))
        squares = tf.square(gradient)
        if by_row:
            squares = tf.reduce_mean(squares, axis=1, keepdims=True)
        total = _read(accumulator, rows) + squares
        update = tf.cast(learning_rate, variable.dtype) * gradient / tf.sqrt(total + self.epsilon)
        update = self._shrunk(update, _read(variable, rows))
        if sparse:
            accumulator.scatter_update(tf.IndexedSlices(total, rows))
            variable.scatter_sub(tf.IndexedSlices(update, rows))
        else:
            accumulator.assign(total)
            variable.assign_sub(update)


@keras.saving.register_keras_serializable("tfmtl2r")
class SGD(RowWise, keras.optimizers.SGD):
    """Gradient descent, ``w <- w - lr g``, with the clipping of :class:`RowWise`; without momentum it changes only the
    rows that a batch reads.

    Args:
        learning_rate: step size or schedule.
        momentum: decay of the sum of steps, in [0, 1).
        **kwargs: other arguments of ``keras.optimizers.SGD``.

    Raises:
        ValueError: for the options that :class:`LazyAdam` refuses, and for momentum with ``adaptive_clip``.
    """

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, **kwargs: Any):
        kwargs.setdefault("name", "row_wise_sgd")
        super().__init__(learning_rate, momentum, **kwargs)
        if momentum and self.adaptive_clip:
            raise InputError("SGD clips no update with momentum: leave out adaptive_clip or momentum")

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        if not self.adaptive_clip:
            super().update_step(gradient, variable, learning_rate)
            return
        sparse = isinstance(gradient, tf.IndexedSlices)
        rows, gradient = _merged(gradient, variable.dtype) if sparse else (None, tf.cast(gradient, variable.dtype))
        update = self._shrunk(tf.cast(learning_rate, variable.dtype) * gradient, _read(variable, rows))
        if sparse:
            variable.scatter_sub(tf.IndexedSlices(update, rows))
        else:
            variable.assign_sub(update)


OURS = {"adam": LazyAdam, "adagrad": Adagrad, "sgd": SGD}
"""Name in an experiment -> optimizer."""


def get(optimizer: Any) -> Any:
    """Returns a Keras optimizer. The names ``adam`` and ``adagrad`` stand for the optimizers of this module.

    Args:
        optimizer: a name that Keras knows, its configuration, or an optimizer, which is returned unchanged.

    Raises:
        ValueError: for an optimizer with an option that a ranker refuses (:data:`REFUSED`).
    """
    ours = {"adam": LazyAdam, "lazy_adam": LazyAdam, "adagrad": Adagrad}
    name = optimizer.lower() if isinstance(optimizer, str) else None
    made = ours[name]() if name in ours else keras.optimizers.get(optimizer)
    refuse(type(made).__name__, {option: getattr(made, option, None) for option in REFUSED})
    return made


def chosen(settings: Settings, steps: int) -> Any:
    """The optimizer of an experiment.

    Args:
        settings: the section ``[optimizer]``.
        steps: number of steps after which a schedule has fallen to 0.
    """
    rate: Any = settings.learning_rate
    if settings.schedule not in (None, "constant") or settings.warmup_steps:
        warmup = settings.warmup_steps or 0
        first = warmup if isinstance(warmup, int) else int(warmup * steps)
        rate = Schedule(rate, settings.schedule or "constant", first, steps)
    average: dict[str, Any] = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}
    return OURS[settings.name or "adam"](
        rate, weight_decay=settings.weight_decay or None, global_clipnorm=settings.clip_norm,
        adaptive_clip=settings.clip == "adaptive", **average)


def is_table(variable: Any) -> bool:
    """Whether a variable is the table of a Keras ``Embedding``."""
    return variable.path.split("/")[-1] == "embeddings"


def _read(variable: Any, rows: Any) -> Any:
    """Some rows of a variable, or all of it."""
    return tf.convert_to_tensor(variable) if rows is None else tf.gather(variable, rows)


def _merged(gradient: Any, dtype: Any) -> tuple[Any, Any]:
    """The distinct rows that a sparse gradient changes, and their summed gradients ``[rows, ...]``."""
    rows, place = tf.unique(gradient.indices)
    return rows, tf.math.unsorted_segment_sum(tf.cast(gradient.values, dtype), place, tf.size(rows))
