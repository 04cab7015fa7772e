"""From facts to advice: tables of facts, and what must follow from them."""

from __future__ import annotations

import math
import tomllib

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import methods
from tfmtl2r.advice.catalogue import Candidate, candidates
from tfmtl2r.advice.facts import Facts, Goal, Pair, Sharing, Suggestion, Trial
from tfmtl2r.advice.files import changed, check_room, write_experiments
from tfmtl2r.advice.judging import advise
from tfmtl2r.advice.opposition import Opposition, lengths, noise_ratio, oppositions, t_tail
from tfmtl2r.advice.trying import tried
from tfmtl2r.data.columns import label_values
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation import evaluate
from tfmtl2r.experiment import Experiment

NAMES = ("click", "dwell")
NOISE = Opposition(-0.05, 0.2, 0.4, 32)
AGREES = Opposition(0.9, 0.02, 1.0, 32)
FIGHTS = Opposition(-0.8, 0.05, 1e-8, 32)
CERTAIN_AND_SMALL = Opposition(-0.02, 0.001, 1e-9, 32)
LOST = Sharing("click", "ndcg@10", 0.40, 0.45, 0.05, 0.005, 1e-9, gain=0.2)


def facts(order=NOISE, layers=NOISE, sharing=(), goals=None, **rest):
    goals = goals or [Goal(name, "binary", positive=0.3, useful=20.0) for name in NAMES]
    return Facts(goals, [Pair(*NAMES, order, layers)], sharing, **{"width": 32, **rest})


@pytest.mark.parametrize(("given", "equal", "conflicts", "losers", "words", "suggested"), [
    (facts(), True, 0, 0, "Equal weights are likely enough: nothing", ()),
    (facts(AGREES, AGREES), True, 0, 0, "nothing in this pilot", ()),
    (facts(CERTAIN_AND_SMALL, CERTAIN_AND_SMALL), True, 0, 0, "nothing in this pilot", ()),
    (facts(FIGHTS), True, 1, 0, "want opposite orders", ("no_conditioning",)),
    (facts(NOISE, FIGHTS), False, 1, 0, "fight in the layers", ("calm", "tower", "no_conditioning")),
    (facts(sharing=[LOST]), False, 0, 1, "click loses by sharing: ndcg@10 0.4000 with equal", ("tower",)),
    (facts(sharing=[LOST.__class__(**{**vars(LOST), "every_seed": False})]), True, 0, 0, "enough", ()),
    (facts(sharing=[LOST.__class__(**{**vars(LOST), "p": 0.02})]), True, 0, 0, "enough", ()),
    (facts(sharing=[LOST.__class__(**{**vars(LOST), "gain": 2.0})]), True, 0, 0, "enough", ()),
    (facts(goals=[Goal("click", "binary", length=0.1), Goal("dwell", "regression", length=3.0)]), False, 0, 0,
     "The gradient of dwell is 30 times longer than that of click", ("calm",)),
    (facts(Opposition(math.nan, math.nan, 0.9, 32)), True, 0, 0, "to begin with. No goal has a gradient beyond", ()),
    (facts(goals=[Goal("click", "binary", useful=0.5), Goal("dwell", "regression")]), True, 0, 0, "enough",
     ("larger_batch",)),
    (facts(goals=[Goal("click", "binary", noise=30.0), Goal("dwell", "regression")]), True, 0, 0, "enough",
     ("larger_batch",)),
    (facts(width=3), True, 0, 0, "enough", ("conditioned",)),
    (facts(width=3, has_lists=False), True, 0, 0, "enough", ()),
])  # fmt: skip
def test_what_follows_from_facts(given, equal, conflicts, losers, words, suggested):
    things = [
        Candidate("method", "calm", "Calm", "", ("opposed_gradients", "unequal_gradients"), 1.0, "", {}),
        Candidate("architecture", "tower", "Tower", "", ("loses_in_sharing", "opposed_gradients"), 2.0, "", {}),
    ]  # fmt: skip
    found = advise(given, things)
    assert (found.equal_weights, len(found.conflicts), len(found.losers)) == (equal, conflicts, losers)
    assert words in " ".join(found.verdict)
    assert tuple(one.name for one in found.suggestions) == suggested
    assert all(one.reason for one in found.suggestions)


