"""Kills processes of a training by two workers, truncates a shard under it and slows one reader, and compares the runs.

    python recipes/bench_worker_faults.py            # 5 faults: some minutes on two free cores

Two workers train on a store. A fault comes after a random checkpoint. The processes that are left must end by
themselves within seconds, the command must say in one line which worker has ended and how, and ``--resume`` must end
with the weights and the results of a training that nothing stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from bench_faults import Bench, _children, survived

SHARD, SECONDS = "store/train-00001.bin", 30
SETTINGS = {
    "data": {"files": "store"}, "architecture": {"name": "shared_bottom", "units": [8]}, "method": "mgda",
    "tasks": [{"name": "click", "kind": "binary"}, {"name": "grade"}],
    "training": {"epochs": 6, "batch_size": 10, "workers": 2, "checkpoint_steps": 5, "telemetry_every": 0},
}  # fmt: skip
CODE = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bench_worker_faults as b; b.child()"
SLOW = """
import os, time
import tensorflow as tf
from tfmtl2r.data.store.source import StoreSource

def wait(numbers):
    time.sleep(0.2)
    return numbers

def slowly(self, numbers, keys=None):
    numbers = tf.ensure_shape(tf.numpy_function(wait, [numbers], tf.int64), [None])
    return take(self, numbers, keys)

if '"index": 1' in os.environ.get("TF_CONFIG", ""):
    take, StoreSource.take = StoreSource.take, slowly
