"""A client of TensorFlow Serving over gRPC or REST: it sends raw tensors or a DataFrame and returns scores.

The client uses the API of TensorFlow Serving and reads the inputs of a signature from the server. It therefore needs
neither the export nor the schema.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tfmtl2r._backend import tf
from tfmtl2r.batch import LIST_SIZE
from tfmtl2r.data.frame import from_frame
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.names import checked_folder, did_you_mean
from tfmtl2r.serving.answers import own_names
from tfmtl2r.serving.listed import has_items, nothing, padded
from tfmtl2r.serving.tables import columns_of, values_of
from tfmtl2r.serving.transport import Grpc, Local, Rest, ServingError, Transport
from tfmtl2r.serving.values import as_array, misnamed

VALID = "valid"
INDICES = "indices"
"""An output with the index of the item at each place."""


@dataclasses.dataclass(frozen=True)
class RemoteSignature:
    """Inputs and outputs of a signature, as the server describes them.

    Args:
        inputs, outputs: name -> ``tf.TensorSpec``.
        optional: inputs for which the export has a default.
    """

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    optional: frozenset[str]


class Client:
    """A client of one model behind TensorFlow Serving; use it in a ``with`` statement, or :meth:`close` it.

    Args:
        target: ``"localhost:8500"`` calls gRPC, ``"http://localhost:8501"`` (or https) calls REST. gRPC is faster,
            because REST writes every number as text. The folder of an export is loaded into this process.
        model: name of the model on the server.
        version: a version number, or a label like ``"stable"``; by default the newest served version.
        timeout: maximum number of seconds to wait for an answer.
        tasks: names of the ranker's tasks. Outputs then have the tasks' own names, such as ``"score_add to cart"``. A
            server knows only names with letters, digits and underscores, such as ``"score_add_to_cart_31900a39"``.

    Raises:
        ValueError: for an empty target or model, or a timeout that is not above 0.

    >>> Client("localhost:8500", "shop", timeout=0)
    Traceback (most recent call last):
    tfmtl2r.errors.InputError: timeout must be above 0 seconds, not 0
    """

    def __init__(
        self, target: str, model: str, *, version: int | str | None = None, timeout: float = 5.0,
        tasks: Iterable[str] = (),
    ):
        if not target or not model:
            raise InputError(f"a client needs the address of a server and the name of a model, got {target!r} and "
                             f"{model!r}")
        checked_folder(model, "model")
        if not timeout > 0:
            raise InputError(f"timeout must be above 0 seconds, not {timeout}")
        kind = Rest if target.startswith(("http://", "https://")) else Local if Path(target).is_dir() else Grpc
        self.model = model
        self._transport: Transport = kind(target, model, version, timeout)
        self._signatures: dict[str, RemoteSignature] = {}
        self._own_names = own_names(tasks)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def signature(self, name: str = "serving_default") -> RemoteSignature:
        """Returns inputs and outputs of a signature.

        The client requests them from the server once, and again after the server refused a request.

        Args:
            name: name of the signature.

        Raises:
            ServingError: when the server does not answer, or does not know the model.
            ValueError: for a signature that the model does not have.
        """
        if name not in self._signatures:
            definitions = self._transport.signatures()
            if name not in definitions:
                raise InputError(f"model {self.model!r} has no signature {name!r}{did_you_mean(name, definitions)}; it "
                                 f"has {', '.join(sorted(definitions))}")
            self._signatures[name] = _described(definitions[name])
        return self._signatures[name]

    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Returns the outputs of a signature.

        Args:
            inputs: input name -> array or nested lists; text as ``str`` or ``bytes``. Nested lists may differ in
                length: the client pads them, and derives ``list_size`` if it is not given. Arrays need ``list_size``.
                If no list has items, the client sends one empty place per list, because a server that merges requests
                cannot pad empty tensors.
            signature: name of the signature.

        Returns:
            Output name -> array; text as ``bytes``. If the server merges requests, lists may be longer than in the
            request; ``valid`` marks the real places.

        Raises:
            ValueError: for a missing or unknown input, a shape that does not fit the signature or the other inputs, or
                a ``list_size`` that is negative or above the number of items. A server that merges requests would
                answer wrong shapes and sizes with wrong scores, or with an error for every caller in the batch.
            TypeError: for values of another type than the input's.
            ServingError: when the server does not answer in time, or refuses the request.
        """
        served = self.signature(signature)
        inputs = _padded(padded(inputs, served.inputs), served)
        if wrong := misnamed(inputs, served.inputs, served.optional):
            raise InputError(f"signature {signature!r} {wrong}")
        arrays = _fitting({name: _array(name, value, served.inputs[name]) for name, value in inputs.items()}, served)
        try:
            outputs = self._transport.predict(arrays, signature)
        except ServingError:
            self._signatures.clear()  # the server may have loaded another version with other inputs
            raise
        if len(served.outputs) == 1:  # REST leaves out the name of a single output
            outputs = dict(zip(served.outputs, outputs.values(), strict=True))
        # A server has no order of outputs: each of its answers may have another one.
        return {self._own_names.get(name, name): _as_spec(value, served.outputs.get(name))
                for name, value in sorted(outputs.items())}

    def predict_frame(
        self,
        frame: pd.DataFrame | Lists,
        list_id: str | None = None,
        *,
        signature: str = "serving_default",
        batch_size: int = 64,
        constants: Mapping[str, Any] | None = None,
        separator: str = "",
        times: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """Scores the rows of a table.

        Rows with the same list id are one list, even if they are not adjacent. Lists of similar length share a request
        and are padded to the longest list. An input is read from the column with its name, or from the column that was
        exported under this name (``"BM25 body"`` for the input ``BM25_body``).

        Args:
            frame: one row per item, with one column per input: vectors as sequences, missing numbers as NaN. Or lists
                (:func:`tfmtl2r.data.read_lists`), whose text may spell what an input takes; leave out ``list_id`` then.
            list_id: column with the id of a row's list; None for a model of plain rows.
            signature: a signature with named raw tensors as inputs and one value per item as outputs.
            batch_size: lists (or rows) per request.
            constants: values of inputs that are the same for every list, for example ``{"blend_weights": [1, 0]}``.
            separator: splits a cell of text that is a list; empty to choose it from each column, which may differ
                from the separator of the training.
            times: column with dates or times -> the unit of the input's epoch numbers, which is the unit of the
                feature: "s" (the default of a feature), "ms", "us", "ns" or "D".

        Returns:
            A frame with the same index and order of rows, with one column for each output.

        Raises:
            ValueError: for a missing column, values that do not fit an input, a list id although the model scores plain
                rows (or no list id although it scores lists), or a signature whose outputs are not per item.
            ServingError: see :meth:`predict`.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        served = self.signature(signature)
        has_lists = _scores_lists(signature, served, list_id or getattr(frame, "list_id", None))
        constants = dict(constants or {})
        if isinstance(frame, Lists):
            if list_id is not None:
                raise InputError("lists have their ids already: leave list_id out")
            lists, index = frame, pd.Index(np.arange(frame.num_items))
            features = columns_of(served.inputs, list(lists.columns), constants, served.optional)
        else:
            frame, index = frame.rename(columns=str), frame.index
            list_id = None if list_id is None else str(list_id)
            features = columns_of(served.inputs, list(frame.columns), constants, served.optional)
            lists = from_frame(frame[[name for name in frame if name in (list_id, *features.values())]], list_id)
        values: dict[str, np.ndarray] = {}
        for name, column in features.items():
            values |= values_of(lists, column, name, served.inputs, separator, times or {})
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
        return pd.DataFrame(cells, index=index)


def _described(definition: Any) -> RemoteSignature:
    def specs(infos: Mapping[str, Any]) -> dict[str, Any]:
        return {name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype), name)
                for name, info in sorted(infos.items())}

    return RemoteSignature(specs(definition.inputs), specs(definition.outputs), frozenset(definition.defaults))


def _scores_lists(signature: str, served: RemoteSignature, list_id: str | None) -> bool:
    """Whether a signature scores lists; raises an error if ``list_id`` does not fit, or outputs are not per item."""
    has_lists = LIST_SIZE in served.inputs
    if has_lists != (list_id is not None):
        advice = "give the column of the list id as list_id" if has_lists else "leave list_id out"
        raise InputError(f"signature {signature!r} scores {'lists' if has_lists else 'plain rows'}: {advice}")
    if INDICES in served.outputs:
        raise InputError(f"signature {signature!r} returns only the best items, in another order: call predict with "
                         "arrays")
    return has_lists


def _array(name: str, value: Any, spec: Any) -> np.ndarray:
    array = as_array(name, value, spec.dtype)
    if not spec.shape.is_compatible_with(array.shape):
        raise InputError(f"input {name!r} takes the shape {spec.shape}, got {array.shape}")
    return array


def _padded(inputs: Mapping[str, Any], served: RemoteSignature) -> Mapping[str, Any]:
    """Inputs whose lists are equally long: nested lists of several lengths end with 0 or empty text."""
    if LIST_SIZE not in served.inputs:
        return inputs
    nested = {name: value for name, value in inputs.items()
              if name in served.inputs and has_items(served.inputs, name) and isinstance(value, (list, tuple))
              and all(isinstance(items, (list, tuple, np.ndarray)) for items in value)}  # fmt: skip
    lengths = {name: [len(items) for items in value] for name, value in nested.items()}
    first = next(iter(lengths), "")
    for name, found in lengths.items():
        if len(found) == len(lengths[first]) and found != lengths[first]:
            place = next(i for i, (one, two) in enumerate(zip(found, lengths[first], strict=True)) if one != two)
            raise InputError(f"list {place} has {lengths[first][place]} items in the input {first!r}, but "
                             f"{found[place]} in {name!r}")
    if not nested or (LIST_SIZE in inputs and len({*lengths[first]}) <= 1):
        return inputs
    longest = max(lengths[first], default=0)
    filled = {name: [[*items, *[nothing(served.inputs[name], value)] * (longest - len(items))] for items in value]
              for name, value in nested.items()}  # fmt: skip
    if LIST_SIZE in inputs and list(inputs[LIST_SIZE]) != lengths[first]:
        raise InputError(f"{LIST_SIZE!r} is {list(inputs[LIST_SIZE])}, but the lists of {first!r} have "
                         f"{lengths[first]} items: leave {LIST_SIZE!r} out, or pad the lists yourself")
    return {LIST_SIZE: lengths[first], **inputs, **filled}


def _fitting(arrays: dict[str, np.ndarray], served: RemoteSignature) -> dict[str, np.ndarray]:
    """Returns inputs that agree on the number of lists and of items. There is at least one place for items."""
    _same_size({name: array for name, array in arrays.items()
                if served.inputs[name].shape.rank and served.inputs[name].shape[0] is None}, 0)
    if LIST_SIZE not in served.inputs:
        return arrays
    items = {name: array for name, array in arrays.items() if has_items(served.inputs, name)}
    _same_size(items, 1)
    length = max((array.shape[1] for array in items.values()), default=None)
    sizes = arrays.get(LIST_SIZE)
    if length is None or sizes is None or not sizes.size:
        return arrays
    if not 0 <= sizes.min() <= sizes.max() <= length:
        odd = sizes[(sizes < 0) | (sizes > length)][0]
        raise InputError(f"{LIST_SIZE!r} contains {odd}, but the lists have {length} places: a size is the number of "
                         f"real items, from 0 to {length}")
    return arrays if length else {**arrays, **{name: _one_place(array) for name, array in items.items()}}


def _same_size(arrays: Mapping[str, np.ndarray], axis: int) -> None:
    sizes = {name: array.shape[axis] for name, array in arrays.items()}
    first = next(iter(sizes), "")
    odd = [f"{name} {size}" for name, size in sizes.items() if size != sizes[first]]
    if odd:
        what = ("lists (or rows) on the first", "items on the second")[axis]
        raise InputError(f"the inputs of a request must have equally many {what} axis, but {first} has {sizes[first]} "
                         f"and others {', '.join(odd)}")


def _one_place(array: np.ndarray) -> np.ndarray:
    shape = (array.shape[0], 1, *array.shape[2:])
    return np.full(shape, "" if array.dtype == object else 0, array.dtype)


def _as_spec(value: np.ndarray, spec: Any) -> np.ndarray:
    """Converts an output to the type of its spec, since REST sends numbers without type and bytes as text."""
    if spec is None:
        return value
    if spec.dtype == tf.string:
        cells = np.empty(value.size, object)
        cells[:] = [cell.encode() if isinstance(cell, str) else cell for cell in value.ravel().tolist()]
        return cells.reshape(value.shape)
    return value.astype(spec.dtype.as_numpy_dtype, copy=False)


def _batches(lists: Lists, size: int) -> Iterator[np.ndarray]:
    """Indices of lists (or rows) in batches; lists of similar length are in the same batch."""
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
    """A request for some lists; places after the last item of a list are 0 or empty."""
    if lists.is_rows:
        return {name: value[batch] for name, value in values.items()}
    sizes, items = lists.sizes[batch], _items(lists, batch)
    real = np.arange(sizes.max()) < sizes[:, None]
    request: dict[str, np.ndarray] = {LIST_SIZE: sizes.astype(np.int32)}
    for name, value in values.items():
        if has_items(served.inputs, name):
            request[name] = np.full((*real.shape, *value.shape[1:]), "" if value.dtype == object else 0, value.dtype)
            request[name][real] = value[items]
        else:
            request[name] = value[batch]
    return request


def _repeated(constants: Mapping[str, Any], served: RemoteSignature, lists: int) -> dict[str, np.ndarray]:
    """Constants with an additional first axis for lists, along which the server merges requests."""
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
    raise InputError(f"output {name!r} of shape {answer.shape} does not have one value per item; call predict instead")
