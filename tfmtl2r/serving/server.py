"""Finds a TensorFlow Serving for an export: the binary on the PATH, else docker. tfmtl2r contains no server."""

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
"""Seconds between the server's checks whether ``models.config`` has changed."""
_DOCKER_SECONDS = 20


class NoServerError(MissingFileError):
    """Neither the server nor a running docker was found; the message names what to install."""


@dataclasses.dataclass(frozen=True)
class Serving:
    """The options for serving an export.

    If the export's folder contains ``batching.config``, the server merges requests with these settings. If it contains
    ``models.config``, the server reads versions and labels from this file, and checks it for changes every ten seconds.
    Without these files, the server serves the newest version, one request at a time.

    Args:
        base: the folder of the export, which contains its versions.
        name: name of the model in requests; the name of the folder if empty.
        port: port for gRPC.
        rest_port: port for REST.
        image: docker image.
        host: address of this machine at which docker listens; the default can be reached from this machine only. The
            server itself has no such flag: without docker, it listens at all addresses.
    """

    base: Path
    name: str = ""
    port: int = 8500
    rest_port: int = 8501
    image: str = "tensorflow/serving"
    host: str = "127.0.0.1"

    def command(self) -> list[str]:
        """The command line of the server that was found.

        Raises:
            FileNotFoundError: when the folder contains no version.
            ValueError: when ``models.config`` is for another model or folder.
            NoServerError: when no server was found.
        """
        newest(self.base)  # a server without a version would wait silently
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
        """The command line of the server in a container, where the export is read-only and has the same path."""
        base = str(self.base.resolve())
        host = f"[{self.host}]" if ":" in self.host else self.host
        ports = [argument for port in (self.port, self.rest_port)
                 for argument in ("--publish", f"{host}:{port}:{port}")]
        return ["docker", "run", "--rm", *ports, "--volume", f"{base}:{base}:ro", "--entrypoint", BINARY, self.image,
                *self.flags()]

    def flags(self) -> list[str]:
        """The flags of the server, for the binary and for docker.

        Raises:
            ValueError: when ``models.config`` is for another model or folder.
        """
        base = self.base.resolve()  # the server refuses a relative path
        name = self.name or base.name
        flags = [f"--port={self.port}", f"--rest_api_port={self.rest_port}"]
        if (base / MODELS).is_file():
            _check_entry(base, name)
            # Without the last flag, the server does not start if the version of a label is not loaded yet.
            flags += [f"--model_config_file={base / MODELS}", f"--model_config_file_poll_wait_seconds={POLL_SECONDS}",
                      "--allow_version_labels_for_unavailable_models=true"]
        else:
            flags += [f"--model_name={name}", f"--model_base_path={base}"]
        if (base / BATCHING).is_file():
            flags += ["--enable_batching=true", f"--batching_parameters_file={base / BATCHING}"]
        return flags


def _check_entry(base: Path, name: str) -> None:
    """Checks that ``models.config`` is for this folder: a copied or renamed folder still contains the old path."""
    model = entry(base / MODELS, name)
    if model is None or model.base_path != str(base):
        found = f"contains no model {name!r}" if model is None else f"serves {name!r} from {model.base_path}"
        raise InputError(f"{base / MODELS} {found}, but this is {base}: write name: {name!r} and base_path: "
                         f"{str(base)!r} there, or delete the file; the next export writes it again (without the file, "
                         "the newest version is served, and there are no labels)")


def _trouble_with_docker() -> str:
    """The reason why docker cannot run the server; empty if it can."""
    docker = shutil.which("docker")
    if not docker:
        return "neither is docker"
    try:
        command = [docker, "version", "--format", "{{.Server.Version}}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOCKER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"docker does not answer ({error})"
    return f"docker does not answer ({done.stderr.strip()})" if done.returncode else ""
