"""What could not be saved is refused before any training, and the message says how to register it."""

import dataclasses

import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task, architectures, losses, methods, metrics
from tfmtl2r._backend import keras, tf

SCHEMA = Schema([Dense("price")])


@dataclasses.dataclass(frozen=True)
class Plain(methods.Scalarisation):
    """The sum, or another function of the losses."""

    reduce: object = tf.reduce_sum

    def objective(self, losses, signals, state):
        return self.reduce(losses), state


class Half(architectures.registry.constructor("shared_bottom")):
    """The built-in with another default."""

    def __init__(self, units=(4,), **kwargs):
        super().__init__(units, **kwargs)


@dataclasses.dataclass(frozen=True)
class Error(losses.registry.constructor("mse")):
    """The built-in under another name."""


@dataclasses.dataclass(frozen=True)
class Gain(metrics.registry.constructor("ndcg")):
    """The built-in under another name."""


def test_a_method():
    ranker = MultiTaskRanker("shared_bottom", ["click"], SCHEMA)
    with pytest.raises(ValueError, match=r"Plain \(file .*test_refused.py\) is no registered method, .*"
                       r"put @tfmtl2r.methods.register\(\"name\"\) above the class"):
        ranker.compile(method=Plain())
    with pytest.raises(ValueError, match=r"Plain .* is no registered method"):
        ranker.compile(method=methods.get("every", method=Plain()))
    assert not ranker.compiled


@pytest.mark.parametrize(
    ("architecture", "task", "kind"),
    [
        (Half, {}, "architecture"),
        ("shared_bottom", {"loss": Error(), "kind": "regression"}, "loss"),
        ("shared_bottom", {"metrics": ("ndcg@5", Gain())}, "metric"),
    ],
)
def test_an_architecture_a_loss_and_a_metric(architecture, task, kind):
    architecture = architecture if isinstance(architecture, str) else architecture()
    folder = {"loss": "losses"}.get(kind, f"{kind}s")
    with pytest.raises(ValueError, match=rf"is no registered {kind}, .*tfmtl2r.{folder}.register\(\"name\"\)"):
        MultiTaskRanker(architecture, [Task("click", **task)], SCHEMA)


def test_an_option_that_is_a_function(registered):
    registered(methods.registry, Plain)
    ranker = MultiTaskRanker("shared_bottom", ["click"], SCHEMA)
    ranker.compile(method="plain")
    with pytest.raises(ValueError, match=r"Plain has the option reduce=<function .*>, which cannot be saved.*method"):
        ranker.compile(method=Plain(reduce=lambda losses: losses[0]))


def test_what_is_registered_is_saved_and_loaded(registered, tmp_path):
    for registry, cls in ((methods.registry, Plain), (architectures.registry, Half), (losses.registry, Error),
                          (metrics.registry, Gain)):
        registered(registry, cls)
    ranker = MultiTaskRanker(Half(units=(3,)), [Task("click", kind="regression", loss=Error(), metrics=(Gain(k=2),))],
                             SCHEMA)
    ranker.compile(method="plain")
    ranker.optimizer.build(ranker.trainable_variables)
    ranker.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.architecture) is Half
    assert again.architecture.units == (3,)
    assert again.get_config() == ranker.get_config()
    assert again.get_compile_config()["method"] == {"name": "plain"}
    named = {(need["registry"], need["name"], need["where"]) for need in [
        *ranker.get_config()["extensions"], *ranker.get_compile_config()["extensions"]]}
    assert named == {(f"tfmtl2r.{folder}", name, "test_refused.py") for folder, name in (
        ("architectures", "half"), ("losses", "error"), ("metrics", "gain"), ("methods", "plain"))}
    methods.registry.unregister("plain")
    with pytest.raises(ValueError, match=r"the method 'plain' is missing: it came from the file test_refused.py"):
        keras.saving.load_model(tmp_path / "model.keras")


def test_architectures_are_described_alike_however_they_were_built():
    mmoe = architectures.registry.constructor("mmoe")
    describe = architectures.registry.describe
    assert describe(mmoe(num_experts=4)) == describe(architectures.get("mmoe", num_experts=4)) == {
        "name": "mmoe", "num_experts": 4}
    assert describe(mmoe(4, encoder="transformer")) == {"name": "mmoe", "num_experts": 4, "encoder": "transformer"}
    direct = architectures.get("dml", base=mmoe(num_experts=2), head_units=(5,))
    named = architectures.get("dml", base=architectures.get("mmoe", num_experts=2), head_units=(5,))
    assert describe(direct) == describe(named) == {
        "name": "dml", "base": {"name": "mmoe", "num_experts": 2}, "head_units": [5]}
    assert describe(architectures.get("dml", base=mmoe())) == {"name": "dml"}
    with pytest.raises(ValueError, match=r"head_units=.* was given to it and .* to its base"):
        architectures.get("dml", base=mmoe(head_units=(64,)), head_units=(5,))


@pytest.mark.parametrize(("task", "message"), [
    ({"loss": "sofmax"}, "task 'click': no loss is called 'sofmax'; did you mean 'softmax'"),
    ({"loss": {"name": "softmax", "temperatur": 2.0}}, "task 'click': loss 'softmax' has no option temperatur"),
    ({"loss": {"temperature": 2.0}}, "task 'click': a loss is described by"),
    ({"loss": keras.losses.MeanSquaredError()}, "task 'click': expected a loss, its name or"),
    ({"loss": tf.reduce_mean}, "task 'click': expected a loss"),
    ({"metrics": ("ndcg@5", "aucc")}, "task 'click': no metric is called 'aucc'; did you mean .*'auc'"),
    ({"metrics": ("ndcg@five",)}, "task 'click': metric 'ndcg@five': the cutoff after @ must be a whole number"),
    ({"metrics": ("auc@5",)}, "task 'click': metric 'auc' has no option k"),
    ({"metrics": (keras.metrics.AUC(),)}, "task 'click': expected a metric, its name or"),
    ({"metrics": "auc"}, r"task 'click': metrics must be several, such as \('ndcg@5', 'auc'\), not 'auc'"),
    ({"metrics": {"name": "auc"}}, "task 'click': metrics must be several"),
    ({"metrics": 5}, "task 'click': metrics must be several"),
])
def test_misspelt_losses_and_metrics_before_any_training(task, message):
    with pytest.raises((ValueError, TypeError), match=message):
        MultiTaskRanker("shared_bottom", [Task("click", kind="binary", **task)])
