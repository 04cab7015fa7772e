"""Finding a TensorFlow Serving for an export: the binary on the PATH, else docker. There is no server of our own."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import subprocess
from pathlib import Path

from tfmtl2r.errors import InputError, MissingFileError
from tfmtl2r.serving.configs import BATCHING, MODELS, entry
from tfmtl2r.serving.versions import newest

BINARY = "tensorflow_model_server"
POLL_SECONDS = 10
"""How often the server looks whether ``models.config`` has changed."""
_DOCKER_SECONDS = 20


class NoServerError(MissingFileError):
    """There is neither the server nor a docker that answers; the message says what to install."""


@dataclasses.dataclass(frozen=True)
class Serving:
    """How an export is to be served.

    Where the export's folder holds ``batching.config``, the server merges requests as it says; where it holds
    ``models.config``, the server reads from it which versions to serve under which labels, and looks again every ten
    seconds. Without them it serves the newest version, one request at a time.

    Args:
        base: the folder of the export, which holds its versions.
        name: of the model in requests; the folder's own if empty.
        port: for gRPC.
        rest_port: for REST.
        image: for docker.
    """

    base: Path
    name: str = ""
    port: int = 8500
    rest_port: int = 8501
    image: str = "tensorflow/serving"

    def command(self) -> list[str]:
        """The command line of the server that there is.

        Raises:
            FileNotFoundError: when the folder holds no version.
            ValueError: when ``models.config`` tells of another model or folder than this one.
            NoServerError: when there is no server.
        """
        newest(self.base)  # a server without a version waits for one without a word
        binary = shutil.which(BINARY)
        if binary:
            return [binary, *self.flags()]
        trouble = _trouble_with_docker()
        if trouble:
            raise NoServerError(
                f"there is no TensorFlow Serving here: {BINARY} is not on the PATH, and {trouble}. Install one of "
                "them: https://www.tensorflow.org/tfx/serving/setup for the server (Debian and Ubuntu), "
                "https://docs.docker.com/engine/install for docker; or run elsewhere:\n  "
                f"{shlex.join(self.docker())}"
            )
        return self.docker()

    def docker(self) -> list[str]:
        """The server in a container, which sees the export read-only and under its own path."""
        base = str(self.base.resolve())
        ports = [argument for port in (self.port, self.rest_port) for argument in ("--publish", f"{port}:{port}")]
        return ["docker", "run", "--rm", *ports, "--volume", f"{base}:{base}:ro", "--entrypoint", BINARY, self.image,
                *self.flags()]

    def flags(self) -> list[str]:
        """The flags of the server, the same for both ways.

        Raises:
            ValueError: when ``models.config`` tells of another model or folder than this one.
        """
        base = self.base.resolve()  # the server refuses a relative path
        name = self.name or base.name
        flags = [f"--port={self.port}", f"--rest_api_port={self.rest_port}"]
        if (base / MODELS).is_file():
            _check_entry(base, name)
            # Labels of versions that are not loaded yet would keep the server from starting.
            flags += [f"--model_config_file={base / MODELS}", f"--model_config_file_poll_wait_seconds={POLL_SECONDS}",
                      "--allow_version_labels_for_unavailable_models=true"]
        else:
            flags += [f"--model_name={name}", f"--model_base_path={base}"]
        if (base / BATCHING).is_file():
            flags += ["--enable_batching=true", f"--batching_parameters_file={base / BATCHING}"]
        return flags


def _check_entry(base: Path, name: str) -> None:
    """A folder that was copied or renamed brings a file along that serves the old place."""
    model = entry(base / MODELS, name)
    if model is None or model.base_path != str(base):
        found = f"knows no model {name!r}" if model is None else f"serves {name!r} from {model.base_path}"
        raise InputError(f"{base / MODELS} {found}, but this is {base}: write name: {name!r} and base_path: "
                         f"{str(base)!r} there, or delete the file, which the next export writes again (without it the "
                         "newest version is served, and no labels)")


def _trouble_with_docker() -> str:
    """Why docker cannot run the server; nothing if it can."""
    docker = shutil.which("docker")
    if not docker:
        return "neither is docker"
    try:
        command = [docker, "version", "--format", "{{.Server.Version}}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOCKER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"docker does not answer ({error})"
    return f"docker does not answer ({done.stderr.strip()})" if done.returncode else ""
