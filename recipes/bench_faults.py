"""Kills processes at random moments, fills disks and damages files, and checks that nothing is lost and nothing mixed.

    python recipes/bench_faults.py            # 20 faults: a quarter of an hour on two free cores

Each fault is a real one: SIGKILL in a training step, in validation, while files are written, in an export, an
evaluation, a sweep's worker and its parent; the newest checkpoint cut in half; a small full disk and a read-only one
(in a mount namespace of their own; skipped with the reason where mounts are not allowed). After the fault, ``tfmtl2r
compare`` must read a whole run or print one line; after ``--resume``, or the same command again, weights, history,
results and tables must be those of a training that nothing stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

SETTINGS = {
    "data": {"name": "synthetic_mslr", "num_lists": 120, "max_length": 10, "num_tasks": 2, "num_features": 8},
    "architecture": {"name": "shared_bottom", "units": [8], "dropout": 0.2}, "method": "mgda",
    "training": {"epochs": 6, "patience": 4, "batch_size": 10, "telemetry_every": 4, "checkpoint_steps": 5},
}  # fmt: skip
STEPS, WRITES = 6 * 12, 30
FLAGS = ["--data", "synthetic_mslr", "--data.num-lists", "120", "--data.max-length", "10", "--data.num-tasks", "2",
         "--data.num-features", "8", "--architecture.units", "8", "--epochs", "6", "--batch-size", "10",
         "--checkpoint-steps", "5", "--methods", "imtl_g", "mgda", "--seeds", "0", "1", "--no-single-task",
         "--jobs", "2"]  # fmt: skip
CODE = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bench_faults; bench_faults.child()"


def child() -> None:
    """Runs a command, or trains, in this process, which kills itself at the given moment. Called in a new process."""
    what, at, number, *arguments = sys.argv[1:]
    import tensorflow as tf

    from tfmtl2r.cli import main

    for set_threads in (tf.config.threading.set_intra_op_parallelism_threads,
                        tf.config.threading.set_inter_op_parallelism_threads):
        set_threads(1)
    left = [int(number)]

    def count(*_, **__) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if at == "write":
        for module, name in ((os, "replace"), (os, "rename"), (os, "unlink"), (shutil, "rmtree")):
            setattr(module, name, _before(getattr(module, name), count))
    if what == "command":
        sys.exit(main(arguments))
    sys.exit(_train(what, arguments[0], at, count))


def _train(what: str, name: str, at: str, count: Callable[..., None]) -> int:
    import keras

    from tfmtl2r import Experiment
    from tfmtl2r.errors import UserError
    from tfmtl2r.writing import fault_of, one_line

    moments = {"step": "on_train_batch_end", "validation": "on_test_batch_end"}
    killer = keras.callbacks.LambdaCallback(**{moments[at]: count} if at in moments else {})
    try:
        Experiment(name, **SETTINGS).run(verbose=0, callbacks=[killer], resume=what == "resume",
                                         overwrite=what == "overwrite")
    except UserError as error:
        print(error, file=sys.stderr)
    except Exception as error:
        if not fault_of(error):
            raise
        print(one_line(error), file=sys.stderr)
    else:
        return 0
    return 1


def _before(call: Callable, count: Callable[..., None]) -> Callable:
    def counted(*arguments, **options):
        count()
        return call(*arguments, **options)

    return counted


class Bench:
    """The faults of a folder.

    Args:
        folder: where everything is written.
        seed: decides the moments of the kills.
    """

    rounding = 0.0  # how far numbers of the history may differ

    def __init__(self, folder: Path, seed: int):
        self.folder = folder
        self.random = random.Random(seed)
        self.start("train", "whole")

    def start(self, what: str, *arguments: str, at: str = "never", number: int = 0, shell: str = "") -> tuple[int, str]:
        """Runs a process to its end; returns exit code and standard error."""
        command = [sys.executable, "-c", CODE, what, at, str(number), *arguments]
        if shell:
            command = ["unshare", "-m", "sh", "-ec", shell.replace("COMMAND", shlex.join(command))]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, lines[-1] if lines else ""

    def killed(self, what: str, *arguments: str, at: str, most: int) -> None:
        """Starts a process that dies at a random moment."""
        number = self.random.randint(1, most)
        code, line = self.start(what, *arguments, at=at, number=number)
        print(f"  {'killed' if code == -signal.SIGKILL else f'ended with {code} {line} before'} at {at} {number}")

    def understood(self, name: str) -> None:
        """The next command reads a whole run, or says what there is."""
        code, line = self.start("command", "compare", name)
        assert (code == 0) or (code == 1 and line), (code, line)
        print(f"  then: {'a whole run' if code == 0 else line}")

    def goes_on(self, name: str) -> None:
        """Resumes, or trains where nothing had begun, and compares the run with one that nothing stopped."""
        code, line = self.start("resume", name)
        if code and "no unfinished training" in line:
            code, line = self.start("train", name)
        assert code == 0 or "finished run" in line, line
        self.equal(name)

    def equal(self, name: str, other: str = "whole") -> None:
        """Weights, history and results are those of another run, and no other files are left."""
        first, second = (self.folder / "runs" / each for each in (name, other))
        cards = [json.loads((run / "run.json").read_text()) for run in (first, second)]
        for part in ("results", "data"):
            assert cards[0][part] == cards[1][part], part
        mine, others = (card["history"] for card in cards)
        assert mine.keys() == others.keys()
        for key, values in mine.items():
            pairs = zip(values, others[key], strict=True)
            assert all(a == b or abs(a - b) <= self.rounding * abs(b) for a, b in pairs), key
        weights = [zipfile.ZipFile(run / "model.keras").read("model.weights.h5") for run in (first, second)]
        assert _arrays(weights[0]) == _arrays(weights[1])
        left = [path for path in first.rglob("*") if ".part" in path.name]
        left += [path for path in first.parent.glob(f".{name}.*") if path.is_dir()]
        assert not left, left

    def sweep(self, name: str) -> subprocess.CompletedProcess:
        """Runs a sweep to its end."""
        return subprocess.run(self._sweep(name), cwd=self.folder, capture_output=True, text=True, check=True)

    def _sweep(self, name: str) -> list[str]:
        return [sys.executable, "-m", "tfmtl2r.cli", "sweep", name, *FLAGS]

    def training(self, at: str, most: int) -> None:
        name = f"t{self.random.randrange(10**9)}"
        self.killed("train", name, at=at, most=most)
        self.understood(name)
        self.goes_on(name)

    def overwriting(self) -> None:
        name = f"o{self.random.randrange(10**9)}"
        shutil.copytree(self.folder / "runs/whole", self.folder / "runs" / name)
        self.killed("overwrite", name, at="write", most=WRITES)
        self.understood(name)
        code, line = self.start("resume", name)
        assert code == 0 or "finished run" in line, line
        self.equal(name)

    def evaluating(self) -> None:
        name = f"e{self.random.randrange(10**9)}"
        shutil.copytree(self.folder / "runs/whole", self.folder / "runs" / name)
        self.killed("command", "evaluate", name, at="write", most=3)
        self.understood(name)
        assert self.start("command", "evaluate", name)[0] == 0
        self.equal(name)

    def exporting(self) -> None:
        to = self.folder / "saved_models/whole"
        before = sorted(path.name for path in to.glob("[0-9]*"))
        self.killed("command", "export", "whole", at="write", most=6)
        found = sorted(path.name for path in to.glob("[0-9]*"))
        assert found[:len(before)] == before
        code, line = self.start("command", "export", "whole")
        assert code == 0, line
        assert self.start("command", "export-check", str(to))[0] == 0
        self.equal("whole")

    def sweeping(self, worker: bool) -> None:
        name = f"s{self.random.randrange(10**9)}"
        self.sweep("first")  # finished runs are not run again
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(self._sweep(name), cwd=self.folder, **quiet)
        while not list((self.folder / "runs" / name).glob("*/.attempt/checkpoints/*")):
            time.sleep(0.05)
        time.sleep(self.random.random() * 4)
        victims = list(_children(process.pid)) if worker else [process.pid]
        os.kill(self.random.choice(victims), signal.SIGKILL)
        process.wait()
        self.understood(name)
        again = self.sweep(name)
        assert "0 failed" in again.stdout, again.stdout
        tables = [(self.folder / "runs" / each / "table.csv").read_bytes() for each in (name, "first")]
        assert tables[0] == tables[1]

    def damaged(self) -> None:
        name = f"d{self.random.randrange(10**9)}"
        self.start("train", name, at="step", number=50)
        newest = max((self.folder / "runs" / name / ".attempt/checkpoints").glob("*.data-*"), key=os.path.getmtime)
        newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
        self.goes_on(name)

    def full_disk(self) -> None:
        """The disk is full in the middle of the training; then there is room again."""
        again = [shlex.join([sys.executable, "-c", CODE, what, "never", "0", "f"]) for what in ("resume", "train")]
        shell = ("mkdir -p full; mount -t tmpfs -o size=4m tmpfs full; mkdir full/runs; "
                 "cp -r runs/whole full/runs/kept; cd full; head -c 9m /dev/zero > filler || true; "
                 "truncate -s -64k filler; if COMMAND; then exit 9; fi; rm filler; "
                 f"{' || '.join(again)}; cp -r runs/f runs/kept ../runs")
        self._mounted("train", "f", shell=shell)
        for name in ("f", "kept"):
            self.equal(name)

    def read_only(self) -> None:
        """Commands that read print their results, and a training refuses before it begins."""
        shell = ("mount --bind -o ro runs runs; COMMAND;"
                 f"{shlex.join([sys.executable, '-c', CODE, 'command', 'never', '0', 'compare', 'whole'])};"
                 f"if {shlex.join([sys.executable, '-c', CODE, 'train', 'never', '0', 'r'])}; then exit 9; fi")
        self._mounted("command", "evaluate", "whole", shell=shell)
        self.equal("whole")
        assert not (self.folder / "runs/r").exists()

    def _mounted(self, *arguments: str, shell: str) -> None:
        if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
            raise Skipped("mounts are not allowed here")
        code, line = self.start(*arguments, shell=shell)
        assert code == 0, (code, line)
        print(f"  the last line: {line}")


class Skipped(Exception):
    """A fault that cannot be made here."""


def _arrays(content: bytes) -> dict[str, bytes]:
    import io

    import h5py

    found: dict[str, bytes] = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda name, item: found.update({name: item[()].tobytes()}) if hasattr(item, "dtype") else None)
    return found


def _children(process: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == process:
                yield int(path.parent.name)
        except OSError:  # it has ended
            continue


def main() -> None:
    """Makes the faults one after the other and prints how many ended well."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="decides the moments of the kills")
    parser.add_argument("--only", default="", help="only the faults whose name contains this text")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.seed)
        faults = [
            *[("training", lambda: bench.training("step", STEPS))] * 4,
            *[("validation", lambda: bench.training("validation", 6))] * 2,
            *[("saving", lambda: bench.training("write", WRITES))] * 3, *[("overwriting", bench.overwriting)] * 2,
            *[("evaluating", bench.evaluating)] * 2, *[("exporting", bench.exporting)] * 2,
            ("a sweep's worker", lambda: bench.sweeping(worker=True)),
            ("a sweep's parent", lambda: bench.sweeping(worker=False)),
            ("damaged newest checkpoint", bench.damaged), ("full disk", bench.full_disk),
            ("read-only disk", bench.read_only),
        ]  # fmt: skip
        faults = [fault for fault in faults if options.only in fault[0]]
        passed = sum(survived(name, make) for name, make in faults)
        print(f"{passed} of {len(faults)}")
        sys.exit(passed < len(faults))


def survived(name: str, make: Callable[[], None]) -> bool:
    """Makes a fault and prints what came of it."""
    print(name, flush=True)
    try:
        make()
    except Skipped as reason:
        print(f"  skipped: {reason}", flush=True)
    except (AssertionError, OSError, KeyError, subprocess.CalledProcessError) as error:
        print(f"  FAILED: {type(error).__name__} {error}", flush=True)
        return False
    return True


if __name__ == "__main__":
    main()