def test_what_was_tried_decides():
    """What did worse than equal weights is not suggested, and the best of the rest comes first."""
    things = [Candidate(kind, name, name, "", ("loses_in_sharing",), cost, "", {kind: name})
              for cost, (kind, name) in enumerate([("method", "calm"), ("architecture", "tower"), ("loss", "soft")])]
    tried = [Trial("calm", {"click": 0.02}, 0.02, 0.01), Trial("tower", {"click": 0.2}, 0.2, 0.01),
             Trial("soft", {"click": -0.3, "dwell": 0.1}, -0.1, 0.02)]
    found = advise(facts(sharing=[LOST], trials=tried), things)
    assert [one.name for one in found.suggestions] == ["tower", "calm"]
    assert found.suggestions[0].reason.endswith(
        "In the pilot it gained 20.0 % \u00b1 1.0 % of what equal weights gain over a constant score.")
    assert not found.equal_weights
    assert "soft (-10.0 %)" in " ".join(found.verdict)
    found = advise(facts(sharing=[LOST], trials=tried[2:]), things)
    assert not found.suggestions
    assert found.equal_weights
    assert found.verdict[0] == "Equal weights are likely enough: nothing that the pilot tried was better."
    assert found.losers == ["click"]
    found = advise(facts(sharing=[LOST], trials=[Trial("soft", {}, math.nan, math.nan)]), things)
    assert not found.suggestions
    assert "soft (not known)" in " ".join(found.verdict)


def test_trials_are_compared_with_equal_weights():
    """The gain is the mean over goals of shares of what equal weights gain; what cannot be trained is named."""
    dataset = tfmtl2r.datasets.get("synthetic_rows", rows=400, dim=4, num_tasks=2)
    plain = Experiment("base", data={"name": "synthetic_rows", "rows": 400, "dim": 4})
    vali, tasks = dataset.lists("vali"), plain.select(dataset)
    labels = {task.name: label_values(vali, task) for task in tasks}
    lengths, told = [], []

    def results(share):
        scores = {name: share * values for name, values in labels.items()}
        return [evaluate(scores, vali, tasks, jackknife=True)] * 2

    def train(experiment, steps):
        lengths.append(steps)
        if experiment.name == "c":
            raise InputError("no")
        return results(0.9)

    some = [Suggestion("a", "", {"method": "pcgrad"}), Suggestion("b", "", {}), Suggestion("c", "", {"method": "mgda"})]
    found = tried(plain, Facts([], steps=7), some, results(0.5), tasks, vali, train, told.append)
    assert lengths == [14, 14]
    assert [one.name for one in found] == ["a", "c"]
    assert math.isnan(found[1].gain)
    # Squared errors of .1 and .5 of the labels, of which a constant leaves nearly all.
    assert found[0].gain == pytest.approx((0.25 - 0.01) / 0.75, rel=0.1)
    assert set(found[0].gains) == set(labels)
    assert told[-1] == "pilot: c cannot be trained here: no"


def test_another_architecture_keeps_the_options_that_it_shares():
    tree = {"architecture": {"name": "shared_bottom", "units": [8], "head_units": [4], "dropout": 0.2}}
    found = changed(tree, ["a"], Suggestion("mmoe", "", {"architecture": "mmoe"}))
    assert found["architecture"] == {"name": "mmoe", "head_units": [4], "dropout": 0.2}
    assert changed({}, ["a"], Suggestion("mmoe", "", {"architecture": "mmoe"}))["architecture"] == "mmoe"


def test_many_pairs_are_corrected():
    """Among 45 pairs, a p-value of 0.004 is nothing special."""
    one = Opposition(-0.3, 0.1, 0.004, 32)
    names = [f"goal {i}" for i in range(10)]
    pairs = [Pair(a, b, one if (i, j) == (0, 1) else NOISE) for i, a in enumerate(names)
             for j, b in enumerate(names) if i < j]
    goals = [Goal(name, "binary") for name in names]
    assert not advise(Facts(goals, pairs), []).conflicts
    assert advise(Facts(goals[:2], pairs[:1]), []).conflicts == [("goal 0", "goal 1")]


