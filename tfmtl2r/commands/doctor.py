"""Show versions, extras, devices and settings, for a report of a fault."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence

import tyro

_VARIABLES = (r"KERAS_|CUDA_|XLA_FLAGS|OMP_|"
              r"TF_(CONFIG|CPP|CUDNN|DETERMINISTIC|DISABLE|ENABLE|FORCE_GPU|GPU|NUM|USE|XLA)")
"""Environment variables that TensorFlow and Keras read. Those of Terraform begin with TF_ too, and can be secrets."""


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Prints what a report of a fault should contain, and a line for everything that cannot work."""


def main(arguments: Sequence[str]) -> int:
    """Prints the state of this installation; 1 if something cannot work."""
    tyro.cli(Doctor, args=arguments, prog="tfmtl2r doctor")
    found = importlib.metadata.version("tfmtl2r")
    print(f"tfmtl2r {found}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs")
    own, extras = requirements(importlib.metadata.requires("tfmtl2r") or ())
    print("libraries: " + ", ".join(f"{name} {installed(name) or 'MISSING'}" for name in own))
    for extra, names in extras.items():
        there = [f"{name} {version}" for name in names if (version := installed(name))]
        missing = [name for name in names if not installed(name)]
        print(f"extra {extra}: {', '.join(there) or 'nothing installed'}"
              + (f"; not installed: {', '.join(missing)}" if there and missing else ""))
    settings = [f"{name}={value}" for name, value in sorted(os.environ.items()) if re.match(_VARIABLES, name)]
    print(f"environment: {', '.join(settings) or 'nothing that TensorFlow or Keras reads'}")
    faults = [f"the library {name} is not installed: pip install tfmtl2r" for name in own if not installed(name)]
    faults += list(_of_libraries()) if not faults else []
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    return int(bool(faults))


def requirements(lines: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The names of required libraries, and of those of each extra, from the lines of the package's metadata.

    >>> requirements(["keras>=3.14", "optuna>=4.0; extra == 'tune'", "x; python_version < '3.0'"])
    (['keras', 'x'], {'tune': ['optuna']})
    """
    own: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in lines:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        if name != "tfmtl2r" and (extra is None or extra[1] != "dev"):
            (own if extra is None else extras.setdefault(extra[1], [])).append(name)
    return own, extras


def installed(name: str) -> str:
    """The installed version of a library; empty if there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _of_libraries() -> Iterator[str]:
    """Prints devices and settings of the libraries, and yields what cannot work."""
    try:
        from tfmtl2r._backend import keras, tf
    except (ImportError, RuntimeError) as error:
        yield f"TensorFlow or Keras cannot be imported: {error}"
        return
    devices = [f"{one.name.removeprefix('/physical_device:')}" for one in tf.config.list_physical_devices()]
    print(f"devices: {', '.join(devices)}")
    print(f"Keras: backend {keras.backend.backend()}, floats {keras.config.floatx()}, "
          f"dtype policy {keras.config.dtype_policy().name}")
    try:
        from tfmtl2r import losses

        losses.get("approx_ndcg")
    except ImportError as error:
        yield f"TensorFlow Ranking cannot be imported: {error}"
