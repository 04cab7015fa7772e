"""Draws short lists from long lists, for listwise losses on a user's whole history."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r._keras2 import recommenders
from tfmtl2r.data.lists import Lists
from tfmtl2r.errors import InputError


def sample_lists(lists: Lists, num_lists: int, list_length: int, seed: int = 0) -> Lists:
    """Draws lists of equal length from every list, with TensorFlow Recommenders' ``sample_listwise``.

    A drawn list contains each item at most once. Lists that are too short are left out.

    Args:
        lists: the lists to draw from, for example all ratings of each user.
        num_lists: number of lists to draw from each list.
        list_length: number of items in each drawn list.
        seed: seed of the draws.

    Returns:
        Lists with the ids ``"ID#0"``, ``"ID#1"``, ... in the order of the input.

    Raises:
        ValueError: for plain rows, numbers below 1, or when every list is too short.
    """
    if lists.offsets is None or lists.ids is None:
        raise InputError("sampling needs lists, and these are plain rows: give a list id")
    if num_lists < 1 or list_length < 1:
        raise InputError(f"num_lists and list_length must be at least 1, not {num_lists} and {list_length}")
    enough = lists.sizes >= list_length
    if not enough.any():
        raise InputError(f"no list has {list_length} items; the longest has {int(lists.sizes.max())}")
    owners = np.repeat(np.arange(lists.num_lists), lists.sizes)
    # The function expects the column names of MovieLens. The row number takes the place of the film.
    rows = {"user_id": owners, "movie_title": np.arange(lists.num_items), "user_rating": np.zeros(len(owners))}
    drawn = recommenders().examples.movielens.sample_listwise(
        tf.data.Dataset.from_tensor_slices(rows), num_lists, list_length, seed
    )
    items = np.concatenate([row["movie_title"] for row in drawn.as_numpy_iterator()])
    ids = np.array([f"{lists.ids[i]}#{n}" for i in np.flatnonzero(enough) for n in range(num_lists)], object)
    return dataclasses.replace(
        lists, columns=lists.stored.take(items), ids=ids,
        offsets=np.arange(len(ids) + 1) * list_length, source_rows=np.asarray(lists.source_rows)[items],
    )
