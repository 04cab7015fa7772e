"""Checks in the graph that the tensors of a request fit together.

The server compares the names and types of a request with the signature, but not the shapes. Without these checks, the
graph would broadcast tensors, or read only the first items of a longer tensor, and return wrong scores.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tfmtl2r._backend import tf


def checked(
    tensors: Mapping[str, Any], specs: Mapping[str, Any], items: str | None, per_item: Collection[str] = ()
) -> dict[str, Any]:
    """Returns the tensors after a check that they agree on the number of lists B and of items L.

    One operation reads all shapes of one type and rank, so that a hundred features cost little.

    Args:
        tensors: input name -> tensor; the first axis is B.
        specs: input name -> spec with rank and fixed sizes.
        items: name of a tensor ``[B, L, ...]``, with which other tensors are compared; None if there is no L.
        per_item: names of all tensors ``[B, L, ...]``.

    Returns:
        The tensors. If they do not fit, the graph fails with an ``InvalidArgumentError`` that names the inputs.

    >>> price, size = tf.ones([2, 3]), tf.constant([3, 1])
    >>> specs = {"price": tf.TensorSpec([None, None]), "list_size": tf.TensorSpec([None], tf.int32)}
    >>> sorted(checked({"price": price, "list_size": size}, specs, "price", ["price"]))
    ['list_size', 'price']
    """
    tensors = {name: tf.ensure_shape(tensor, specs[name].shape) for name, tensor in tensors.items()}
    first = next(iter(tensors)) if items is None else items
    leading = tf.shape(tensors[first])[: 1 if items is None else 2]
    groups: dict[tuple[Any, int, int], list[str]] = {}
    for name, spec in specs.items():
        groups.setdefault((spec.dtype, spec.shape.rank, 2 if name in per_item else 1), []).append(name)
    wrong = []
    for (_, _, axes), names in groups.items():
        shapes = tf.stack(tf.raw_ops.ShapeN(input=[tensors[name] for name in names]))
        wrong.append(tf.reduce_any(shapes[:, :axes] != leading[:axes], axis=1))
    flags = tf.concat(wrong, axis=0)
    order = tf.constant([name for names in groups.values() for name in names])
    says = ["these inputs differ in the number of lists or items from", first, "of shape", tf.shape(tensors[first]),
            ":", tf.boolean_mask(order, flags)]
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(flags), says, summarize=10)]):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}
