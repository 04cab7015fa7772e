"""Run cards survive a round trip, and say what is wrong with a file that is none."""

import json

import numpy as np
import pytest

from tfmtl2r.runs.card import RunCard, peak_memory_mb
from tfmtl2r.runs.places import CARD
from tfmtl2r.settings import checked_name


def test_round_trip(tmp_path):
    card = RunCard("a", {"seed": np.int64(3)}, results={"test": {"click": {"ndcg@5": {"value": np.float32(0.5)}}}})
    card.save(tmp_path / "a")
    loaded = RunCard.load(tmp_path / "a")
    assert loaded.config == {"seed": 3}
    assert loaded.results == {"test": {"click": {"ndcg@5": {"value": 0.5}}}}
    assert {"python", "tensorflow", "keras", "tfmtl2r"} <= set(loaded.versions)
    assert [path.name for path in (tmp_path / "a").iterdir()] == [CARD]


def test_a_value_that_is_no_data_leaves_the_old_card(tmp_path):
    RunCard("a", {"seed": 1}).save(tmp_path)
    with pytest.raises(TypeError, match="object cannot be written"):
        RunCard("a", {"seed": object()}).save(tmp_path)
    assert RunCard.load(tmp_path).config == {"seed": 1}


def test_what_is_not_a_run_card(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a run of tfmtl2r train"):
        RunCard.load(tmp_path)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(ValueError, match="is not a run card"):
        RunCard.load(tmp_path)
    (tmp_path / CARD).write_text(json.dumps({"surprise": 1, "format": 2}))
    with pytest.raises(ValueError, match="surprise"):
        RunCard.load(tmp_path)


def test_old_names_in_a_history_are_read_as_todays(tmp_path):
    old = {"name": "a", "config": {}, "history": {"val_blend": [0.1], "blend": [0.2], "val_blend_along": [0.3],
                                                  "val_blend_loss": [0.4]}}  # the last is the loss of a task
    (tmp_path / CARD).write_text(json.dumps(old))
    assert RunCard.load(tmp_path).history == {"val_stop_on": [0.1], "stop_on": [0.2], "val_stop_on_along": [0.3],
                                              "val_blend_loss": [0.4]}


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "run.toml", "C:a", "nul", "Aux.1",
                                  "a\x00", "a."])
def test_names_that_are_no_folder(name):
    with pytest.raises(ValueError, match="run name"):
        checked_name(name)


def test_memory_is_measured():
    assert 10 < peak_memory_mb() < 1e6
