"""``tfmtl2r serve`` runs the server that there is, or says what to install; fake ones stand on the PATH here."""

import os
import subprocess
import sys

import pytest

from tfmtl2r.serving.configs import write_configs
from tfmtl2r.serving.server import NoServerError, Serving


@pytest.fixture
def export(tmp_path):
    base = tmp_path / "saved models" / "shop"
    (base / "3").mkdir(parents=True)
    (base / "3" / "saved_model.pb").write_bytes(b"")
    return base


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with what ``add`` puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return add


def test_the_server_on_the_path(export, programs):
    programs("docker", "exit 0")
    binary = programs("tensorflow_model_server", "")
    assert Serving(export, "", 1, 2).command() == [
        binary, "--port=1", "--rest_api_port=2", "--model_name=shop", f"--model_base_path={export}"]


def test_docker_otherwise(export, programs):
    programs("docker", "echo 27.0")
    command = Serving(export, "clicks").command()
    assert command[:2] == ["docker", "run"]
    assert command[command.index("--volume") + 1] == f"{export}:{export}:ro"
    assert [command[i + 1] for i, word in enumerate(command) if word == "--publish"] == [
        "127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert "0.0.0.0:8500:8500" in Serving(export, host="0.0.0.0").docker()
    assert "[::1]:8500:8500" in Serving(export, host="::1").docker()
    image = command.index("tensorflow/serving")
    assert command[image - 2 : image] == ["--entrypoint", "tensorflow_model_server"]
    assert command[image + 1 :] == Serving(export, "clicks").flags()
    assert "--model_name=clicks" in command


@pytest.mark.parametrize(("script", "why"), [
    (None, "neither is docker"),
    ("echo Cannot connect to the Docker daemon >&2; exit 1", r"docker does not answer \(Cannot connect"),
])
def test_neither(export, programs, script, why):
    if script:
        programs("docker", script)
    with pytest.raises(NoServerError, match=f"(?s)not on the PATH, and {why}.*Install one.*docker run --rm"):
        Serving(export).command()


def test_files_beside_the_versions(export, programs):
    (export / "batching.config").write_text("")
    assert Serving(export).flags()[-2:] == [
        "--enable_batching=true", f"--batching_parameters_file={export / 'batching.config'}"]
    write_configs(export)
    flags = Serving(export).flags()
    for flag in (f"--model_config_file={export / 'models.config'}", "--model_config_file_poll_wait_seconds=10",
                 "--allow_version_labels_for_unavailable_models=true"):
        assert flag in flags
    assert not [flag for flag in flags if flag.startswith("--model_name")]


def test_a_file_that_serves_another_place(export):
    """A folder that was moved, renamed or copied brings its ``models.config`` along."""
    write_configs(export)
    moved = export.rename(export.with_name("moved"))
    with pytest.raises(ValueError, match=r"models\.config contains no model 'moved', but .*delete the file"):
        Serving(moved).flags()
    with pytest.raises(ValueError, match=f"serves 'shop' from {export}, but this is {moved}: write .*{moved}"):
        Serving(moved, "shop").flags()
    with pytest.raises(ValueError, match="contains no model 'other'"):
        Serving(moved.rename(export), "other").docker()
    (export / "models.config").write_text("no config")
    with pytest.raises(ValueError, match=r"models\.config is no ModelServerConfig"):
        Serving(export).flags()


def test_nothing_to_serve(tmp_path, programs):
    programs("tensorflow_model_server", "")
    with pytest.raises(FileNotFoundError, match="does not exist: export a ranker there first"):
        Serving(tmp_path / "absent").command()


def test_the_command_becomes_the_server(export, programs, monkeypatch):
    """Its own process: the exit code and the signals are the server's. No TensorFlow is loaded on the way."""
    programs("tensorflow_model_server", 'echo "$$ serves $3"; exit 7')
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    command = [sys.executable, "-m", "tfmtl2r.cli", "serve", "shop", "--directory", str(export.parent), "--port", "99"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 7, err
    said, served = out.splitlines()
    assert "--port=99" in said
    assert served == f"{process.pid} serves --model_name=shop"
    assert " tensorflow\n" not in err
    assert "the server listens in all networks of this machine and has no login" in err


def test_the_command_says_what_to_install(export, programs, capsys):
    from tfmtl2r import cli

    assert cli.main(["serve", "shop", "--directory", str(export.parent)]) == 1
    assert "tfmtl2r serve: there is no TensorFlow Serving here" in capsys.readouterr().err
