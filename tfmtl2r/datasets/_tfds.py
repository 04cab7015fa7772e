"""Reads data sets that the user has prepared with tensorflow-datasets; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import MissingFileError, MissingPackageError


def examples(name: str, split: str) -> Iterator[dict[str, Any]]:
    """The examples of one split, as NumPy arrays.

    Args:
        name: name and configuration, for example ``mslr_web/10k_fold1``.
        split: name of the split.

    Raises:
        ImportError: when tensorflow-datasets is not installed.
        FileNotFoundError: when the data set has not been prepared on this machine.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise MissingPackageError(
            f"{name} comes from tensorflow-datasets, which is not installed: pip install 'tfmtl2r[datasets]'"
        ) from error
    try:
        dataset = tfds.builder(name).as_dataset(split=split)
    except (AssertionError, FileNotFoundError) as error:  # the data set is not prepared
        raise MissingFileError(
            f"{name} has not been prepared on this machine, and tfmtl2r downloads nothing: run `tfds build {name}`"
        ) from error
    yield from tfds.as_numpy(dataset)


def read_tfds(name: str, split: str, clip: float | None = None) -> Lists:
    """Reads a split whose examples are lists with ``float_features`` [n, F], ``label`` [n] and ``query_id``.

    Args:
        name: name and configuration, for example ``mslr_web/10k_fold1``.
        split: name of the split.
        clip: largest magnitude of a feature; larger values are clipped. None does not clip.

    Raises:
        ImportError: when tensorflow-datasets is not installed.
        FileNotFoundError: when the data set has not been prepared on this machine.
    """
    features, labels, ids = [], [], []
    for example in examples(name, split):
        values = np.asarray(example["float_features"], np.float64)
        features.append((values if clip is None else np.clip(values, -clip, clip)).astype(np.float32))
        labels.append(np.asarray(example["label"], np.float32))
        ids.append(int(np.ravel(example["query_id"])[0]))
    sizes = np.array([len(part) for part in labels])
    columns = {"features": np.concatenate(features), "label": np.concatenate(labels), "qid": np.repeat(ids, sizes)}
    return Lists(columns, np.concatenate([[0], np.cumsum(sizes)]), np.array(ids), list_id="qid")
