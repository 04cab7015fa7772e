"""A Ray cluster: how this process joins it, and objects that live in processes of its machines.

The extra ``[cluster]`` installs Ray. The cluster is that of ``RAY_ADDRESS``, else the one that runs on this machine,
else one that is started here and ends with its use. All machines need the same packages, and the current folder must be
shared, at the same path.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfmtl2r.errors import InputError, MissingPackageError, WorkerError

__all__ = ["Remote", "check", "joined", "share_of_gpu"]


def check(what: str = 'training.on = "ray"') -> None:
    """Checks that Ray is installed, before any work.

    Args:
        what: what needs Ray, for the message.

    Raises:
        ImportError: if it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingPackageError(f"{what} needs Ray: pip install 'tfmtl2r[cluster]'")


@contextlib.contextmanager
def joined(wanted: int | None = None, what: str = "workers") -> Iterator[Mapping[str, float]]:
    """Joins the cluster during the block, unless this process is in one already, and gives its resources.

    Args:
        wanted: number of processes that will run at a time, each with one CPU.
        what: what these processes are, for the message.

    Raises:
        ImportError: if Ray is not installed.
        InputError: if the cluster has fewer CPUs than processes, for which Ray would wait for ever.
    """
    check()
    import ray

    begun = not ray.is_initialized()
    if begun:
        ray.init(logging_level="ERROR", log_to_driver=False)  # its processes say much that is no error
    try:
        has: Mapping[str, float] = ray.cluster_resources()
        if wanted is not None and has.get("CPU", 0) < wanted:
            raise InputError(f"{wanted} {what} need a CPU each, and the Ray cluster has {has.get('CPU', 0):g}: start "
                             f"fewer {what}, or add machines to the cluster")
        yield has
    finally:
        if begun:
            ray.shutdown()


def share_of_gpu(processes: int, gpus: float) -> float:
    """The largest share of a GPU of which there are enough for all processes, where each GPU is shared equally.

    >>> share_of_gpu(2, 4), share_of_gpu(3, 2), share_of_gpu(5, 0)
    (1.0, 0.5, 0.0)
    """
    return 1 / max(math.ceil(processes / int(gpus)), 1) if gpus >= 1 else 0.0


class Remote:
    """An object in a process of the cluster. A call of a method happens there, and several may happen at a time.

    Args:
        kind: the class of the object, which the machines of the cluster can import.
        arguments: arguments of the class.
        gpus: the share of a GPU that the process has, beside one CPU.
    """

    def __init__(self, kind: type, *arguments: Any, gpus: float = 0.0):
        import ray

        self._ray = ray
        self._actor = ray.remote(num_cpus=1, num_gpus=gpus, max_concurrency=4)(kind).remote(*arguments)
        self._ready = self._actor.__ray_ready__.remote()

    def placed(self, seconds: float) -> bool:
        """Waits until the cluster has found a place for the object, and returns whether it has.

        Args:
            seconds: the longest time to wait.

        Raises:
            WorkerError: if the object cannot be made there; the message contains the reason.
        """
        if not self._ray.wait([self._ready], timeout=seconds)[0]:
            return False
        try:
            self._ray.get(self._ready)
        except self._ray.exceptions.RayError as error:
            raise WorkerError(f"no process can start on the Ray cluster: {str(error).strip().splitlines()[-1]}"
                              ) from error
        return True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            try:
                return self._ray.get(getattr(self._actor, name).remote(*arguments))
            except self._ray.exceptions.RayActorError as error:
                raise WorkerError("the Ray cluster has lost its process, which was killed, or whose machine is gone"
                                  ) from error

        return call

    def release(self) -> None:
        """Ends the process of the object, and gives its place back to the cluster."""
        self._ray.kill(self._actor)
