"""Requests whose tensors do not fit together are errors of the request.

The server compares the names and types of a request with the signature, and leaves shapes to the graph: a graph that
does not look would broadcast, or read the first items of a longer tensor, and answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmtl2r._backend import tf


def checked(tensors: Mapping[str, Any], specs: Mapping[str, Any], items: str | None) -> dict[str, Any]:
    """The same tensors, once they agree on the number of lists B and, where they have one, of items L.

    All shapes of one type and rank are read by one operation, so that a hundred features cost little.

    Args:
        tensors: by input name; the first axis is B.
        specs: of these inputs: ranks and fixed sizes.
        items: a tensor whose second axis is L, as that of any other ``[B, L, ...]``; None where there is no L.

    Returns:
        The tensors; the graph fails with an ``InvalidArgumentError`` that names the inputs that do not fit.

    >>> price, size = tf.ones([2, 3]), tf.constant([3, 1])
    >>> specs = {"price": tf.TensorSpec([None, None]), "list_size": tf.TensorSpec([None], tf.int32)}
    >>> sorted(checked({"price": price, "list_size": size}, specs, "price"))
    ['list_size', 'price']
    """
    tensors = {name: tf.ensure_shape(tensor, specs[name].shape) for name, tensor in tensors.items()}
    first = next(iter(tensors)) if items is None else items
    leading = tf.shape(tensors[first])[: 1 if items is None else 2]
    groups: dict[tuple[Any, int, int], list[str]] = {}
    for name, spec in specs.items():
        open_axes = sum(size is None for size in spec.shape)
        groups.setdefault((spec.dtype, spec.shape.rank, open_axes), []).append(name)
    wrong = []
    for (_, _, open_axes), names in groups.items():
        shapes = tf.stack(tf.raw_ops.ShapeN(input=[tensors[name] for name in names]))
        wrong.append(tf.reduce_any(shapes[:, :open_axes] != leading[:open_axes], axis=1))
    flags = tf.concat(wrong, axis=0)
    order = tf.constant([name for names in groups.values() for name in names])
    says = ["these inputs differ in the number of lists or items from", first, "of shape", tf.shape(tensors[first]),
            ":", tf.boolean_mask(order, flags)]
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(flags), says, summarize=10)]):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}
