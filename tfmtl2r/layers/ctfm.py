"""CTFM: attention between tasks, through which a tower reads the inputs of other towers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.layers import inspection
from tfmtl2r.layers.cut import Branch
from tfmtl2r.layers.dense import dense
from tfmtl2r.layers.dropout import Dropout
from tfmtl2r.types import Tensor


class CrossTaskFeatureMining(keras.layers.Layer):
    """``x~_t = x_t + sum_j A_tj v_j``: adds values of all tasks' tower inputs to each tower's input, ``[T, n, d]``.

    ``q_t = relu((x_t + E_t) W_q + b_q)``, ``k_j = relu(s_j W_k + b_k)``, ``v_j = relu(s_j W_v + b_v)`` and
    ``A_t = softmax_j(q_t . k_j / sqrt(d))`` for each of n items. ``s_j = x_j + E_j`` is under a stop-gradient, so that
    a task's loss does not change the inputs of other towers. The projections belong to all tasks, the row ``E_t`` of
    the task embedding to task t. Without the stop-gradient all variables belong to all tasks.

    :meth:`below` and :meth:`above` are the same computation in two halves, for an architecture with a cut between
    them. The lower half applies all weights of the projections. The upper half computes nothing of size ``T x T x d``.

    Under ``inspection.scope()`` it records ``attention`` ``[T, T]``, the mean of A over items.

    Args:
        stop_gradient: whether a task's gradient stops at the inputs of other towers.
        dropout: rate on the added values; the paper trains with 0.5.

    Source: Ren et al. 2023, Deep Mutual Learning across Task Towers for Effective Multi-Task Recommender Learning,
    https://arxiv.org/abs/2309.10357.

    >>> layer = CrossTaskFeatureMining()
    >>> layer(tf.ones([3, 5, 4])).shape.as_list()
    [3, 5, 4]
    """

    def __init__(self, stop_gradient: bool = True, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.stop_gradient = stop_gradient
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Creates the task embedding and the three projections."""
        num, width = int(input_shape[0]), int(input_shape[-1])
        self.num, self.width = num, width
        self.task_embedding = self.add_weight(
            name="task_embedding", shape=(num, 1, width), initializer=keras.initializers.RandomNormal(stddev=0.01)
        )
        self.query, self.key, self.value = (
            dense(width, dtype=self.dtype_policy, name=name) for name in ("query", "key", "value")
        )
        for projection in (self.query, self.key, self.value):
            projection.build((num, None, width))
        self.built = True

    @property
    def shared_weights(self) -> list[Any]:
        """The projections' weights, which every task's loss reaches."""
        return [w for layer in (self.query, self.key, self.value) for w in layer.trainable_variables]

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Runs both halves."""
        return self.above(inputs, [Branch(tensor, self.num) for tensor in self.below(inputs)], training)

    def below(self, inputs: Tensor) -> list[Any]:
        """The queries before their activation, the keys and the values, ``[T, n, d]`` each.

        With the stop-gradient, no gradient flows from them to ``inputs`` or to the task embedding.
        """
        encoded = self._encoded(inputs)
        if self.stop_gradient:
            encoded = tf.stop_gradient(encoded)
        return [self.query(encoded), tf.nn.relu(self.key(encoded)), tf.nn.relu(self.value(encoded))]

    def above(self, inputs: Tensor, branches: Sequence[Branch], training: bool = False) -> Any:
        """The new inputs of the towers, from their old inputs and the branches of :meth:`below`.

        Args:
            inputs: ``x`` ``[T, n, d]``.
            branches: queries, keys and values. Task t reads slice t of the queries, and all slices of keys and values.
            training: whether dropout is active.
        """
        queries, keys, values = branches
        asked = queries.own()
        if self.stop_gradient:
            asked = _as_if_projected(asked, self._encoded(inputs), tf.convert_to_tensor(self.query.kernel))
        scores = tf.cast(keys.compare(tf.nn.relu(asked)), tf.float32) * self.width**-0.5
        attention = tf.nn.softmax(scores)
        inspection.record("attention", attention, average=(1,), axes=("task", "task"))
        return inputs + self.dropout(values.mix(tf.cast(attention, inputs.dtype)), training=training)

    def _encoded(self, inputs: Tensor) -> Tensor:
        return inputs + tf.cast(self.task_embedding, inputs.dtype)


@tf.custom_gradient
def _as_if_projected(value: Tensor, inputs: Tensor, kernel: Tensor) -> tuple[Tensor, Callable[..., Any]]:
    """Returns ``value``, and adds a path for gradients to the inputs, as if it were ``inputs @ kernel + bias``.

    ``value`` is this product, computed below the cut under a stop-gradient. Its gradients to kernel and bias remain.
    The weights that all tasks share are thus below the cut, and inputs that belong to one task are above the cut.
    """

    def gradient(upstream: Tensor) -> tuple[Any, Any, Any]:
        return upstream, tf.matmul(upstream, tf.cast(kernel, upstream.dtype), transpose_b=True), None

    return tf.identity(value), gradient
