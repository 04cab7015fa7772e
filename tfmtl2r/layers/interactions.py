"""Products of features before the first dense layer, with layers of keras-rs after the encoder."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.errors import InputError, MissingPackageError
from tfmtl2r.types import Tensor

KINDS = ("cross", "dot")


class Interaction(keras.layers.Layer):
    """Adds products of features to encoded items ``[..., F]``.

    ``"cross"`` returns ``[..., F]`` from layers ``x_{l+1} = x_0 * (W_l x_l + b_l) + x_l``; Wang et al. 2021,
    https://arxiv.org/abs/2008.13535. ``"dot"`` appends the inner products of all pairs of k embeddings to the input,
    ``[..., F + k (k - 1) / 2]``; Naumov et al. 2019, https://arxiv.org/abs/1906.00091.

    Args:
        described: the result of :func:`described`.
        fields: width of each feature, in their order in F.
        embeddings: number of embeddings, which are the last of the fields.

    Attributes:
        fields: width of each feature of the output. All inner products together are one field.

    Raises:
        ImportError: without keras-rs.
        ValueError: for ``"dot"`` with less than two embeddings, or embeddings of different widths.
    """

    def __init__(self, described: Mapping[str, Any], fields: Sequence[int], embeddings: int, **kwargs: Any):
        super().__init__(**kwargs)
        layers, options = _keras_rs().layers, dict(described)
        self.kind = options.pop("name")
        self.sizes = self.fields = tuple(fields)
        self.embeddings = embeddings
        self.crosses, self.dot = [], None
        if self.kind == "dot":
            self._check_embeddings()
            self.dot = layers.DotInteraction(dtype=self.dtype_policy, name="dot")
            self.fields = (*fields, embeddings * (embeddings - 1) // 2)
        else:
            names = [f"cross_{i}" for i in range(1, options.pop("layers", 2) + 1)]
            self.crosses = [layers.FeatureCross(**options, dtype=self.dtype_policy, name=name) for name in names]
            for cross in self.crosses:  # the first call creates its variables
                cross(tf.zeros([1, sum(fields)], self.compute_dtype))
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """The encoded items with the products."""
        if self.dot is None:
            value = inputs
            for cross in self.crosses:
                value = cross(inputs, value)
            return value
        shape = tf.shape(inputs)
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])
        products = self.dot(tf.split(rows, self.sizes, axis=-1)[-self.embeddings:])
        width = self.fields[-1]
        return tf.concat([inputs, tf.reshape(products, tf.concat([shape[:-1], [width]], 0))], axis=-1)

    def _check_embeddings(self) -> None:
        widths = self.sizes[len(self.sizes) - self.embeddings:]
        if len(widths) < 2 or len(set(widths)) > 1:
            raise InputError("interaction='dot' multiplies embeddings with each other: it needs two or more category "
                             f"features of the same width, got widths {list(widths)}; set Category(dim=...), or use "
                             "interaction='cross'")


def described(interaction: str | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Checks an interaction and returns it as a mapping of its name and options; None for no interaction.

    Args:
        interaction: ``"cross"``, ``"dot"``, or ``{"name": "cross", "layers": 2, "projection_dim": None}``;
            ``projection_dim`` is the rank of W, None for full rank.

    Raises:
        ValueError: for an unknown interaction or option, or an option out of range.

    >>> described("dot")
    {'name': 'dot'}
    """
    if interaction is None:
        return None
    found: dict[str, Any] = {"name": interaction} if isinstance(interaction, str) else dict(interaction)
    name = found.get("name")
    if name not in KINDS:
        raise InputError(f"interaction must be one of {', '.join(map(repr, KINDS))}, or None, not {name!r}")
    accepted = ("layers", "projection_dim") if name == "cross" else ()
    unknown = sorted(set(found) - {"name", *accepted})
    if unknown:
        raise InputError(f"interaction {name!r} has no option {', '.join(unknown)}; it accepts: "
                         f"{', '.join(accepted) or 'none'}")
    for option in accepted:
        if found.get(option) is not None and found[option] < 1:
            raise InputError(f"interaction {name!r}: {option} must be at least 1, not {found[option]}")
    return found


def _keras_rs() -> Any:
    try:
        return importlib.import_module("keras_rs")
    except ImportError as error:
        raise MissingPackageError("interactions between features require keras-rs, which is not installed: "
                          "pip install 'tfmtl2r[interactions]'") from error
