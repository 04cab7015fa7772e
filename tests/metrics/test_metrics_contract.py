"""Every registered metric keeps to what all metrics keep to; names and defaults of metrics."""

import dataclasses

import numpy as np
import pytest

from tfmtl2r import metrics
from tfmtl2r._backend import tf
from tfmtl2r.metrics.base import Metric, default_names
from tfmtl2r.testing import metric_checks
from tfmtl2r.testing.metric import streamed

NAMES = metrics.names()


@pytest.mark.product
@pytest.mark.parametrize("check", [check for name in NAMES for check in metric_checks(name)])
def test_keeps_the_contract(check):
    check()


def test_all_metrics_but_one_have_a_number_on_plain_rows():
    rows = [[1.0], [0.0], [np.nan]], [[0.3], [-0.2], [1.0]], np.ones((3, 1), bool)
    assert [name for name in NAMES if np.isnan(streamed(metrics.get(name), rows))] == ["grouped_auc"]


def test_cutoffs_in_names():
    assert metrics.get("ndcg@5") == metrics.get("ndcg", k=5) == metrics.get({"name": "ndcg@5"})
    assert metrics.get("ndcg@5").label == "ndcg@5"
    assert metrics.get("mrr").label == "mrr"
    assert metrics.registry.describe(metrics.get("ndcg@5", gain="linear")) == {"name": "ndcg", "k": 5, "gain": "linear"}
    assert metrics.get("ndcg@5").streaming().name == "ndcg@5"
    ready = metrics.get("map@3")
    assert metrics.get(ready) is ready
    with pytest.raises(ValueError, match="must be a whole number, not 'five'"):
        metrics.get("ndcg@five")
    with pytest.raises(TypeError, match="given twice"):
        metrics.get("ndcg@5", k=3)
    with pytest.raises(TypeError, match="has no option k"):
        metrics.get("auc@5")
    with pytest.raises(ValueError, match="did you mean 'ndcg'"):
        metrics.get("ndgc@5")


def test_default_metrics_exist():
    for kind in ("binary", "graded", "regression"):
        for lists in (True, False):
            for name in default_names(kind, lists):
                assert metrics.get(name).label == name
    with pytest.raises(ValueError, match="kind must be one of"):
        default_names("click", lists=True)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_graph_traces_equal_metrics_once_and_metrics_that_may_change_each_time(frozen):
    """Tasks, and rankers of a sweep, have equal metrics."""
    traced = []

    class Scored(Metric):
        def compute(self, labels, scores, known, weights):
            traced.append(1)
            return scores[:, 0], tf.ones_like(scores[:, 0])

    made = dataclasses.dataclass(frozen=True)(Scored) if frozen else Scored
    streams = [made().streaming(name) for name in ("a", "b")]

    @tf.function
    def add():
        for number, stream in enumerate(streams, start=1):
            stream.update_state(tf.ones([2, 3]), number * tf.ones([2, 3]), tf.ones([2, 3], tf.bool))

    add()
    assert (len(traced) == 1) is frozen
    assert [float(stream.result()) for stream in streams] == [1.0, 2.0]
