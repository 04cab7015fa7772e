"""Serve an export with TensorFlow Serving, from the PATH or with docker."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class Serve:
    """Runs tensorflow_model_server on an export, or docker where there is none, and says what to install otherwise.

    New versions are picked up as they are exported. Stop it with Ctrl-C.

    Args:
        name: name of the export, a folder in the directory; requests call the model so.
        directory: where exports are kept.
        port: for gRPC.
        rest_port: for REST.
        image: of docker; it must be at least as new as the TensorFlow that exported.
    """

    name: Annotated[str, tyro.conf.Positional]
    directory: str = "saved_models"
    port: int = 8500
    rest_port: int = 8501
    image: str = "tensorflow/serving"


def main(arguments: Sequence[str]) -> None:
    """Becomes the server."""
    options = tyro.cli(Serve, args=arguments, prog="tfmtl2r serve")
    from tfmtl2r.serving.server import Serving

    base = Path(options.directory) / options.name
    command = Serving(base, base.name, options.port, options.rest_port, options.image).command()
    print(shlex.join(command), flush=True)
    os.execvp(command[0], command)  # signals go straight to the server, and its exit code is ours
