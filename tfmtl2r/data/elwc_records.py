"""Records of TFRecord files: each an ``ExampleListWithContext``, or a plain ``tf.train.Example`` as a list of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, MissingFileError


class ElwcError(InputError):
    """A file does not contain lists with the requested features; the message names the file and the record."""


def records(files: list[Path]) -> Iterator[tuple[Path, int, bytes]]:
    """Yields all records with their file and number, counted from 0."""
    plain: bool | None = None
    for path in files:
        if not path.is_file():
            raise MissingFileError(f"{path}: there is no such file")
        number = -1
        try:
            for number, record in enumerate(tf.data.TFRecordDataset(str(path), compression(path))):
                message = record.numpy()
                plain = _is_example(message) if plain is None else plain
                yield path, number, _alone(message, path, number) if plain else message
        except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
            raise ElwcError(
                f"{path}: record {number + 1} (counted from 0) cannot be read: {first_line(error)}. Expected a "
                f"complete {'compressed ' if path.suffix == '.gz' else ''}TFRecord file; a compressed one must end "
                "in .gz; get or copy it again"
            ) from error
        if number < 0:
            raise ElwcError(f"{path}: the file contains no record; expected one ExampleListWithContext per list")


def message_of(record: bytes, path: Path, number: int) -> Any:
    """Parses a record; raises an error if it is not an ``ExampleListWithContext`` with examples."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import input_pb2

    where = f"{path}: record {number} (counted from 0)"
    try:
        message = input_pb2.ExampleListWithContext.FromString(record)
    except DecodeError as error:
        raise ElwcError(f"{where} is no ExampleListWithContext ({error}), and the first record is no "
                        "tf.train.Example") from error
    if not message.examples:
        raise ElwcError(f"{where} has no examples; expected an ExampleListWithContext with one example per item: "
                        "leave empty lists out")
    return message


def _is_example(record: bytes) -> bool:
    """Whether a record is a plain ``tf.train.Example``: as one, it is written again byte for byte with readable names,
    and as an ``ExampleListWithContext`` it has no feature."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import input_pb2

    try:
        example = tf.train.Example.FromString(record)
    except DecodeError:
        return False
    known = [name.isprintable() and one.WhichOneof("kind") for name, one in example.features.feature.items()]
    if not known or not all(known):
        return False
    try:
        lists = input_pb2.ExampleListWithContext.FromString(record)
    except DecodeError:
        return True
    places = [*lists.examples, lists.context]
    return not any(one.WhichOneof("kind") for place in places for one in place.features.feature.values())


def _alone(record: bytes, path: Path, number: int) -> bytes:
    """A plain example as a list of one item."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import input_pb2

    message = input_pb2.ExampleListWithContext()
    try:
        message.examples.add().MergeFromString(record)
    except DecodeError as error:
        raise ElwcError(f"{path}: record {number} (counted from 0) is no tf.train.Example, as the first record is: "
                        f"{error}") from error
    return message.SerializeToString()


def holds_examples(files: list[Path]) -> bool:
    return _is_example(next(iter(tf.data.TFRecordDataset(str(files[0]), compression(files[0])))).numpy())


def compression(path: Path) -> str:
    return "GZIP" if path.suffix == ".gz" else ""


def first_line(error: Exception) -> str:
    return str(getattr(error, "message", error)).split("\n")[0]
