"""Calling a server: raw tensors or a DataFrame in, scores out, over gRPC or REST.

It speaks TensorFlow Serving's own API and reads from the server which inputs a signature has, so that it needs neither
the export nor the schema.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.data.columns import feature_values, nearest
from tfmtl2r.data.frame import from_frame
from tfmtl2r.data.lists import Lists
from tfmtl2r.schema import Category, Dense
from tfmtl2r.serving.transport import Grpc, Rest, ServingError, Transport

VALID = "valid"
INDICES = "indices"
"""An output that says which item stands at each place."""


@dataclasses.dataclass(frozen=True)
class RemoteSignature:
    """What a signature reads and returns, as the server tells it.

    Args:
        inputs, outputs: a ``tf.TensorSpec`` each, by name.
        optional: inputs that the export has a default for.
    """

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    optional: frozenset[str]


class Client:
    """A client of one model behind TensorFlow Serving; use it in a ``with`` statement, or :meth:`close` it.

    Args:
        target: ``"localhost:8500"`` calls gRPC, ``"http://localhost:8501"`` (or https) calls REST. gRPC is the faster
            one: REST writes every number as text.
        model: the name that the server has for it.
        version: a version number, or a label such as ``"stable"``; by default the newest one that is served.
        timeout: seconds that an answer may take.

    Raises:
        ValueError: for an empty target or model, or a timeout that is not above 0.

    >>> Client("localhost:8500", "shop", timeout=0)
    Traceback (most recent call last):
    ValueError: timeout must be above 0 seconds, not 0
    """

    def __init__(self, target: str, model: str, *, version: int | str | None = None, timeout: float = 5.0):
        if not target or not model:
            raise ValueError(f"a client needs the address of a server and the name of a model, got {target!r} and "
                             f"{model!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, not {timeout}")
        rest = target.startswith(("http://", "https://"))
        self.model = model
        self._transport: Transport = (Rest if rest else Grpc)(target, model, version, timeout)
        self._signatures: dict[str, RemoteSignature] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def signature(self, name: str = "serving_default") -> RemoteSignature:
        """What a signature reads and returns. The server is asked once, and again after it refused a request.

        Args:
            name: of the signature.

        Raises:
            ServingError: when the server does not answer, or does not know the model.
            ValueError: for a signature that the model does not have.
        """
        if name not in self._signatures:
            definitions = self._transport.signatures()
            if name not in definitions:
                raise ValueError(f"model {self.model!r} has no signature {name!r}{nearest(name, definitions)}; it has "
                                 f"{', '.join(sorted(definitions))}")
            self._signatures[name] = _described(definitions[name])
        return self._signatures[name]

    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """The outputs of a signature.

        Args:
            inputs: arrays or nested lists by input name; text as ``str`` or ``bytes``.
            signature: its name.

        Returns:
            Arrays by output name; text as ``bytes``.

        Raises:
            ValueError: for a missing or unknown input, or a shape that the signature does not take.
            TypeError: for values of another type than the input's.
            ServingError: when the server does not answer in time, or refuses the request.
        """
        served = self.signature(signature)
        _check_names(inputs, served, signature)
        arrays = {name: _array(name, value, served.inputs[name]) for name, value in inputs.items()}
        try:
            outputs = self._transport.predict(arrays, signature)
        except ServingError:
            self._signatures.clear()  # another version may be served by now, with other inputs
            raise
        if len(served.outputs) == 1:  # REST leaves out the name of a single output
            outputs = dict(zip(served.outputs, outputs.values(), strict=True))
        return {name: _as_spec(value, served.outputs.get(name)) for name, value in outputs.items()}

    def predict_frame(
        self,
        frame: pd.DataFrame,
        list_id: str | None = None,
        *,
        signature: str = "serving_default",
        batch_size: int = 64,
        constants: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Scores the rows of a table.

        Rows with one list id make a list, wherever they stand; lists of like length share a request, padded to the
        longest. An input is read from the column of its name, or from the column that was exported under it
        (``"BM25 body"`` for the input ``BM25_body``).

        Args:
            frame: a row per item, with a column per input: vectors as sequences, missing numbers as NaN.
            list_id: the column that says which list a row belongs to; None for a model of plain rows.
            signature: one on named raw tensors that answers per item.
            batch_size: lists (or rows) per request.
            constants: values of inputs that are the same for every list, such as ``{"blend_weights": [1, 0]}``.

        Returns:
            A frame on the same index, rows in the same order, with a column for each output.

        Raises:
            ValueError: for a missing column, values that an input cannot take, a list id where the model knows no
                lists or the other way round, or a signature that answers otherwise than per item.
            ServingError: as from :meth:`predict`.
        """
        served = self.signature(signature)
        has_lists = LIST_SIZE in served.inputs
        if has_lists != (list_id is not None):
            advice = "give the column of the list id as list_id" if has_lists else "leave list_id out"
            raise ValueError(f"signature {signature!r} scores {'lists' if has_lists else 'plain rows'}: {advice}")
        if INDICES in served.outputs:
            raise ValueError(f"signature {signature!r} returns items in an order of its own, and not all of them: call "
                             "predict with arrays")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        constants = dict(constants or {})
        frame = frame.rename(columns=str)
        features = _features(served, frame, constants)
        lists = from_frame(frame[[name for name in frame if name == list_id or name in features.values()]], list_id)
        values = {name: _values(lists, column, name, served.inputs[name]) for name, column in features.items()}
        columns: dict[str, np.ndarray] = {}
        assert lists.source_rows is not None
        for batch in _batches(lists, batch_size):
            request = _request(lists, values, served, batch) | _repeated(constants, served, len(batch))
            for name, answer in self.predict(request, signature).items():
                items = _items(lists, batch)
                if name not in columns:
                    columns[name] = np.empty((lists.num_items, *answer.shape[1 + has_lists:]), answer.dtype)
                columns[name][lists.source_rows[items]] = _at_items(name, answer, lists.sizes[batch], has_lists)
        columns.pop(VALID, None)
        cells = {name: list(value) if value.ndim > 1 else value for name, value in columns.items()}
        return pd.DataFrame(cells, index=frame.index)