def test_suggestions_come_from_cards():
    """A card's claim is enough: a method that nobody has heard of is suggested."""
    @methods.register("peace", methods.registry.card("mgda").__class__(title="Peace", helps=("opposed_gradients",)))
    class Peace(methods.GramMethod):
        def weigh(self, signals, state):
            return signals.preference, state

    try:
        found = {one.name: one for one in candidates(facts(NOISE, FIGHTS))}
        assert found["peace"].changes == {"method": "peace", "gradients": "features"}
        assert found["imtl_g"].cost < found["mgda"].cost  # a claim goes before a promise alone
    finally:
        del methods.registry._registered["peace"]
    with pytest.raises(InputError, match="no situation is called 'rain'"):
        methods.registry.card("mgda").__class__(title="x", helps=("rain",))


@pytest.mark.parametrize("seed", range(3))
def test_opposition_is_not_fooled_by_noise_that_tasks_share(seed):
    rng = np.random.default_rng(seed)
    shared, own = rng.normal(size=[32, 1, 40]), rng.normal(size=[32, 2, 40])
    signal = np.stack([np.ones(40), -np.ones(40)])[None]
    for sign in (5.0, -5.0):  # as strong as the noise is, and of either sign
        noise = own + np.array([1.0, sign])[None, :, None] * shared
        assert oppositions(noise)[0, 1].p > 0.005
        found = oppositions(noise + signal)[0, 1]
        assert found.cosine < -0.6
        assert found.p < 0.001
    assert lengths(own + 3 * signal) == pytest.approx([3 * np.sqrt(40)] * 2, rel=0.05)
    assert noise_ratio(own + signal) == pytest.approx([1.0, 1.0], rel=0.2)


def test_the_test_keeps_its_level():
    """Independent gradients: at most about 5 % of the tests are below 0.05."""
    rng = np.random.default_rng(0)
    p = [oppositions(rng.normal(size=[16, 2, 20]) + rng.normal(size=[1, 2, 20]) * [[[1.0], [0.0]]])[0, 1].p
         for _ in range(300)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert t_tail(-1.0, 5) == pytest.approx(1 - t_tail(1.0, 5))
    assert t_tail(12.706, 1) == pytest.approx(0.025, rel=0.01)


def test_files_are_written_all_or_none(tmp_path):
    data = {"files": str(tmp_path / "log.csv"), "list_id": "q"}
    tree = {"format": 2, "name": "mine", "method": "mgda", "data": data,
            "tasks": [{"name": "click", "kind": "binary"}, {"name": "like", "kind": "binary"}]}
    some = [Suggestion("imtl_g", "A reason. " * 20, {"method": "imtl_g", "gradients": "features"}),
            Suggestion("hint", "only words"), Suggestion("softmax", "rare", {"tasks.like.loss": "softmax"})]
    folder = tmp_path / "advice"
    found = write_experiments(tree, ["click", "like"], some, folder)
    assert [path.name for path in found] == ["0_equal_weights.toml", "1_imtl_g.toml", "2_softmax.toml"]
    first, second, third = (tomllib.loads(path.read_text()) for path in found)
    assert "method" not in first and "method" not in third  # noqa: PT018
    assert (second["method"], second["gradients"], second["data"]["files"]) == ("imtl_g", "features",
                                                                               str(tmp_path / "log.csv"))
    assert third["tasks"][1]["loss"] == "softmax"
    assert found[1].read_text().startswith("# A reason.")
    found[0].unlink()
    before = found[1].read_text()
    for refused in (lambda: write_experiments(tree, [], some[:1], folder), lambda: check_room(folder)):
        with pytest.raises(InputError, match="exists"):
            refused()
    assert not found[0].exists()
    assert found[1].read_text() == before
    with pytest.raises(InputError):
        write_experiments(tree, [], [Suggestion("bad", "?", {"training.batch_size": 0})], tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert write_experiments(tree, ["click", "like"], some, folder, overwrite=True) == found
