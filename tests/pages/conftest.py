"""A sweep for all tests of pages."""

import pytest
from made_up_runs import fake_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "first"
    fake_sweep(folder)
    return folder
