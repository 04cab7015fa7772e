"""Our own conversion of operations that tf2onnx or ONNX Runtime handles incorrectly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_LABEL_ENCODER = "ai.onnx.ml"
Tables = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Name of the table's node -> keys and ids of the vocabulary."""


def handlers(tables: Tables) -> dict[str, tuple[Callable[..., None], list[Any]]]:
    """Operation -> handler for tf2onnx.

    The handlers make log1p accurate, add expm1 and the search in sorted rows, convert vocabularies of integers, keep
    NaN out of the result of a selection, and allow requests without real places.

    Args:
        tables: lookup tables of the graph.
    """
    lookup = functools.partial(_lookup, tables)
    return {"LowerBound": (_lower_bound, []), "Log1p": (_log1p, []), "Expm1": (_expm1, []),
            "LookupTableFindV2": (lookup, []), "SelectV2": (_choose, []), "Where": (_where, [])}


def _log1p(graph: Any, node: Any, name: str, _: Any) -> None:
    # log(u) - ((u - 1) - x) / u with u = 1 + x is accurate near 0, where log(1 + x) loses the digits of x.
    step, number = _replaced(graph, node, name)
    x, one = node.input[0], number("one", 1.0)
    u = step("Add", x, one)
    lost = step("Div", step("Sub", step("Sub", u, one), x), u)
    step("Sub", step("Log", u), lost, outputs=[node.output[0]], name=name)


def _expm1(graph: Any, node: Any, name: str, _: Any) -> None:
    # tanh(x / 2) (exp(x) + 1) is accurate near 0, where exp(x) - 1 loses the digits of x, and infinite where exp(x) is.
    step, number = _replaced(graph, node, name)
    x = node.input[0]
    above = step("Add", step("Exp", x), number("one", 1.0))
    step("Mul", step("Tanh", step("Mul", x, number("half", 0.5))), above, outputs=[node.output[0]], name=name)


def _lower_bound(graph: Any, node: Any, name: str, _: Any) -> None:
    # ONNX has no search: one step for each binary digit of the number of smaller values in a row, largest first.
    from onnx import TensorProto

    (rows, values), output = node.input, node.output[0]
    width, shape = graph.get_shape(rows)[1], graph.get_shape(values)
    graph.remove_node(name)

    def step(op: str, *inputs: str, **options: Any) -> str:
        return graph.make_node(op, list(inputs), **options).output[0]

    def number(suffix: str, value: int) -> str:
        return graph.make_const(f"{name}_{suffix}", np.array(value, np.int64)).output[0]

    below = step("ConstantOfShape", step("Shape", values))
    below = step("Cast", below, attr={"to": TensorProto.INT64})
    one, last = number("one", 1), number("last", width - 1)
    for digit in reversed(range(width.bit_length())):
        more = step("Add", below, number(f"digit_{digit}", 2**digit))
        place = step("Sub", more, one)  # the value before which all of them would be smaller
        found = step("GatherElements", rows, step("Min", place, last), attr={"axis": 1})
        smaller = step("And", step("Less", found, values), step("LessOrEqual", place, last))
        below = step("Where", smaller, more, below)
    graph.make_node("Cast", [below], attr={"to": TensorProto.INT32}, outputs=[output], name=name, shapes=[shape],
                    dtypes=[TensorProto.INT32])


def _replaced(graph: Any, node: Any, name: str) -> tuple[Callable[..., str], Callable[[str, float], str]]:
    """Removes an operation of numbers; returns functions that add a step, and a constant, of its type in its place."""
    output = node.output[0]
    kind, shape = graph.get_dtype(output), graph.get_shape(output)
    graph.remove_node(name)

    def step(op: str, *inputs: str, **options: Any) -> str:
        return graph.make_node(op, list(inputs), shapes=[shape], dtypes=[kind], **options).output[0]

    def number(suffix: str, value: float) -> str:
        return graph.make_const(f"{name}_{suffix}", np.array(value, np.float32)).output[0]

    return step, number


def _lookup(tables: Tables, graph: Any, node: Any, name: str, _: Any) -> None:
    table = node.inputs[0]
    while table.type == "Identity":
        table = table.inputs[0]
    keys, ids = tables[table.name]
    default = int(node.inputs[2].get_tensor_value())
    source, output, shape = node.input[1], node.output[0], graph.get_shape(node.input[1])
    kind = graph.get_dtype(output)
    known = "keys_int64s" if keys.dtype.kind == "i" else "keys_strings"
    attributes = {known: keys.tolist(), "values_int64s": ids.tolist(), "default_int64": default}
    graph.remove_node(name)
    graph.make_node("LabelEncoder", [source], attr=attributes, outputs=[output], name=name, shapes=[shape],
                    dtypes=[kind], domain=_LABEL_ENCODER)


def _choose(graph: Any, node: Any, name: str, _: Any) -> None:
    # tf2onnx would multiply the two sides by 0 and 1 and add them, but 0 * NaN is NaN.
    node.type = "Where"


def _where(graph: Any, node: Any, name: str, _: Any) -> None:
    # ONNX Runtime divides by the number of rows in its fused products, and a division by zero ends the process.
    # If no place is real, the first place is computed nevertheless; the signatures mask its result.
    from onnx import TensorProto

    mask, output, rank = node.input[0], node.output[0], len(graph.get_shape(node.input[0]))
    graph.remove_node(name)

    def step(op: str, *inputs: str, **options: Any) -> str:
        return graph.make_node(op, list(inputs), **options).output[0]

    def constant(suffix: str, value: list[int]) -> str:
        return graph.make_const(f"{name}_{suffix}", np.array(value, np.int64)).output[0]

    places = step("NonZero", mask)  # [rank, n]
    real = step("Slice", step("Shape", places), constant("one", [1]), constant("two", [2]))
    missing = step("Sub", constant("least", [1]), step("Min", real, constant("most", [1])))
    first = step("ConstantOfShape", step("Concat", constant("rank", [rank]), missing, attr={"axis": 0}))
    first = step("Cast", first, attr={"to": TensorProto.INT64})
    places = step("Concat", places, first, attr={"axis": 1})
    graph.make_node("Transpose", [places], outputs=[output], name=name, shapes=[[-1, rank]],
                    dtypes=[TensorProto.INT64])
