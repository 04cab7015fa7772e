"""Serve an export with TensorFlow Serving, from the PATH or with docker."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class Serve:
    """Serves an export with tensorflow_model_server, or with docker if this program is not installed.

    The server loads new versions when they are exported. Stop it with Ctrl-C.

    Args:
        name: name of the export, a folder in the directory. Requests use it as the name of the model.
        directory: the folder of all exports.
        port: port for gRPC.
        rest_port: port for REST.
        image: docker image; its version must be at least that of the TensorFlow that wrote the export.
        host: address at which docker listens: by default this machine only; 0.0.0.0 for all networks. The program
            tensorflow_model_server has no such option and always listens in all networks.
    """

    name: Annotated[str, tyro.conf.Positional]
    directory: str = "saved_models"
    port: int = 8500
    rest_port: int = 8501
    image: str = "tensorflow/serving"
    host: str = "127.0.0.1"


def main(arguments: Sequence[str]) -> None:
    """Replaces this process by the server."""
    options = tyro.cli(Serve, args=arguments, prog="tfmtl2r serve")
    from tfmtl2r.runs.places import below
    from tfmtl2r.serving.server import Serving

    base = below(options.directory, options.name)
    command = Serving(base, base.name, options.port, options.rest_port, options.image, options.host).command()
    print(shlex.join(command), flush=True)
    if command[0] != "docker":
        print("the server listens in all networks of this machine and has no login: close its ports to other machines",
              file=sys.stderr, flush=True)
    os.execvp(command[0], command)  # signals go straight to the server, and its exit code is ours
