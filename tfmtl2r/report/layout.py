"""The layout of TensorBoard's custom scalars: a chart for each task, and one for the weights of all tasks."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # TensorBoard's own
    from tensorboard.plugins.custom_scalar import layout_pb2, summary

from tfmtl2r._backend import tf

_TOGETHER = {"weights": "weights of the method", "gradient_norm": "lengths of gradients",
             "gradient_cosine": "cosines of gradients: below 0 is a conflict"}


def write(tasks: Sequence[str]) -> None:
    """Writes the layout to the writer whose context is open.

    Args:
        tasks: names of the tasks.
    """
    charts = [layout_pb2.Category(title="tasks", chart=[_chart(task, rf"{re.escape(task)}/[^/]+") for task in tasks]),
              layout_pb2.Category(title="gradients", chart=[_chart(title, f"{tag}/.*")
                                                            for tag, title in _TOGETHER.items()])]
    made = summary.pb(layout_pb2.Layout(category=charts))
    for value in made.value:
        tf.summary.write(value.tag, tf.make_ndarray(value.tensor),
                         metadata=tf.compat.v1.SummaryMetadata.FromString(value.metadata.SerializeToString()))


def _chart(title: str, tags: str) -> layout_pb2.Chart:
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[tags]))