def _described(definition: Any) -> RemoteSignature:
    def specs(infos: Mapping[str, Any]) -> dict[str, Any]:
        return {name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype), name)
                for name, info in sorted(infos.items())}

    return RemoteSignature(specs(definition.inputs), specs(definition.outputs), frozenset(definition.defaults))


def _check_names(inputs: Mapping[str, Any], served: RemoteSignature, signature: str) -> None:
    unknown = sorted(set(inputs) - set(served.inputs))
    missing = sorted(set(served.inputs) - set(inputs) - served.optional)
    if unknown or missing:
        hints = "".join(f" ({name!r}{hint})" for name in unknown if (hint := nearest(name, missing)))
        raise ValueError(f"signature {signature!r} reads {', '.join(sorted(served.inputs))}; missing: "
                         f"{', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}{hints}")


def _array(name: str, value: Any, spec: Any) -> np.ndarray:
    """A value as the array that an input takes; text stays an object array."""
    try:
        array = _texts(value) if spec.dtype == tf.string else _numbers(value, spec.dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(f"input {name!r} takes {spec.dtype.name} of shape {spec.shape}: {error}") from error
    if not spec.shape.is_compatible_with(array.shape):
        raise ValueError(f"input {name!r} takes the shape {spec.shape}, got {array.shape}")
    return array


def _texts(value: Any) -> np.ndarray:
    array = np.asarray(value, object)
    odd = next((cell for cell in array.ravel() if not isinstance(cell, (str, bytes))), None)
    if odd is not None:
        raise TypeError(f"expected text, got {odd!r}")
    return array


def _numbers(value: Any, dtype: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in ("biuf" if dtype.is_floating else "iu") and array.size:
        raise TypeError(f"got {array.dtype}")
    numbers = array.astype(dtype.as_numpy_dtype)
    if dtype.is_integer and (numbers != array).any():
        raise ValueError(f"{array[numbers != array][0]} does not fit")
    return numbers


def _as_spec(value: np.ndarray, spec: Any) -> np.ndarray:
    """REST says numbers without their type."""
    if spec is None or spec.dtype == tf.string:
        return value
    return value.astype(spec.dtype.as_numpy_dtype, copy=False)


def _features(served: RemoteSignature, frame: pd.DataFrame, constants: Mapping[str, Any]) -> dict[str, str]:
    """The column of each input that comes from the table."""
    columns = {}
    for name in served.inputs:
        if name == LIST_SIZE or name in constants:
            continue
        exported_as = name.removeprefix("feature_")
        found = [name] if name in frame.columns else \
            [c for c in frame.columns if re.sub(r"[^A-Za-z0-9_]", "_", c) in (name, exported_as)]
        if len(found) == 1:
            columns[name] = found[0]
        elif found or name not in served.optional:
            what = f"columns that could be the input {name!r}: {found}; rename one" if found else \
                f"no column for the input {name!r}{nearest(name, frame.columns)}; its columns: " \
                f"{', '.join(frame.columns)}"
            raise ValueError(f"the table has {what}")
    return columns


def _values(lists: Lists, column: str, name: str, spec: Any) -> np.ndarray:
    """The values of an input, ``[N, ...]``, or ``[lists, ...]`` where it has no axis of items."""
    shape = spec.shape.as_list()
    per_item = not lists.is_rows and len(shape) > 1 and shape[1] is None
    context = not lists.is_rows and not per_item
    width = tuple(shape[1 + per_item:])
    if spec.dtype in (tf.string, tf.int64) and not width:
        return feature_values(lists, Category(column, context=context, dtype=spec.dtype.name))
    if spec.dtype == tf.float32 and None not in width:
        return feature_values(lists, Dense(column, shape=width, context=context))
    raise ValueError(f"input {name!r} takes {spec.dtype.name} of shape {spec.shape}, which no column of a table holds: "
                     "call predict with arrays")


def _batches(lists: Lists, size: int) -> Iterator[np.ndarray]:
    """List (or row) numbers, lists of like length together."""
    order = np.argsort(lists.sizes, kind="stable")
    yield from (order[start : start + size] for start in range(0, len(order), size))


def _items(lists: Lists, batch: np.ndarray) -> np.ndarray:
    """The items of some lists, one list after the other."""
    if lists.offsets is None:
        return batch
    return np.concatenate([np.arange(lists.offsets[i], lists.offsets[i + 1]) for i in batch])


def _request(
    lists: Lists, values: Mapping[str, np.ndarray], served: RemoteSignature, batch: np.ndarray
) -> dict[str, np.ndarray]:
    """A request for some lists; places behind the last item of a list are 0 or empty."""
    if lists.is_rows:
        return {name: value[batch] for name, value in values.items()}
    sizes, items = lists.sizes[batch], _items(lists, batch)
    real = np.arange(sizes.max()) < sizes[:, None]
    request: dict[str, np.ndarray] = {LIST_SIZE: sizes.astype(np.int32)}
    for name, value in values.items():
        shape = served.inputs[name].shape.as_list()
        if len(shape) > 1 and shape[1] is None:
            padded = np.full((*real.shape, *value.shape[1:]), "" if value.dtype == object else 0, value.dtype)
            padded[real] = value[items]
            request[name] = padded
        else:
            request[name] = value[batch]
    return request


def _repeated(constants: Mapping[str, Any], served: RemoteSignature, lists: int) -> dict[str, np.ndarray]:
    """Constants with the axis of the lists in front, since a server merges requests along it."""
    repeated = {}
    for name, value in constants.items():
        array = np.asarray(value)
        inner = name in served.inputs and served.inputs[name].shape.rank == array.ndim + 1
        repeated[name] = np.repeat(array[None], lists, axis=0) if inner else array
    return repeated


def _at_items(name: str, answer: np.ndarray, sizes: np.ndarray, has_lists: bool) -> np.ndarray:
    if not has_lists and answer.ndim > 0 and len(answer) == len(sizes):
        return answer
    if has_lists and answer.ndim > 1 and len(answer) == len(sizes) and answer.shape[1] >= sizes.max():
        return answer[:, : sizes.max()][np.arange(sizes.max()) < sizes[:, None]]
    raise ValueError(f"output {name!r} of shape {answer.shape} has not one value per item; call predict instead")
