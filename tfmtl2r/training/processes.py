"""The workers of a training as processes: starts them, watches them, and ends all of them if one ends too early."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from tfmtl2r._backend import tf
from tfmtl2r.errors import InputError, WorkerError
from tfmtl2r.training.distributed import CONFIG

__all__ = ["end_with_parent", "here", "run"]
_LOOK = 0.05
"""Seconds between looks at the processes."""
_PATIENCE = 30.0
"""Seconds in which a worker that was asked to stop may end its step and write a checkpoint."""
_KILLED = -9
"""The return code of a process that SIGKILL has ended."""
_AFTER = 2.0
"""Seconds in which the other workers may say why they end, after one of them has ended."""


def here(count: int) -> list[dict[str, str]]:
    """The environments of workers on this machine: their ports, and a GPU each if there are GPUs.

    Args:
        count: number of workers.

    Raises:
        InputError: if there are GPUs, but fewer than workers.
    """
    gpus = len(tf.config.list_physical_devices("GPU"))
    if 0 < gpus < count:
        raise InputError(f"{count} workers need a GPU each, and this machine has {gpus}: start at most {gpus} workers, "
                         "or hide the GPUs with CUDA_VISIBLE_DEVICES=-1")
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        jobs = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
    return [{CONFIG: json.dumps({"cluster": jobs, "task": {"type": "worker", "index": number}}),
             **({"CUDA_VISIBLE_DEVICES": seen[number]} if gpus else {})} for number in range(count)]


def run(command: Sequence[str], workers: Sequence[Mapping[str, str]], first: int = 0, of: int | None = None) -> None:
    """Starts workers and waits for them. A worker ends when its standard input does, see :func:`end_with_parent`.

    Worker 0 shares this process' output. The output of the others is kept for errors.

    Args:
        command: the command of every worker.
        workers: the environment of each worker, beside that of this process.
        first: number of the first of these workers among all workers.
        of: number of all workers; by default, these are all.

    Raises:
        WorkerError: if a worker ends too early; the others are ended as well.
        KeyboardInterrupt: after Ctrl-C and SIGTERM, when all workers have ended.
    """
    numbers, of = range(first, first + len(workers)), of or len(workers)
    with contextlib.ExitStack() as held:
        errors = [held.enter_context(tempfile.TemporaryFile()) for _ in workers]
        processes = [_started(command, environment, number, kept)
                     for environment, number, kept in zip(workers, numbers, errors, strict=True)]
        held.callback(_end, processes)
        with _stoppable():
            try:
                failed = _first_to_fail(processes)
            except KeyboardInterrupt:
                for process in processes:
                    process.terminate()
                _wait(processes, _PATIENCE)
                raise
        if failed is not None:
            _wait(processes, _AFTER)
            # What a process has written before it was killed is no reason.
            said = "" if processes[failed].returncode == _KILLED else _last_line(errors[failed])
            raise WorkerError(f"worker {numbers[failed]} of {of} {_how(processes[failed].returncode)}"
                              f"{f' ({said})' if said else ''}, and the others were ended")


def end_with_parent() -> None:
    """Lets this process end with the process that has started it, however that ends."""
    def wait() -> None:
        while os.read(0, 1):  # not through sys.stdin, whose lock would be held when Python ends
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _started(command: Sequence[str], environment: Mapping[str, str], number: int, errors: IO[bytes]) -> Any:
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": errors} if number else {}
    # Ctrl-C reaches only this process, which then asks its workers to stop.
    return subprocess.Popen(list(command), stdin=subprocess.PIPE, start_new_session=True,
                            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment}, **quiet)


def _first_to_fail(processes: Sequence[Any]) -> int | None:
    """The first worker that ends with an error; None once the first one, the chief, has ended well. The others have
    nothing left to do then, and TensorFlow may let them fail when they lose the chief."""
    while True:
        codes = [process.poll() for process in processes]
        for number, code in enumerate(codes):
            if code and codes[0] != 0:
                return number
        if codes[0] == 0:
            _wait(processes, _AFTER)
            return None
        time.sleep(_LOOK)


def _wait(processes: Sequence[Any], seconds: float) -> None:
    until = time.monotonic() + seconds
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(until - time.monotonic(), 0))


def _end(processes: Sequence[Any]) -> None:
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Makes SIGTERM raise KeyboardInterrupt, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"has ended with code {code}"


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
