"""Names of logged values can be put together and taken apart, and names that cannot are refused."""

import itertools

import pytest

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task
from tfmtl2r.names import STAGED, LogName, checked, checked_folder, did_you_mean, refuse_ambiguous


def test_every_log_name_of_a_ranker_is_told_apart_or_refused():
    """Tasks and metrics made of the same few words: every set of tasks is refused, or each name has one meaning."""
    words = ("loss", "stop", "on", "stage", "log")
    names = [*words, *("_".join(pair) for pair in itertools.permutations(words, 2))]
    labels = ["log_loss", "on", "loss_loss", "ndcg@5"]
    refused = 0
    for tasks in itertools.combinations(names, 2):
        quantities = dict.fromkeys(tasks, labels)
        every = [LogName(quantity, task, split) for task in tasks for quantity in ("loss", *labels)
                 for split in (False, True)]
        every += [LogName(quantity, "", split) for quantity in ("loss", "stop_on", "kept") for split in (False, True)]
        try:
            refuse_ambiguous(quantities)
        except ValueError:
            refused += 1
        else:
            assert [LogName.parse(str(name), tasks) for name in every] == every
            assert len({str(name) for name in every}) == len(every)
    assert 0 < refused < 200


def test_names_of_everyday_tasks_are_as_keras_shows_them():
    assert str(LogName("loss", validation=True)) == "val_loss"
    assert str(LogName("ndcg@5", "click")) == "click_ndcg@5"
    assert LogName("loss", "click", validation=True).tag == "click/loss"
    assert LogName("loss").tag == "all/loss"
    assert LogName.parse("val_long_view_loss", ["long", "long_view"]) == LogName("loss", "long_view", True)


def test_a_ranker_refuses_tasks_that_its_logs_would_mix_up_before_training():
    tasks = [Task("click", kind="binary", metrics=("log_loss",)), Task("click_log", kind="binary")]
    model = MultiTaskRanker("shared_bottom", tasks, Schema([Dense("price")]))
    model.compile("adam")
    with pytest.raises(ValueError, match="'click_log_loss' could mean 'log_loss' of task 'click' or 'loss' of task"):
        model.prepare({"price": [[1.0, 2.0]], "list_size": [2]})
    with pytest.raises(ValueError, match="'view_full_loss' could mean 'full_loss' of task 'view'"):
        refuse_ambiguous({"view": STAGED, "view_full": STAGED})


def test_near_names_are_proposed_nearest_first():
    assert did_you_mean("mgdaa", ["cagrad", "mgda", "mgda_ub"], most=2) == "; did you mean 'mgda' or 'mgda_ub'?"
    assert did_you_mean(7, [17, "x"]) == "; did you mean '17'?"
    assert did_you_mean("x", []) == ""


@pytest.mark.parametrize("name", ["", None, 3, "a\x00b", "a\x9fb", "a\n", "\udc80"])
def test_names_that_cannot_be_used_are_refused(name):
    with pytest.raises(ValueError, match="feature name"):
        checked(name, "feature")
    assert checked("prix é", "feature") == "prix é"


@pytest.mark.parametrize("name", [".", "..", "a/b", "/a", "a\\b", " a", "a ", "", "a\n",
                                  "C:", "c:a", "a.", "nul", "NUL.txt",
                                  "Com1", "con .x", "a\x00"])
def test_a_model_has_the_name_of_one_folder(name):
    with pytest.raises(ValueError, match="model name"):
        checked_folder(name, "model")
    for kept in ("shop é 2", "console", "com10", "a.nul"):
        assert checked_folder(kept, "model") == kept