"""


def child() -> None:
    """Prepares the store, or trains with two workers. Called in a new process."""
    from tfmtl2r import Experiment, plugins
    from tfmtl2r.errors import UserError

    what, name, *files = sys.argv[1:]
    if what == "prepare":
        data = {"files": "log.parquet", "list_id": "q", "split": {"vali": 0.2, "test": 0.2}}
        experiment = Experiment(name, **{**SETTINGS, "data": data})
        dataset = experiment.dataset()
        dataset.to_store(Path("store"), experiment.select(dataset), 200)
        return
    plugins.load(*files, remember=False)
    try:
        Experiment(name, **SETTINGS).run(verbose=0, resume=what == "resume")
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)


class WorkerBench(Bench):
    """The faults of trainings by two workers in a folder.

    Args:
        folder: where everything is written.
        seed: decides the moments of the faults.
    """

    rounding = 1e-6  # a resumed epoch adds its batches to a mean of all workers, in another order

    def __init__(self, folder: Path, seed: int):
        rng = np.random.default_rng(0)
        query, x = np.repeat(np.arange(200), 6), rng.normal(size=1200)
        columns = {"x": x, "z": rng.normal(size=1200), "click": (x + rng.normal(size=1200) > 0).astype(int),
                   "grade": rng.integers(0, 4, 1200)}  # fmt: skip
        pd.DataFrame({"q": query, **columns}).to_parquet(folder / "log.parquet")
        self.files: tuple[str, ...] = ()
        subprocess.run([sys.executable, "-c", CODE, "prepare", "store"], cwd=folder, check=True, capture_output=True)
        super().__init__(folder, seed)

    def start(self, what: str, *arguments: str, at: str = "never", number: int = 0, shell: str = "") -> tuple[int, str]:
        if what == "command":
            return super().start(what, *arguments, at=at, number=number, shell=shell)
        done = subprocess.run([sys.executable, "-c", CODE, what, *arguments, *self.files], cwd=self.folder, check=False,
                              capture_output=True, text=True)  # fmt: skip
        return done.returncode, done.stderr

    def begun(self, name: str) -> subprocess.Popen:
        """A training that has written a random number of checkpoints."""
        process = subprocess.Popen([sys.executable, "-c", CODE, "train", name, *self.files], cwd=self.folder,
                                   stderr=subprocess.PIPE, text=True)  # fmt: skip
        seen: set[str] = set()
        wanted = self.random.randint(1, 8)
        while len(seen) < wanted:
            assert process.poll() is None, process.communicate()
            seen |= {path.name for path in (self.folder / "runs" / name / ".attempt/checkpoints").glob("*.index")}
            time.sleep(0.01)
        print(f"  after {wanted} checkpoints", flush=True)
        return process

    def killed_one(self, victim: str) -> None:
        """Kills the chief, the other worker, or the process that has started both."""
        name = f"w{self.random.randrange(10**9)}"
        process = self.begun(name)
        workers = {_place_of(one): one for one in _children(process.pid)}
        os.kill({"chief": workers[0], "worker": workers[1], "parent": process.pid}[victim], signal.SIGKILL)
        line = self.ended(process, list(workers.values()))
        assert victim == "parent" or "was killed by SIGKILL" in line, line
        self.resumed(name)

    def truncated(self) -> None:
        """Cuts a shard in half while the workers read it, and puts it back."""
        name, shard = f"c{self.random.randrange(10**9)}", self.folder / SHARD
        content = shard.read_bytes()
        process = self.begun(name)
        workers = list(_children(process.pid))
        os.truncate(shard, len(content) // 2)
        try:
            said = self.ended(process, workers)  # worker 0 says why by itself
            assert shard.name in said, said
            code, said = self.start("resume", name)
            assert code == 1, said
            assert shard.name in said, said
            print(f"  resumed without it: {_last_line(said)}")
        finally:
            shard.write_bytes(content)
        self.resumed(name)

    def slow(self) -> None:
        """The source of one worker sleeps before each batch."""
        (self.folder / "slow.py").write_text(SLOW)
        self.files = ("slow.py",)
        name = f"l{self.random.randrange(10**9)}"
        seconds = []
        for files, run in (((), f"{name}f"), (("slow.py",), name)):
            self.files, begun = files, time.monotonic()
            code, line = self.start("train", run)
            seconds.append(time.monotonic() - begun)
            assert code == 0, line
            self.equal(run)
        self.files = ()
        print(f"  {seconds[0]:.0f} s, and {seconds[1]:.0f} s with the slow reader")

    def ended(self, process: subprocess.Popen, workers: list[int]) -> str:
        """What a training says that must end by itself, with all its workers."""
        begun = time.monotonic()
        found = process.communicate(timeout=10 * SECONDS)[1]
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() - begun < 10 * SECONDS, "a worker goes on alone"
            time.sleep(0.05)
        print(f"  all have ended {time.monotonic() - begun:.1f} s later: {_last_line(found)}", flush=True)
        return found

    def resumed(self, name: str) -> None:
        """Resumes with two workers, and compares the run with one that nothing stopped."""
        self.understood(name)
        code, line = self.start("resume", name)
        assert code == 0, line
        self.equal(name)
        print("  resumed: weights and results are equal")


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _place_of(process: int) -> int:
    """The number of a worker, from its environment."""
    variables = Path(f"/proc/{process}/environ").read_text().split("\0")
    place = json.loads(next(one for one in variables if one.startswith("TF_CONFIG=")).partition("=")[2])
    return int(place["task"]["index"])


def main() -> None:
    """Makes the faults one after the other and prints how many ended well."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="decides the moments of the faults")
    parser.add_argument("--only", default="", help="only the faults whose name contains this text")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = WorkerBench(Path(folder), options.seed)
        faults = [
            ("the chief is killed", lambda: bench.killed_one("chief")),
            ("the other worker is killed", lambda: bench.killed_one("worker")),
            ("their parent is killed", lambda: bench.killed_one("parent")),
            ("a shard is truncated", bench.truncated), ("a slow reader", bench.slow),
        ]  # fmt: skip
        faults = [fault for fault in faults if options.only in fault[0]]
        passed = sum(survived(name, make) for name, make in faults)
        print(f"{passed} of {len(faults)}")
        sys.exit(passed < len(faults))


if __name__ == "__main__":
    main()
