"""Cuts long lists so that a relevant item of each task stays.

Each item has a key: its place in the list (``"first"``) or a random number (``"random"``). For each binary or graded
task, the relevant item with the smallest key in the list is protected: its key becomes -1. The ``limit`` items with the
smallest keys stay, in their order.
"""

from __future__ import annotations

import numpy as np

from tfmtl2r._backend import tf
from tfmtl2r.data.lists import Lists
from tfmtl2r.types import Tensor


def cut_report(lists: Lists, list_limit: int) -> dict[str, int]:
    """Counts the lists and items that a limit of the list length cuts.

    Args:
        lists: the lists.
        list_limit: the largest number of items that stay in a list.

    Returns:
        ``lists_cut`` and ``items_cut``, and ``items``, the number of items before.

    >>> cut_report(Lists({"x": np.zeros(5)}, offsets=np.array([0, 1, 5])), list_limit=3)
    {'lists_cut': 1, 'items_cut': 1, 'items': 5}
    """
    excess = np.maximum(lists.sizes - list_limit, 0)
    return {"lists_cut": int((excess > 0).sum()), "items_cut": int(excess.sum()), "items": lists.num_items}


def keep_first(offsets: np.ndarray, relevant: np.ndarray, limit: int) -> np.ndarray:
    """Chooses the items that stay if each list is cut to its first items.

    Args:
        offsets: ``int64[n_lists + 1]``.
        relevant: ``bool[N, T]``, whether the item is relevant, for each task that protects an item.
        limit: the largest number of items that stay in a list.

    Returns:
        ``bool[N]``, True for the items that stay.

    >>> keep_first(np.array([0, 4]), np.array([[0], [0], [0], [1]], bool), limit=2).tolist()
    [True, False, False, True]
    """
    sizes = np.diff(offsets)
    list_of = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(offsets[-1]) - offsets[:-1][list_of]
    key = place.copy()
    for column in relevant.T:
        items = np.flatnonzero(column)
        _, first = np.unique(list_of[items], return_index=True)
        key[items[first]] = -1
    rank = np.empty_like(place)
    rank[np.lexsort((key, list_of))] = place
    return rank < limit


def choose(keys: Tensor, relevant: Tensor, sizes: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Chooses the items of a batch that stay, in the graph.

    Args:
        keys: ``float32[B, L]`` in [0, 1); +inf at padded places.
        relevant: ``bool[B, L, T]``, False at padded places.
        sizes: ``int32[B]``.
        limit: the largest number of items that stay in a list; at least T.

    Returns:
        places ``int32[B, min(L, limit)]`` in ascending order, and the new sizes ``int32[B]``.
    """
    width = tf.shape(keys)[1]
    infinite = tf.fill(tf.shape(keys), np.float32(np.inf))
    for t in range(relevant.shape[-1]):
        candidates = tf.where(relevant[..., t], keys, infinite)
        protected = tf.one_hot(tf.argmin(candidates, axis=1), width, on_value=True, off_value=False, dtype=tf.bool)
        keys = tf.where(protected & relevant[..., t], -1.0, keys)
    _, places = tf.math.top_k(-keys, tf.minimum(limit, width), sorted=False)
    return tf.sort(places, axis=1), tf.minimum(sizes, limit)
