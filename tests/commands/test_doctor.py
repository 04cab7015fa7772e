"""What a report of a fault contains."""

import pytest

from tfmtl2r import cli
from tfmtl2r.commands import doctor


def test_it_tells_versions_devices_and_settings_but_no_secrets(monkeypatch, capsys):
    monkeypatch.setenv("TF_VAR_password", "hunter2")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for told in ("tfmtl2r ", "tensorflow-ranking ", "extra trees: ", "TF_ENABLE_ONEDNN_OPTS=0", "CPU:0", "tensorflow"):
        assert told in printed
    assert "hunter2" not in printed
    assert "MISSING" not in printed


@pytest.mark.parametrize("missing", ["moocore", "tensorflow"])
def test_a_missing_library_is_a_fault(missing, monkeypatch, capsys):
    installed = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: "" if name == missing else installed(name))
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert f"{missing} MISSING" in printed.out
    assert f"fault: the library {missing} is not installed" in printed.err
