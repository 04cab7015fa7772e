"""The preferences that the training steps of a conditioned ranker draw: one for every list, or one for the batch.

With a method whose objective is linear in the preference, every list has a draw of its own. Other methods compare the
tasks' losses by the preference, and so the whole batch has one draw.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tfmtl2r._backend import tf
from tfmtl2r.batch import PREFERENCE, Batch, unpack
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Method
from tfmtl2r.preferences import drawn
from tfmtl2r.training.method_state import Clock
from tfmtl2r.training.replicas import Replicas


def has_own(data: Any, method: Method) -> bool:
    """Whether every list of a training batch draws a preference of its own.

    Args:
        data: the batch, as a data set yields it.
        method: the balancing method.

    Raises:
        ValueError: for a batch that has preferences.
    """
    if PREFERENCE in unpack(data)[0]:
        raise InputError(f"a training batch has {PREFERENCE!r}, but a conditioned ranker draws the preference that "
                         "it reads and is trained for; leave it out of training data")
    return method.preference_per_list


def per_list(batch: Batch, clock: Clock, concentration: float, seed: Any, replicas: Replicas) -> tuple[Batch, Clock]:
    """Draws a preference of its own for every list of a batch.

    List b weighs ``r_bt`` in the loss of task t, and the method receives the mean ``r_t`` of the draws. With
    ``L_t = sum_b r_bt l_bt / sum_b r_bt``, the sum ``sum_t r_t L_t`` is exactly the mean over lists of
    ``sum_t r_bt l_bt``. A step then sees many preferences in place of one.

    Args:
        batch: the lists (or plain rows) of this replica.
        clock: the clock of the step.
        concentration: of the Dirichlet distribution.
        seed: ``int32[2]``, the seed of the draws of the step.
        replicas: the replicas.

    Returns:
        The batch that the ranker reads, and the clock with the mean preference of all replicas.
    """
    tasks = clock.preference.shape[0]
    num = tf.cast(batch.num_lists, tf.int32)
    whole = drawn(tasks, concentration, seed, tf.cast(replicas.sum(tf.cast(num, tf.float32)), tf.int32))
    rows = tf.gather(whole, replicas.places(tf.range(num), num))  # the same draws, however lists are divided
    mean = tf.math.divide_no_nan(tf.reduce_sum(whole, axis=0), tf.reduce_sum(whole))
    mean = tf.where(tf.reduce_sum(whole) > 0, mean, clock.preference)  # a batch of no lists
    return (dataclasses.replace(batch, preference=rows, shares=rows), dataclasses.replace(clock, preference=mean))
