"""A ranker that reads the preference: features and scores are modulated by it.

The preference of every row is set once around a forward pass, by :func:`scope`, since it is no feature of the data:
training draws it, evaluation and serving are given it.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers.dense import dense
from tfmtl2r.layers.items import pack

_current: contextvars.ContextVar[tuple[Any, Any]] = contextvars.ContextVar("tfmtl2r_preference", default=(None, None))


@contextlib.contextmanager
def scope(preference: Any, valid: Any) -> Iterator[None]:
    """Sets the preference of every real item inside.

    Args:
        preference: ``float32[B, T]``, one per list (or plain row); None where the ranker reads none.
        valid: ``bool[B, L]``, or None for plain rows.
    """
    packed = preference
    if preference is not None and valid is not None:
        packed = pack({"preference": preference}, valid, ["preference"])["preference"]
    token = _current.set((preference, packed))
    try:
        yield
    finally:
        _current.reset(token)


def narrowed(places: Any, valid: Any) -> contextlib.AbstractContextManager[None]:
    """Inside a scope, the one of some of its lists.

    Args:
        places: which lists (or plain rows), ``int[B']``; None for all.
        valid: ``bool[B', L]``, or None for plain rows.
    """
    preference, _ = _current.get()
    if preference is None or places is None:
        return contextlib.nullcontext()
    return scope(tf.gather(preference, places), valid)


def rows() -> Any:
    """The preference of every real item, ``[n, T]``.

    Raises:
        RuntimeError: outside a scope.
    """
    _, found = _current.get()
    if found is None:
        raise RuntimeError("a conditioned architecture needs a preference: call the ranker, not its architecture, or "
                           "open conditioning.scope(preference, valid) around it")
    return found


class Modulated(keras.layers.Layer):
    """Feature-wise modulation of encoded items: ``[x (1 + a(r)), + b(r), r]`` with ``a, b`` a small network of r.

    The network's last layer starts at 0, so that at first the preference is only appended.

    Args:
        encoder: features to ``[n, F]``.
        num_tasks: T, the width of a preference.
        units: hidden width of the network.

    Perez et al. 2018, FiLM, https://arxiv.org/abs/1709.07871
    """

    def __init__(self, encoder: Any, num_tasks: int, units: int = 32, **kwargs: Any):
        super().__init__(**kwargs)
        self.autocast = False  # the encoder normalises before it rounds
        self.base = encoder
        self.width = encoder.width + num_tasks
        self.fields = (*encoder.fields, num_tasks)
        dtype = self.dtype_policy
        self.hidden = dense(units, "tanh", dtype=dtype, name="preference_hidden")
        self.film = dense(2 * encoder.width, kernel_initializer="zeros", dtype=dtype, name="film")
        self.hidden.build((None, num_tasks))
        self.film.build((None, units))
        self.built = True

    @property
    def embeddings(self) -> dict[str, Any]:
        """The encoder's layers of features, such as tables, by name of the feature."""
        return self.base.embeddings

    @property
    def inner(self) -> Any:
        """The encoder, under the name that files of format 1 have for it."""
        return self.base

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Encoded and modulated items, ``[n, F + T]``."""
        return self._modulated(self.base(*args, **kwargs))

    def items(self, *args: Any, **kwargs: Any) -> Any:
        """The same behind an encoder that sees whole lists."""
        return self._modulated(self.base.items(*args, **kwargs))

    def _modulated(self, x: Any) -> Any:
        preference = tf.cast(rows(), x.dtype)
        scale, shift = tf.split(self.film(self.hidden(preference)), 2, axis=-1)
        return tf.concat([x * (1 + scale) + shift, preference], axis=-1)


class HeadModulation(keras.layers.Layer):
    """Scores modulated by the preference: ``s_t exp(a_t . r + c_t) + b_t . r + d_t``, with weights for each task.

    Everything starts at 0: at first the scores pass unchanged.

    Args:
        num_tasks: T.
    """

    def __init__(self, num_tasks: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.factors = dense(2, stacked=num_tasks, dtype="float32", name="factors")
        self.factors.build((num_tasks, None, num_tasks))
        self.factors.kernel.assign(tf.zeros(self.factors.kernel.shape))
        self.built = True

    def call(self, scores: Any) -> Any:
        """``[T, n, 1]`` in and out, float32."""
        scale, shift = tf.split(self.factors(tf.cast(rows(), tf.float32)[None]), 2, axis=-1)
        return tf.cast(scores, tf.float32) * tf.exp(scale) + shift
