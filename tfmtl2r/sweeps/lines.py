"""A process that answers lines: it reads a line from standard input, and writes a line to standard output for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence


class LineProcess:
    """A process that answers lines. It should end when its standard input does.

    Args:
        arguments: arguments of Python.
        folder: the current folder of the process; by default that of this process.
        environment: variables of the process, beside those of this process.

    >>> process = LineProcess(["-c", "print(2 * int(input()))"])
    >>> process.ask("21"), process.ask("1"), process.ended()
    ('42', '', 'ended with code 0')
    >>> process.stop(patience=1.0)
    """

    def __init__(
        self, arguments: Sequence[str], folder: str | None = None, environment: Mapping[str, str] | None = None
    ):
        # The process has its own session: Ctrl-C reaches only its parent, which then stops it.
        self.process = subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, start_new_session=True, cwd=folder,
                                        env={**os.environ, **(environment or {})})
        self._asked = False

    def ask(self, line: str) -> str:
        """Sends a line and waits for the answer; empty if the process ends before."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            return ""
        return answer[:-1] if answer.endswith("\n") else ""

    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def ended(self) -> str:
        """Waits for the end, and says how it was."""
        return f"ended with code {self.process.wait()}"

    def ask_to_stop(self) -> None:
        """Sends SIGTERM once: a training then ends its step and saves a checkpoint. A second one would cut it off."""
        if not self._asked:
            self._asked = True
            self.process.terminate()

    def stop(self, patience: float) -> None:
        """Ends the process, even while it answers, and closes its pipes.

        Args:
            patience: seconds until a process that was asked to stop is killed.
        """
        self.ask_to_stop()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
